/* SPDX-License-Identifier: MIT */
/* restore.c - bring every page back into its place; see restore.h */
#include "monitor/restore.h"
#include "monitor/pager.h"

/* Pages looked at in one turn. */
#define RESTORE_STEP 256U
/*
 * An address space that is just being changed has no place for a page for a moment. When it still
 * has none after so many rounds, of at least a millisecond each, there is no mapping any more.
 */
#define RESTORE_GONE_ROUNDS 100U

/* Has the page a copy somewhere else that must come back? */
static bool restore_needed(struct mt_pager *pager, mt_gpn_t gpn)
{
	enum mt_page_state state = mt_page_state(&pager->map, gpn);

	return state == MT_PAGE_NOMINATED || state == MT_PAGE_SHARED || state == MT_PAGE_ZIPPED ||
	       state == MT_PAGE_SWAPPED;
}

static void restore_page(struct mt_pager *pager, struct mt_restore *at)
{
	const struct mt_region *region = &pager->regions.region[at->region];
	mt_gpn_t gpn = MT_GPN(region->first.n + at->page);
	struct mt_fault fault = {.addr = (uintptr_t)mt_region_addr(region, gpn)};

	if (restore_needed(pager, gpn)) {
		if (mt_fault_serve(pager, &fault, true) != MT_FAULT_SERVED)
			at->left = true;
		/* Served means that nobody waits for it any more: it may have had no place to go.
		 */
		else if (restore_needed(pager, gpn))
			at->gone = true;
	}
	if (++at->page < region->pages)
		return;
	at->page = 0;
	at->region++;
}

bool mt_restore_some(struct mt_pager *pager, void *restore)
{
	struct mt_restore *at = restore;

	if (pager->cut) {
		at->failed_pages = mt_pager_cut_pages(pager);
		return true;
	}
	pager->leaving = true;
	for (uint32_t i = 0; i < RESTORE_STEP && at->region < pager->regions.count; i++) {
		if (at->only && pager->regions.region[at->region].base != at->only)
			at->region++;
		else
			restore_page(pager, at);
	}
	if (at->region < pager->regions.count)
		return false;
	if (at->left || (at->gone && at->gone_rounds < RESTORE_GONE_ROUNDS)) {
		*at = (struct mt_restore){.only = at->only,
					  .gone_rounds = at->left ? 0 : at->gone_rounds + 1};
		return false;
	}
	/* Counted here: what other threads can read is a turn old. */
	at->failed_pages = pager->map.pages[MT_PAGE_FAILED];
	pager->leaving = !at->failed_pages;
	/* Whoever stays after all has come to hold more than he may, and gives it up again. */
	pager->settling = true;
	return true;
}
