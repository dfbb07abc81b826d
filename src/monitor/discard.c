/* SPDX-License-Identifier: MIT */
/* discard.c - the ring of discards and what the pager does with a discarded page; see discard.h */
#include "monitor/discard.h"
#include "monitor/pager.h"

#include <errno.h>
#include <sched.h>
#include <sys/mman.h>

void mt_discards_init(struct mt_discards *discards)
{
	pthread_mutex_init(&discards->lock, NULL);
	atomic_init(&discards->head, 0);
	atomic_init(&discards->tail, 0);
	atomic_init(&discards->under_way, 0);
	for (uint32_t i = 0; i < MT_DISCARD_BLOCKS; i++)
		atomic_init(&discards->mapped[i], 0);
}

static uint32_t discards_block(uint64_t addr)
{
	return (addr >> MT_DISCARD_BLOCK_SHIFT) % MT_DISCARD_BLOCKS;
}

void mt_discards_count_mapped(struct mt_discards *discards, const void *addr, int more)
{
	/* Sequentially consistent: read by who has pushed a range and looked at the batch. */
	atomic_fetch_add(&discards->mapped[discards_block((uintptr_t)addr)], (uint32_t)more);
}

static bool discards_may_be_mapped(const struct mt_discards *discards, uint64_t addr,
				   uint64_t bytes)
{
	uint64_t block = addr >> MT_DISCARD_BLOCK_SHIFT;
	uint64_t last = (addr + bytes - 1) >> MT_DISCARD_BLOCK_SHIFT;

	last = MT_MIN(last, block + MT_DISCARD_BLOCKS - 1);
	for (; block <= last; block++)
		if (atomic_load(&discards->mapped[block % MT_DISCARD_BLOCKS]))
			return true;
	return false;
}

static bool discards_push(struct mt_discards *discards, uint64_t addr, uint64_t bytes)
{
	uint32_t tail = atomic_load_explicit(&discards->tail, memory_order_relaxed);

	/* Pairs with the store in mt_discards_drain(): the entry has been read. */
	if (tail - atomic_load_explicit(&discards->head, memory_order_acquire) == MT_DISCARDS)
		return false;
	discards->ring[tail % MT_DISCARDS] = (struct mt_discard){addr, bytes};
	/* Sequentially consistent: must be seen before the batch number read after it. */
	atomic_store(&discards->tail, tail + 1);
	return true;
}

/* Waits until the turn the pager was in has ended. Turns are short: the pager never blocks in one.
 */
static void discard_wait_turn(struct mt_pager *pager, uint32_t batch)
{
	while (atomic_load(&pager->batch) == batch)
		sched_yield();
}

/* Waits until the pager has done with the entry before @next, and with all before that. */
static void discard_wait_taken(struct mt_pager *pager, uint32_t next)
{
	uint32_t batch;

	mt_pager_kick(pager);
	while ((int32_t)(atomic_load(&pager->discards.head) - next) < 0)
		sched_yield();
	batch = atomic_load(&pager->batch);
	if (batch & 1)
		discard_wait_turn(pager, batch);
}

int mt_discard(struct mt_pager *pager, void *addr, uint64_t bytes)
{
	struct mt_discards *discards = &pager->discards;
	bool pushed, was_empty;
	uint32_t batch, next;
	int rc;

	/* Sequentially consistent, like all here: seen by whoever finds the first page dropped. */
	atomic_fetch_add(&discards->under_way, 1);
	do {
		pthread_mutex_lock(&discards->lock);
		pushed = discards_push(discards, (uint64_t)(uintptr_t)addr, bytes);
		/* Looked at after the push: before it, the pager might just be leaving the ring. */
		next = atomic_load(&discards->tail);
		was_empty = next - atomic_load(&discards->head) <= 1;
		pthread_mutex_unlock(&discards->lock);
		if (was_empty || !pushed)
			mt_pager_kick(pager);
		if (!pushed)
			sched_yield();
	} while (!pushed);
	batch = atomic_load(&pager->batch);
	rc = madvise(addr, bytes, MADV_DONTNEED) ? -errno : 0;
	if (batch & 1) {
		discard_wait_turn(pager, batch);
		rc = madvise(addr, bytes, MADV_DONTNEED) ? -errno : 0;
	}
	/* Frames that the guest could still read there. Later than now none are mapped there. */
	if (discards_may_be_mapped(discards, (uintptr_t)addr, bytes))
		discard_wait_taken(pager, next);
	atomic_fetch_sub(&discards->under_way, 1);
	return rc;
}

bool mt_discards_waiting(struct mt_discards *discards)
{
	return atomic_load(&discards->tail) != atomic_load(&discards->head);
}

void mt_page_in_place(struct mt_pager *pager, mt_gpn_t gpn, enum mt_page_state from)
{
	mt_page_set(&pager->map, gpn, from, MT_PAGE_RESIDENT, 0);
	if (pager->discards.dropping)
		mt_page_droppable_set(&pager->map, gpn);
}

