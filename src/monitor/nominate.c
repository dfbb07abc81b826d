/* SPDX-License-Identifier: MIT */
/*
 * nominate.c - choose cold pages and move them to staging, where a touch can still save them
 *
 * A clock hand goes round all resident pages. The heat of a page, gained when the guest touched it
 * soon after it was nominated or brought it back soon from a store, buys it some rounds more
 * (heat.h). So pages that proved themselves stay longer, and pages nobody asks for go at the hand's
 * first visit: without scanning accessed bits, at no cost while a page stays in place.
 *
 * Pages are taken in runs, since moving 32 of them costs little more than moving one.
 */
#include "monitor/pager.h"

#include <errno.h>

#define NOMINATE_RUN 32U
/* Records looked at in one call, so that a call is short even if all pages are out already. */
#define NOMINATE_SCAN 16384U
/* Pinned pages met in one call. */
#define NOMINATE_REFUSALS 64U
/* After it could not be told whether I/O may be under way. */
#define NOMINATE_RETRY_NS 2000000ULL

static bool hand_takes(const struct mt_pager *pager, mt_gpn_t gpn)
{
	return mt_page_state(&pager->map, gpn) == MT_PAGE_RESIDENT &&
	       !mt_page_heat(&pager->map, gpn).rounds;
}

/* The hand goes past a page it does not take, which costs a hot one some of its heat. */
static void hand_pass(struct mt_pager *pager, mt_gpn_t gpn)
{
	struct mt_heat heat = mt_page_heat(&pager->map, gpn);

	if (heat.rounds && mt_page_state(&pager->map, gpn) == MT_PAGE_RESIDENT) {
		heat.rounds--;
		mt_page_heat_set(&pager->map, gpn, heat);
	}
	pager->hand_skipped++;
	mt_hand_advance(&pager->regions, &pager->hand, 1);
}

bool mt_nominate_may_find(const struct mt_pager *pager)
{
	/* After so many rounds the hottest page would have been taken, if it could be moved. */
	return !pager->in_place &&
	       pager->hand_skipped < (MT_HEAT_ROUNDS_MAX + 1) * mt_regions_pages(&pager->regions) &&
	       pager->staging.used < pager->staging.size;
}

/* Pages from the hand on that may be taken, all in one region, at most @max. */
static uint32_t hand_run(struct mt_pager *pager, uint32_t max, uint32_t *scan_left)
{
	const struct mt_region *region = &pager->regions.region[pager->hand.region];
	uint32_t run = 0;

	while (run < max && *scan_left && pager->hand.page + run < region->pages &&
	       hand_takes(pager, MT_GPN(region->first.n + pager->hand.page + run))) {
		run++;
		(*scan_left)--;
	}
	return run;
}

/* Marks @pages pages from @gpn, moved to slots from @slot on. */
static void nominate_mark(struct mt_pager *pager, mt_gpn_t gpn, mt_stage_t slot, uint64_t pages)
{
	for (uint64_t i = 0; i < pages; i++)
		mt_page_set(&pager->map, MT_GPN(gpn.n + i), MT_PAGE_RESIDENT, MT_PAGE_NOMINATED,
			    slot.n + i);
	mt_count(pager, MT_C_NOMINATIONS, pages);
}

/* What to do with the page that stopped a move. Return: may the move go on behind it? */
static bool nominate_stopped(struct mt_pager *pager, mt_gpn_t gpn, enum mt_mem_outcome why)
{
	switch (why) {
	case MT_MEM_PINNED:
		/* Pinned pages are in use by definition: leave them alone for some rounds. */
		mt_page_heat_set(&pager->map, gpn, mt_heat_hottest(mt_page_heat(&pager->map, gpn)));
		mt_count(pager, MT_C_PINNED, 1);
		return true;
	case MT_MEM_ABSENT:
		mt_page_absent(pager, gpn);
		return true;
	case MT_MEM_DONE:
	case MT_MEM_EXISTS:
	case MT_MEM_RETRY:
	case MT_MEM_GONE:
	case MT_MEM_FAILED:
		break;
	}
	return false;
}

uint32_t mt_nominate_run(struct mt_pager *pager, mt_gpn_t gpn, uint32_t pages)
{
	const struct mt_region *region = mt_region_of_gpn(&pager->regions, gpn);
	uint32_t done = 0, moved = 0, most = pages;

	/* Here, as this is the one way out of guest memory. */
	if (pager->in_place)
		return 0;
	while (done < pages) {
		mt_gpn_t next = MT_GPN(gpn.n + done);
		enum mt_mem_outcome outcome;
		uint64_t bytes = 0, got;
		mt_stage_t slot;
		uint32_t room =
			mt_staging_alloc(&pager->staging, MT_MIN(pages - done, most), &slot);

		if (!room)
			break;
		outcome = pager->mem.move(pager->mem.ctx, mt_staging_addr(&pager->staging, slot),
					  mt_region_addr(region, next),
					  (uint64_t)room << MT_PAGE_SHIFT, false, &bytes);
		got = bytes >> MT_PAGE_SHIFT;
		nominate_mark(pager, next, slot, got);
		for (uint64_t i = got; i < room; i++)
			mt_staging_free_empty(&pager->staging, MT_STAGE(slot.n + i));
		moved += (uint32_t)got;
		done += (uint32_t)got;
		if (outcome == MT_MEM_DONE)
			continue;
		/* Not all of it is one mapping: page by page, then. */
		if (outcome == MT_MEM_GONE && !got && room > 1) {
			most = 1;
			continue;
		}
		if (!nominate_stopped(pager, MT_GPN(gpn.n + done), outcome))
			break;
		done++;
	}
	return moved;
}

