/* SPDX-License-Identifier: MIT */
/*
 * link.h - the monitor's side of the connection to the daemon
 *
 * A thread of its own, so that neither the VMM nor the pager ever waits for the daemon. When the
 * daemon goes away the VM goes on with the grant it has; the thread tries to reach it again and
 * then says what the VM holds.
 */
#ifndef MT_MONITOR_LINK_H
#define MT_MONITOR_LINK_H

#include "base/err.h"
#include "wire/wire.h"

#include <pthread.h>
#include <stdatomic.h>

struct mt_pager;

struct mt_link_options {
	const char *socket; /* the control socket's path, without the monitors' suffix */
	const char *name;
	const char *token; /* may be empty */
	uint64_t reservation_bytes;
	uint64_t limit_bytes;
	uint64_t shares;
	const char *share_group; /* NULL or empty: its own */
};

struct mt_link {
	int fd; /* -1 while the daemon is away; the thread's once it runs */
	int wake_fd;
	char path[108];
	struct mt_wire_hello hello; /* as first said, with the secret added */
	struct mt_pager *pager;
	_Atomic int swap_fd; /* of the swap file, once there is one (borrowed); -1 before */
	uint64_t returned_told_pages; /* of the pager's returned_pages, what the daemon knows */
	uint64_t losses_told;
	uint64_t errors_told;

	/* The share group's frames (share_link.c). */
	int frames_fd; /* -1: none */
	void *frames_map;
	bool share_telling; /* the daemon is being told what is shared: releases wait */

	/*
	 * Called by the thread every two seconds (@due), whether the daemon is there or not, and
	 * when the pager wants it.
	 */
	void (*look)(void *ctx, bool due);
	void *look_ctx;

	pthread_t thread;
	bool started;
	_Atomic bool stop;

	/* One request at a time, made by another thread. */
	pthread_mutex_t lock;
	pthread_cond_t answered;
	bool request_open;         /* [lock] */
	bool request_failed;       /* [lock] the connection broke */
	uint32_t serial;           /* [lock] */
	union mt_wire_msg *answer; /* [lock] where to put it; NULL when it is there */
	int answer_fd;             /* [lock] */
};

/**
 * mt_link_open() - connect and say hello; in the caller's thread
 * @ret_device_fd: /dev/userfaultfd from the daemon, owned by the caller
 *
 * Return: 0 or -errno: the daemon's own code when it refuses.
 */
MT_MUST_CHECK int mt_link_open(struct mt_link *link, const struct mt_link_options *options,
			       int *ret_device_fd, struct mt_err *err);

/** mt_link_start() - start the thread, which serves @pager. Return: 0 or -errno. */
MT_MUST_CHECK int mt_link_start(struct mt_link *link, struct mt_pager *pager);

/** mt_link_close() - say goodbye, end the thread, close; half-opened is fine */
void mt_link_close(struct mt_link *link);

/** mt_link_kick() - have the thread look at what the pager changed; any thread */
void mt_link_kick(void *link);

/**
 * mt_link_request() - send @msg and wait for its answer
 * @msg: the request; replaced by the answer
 * @ret_fd: descriptor that came with it, or -1
 *
 * Return: 0; the daemon's code with its text when it refuses; -ETIMEDOUT; -ECONNRESET without a
 * daemon.
 */
MT_MUST_CHECK int mt_link_request(struct mt_link *link, union mt_wire_msg *msg, int *ret_fd,
				  struct mt_err *err);

/** mt_link_tell() - send a message that needs no answer; lost if the daemon is away */
void mt_link_tell(struct mt_link *link, union mt_wire_msg *msg);

#endif
