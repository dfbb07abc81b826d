/* SPDX-License-Identifier: MIT */
/* mend.c - the queue of large pages to be put together; see mend.h */
#include "monitor/mend.h"
#include "monitor/pager.h"

#include <errno.h>
#include <sys/mman.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

/* How often it was tried, in bits that no large page's address has. */
#define MEND_TRIES_MASK 15ULL

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

		if ((is & ~MEND_TRIES_MASK) == start)
			return;
		if (is)
			continue;
		atomic_store_explicit(&pager->mends.addr[i], start, memory_order_release);
		mt_helper_wake(&pager->helper);
		return;
	}
}

void mt_mend_forget(struct mt_mends *mends, const void *addr, uint64_t bytes)
{
	uint64_t start = (uint64_t)(uintptr_t)addr;

	for (uint32_t i = 0; i < MT_MENDS; i++) {
		uint64_t is = atomic_load_explicit(&mends->addr[i], memory_order_relaxed);

		if (is && (is & ~MEND_TRIES_MASK) - start < bytes)
			atomic_store_explicit(&mends->addr[i], 0, memory_order_release);
	}
}

/* One try. Return: is that all there is to do about it? */
static bool mend_try(struct mt_mends *mends, uint64_t addr)
{
	void *large = (void *)(uintptr_t)(addr & ~MEND_TRIES_MASK);

	if (!madvise(large, MT_HUGE_SIZE, MADV_COLLAPSE)) {
		atomic_fetch_add_explicit(&mends->mended, 1, memory_order_relaxed);
		return true;
	}
	/* EBUSY: a page is out; EAGAIN: the kernel is at one. Others leave the pages as they are
	 * for good reasons. */
	return (errno != EBUSY && errno != EAGAIN) || (addr & MEND_TRIES_MASK) == MEND_TRIES_MASK;
}

bool mt_mend_one(struct mt_mends *mends)
{
	while (mends->at < MT_MENDS) {
		uint32_t i = mends->at++;
		uint64_t addr = atomic_load_explicit(&mends->addr[i], memory_order_acquire);
		bool done;

		if (!addr)
			continue;
		done = mend_try(mends, addr);
		/* It may have been forgotten meanwhile. */
		atomic_compare_exchange_strong(&mends->addr[i], &addr, done ? 0 : addr + 1);
		if (done)
			return true;
	}
	/* What could not be done is tried again when the helper is next woken. */
	mends->at = 0;
	return false;
}