bool mt_nominate_settle(struct mt_pager *pager)
{
	uint64_t now_ns;

	if (pager->in_place)
		return false;
	if (pager->mem.unseen_io) {
		now_ns = mt_pager_now_ns();
		if (now_ns < pager->settle_retry_ns)
			return false;
		if (pager->mem.unseen_io(pager->mem.ctx)) {
			pager->settle_retry_ns = mt_pager_now_ns() + NOMINATE_RETRY_NS;
			if (!atomic_load(&pager->unsettled_ns))
				atomic_store(&pager->unsettled_ns, now_ns);
			if (!atomic_exchange(&pager->look_wanted, true))
				pager->notify(pager->notify_ctx);
			return false;
		}
	}
	atomic_store(&pager->unsettled_ns, 0);
	mt_page_settle(&pager->map);
	return true;
}

uint32_t mt_nominate_some(struct mt_pager *pager, uint32_t pages)
{
	/* No more than a round, or what was served in this turn would go before it was touched. */
	uint32_t scan_left = (uint32_t)MT_MIN(NOMINATE_SCAN, mt_regions_pages(&pager->regions));
	uint64_t pinned = pager->counter[MT_C_PINNED];
	uint32_t moved = 0;

	/* Nor does a page lose its heat by being passed while none can be taken. */
	if (!pager->regions.count || pager->in_place)
		return 0;
	/* The region under the hand may have gone, or another one taken its place. */
	mt_hand_advance(&pager->regions, &pager->hand, 0);
	while (moved < pages && scan_left) {
		uint32_t run = hand_run(pager, MT_MIN(NOMINATE_RUN, pages - moved), &scan_left);
		uint32_t got;

		if (!run) {
			hand_pass(pager, mt_hand_gpn(&pager->regions, &pager->hand));
			scan_left -= scan_left > 0;
			continue;
		}
		got = mt_nominate_run(pager, mt_hand_gpn(&pager->regions, &pager->hand), run);
		moved += got;
		pager->hand_skipped = got ? 0 : pager->hand_skipped + run;
		mt_hand_advance(&pager->regions, &pager->hand, run);
		if (!got && pager->staging.used == pager->staging.size)
			break;
		/* Each refusal costs a system call: faults come first. */
		if (pager->counter[MT_C_PINNED] - pinned >= NOMINATE_REFUSALS)
			break;
	}
	return moved;
}

uint32_t mt_nominate_undo_run(struct mt_pager *pager, mt_gpn_t gpn, uint32_t pages)
{
	const struct mt_region *region = mt_region_of_gpn(&pager->regions, gpn);
	mt_stage_t slot = MT_STAGE(mt_page_place(&pager->map, gpn));
	uint64_t bytes = 0;

	pager->mem.move(pager->mem.ctx, mt_region_addr(region, gpn),
			mt_staging_addr(&pager->staging, slot), (uint64_t)pages << MT_PAGE_SHIFT,
			true, &bytes);
	pages = (uint32_t)(bytes >> MT_PAGE_SHIFT);
	for (uint32_t i = 0; i < pages; i++) {
		mt_staging_free_empty(&pager->staging, MT_STAGE(slot.n + i));
		mt_page_in_place(pager, MT_GPN(gpn.n + i), MT_PAGE_NOMINATED);
	}
	return pages;
}

enum mt_mem_outcome mt_nominate_undo(struct mt_pager *pager, mt_gpn_t gpn, bool wake)
{
	const struct mt_region *region = mt_region_of_gpn(&pager->regions, gpn);
	mt_stage_t slot = MT_STAGE(mt_page_place(&pager->map, gpn));
	uint8_t *from = mt_staging_addr(&pager->staging, slot);
	uint8_t *to = mt_region_addr(region, gpn);
	bool busy = mt_page_in_use(&pager->map, gpn);
	bool sampled = mt_page_busy(&pager->map, gpn) == MT_TICKET_SAMPLE;
	enum mt_mem_outcome outcome = MT_MEM_PINNED;
	uint64_t bytes;

	/*
	 * While someone reads the slot, or direct I/O pins it, the guest gets a copy. So does a
	 * guest whose memory was locked meanwhile: the kernel moves no page into locked memory.
	 */
	if (!busy)
		outcome = pager->mem.move(pager->mem.ctx, to, from, MT_PAGE_SIZE, wake, &bytes);
	if (outcome == MT_MEM_PINNED || outcome == MT_MEM_GONE) {
		/* A copy would miss what still comes; where nothing is there is none. */
		if (!busy && !mt_nominate_settle(pager) && pager->mem.mapped(pager->mem.ctx, to))
			return MT_MEM_RETRY;
		outcome = pager->mem.copy(pager->mem.ctx, to, from, MT_PAGE_SIZE, &bytes);
		if (outcome == MT_MEM_DONE && !busy)
			mt_staging_free_full(&pager->staging, slot);
	} else if (outcome == MT_MEM_DONE) {
		mt_staging_free_empty(&pager->staging, slot);
	}
	if (outcome != MT_MEM_DONE && outcome != MT_MEM_ABSENT)
		return outcome;
	pager->sample.staged -= sampled;
	if (outcome == MT_MEM_DONE) {
		mt_page_in_place(pager, gpn, MT_PAGE_NOMINATED);
	} else {
		mt_staging_free_empty(&pager->staging, slot);
		mt_page_lost(pager, gpn, MT_PAGE_NOMINATED, MT_SLOT_NONE, -ENODATA);
	}
	return outcome;
}
