/* SPDX-License-Identifier: MIT */
/*
 * discard.h - ranges the VMM gives up, handed to the pager in order
 *
 * A balloon gives its pages up one by one, tens of thousands of them, so the VMM's thread must not
 * wait for the pager each time. It does three things:
 *
 *   1. puts the range into a ring,
 *   2. does the madvise() itself,
 *   3. if the pager was at work at that moment, waits until that turn has ended and does the
 *      madvise() again.
 *
 * The pager empties the ring after it has read faults and before it serves them. So a touch that
 * happens after the discard returned finds the range discarded: its fault is read later than the
 * ring entry was written. And a copy that the pager was just bringing back is dropped by the
 * second madvise(). A guest that touches a page during its own discard may find either content,
 * as on bare metal.
 *
 * Mapped frames (share_map.c) are another matter: madvise() leaves them where they are, and the
 * guest would go on reading them. So whoever discards a range that may hold some waits until the
 * pager has taken them away. How many are mapped is counted by blocks of the address space.
 *
 * The second madvise() may also drop a page that was touched after the pager had taken the range
 * from the ring. That is the only way in which a page we put in its place goes without our being
 * told, so such pages are marked (mt_page_droppable()). Any other page that is gone is lost, and
 * no zeros are made up for it (I6).
 */
#ifndef MT_MONITOR_DISCARD_H
#define MT_MONITOR_DISCARD_H

#include "base/types.h"

#include <pthread.h>
#include <stdatomic.h>

#define MT_DISCARDS 1024U /* a power of two */
/* Blocks of address space that mapped frames are counted in; others share the same count. */
#define MT_DISCARD_BLOCKS      1024U
#define MT_DISCARD_BLOCK_SHIFT 21

struct mt_discard {
	uint64_t addr;
	uint64_t bytes;
};

struct mt_discards {
	pthread_mutex_t lock;       /* producers among themselves; the pager never takes it */
	_Atomic uint32_t head;      /* next to take; pager */
	_Atomic uint32_t tail;      /* next to fill; producers */
	_Atomic uint32_t under_way; /* calls of mt_discard() that have not returned */
	bool dropping;              /* were there any when this turn began? Pager. */
	_Atomic uint32_t mapped[MT_DISCARD_BLOCKS]; /* pages with a mapped frame; pager writes */
	struct mt_discard ring[MT_DISCARDS];
};

struct mt_pager;

/** mt_discards_init() - an empty ring */
void mt_discards_init(struct mt_discards *discards);

/**
 * mt_discard() - give up @bytes at @addr, both page-aligned; any thread but the pager
 *
 * Pages that are not in a managed region are just dropped. Return: 0 or what madvise() failed with.
 */
int mt_discard(struct mt_pager *pager, void *addr, uint64_t bytes);

/** mt_discards_count_mapped() - one more or, with -1, less page at @addr has a mapped frame; pager
 *
 * More before it is mapped, less when it is no longer.
 */
void mt_discards_count_mapped(struct mt_discards *discards, const void *addr, int more);

/** mt_discards_waiting() - is there a range in the ring that the pager has not taken? Any thread.
 */
bool mt_discards_waiting(struct mt_discards *discards);

/** mt_discards_drain() - take every range in the ring; pager thread */
void mt_discards_drain(struct mt_pager *pager);

#endif
