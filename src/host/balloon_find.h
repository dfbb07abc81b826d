/* SPDX-License-Identifier: MIT */
/*
 * balloon_find.h - where in QEMU's tree of devices the balloon is
 *
 * Devices with an id of their own are in one folder, those without in another. There is at most
 * one balloon in a VM: QEMU refuses a second.
 */
#ifndef MT_HOST_BALLOON_FIND_H
#define MT_HOST_BALLOON_FIND_H

#include "host/qmp.h"

#define MT_BALLOON_PATH_MAX 192

struct mt_balloon_find {
	char path[MT_BALLOON_PATH_MAX]; /* empty: not found */
	bool deflates_on_oom;           /* gives pages back before the guest's OOM killer acts */
	struct mt_qmp *qmp;
	unsigned int folder; /* being looked at */
	void (*done)(void *ctx);
	void *ctx;
};

/**
 * mt_balloon_find() - look for it, and call @done when that is over
 * Return: 0, or what mt_qmp_ask() failed with. A fault of the connection ends the search without a
 * call.
 */
MT_MUST_CHECK int mt_balloon_find(struct mt_balloon_find *find, struct mt_qmp *qmp,
				  void (*done)(void *ctx), void *ctx);

#endif
