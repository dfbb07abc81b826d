/* SPDX-License-Identifier: MIT */
/*
 * share_scan.c - look through the guest's memory for pages to share, slowly
 *
 * A hand of its own goes round the pages that are in their place, so many in a second that all are
 * seen once in Mem.ShareScanTime. They are looked at where they are, many at a time (share_look.c).
 * Pages that the daemon says have got a frame come first. While much is given up they may be more
 * than there is room to note; then all compressed pages are offered once more when that is over (a
 * sweep).
 *
 * Pages that are part of a large page are only counted, if they have a like: taking one out would
 * split it. They are offered when memory is short and the large page is broken anyway. While
 * reclaim is at work it offers all it takes, and the scanner rests.
 */
#include "monitor/pager.h"

/* Records looked at in one turn for pages to take. */
#define SCAN_LOOKS 4096U
/* Compressed pages unpacked in one turn, to be offered. */
#define SCAN_UNPACK 8U
/* Pages that have got a frame like them are looked at together, but don't wait longer than this. */
#define SCAN_AGAIN_NS 50000000ULL
/* While reclaim is at work, or nobody can take what is found: look again after this long. */
#define SCAN_REST_NS 100000000ULL
/* New settings are noticed after this long at most. */
#define SCAN_WAIT_MS 10000U
#define SCAN_NS      1000000000000ULL /* the time that the rate is for */

/* Pages that are, or could be, in one large page, and whether they are. */
struct scan_span {
	uint64_t first, end;
	bool large;
};

/* Is resident page @gpn in a large page? Asks the kernel once for each span. */
static bool scan_large(struct mt_pager *pager, struct scan_span *span, mt_gpn_t gpn)
{
	const struct mt_region *region = mt_region_of_gpn(&pager->regions, gpn);
	uint64_t addr = (uint64_t)(uintptr_t)mt_region_addr(region, gpn), pages;

	if (gpn.n >= span->first && gpn.n < span->end)
		return span->large;
	pages = (mt_align_up(addr + 1, MT_HUGE_SIZE) - addr) >> MT_PAGE_SHIFT;
	span->first = gpn.n;
	span->end = gpn.n + MT_MIN(pages, mt_region_pages_from(region, gpn));
	span->large = pager->mem.large(pager->mem.ctx, mt_region_addr(region, gpn));
	return span->large;
}

static bool scan_resident(struct mt_pager *pager, mt_gpn_t gpn)
{
	return mt_region_of_gpn(&pager->regions, gpn) &&
	       mt_page_state(&pager->map, gpn) == MT_PAGE_RESIDENT;
}

static bool scan_full(const struct mt_pager *pager)
{
	return pager->share.look.count == MT_WIRE_SHARE_LOOKS;
}

/* Page @gpn has a like, and could be shared if it is in its place and not in a large page. */
static void scan_noted_one(struct mt_pager *pager, struct scan_span *span, mt_gpn_t gpn)
{
	if (scan_resident(pager, gpn) && !scan_large(pager, span, gpn))
		mt_look_add(pager, gpn, false);
}

/* Pages that were read from the swap file to be shared. */
static void scan_read(struct mt_pager *pager, struct scan_span *span)
{
	struct mt_share *share = &pager->share;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < share->reading_count; i++) {
		mt_gpn_t gpn = share->reading[i];

		if (!mt_region_of_gpn(&pager->regions, gpn))
			continue;
		if (mt_page_state(&pager->map, gpn) == MT_PAGE_SWAPPED &&
		    mt_page_busy(&pager->map, gpn))
			share->reading[kept++] = gpn;
		else
			scan_noted_one(pager, span, gpn);
	}
	share->reading_count = kept;
}

/* A page in the swap file comes back to be shared. False: not now. */
static bool scan_swapped(struct mt_pager *pager, mt_gpn_t gpn)
{
	struct mt_share *share = &pager->share;

	if (mt_page_busy(&pager->map, gpn))
		return true;
	if (share->reading_count == MT_SHARE_READING || !mt_room_for(pager, 2))
		return false;
	mt_swap_in_start(pager, gpn, 1);
	if (mt_page_busy(&pager->map, gpn))
		share->reading[share->reading_count++] = gpn;
	return true;
}

static uint32_t scan_noted(const struct mt_share *share)
{
	return atomic_load_explicit(&share->again_tail, memory_order_acquire) -
	       atomic_load_explicit(&share->again_head, memory_order_relaxed);
}

/* A page whose like has become a frame, wherever it is. False: not now. */
static bool scan_again_one(struct mt_pager *pager, struct scan_span *span,
			   struct mt_share_batch *zipped, mt_gpn_t gpn)
{
	if (!mt_region_of_gpn(&pager->regions, gpn) || mt_share_zipped_add(pager, zipped, gpn))
		return true;
	if (mt_page_state(&pager->map, gpn) == MT_PAGE_SWAPPED)
		return scan_swapped(pager, gpn);
	scan_noted_one(pager, span, gpn);
	return true;
}

/* Pages whose like has become a frame. */
static void scan_again(struct mt_pager *pager, struct scan_span *span,
		       struct mt_share_batch *zipped)
{
	struct mt_share *share = &pager->share;
	uint32_t head = atomic_load_explicit(&share->again_head, memory_order_relaxed);
	uint32_t left = scan_noted(share);

