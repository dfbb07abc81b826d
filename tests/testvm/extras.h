/* SPDX-License-Identifier: MIT */
/* extras.h - what a VMM does besides running its guest: hot-plug memory, fork; and its own size */
#ifndef MT_TESTVM_EXTRAS_H
#define MT_TESTVM_EXTRAS_H

#include "guest.h"

/* Map, add, use, discard, remove and unmap a region, again and again until guest->stop. */
void tv_churn_run(struct tv_guest *guest, unsigned int number);

/* Fork a child that lives for a moment, again and again until guest->stop. */
void tv_fork_run(struct tv_guest *guest, unsigned int number);

/* Anonymous memory of this process in KiB, 0 if it can't be told. */
uint64_t tv_anonymous_kib(void);

#endif
