/* SPDX-License-Identifier: MIT */
/*
 * nursery.c - large pages, zeroed ahead of time, for first touches
 *
 * While there is plenty of room a first touch is served with a whole 2 MiB page that the helper
 * had the kernel allocate and zero beforehand: moving it into the guest takes microseconds, where
 * the kernel's own fault would zero it in the guest's time. So a guest with enough memory is not
 * slower under Memtide than without.
 *
 * A slot's memory belongs to the helper while "ready" is 1 (filling) and to the pager otherwise.
 */
#include "monitor/pager.h"

#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

enum { NURSERY_EMPTY, NURSERY_FILLING, NURSERY_READY };

/* Fill the nursery only with this many large pages of room left beyond it. */
#define NURSERY_PLENTY (4 * MT_HUGE_PAGES)

static uint8_t *nursery_slot(const struct mt_pager *pager, uint32_t i)
{
	return pager->nursery + (uint64_t)i * MT_HUGE_SIZE;
}

uint64_t mt_nursery_pages(const struct mt_pager *pager)
{
	uint64_t pages = 0;

	for (uint32_t i = 0; i < MT_NURSERY_SLOTS; i++)
		if (atomic_load_explicit(&pager->nursery_ready[i], memory_order_relaxed))
			pages += MT_HUGE_PAGES;
	return pages;
}

/* The helper's idle work: fill one slot the pager asked for. */
bool mt_nursery_fill(struct mt_pager *pager)
{
	for (uint32_t i = 0; i < MT_NURSERY_SLOTS; i++) {
		if (atomic_load_explicit(&pager->nursery_ready[i], memory_order_acquire) !=
		    NURSERY_FILLING)
			continue;
		/* When it fails the slot is simply less than full, and the move says so. */
		madvise(nursery_slot(pager, i), MT_HUGE_SIZE, MADV_POPULATE_WRITE);
		atomic_store_explicit(&pager->nursery_ready[i], NURSERY_READY,
				      memory_order_release);
		return true;
	}
	return false;
}

/* First page of the large page around @gpn if all of that is guest RAM nobody has a copy of. */
static bool nursery_fits(struct mt_pager *pager, const struct mt_region *region, mt_gpn_t gpn,
			 mt_gpn_t *ret_first)
{
	if (!mt_region_large(region, gpn, ret_first))
		return false;
	for (uint32_t i = 0; i < MT_HUGE_PAGES; i++) {
		enum mt_page_state state = mt_page_state(&pager->map, MT_GPN(ret_first->n + i));

		if (state != MT_PAGE_UNTOUCHED && state != MT_PAGE_RELEASED)
			return false;
	}
	return true;
}

bool mt_nursery_take(struct mt_pager *pager, const struct mt_region *region, mt_gpn_t gpn)
{
	uint32_t slot = 0;
	uint64_t bytes = 0;
	mt_gpn_t first;
	uint8_t *to;

	while (slot < MT_NURSERY_SLOTS &&
	       atomic_load_explicit(&pager->nursery_ready[slot], memory_order_acquire) !=
		       NURSERY_READY)
		slot++;
	if (slot == MT_NURSERY_SLOTS || !nursery_fits(pager, region, gpn, &first))
		return false;
	to = mt_region_addr(region, first);
	pager->mem.move(pager->mem.ctx, to, nursery_slot(pager, slot), MT_HUGE_SIZE, true, &bytes);
	for (uint64_t i = 0; i < bytes >> MT_PAGE_SHIFT; i++) {
		mt_gpn_t done = MT_GPN(first.n + i);

		mt_page_in_place(pager, done, mt_page_state(&pager->map, done));
	}
	if (bytes < MT_HUGE_SIZE)
		pager->mem.drop(pager->mem.ctx, nursery_slot(pager, slot), MT_HUGE_SIZE);
	atomic_store_explicit(&pager->nursery_ready[slot], NURSERY_EMPTY, memory_order_relaxed);
	if (mt_page_state(&pager->map, gpn) != MT_PAGE_RESIDENT)
		return false;
	mt_count(pager, MT_C_FAULT_NEW, 1);
	return true;
}

/* Is there guest memory left that a large page could be the first backing of? */
static bool nursery_wanted(const struct mt_pager *pager)
{
	return pager->map.pages[MT_PAGE_UNTOUCHED] + pager->map.pages[MT_PAGE_RELEASED] >=
	       MT_HUGE_PAGES;
}

void mt_nursery_update(struct mt_pager *pager)
{
	bool plenty = nursery_wanted(pager) && mt_room_left_pages(pager) >= NURSERY_PLENTY &&
		      !mt_room_excess_pages(pager);
	bool asked = false;

	for (uint32_t i = 0; i < MT_NURSERY_SLOTS; i++) {
		uint32_t is = atomic_load_explicit(&pager->nursery_ready[i], memory_order_acquire);

		if (is == NURSERY_EMPTY && plenty) {
			atomic_store_explicit(&pager->nursery_ready[i], NURSERY_FILLING,
					      memory_order_release);
			asked = true;
			plenty = mt_room_left_pages(pager) >= NURSERY_PLENTY;
		} else if (is == NURSERY_READY && !plenty) {
			pager->mem.drop(pager->mem.ctx, nursery_slot(pager, i), MT_HUGE_SIZE);
			atomic_store_explicit(&pager->nursery_ready[i], NURSERY_EMPTY,
					      memory_order_relaxed);
		}
	}
	if (asked)
		mt_helper_wake(&pager->helper);
}
