/* SPDX-License-Identifier: MIT */
/*
 * remap.h - shared frames come into guest memory, and go, without a moment in between
 *
 * A mapping is made complete aside, watched and protected, and then moved over its place with
 * mremap(): whoever touches the place finds the old or the new one, never something unwatched. The
 * kernel keeps a mapping watched while it moves only if it may report the move, and the call waits
 * until the report has been read. The pager reads reports; so the calls are made by a thread of
 * their own, and the pager reads until it is done.
 *
 * One request at a time, from the pager.
 */
#ifndef MT_SYS_REMAP_H
#define MT_SYS_REMAP_H

#include "base/compiler.h"
#include "base/types.h"
#include "sys/mapping.h"
#include "sys/placement.h"

#include <pthread.h>
#include <stdatomic.h>

struct mt_remap_ask {
	uint8_t *to;
	uint64_t bytes;
	int frames_fd; /* map what lies there at @offset, protected against writes; -1: nothing */
	uint64_t offset;
	struct mt_mapping_flags flags; /* the guest memory's, or the kernel can't join it with it */
	int cpu; /* core that the pager is confined to, or -1: the thread goes there, too */
};

/* Nodes that a memory policy may name. */
#define MT_REMAP_NODES 1024U

/* Where the kernel takes pages from (mbind(2)); mappings are joined only if it is equal. */
struct mt_remap_policy {
	int mode;
	unsigned long nodes[MT_REMAP_NODES / (8 * sizeof(unsigned long))];
};

struct mt_remap {
	int uffd;    /* borrowed; -1 before mt_remap_start() */
	int wake_fd; /* a request is there */
	int done_fd; /* it is done: readable */
	pthread_t thread;
	bool started;
	_Atomic bool stop;
	/* Whose @ask and @rc are: counted up as they change hands. The eventfds only wake. */
	_Atomic uint32_t handed;
	struct mt_remap_ask ask;
	int rc;
	struct mt_placement placement; /* of the thread */
	/* Watched memory that nobody has touched, to be put where frames go: what is left of it. A
	 * page before it all and one behind can't be touched. */
	uint8_t *spare_guard;
	uint8_t *spare;
	uint64_t spare_bytes;
	struct mt_mapping_flags spare_flags;
	struct mt_remap_policy policy;
	/* Mappings held in reserve, for when the process has no more: then no frames are mapped,
	 * but those that are can be taken away. */
	uint8_t *reserve;
};

/** mt_remap_init() - nothing is started; mt_remap_stop() is fine from here on */
void mt_remap_init(struct mt_remap *remap);

/** mt_remap_start() - start the thread. @uffd: borrowed until mt_remap_stop(). Return: 0 or -errno.
 */
MT_MUST_CHECK int mt_remap_start(struct mt_remap *remap, int uffd);

/** mt_remap_stop() - end the thread; mappings that were made stay */
void mt_remap_stop(struct mt_remap *remap);

/** mt_remap_ask() - begin a request; the last one must have been taken back */
void mt_remap_ask(struct mt_remap *remap, const struct mt_remap_ask *ask);

/**
 * mt_remap_done() - has the request ended? Then @ret_rc is 0 or -errno, and nothing has changed
 * if it failed. Meanwhile the caller reads the userfaultfd's messages; done_fd and that may be
 * polled.
 */
bool mt_remap_done(struct mt_remap *remap, int *ret_rc);

#endif