enum mt_absence mt_page_absence(struct mt_pager *pager, mt_gpn_t gpn)
{
	/* Looked at after the page was found absent: whoever drops it has said so before. */
	if (mt_discards_waiting(&pager->discards))
		return MT_ABSENCE_SOON_KNOWN;
	return mt_page_droppable(&pager->map, gpn) ? MT_ABSENCE_DROPPED : MT_ABSENCE_LOST;
}

enum mt_absence mt_page_absent(struct mt_pager *pager, mt_gpn_t gpn)
{
	enum mt_absence absence = mt_page_absence(pager, gpn);

	if (absence == MT_ABSENCE_DROPPED) {
		mt_page_set(&pager->map, gpn, MT_PAGE_RESIDENT, MT_PAGE_RELEASED, 0);
	} else if (absence == MT_ABSENCE_LOST) {
		mt_count(pager, MT_C_FAULT_UNSEEN, 1);
		mt_page_lost(pager, gpn, MT_PAGE_RESIDENT, MT_SLOT_NONE, -ENODATA);
	}
	return absence;
}

/* Frees the copy that is not in guest RAM. What someone is busy with stays until he is done. */
static void discard_copy(struct mt_pager *pager, mt_gpn_t gpn, enum mt_page_state state)
{
	uint64_t place = mt_page_place(&pager->map, gpn);
	bool busy = mt_page_busy(&pager->map, gpn) != 0;

	if (state == MT_PAGE_NOMINATED && busy && !mt_page_in_use(&pager->map, gpn)) {
		pager->sample.staged -= mt_page_busy(&pager->map, gpn) == MT_TICKET_SAMPLE;
		busy = false;
	}
	if (state == MT_PAGE_NOMINATED && !busy)
		mt_staging_free_full(&pager->staging, MT_STAGE(place));
	/* Whoever writes a zip object to swap has unpacked it already: the object is free to go. */
	if (state == MT_PAGE_ZIPPED)
		mt_zip_del(pager->zip, (mt_zref_t){place});
	if (state == MT_PAGE_SHARED)
		mt_share_let_go(pager, gpn, MT_FRAME(place));
	/* A slot that is being read stays the transfer's until it has ended. */
	if (state == MT_PAGE_SWAPPED && busy)
		mt_swap_in_forget(pager, gpn);
	else if (state == MT_PAGE_SWAPPED)
		mt_slots_release(pager->slots, MT_SLOT(place));
}

void mt_discard_range(struct mt_pager *pager, mt_gpn_t first, uint64_t pages)
{
	mt_share_unmap_range(pager, first, pages);
	for (uint64_t i = 0; i < pages; i++) {
		mt_gpn_t gpn = MT_GPN(first.n + i);
		enum mt_page_state state = mt_page_state(&pager->map, gpn);

		/* A frame that could not be taken away stays: the guest has what it had. */
		if (state == MT_PAGE_RELEASED || mt_page_mapped(&pager->map, gpn))
			continue;
		discard_copy(pager, gpn, state);
		mt_page_set(&pager->map, gpn, state, MT_PAGE_RELEASED, 0);
		mt_page_heat_set(&pager->map, gpn, (struct mt_heat){0});
	}
	mt_count(pager, MT_C_DISCARDED, pages);
}

static void discard_take(struct mt_pager *pager, const struct mt_discard *discard)
{
	/* What lies outside of all regions is not ours to know, however much it is. */
	for (uint32_t i = 0; i < pager->regions.count; i++) {
		const struct mt_region *region = &pager->regions.region[i];
		uint64_t base = (uint64_t)(uintptr_t)region->base;
		uint64_t start = MT_MAX(base, discard->addr);
		uint64_t end = MT_MIN(base + (region->pages << MT_PAGE_SHIFT),
				      discard->addr + discard->bytes);

		if (start < end)
			mt_discard_range(pager, mt_region_gpn(region, start),
					 (end - start) >> MT_PAGE_SHIFT);
	}
}

void mt_discards_drain(struct mt_pager *pager)
{
	struct mt_discards *discards = &pager->discards;
	uint32_t head = atomic_load_explicit(&discards->head, memory_order_relaxed);

	/*
	 * Who begins in this turn does not return before its end, and his range is in the ring. So
	 * what is put in place in this turn can only be dropped unseen by those under way now.
	 */
	discards->dropping = atomic_load(&discards->under_way) > 0;
	/* Sequentially consistent: not before the batch number was made odd, see mt_discard(). */
	while (head != atomic_load(&discards->tail)) {
		struct mt_discard discard = discards->ring[head % MT_DISCARDS];

		atomic_store(&discards->head, ++head);
		discard_take(pager, &discard);
	}
	mt_staging_flush(&pager->staging);
}
