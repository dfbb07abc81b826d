/* SPDX-License-Identifier: MIT */
/* mend.c - the queue of large pages to be put together; see mend.h */
#include "monitor/mend.h"
#include "monitor/pager.h"

#include <sys/mman.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

/* First page of the large page around @gpn if all of its small pages are in their places. */
static bool mend_can_be(struct mt_pager *pager, const struct mt_region *region, mt_gpn_t gpn,
			mt_gpn_t *ret_first)
{
	if (!mt_region_large(region, gpn, ret_first))
		return false;
	for (uint32_t i = 0; i < MT_HUGE_PAGES; i++)
		if (mt_page_state(&pager->map, MT_GPN(ret_first->n + i)) != MT_PAGE_RESIDENT)
			return false;
	return true;
}

void mt_mend_wanted(struct mt_pager *pager, mt_gpn_t gpn)
{
	const struct mt_region *region = mt_region_of_gpn(&pager->regions, gpn);
	uint64_t start;
	mt_gpn_t first;

	/* What is about to be given up page by page is better left in pieces. */
	if (mt_room_excess_pages(pager) || !mend_can_be(pager, region, gpn, &first))
		return;
	start = (uint64_t)(uintptr_t)mt_region_addr(region, first);
	for (uint32_t i = 0; i < MT_MENDS; i++) {
		uint64_t is = atomic_load_explicit(&pager->mends.addr[i], memory_order_relaxed);

		if (is == start)
			return;
		if (is)
			continue;
		atomic_store_explicit(&pager->mends.addr[i], start, memory_order_release);
		mt_helper_wake(&pager->helper);
		return;
	}
}

bool mt_mend_one(struct mt_mends *mends)
{
	for (uint32_t i = 0; i < MT_MENDS; i++) {
		uint64_t addr = atomic_load_explicit(&mends->addr[i], memory_order_acquire);

		if (!addr)
			continue;
		/* Refused for many good reasons, all of which leave the pages as they are. */
		if (!madvise((void *)(uintptr_t)addr, MT_HUGE_SIZE, MADV_COLLAPSE))
			atomic_fetch_add_explicit(&mends->mended, 1, memory_order_relaxed);
		atomic_store_explicit(&mends->addr[i], 0, memory_order_release);
		return true;
	}
	return false;
}