	scan_read(pager, span);
	for (; left && !scan_full(pager) && zipped->count < SCAN_UNPACK; left--, head++)
		if (!scan_again_one(pager, span, zipped, share->again[head % MT_SHARE_AGAINS]))
			break;
	share->again_by_ns = 0;
	atomic_store_explicit(&share->again_head, head, memory_order_release);
}

/* Compressed pages from the sweep's hand on, a few. */
static void scan_sweep(struct mt_pager *pager, struct mt_share_batch *zipped)
{
	struct mt_share *share = &pager->share;

	mt_hand_advance(&pager->regions, &share->sweep_hand, 0);
	for (uint32_t i = 0;
	     i < SCAN_LOOKS && share->sweep_left_pages && zipped->count < SCAN_UNPACK; i++) {
		mt_share_zipped_add(pager, zipped,
				    mt_hand_gpn(&pager->regions, &share->sweep_hand));
		mt_hand_advance(&pager->regions, &share->sweep_hand, 1);
		share->sweep_left_pages--;
	}
}

/* The hand has gone past a page. At the end of a round, what it saw in large pages is known. */
static void scan_passed(struct mt_pager *pager)
{
	struct mt_share *share = &pager->share;

	mt_hand_advance(&pager->regions, &share->scan_hand, 1);
	if (share->scan_left_pages && --share->scan_left_pages)
		return;
	share->scan_left_pages = mt_regions_pages(&pager->regions);
	share->cow_hint_round_pages = share->cow_hint_pages;
	share->cow_hint_pages = 0;
}

/* Fills the look with pages from the hand on. Return: how many the hand went past. */
static uint32_t scan_fill(struct mt_pager *pager, struct scan_span *span)
{
	struct mt_share *share = &pager->share;
	uint32_t passed = 0;

	mt_hand_advance(&pager->regions, &share->scan_hand, 0);
	for (; passed < SCAN_LOOKS && !scan_full(pager); passed++) {
		mt_gpn_t gpn = mt_hand_gpn(&pager->regions, &share->scan_hand);

		if (mt_page_state(&pager->map, gpn) == MT_PAGE_RESIDENT)
			mt_look_add(pager, gpn, scan_large(pager, span, gpn));
		scan_passed(pager);
	}
	return passed;
}

/* Is there something besides what the hand finds that should be looked at now? */
static bool scan_has_again(struct mt_share *share, uint64_t now_ns)
{
	uint32_t noted = scan_noted(share);

	if (noted && !share->again_by_ns)
		share->again_by_ns = now_ns + SCAN_AGAIN_NS;
	return share->reading_count || share->sweep_left_pages || noted >= MT_SHARE_AGAIN_MANY ||
	       (noted && now_ns >= share->again_by_ns);
}

/* When the hand may go on: after what it went past last time, at the rate of now. */
static uint64_t scan_next_ns(const struct mt_share *share)
{
	uint64_t per_ks = atomic_load_explicit(&share->pages_per_ks, memory_order_relaxed);

	return share->scan_since_ns + share->scan_passed_pages * SCAN_NS / MT_MAX(per_ks, 1U);
}

static int scan_wait_ms(const struct mt_share *share, uint64_t now_ns, uint64_t until_ns)
{
	if (share->again_by_ns)
		until_ns = MT_MIN(until_ns, share->again_by_ns);
	return mt_pager_ms_until(now_ns, until_ns, SCAN_WAIT_MS);
}

int mt_share_scan(struct mt_pager *pager)
{
	struct mt_share *share = &pager->share;
	struct scan_span span = {0, 0, false};
	struct mt_share_batch *zipped;
	uint64_t now_ns;
	bool again;

	if (!mt_share_usable(pager) || !pager->regions.count || !pager->mem.read)
		return -1;
	/* Nothing that was found could be moved. */
	if (pager->in_place)
		return SCAN_WAIT_MS;
	if (atomic_exchange_explicit(&share->again_lost, false, memory_order_acquire))
		share->sweep_left_pages = mt_regions_pages(&pager->regions);
	now_ns = mt_pager_now_ns();
	again = scan_has_again(share, now_ns);
	if (!again) {
		if (now_ns < scan_next_ns(share))
			return scan_wait_ms(share, now_ns, scan_next_ns(share));
		if (mt_room_excess_pages(pager))
			return scan_wait_ms(share, now_ns, now_ns + SCAN_REST_NS);
	}
	/* Whoever is busy now kicks us when he is done. */
	if (!mt_look_idle(pager) || !mt_share_batch_idle(pager))
		return mt_pager_ms_until(now_ns, now_ns + SCAN_REST_NS, SCAN_WAIT_MS);
	share->look.count = 0;
	zipped = mt_share_batch_get(pager);
	zipped->zipped = true;
	if (again)
		scan_again(pager, &span, zipped);
	scan_sweep(pager, zipped);
	if (zipped->count)
		mt_share_send(pager, zipped, false);
	if (now_ns >= scan_next_ns(share) && !mt_room_excess_pages(pager)) {
		share->scan_passed_pages = scan_fill(pager, &span);
		share->scan_since_ns = now_ns;
	}
	mt_look_start(pager);
	return scan_has_again(share, now_ns) ? 1 : scan_wait_ms(share, now_ns, scan_next_ns(share));
}
