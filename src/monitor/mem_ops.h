/* SPDX-License-Identifier: MIT */
/*
 * mem_ops.h - what the pager asks of the kernel about guest memory
 *
 * The pager decides, these functions do. The real ones (sys/uffd.c) are thin wrappers of
 * userfaultfd's ioctls; tests put a model with faults of its own behind the same table. errno ends
 * here: callers see only the outcomes below.
 */
#ifndef MT_MONITOR_MEM_OPS_H
#define MT_MONITOR_MEM_OPS_H

#include "base/types.h"

enum mt_mem_outcome {
	MT_MEM_DONE,
	MT_MEM_EXISTS, /* a page is there already: a racing fault was served */
	MT_MEM_PINNED, /* page is pinned for DMA or otherwise not ours alone; leave it */
	MT_MEM_ABSENT, /* nothing there to move */
	MT_MEM_RETRY,  /* the address space is changing; try again later */
	MT_MEM_GONE,   /* the range is no longer mapped as it was registered */
	MT_MEM_FAILED, /* anything else; the kernel is out of memory, most likely */
};

/* One fault as read from the kernel. */
struct mt_fault {
	uint64_t addr;
	uint32_t tid; /* thread that faulted */
	bool write;
};

struct mt_mem_ops {
	/*
	 * Put the content of @bytes at @from to @to where nothing is mapped, and wake who waits
	 * there. @ret_done: bytes put before the outcome (all of them when DONE).
	 */
	enum mt_mem_outcome (*copy)(void *ctx, void *to, const void *from, uint64_t bytes,
				    uint64_t *ret_done);
	/*
	 * Move pages without copying; the source reads as missing afterwards. Stops at the first
	 * page that can't be moved. @wake: wake who waits at @to.
	 */
	enum mt_mem_outcome (*move)(void *ctx, void *to, void *from, uint64_t bytes, bool wake,
				    uint64_t *ret_done);
	/*
	 * Put frames that lie one behind the other in a file at @to, where nothing is mapped in:
	 * they can be read there, and a write is a fault. Wakes nobody. NULL if this can't be done.
	 */
	enum mt_mem_outcome (*map_frames)(void *ctx, void *to, int frames_fd, mt_frame_t first,
					  uint32_t pages);
	/* Have nothing at @to, neither frames nor pages, as if it had never been touched. */
	enum mt_mem_outcome (*unmap_frames)(void *ctx, void *to, uint32_t pages);
	/* Mappings that this process has, all told; any thread. NULL like map_frames. */
	uint64_t (*count_maps)(void *ctx);
	/* Wake threads that wait in a range without giving them anything. */
	void (*wake)(void *ctx, void *addr, uint64_t bytes);
	/* Give pages of our own areas (staging, nursery, zip arena) back to the kernel. */
	void (*drop)(void *ctx, void *addr, uint64_t bytes);
	/* Fill @present[i] for each page: is there memory of its own, in place or in kernel swap?
	 */
	int (*present)(void *ctx, void *addr, uint32_t pages, bool *present);
	/*
	 * Copy guest pages, where they are, to @to; any thread. False unless all were there to be
	 * read; waits for none, brings none in. NULL if this can't be done.
	 */
	bool (*read)(void *ctx, void *to, const void *from, uint32_t pages);
	/* Is the page at @addr part of a large page? */
	bool (*large)(void *ctx, const void *addr);
	/*
	 * May there be I/O into guest pages that the kernel does not tell of? False only when it
	 * is sure that none had begun before the call. Waits for nobody. NULL if there never is.
	 */
	bool (*unseen_io)(void *ctx);
	/* Is anything mapped at @addr? */
	bool (*mapped)(void *ctx, const void *addr);
	/* Run the pager near thread @tid, whose faults it serves; 0: anywhere. May do nothing. */
	void (*place)(void *ctx, uint32_t tid);
	/* Read up to @max faults without blocking. Return: how many, or -errno. */
	int (*read_faults)(void *ctx, struct mt_fault *faults, uint32_t max);
	void *ctx;
};

#endif
