/* SPDX-License-Identifier: MIT */
/*
 * share_scan.c - look through the guest's memory for pages to share, slowly
 *
 * A hand of its own goes round the pages that are in their place, so many in a second that all are
 * seen once in Mem.ShareScanTime. A few at a time are moved to staging, hashed and offered; what is
 * not shared goes back by another move, and a guest that touches it meanwhile gets it at once.
 * Pages that the daemon says have got a frame come first. While much is given up they may be more
 * than there is room to note; then all compressed pages are offered once more when that is over (a
 * sweep).
 *
 * Pages that are part of a large page are left alone: taking one out would split it. They are
 * offered when memory is short and the large page is broken anyway. While reclaim is at work it
 * offers all it takes, and the scanner rests.
 */
#include "monitor/pager.h"

/* Records looked at in one turn for pages to take. */
#define SCAN_LOOKS 4096U
/* Pages looked at in one turn that have got a frame like them; some have to be unpacked. */
#define SCAN_AGAIN 8U
/* New settings are noticed after this long at most. */
#define SCAN_WAIT_MS 10000U
#define SCAN_NS      1000000000000ULL /* the time that the rate is for */

/* Pages from @gpn to the end of the large page it lies in, if it lies in one; else 0. */
static uint32_t scan_large(struct mt_pager *pager, mt_gpn_t gpn)
{
	const struct mt_region *region = mt_region_of_gpn(&pager->regions, gpn);
	uint8_t *addr = mt_region_addr(region, gpn);
	uint64_t end = mt_align_up((uint64_t)(uintptr_t)addr + 1, MT_HUGE_SIZE);
	uint64_t pages = (end - (uint64_t)(uintptr_t)addr) >> MT_PAGE_SHIFT;

	if (!pager->mem.large(pager->mem.ctx, addr))
		return 0;
	return (uint32_t)MT_MIN(pages, mt_region_pages_from(region, gpn));
}

/* Puts page @gpn, just nominated, into the job. */
static void scan_take(struct mt_pager *pager, struct mt_job *job, mt_gpn_t gpn)
{
	mt_stage_t slot;

	if (mt_page_state(&pager->map, gpn) != MT_PAGE_NOMINATED || mt_page_busy(&pager->map, gpn))
		return;
	slot = MT_STAGE(mt_page_place(&pager->map, gpn));
	mt_page_busy_set(&pager->map, gpn, job->ticket);
	job->gpn[job->count] = gpn;
	job->slot[job->count] = slot;
	job->page[job->count] = mt_staging_addr(&pager->staging, slot);
	job->count++;
}

static bool scan_resident(struct mt_pager *pager, mt_gpn_t gpn)
{
	return mt_region_of_gpn(&pager->regions, gpn) &&
	       mt_page_state(&pager->map, gpn) == MT_PAGE_RESIDENT;
}

static void scan_take_resident(struct mt_pager *pager, struct mt_job *job, mt_gpn_t gpn)
{
	if (scan_resident(pager, gpn) && !scan_large(pager, gpn) && mt_nominate_run(pager, gpn, 1))
		scan_take(pager, job, gpn);
}

/* Pages that were read from the swap file to be shared. */
static void scan_read(struct mt_pager *pager, struct mt_job *job)
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
			scan_take_resident(pager, job, gpn);
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

/* A page whose like has become a frame, wherever it is. False: ask again. */
static bool scan_again_one(struct mt_pager *pager, struct mt_job *job,
			   struct mt_share_batch *zipped, mt_gpn_t gpn)
{
	if (!mt_region_of_gpn(&pager->regions, gpn) || mt_share_zipped_add(pager, zipped, gpn))
		return true;
	if (mt_page_state(&pager->map, gpn) == MT_PAGE_SWAPPED)
		return scan_swapped(pager, gpn);
	scan_take_resident(pager, job, gpn);
	return true;
}

/* Pages whose like has become a frame. */
static void scan_again(struct mt_pager *pager, struct mt_job *job, struct mt_share_batch *zipped)
{
	struct mt_share *share = &pager->share;
	uint32_t head = atomic_load_explicit(&share->again_head, memory_order_relaxed);

	scan_read(pager, job);
	for (uint32_t i = 0; i < SCAN_AGAIN; i++) {
		if (head == atomic_load_explicit(&share->again_tail, memory_order_acquire) ||
		    !scan_again_one(pager, job, zipped, share->again[head % MT_SHARE_AGAINS]))
			return;
		atomic_store_explicit(&share->again_head, ++head, memory_order_release);
	}
}

/* Compressed pages from the sweep's hand on, a few. */
static void scan_sweep(struct mt_pager *pager, struct mt_share_batch *zipped)
{
	struct mt_share *share = &pager->share;

	mt_hand_advance(&pager->regions, &share->sweep_hand, 0);
	for (uint32_t i = 0;
	     i < SCAN_LOOKS && share->sweep_left_pages && zipped->count < SCAN_AGAIN; i++) {
		mt_share_zipped_add(pager, zipped,
				    mt_hand_gpn(&pager->regions, &share->sweep_hand));
		mt_hand_advance(&pager->regions, &share->sweep_hand, 1);
		share->sweep_left_pages--;
	}
}

/* Pages from the hand on, all in a row. Return: how many the hand went past, those included. */
static uint32_t scan_run(struct mt_pager *pager, struct mt_job *job)
{
	struct mt_share *share = &pager->share;
	uint32_t passed = 0, run = 0, large;
	mt_gpn_t gpn;

	mt_hand_advance(&pager->regions, &share->scan_hand, 0);
	while (passed < SCAN_LOOKS) {
		gpn = mt_hand_gpn(&pager->regions, &share->scan_hand);
		if (scan_resident(pager, gpn)) {
			large = scan_large(pager, gpn);
			if (!large)
				break;
			mt_count(pager, MT_C_SHARE_LARGE, large);
		} else {
			large = 1;
		}
		passed += large;
		mt_hand_advance(&pager->regions, &share->scan_hand, large);
	}
	if (passed >= SCAN_LOOKS)
		return passed;
	while (run < MT_JOB_PAGES - job->count && scan_resident(pager, MT_GPN(gpn.n + run)) &&
	       share->scan_hand.page + run < pager->regions.region[share->scan_hand.region].pages)
		run++;
	mt_nominate_run(pager, gpn, run);
	for (uint32_t i = 0; i < run; i++)
		scan_take(pager, job, MT_GPN(gpn.n + i));
	mt_hand_advance(&pager->regions, &share->scan_hand, run);
	return passed + run;
}

static bool scan_has_again(const struct mt_share *share)
{
	return share->reading_count || share->sweep_left_pages ||
	       atomic_load_explicit(&share->again_head, memory_order_relaxed) !=
		       atomic_load_explicit(&share->again_tail, memory_order_acquire);
}

int mt_share_scan(struct mt_pager *pager)
{
	struct mt_share *share = &pager->share;
	uint64_t per_ks = atomic_load_explicit(&share->pages_per_ks, memory_order_relaxed);
	struct mt_share_batch *zipped;
	struct mt_job *job;
	uint64_t now_ns;

	if (!mt_share_usable(pager) || !pager->regions.count)
		return -1;
	if (atomic_exchange_explicit(&share->again_lost, false, memory_order_acquire))
		share->sweep_left_pages = mt_regions_pages(&pager->regions);
	now_ns = mt_pager_now_ns();
	if (!scan_has_again(share) && (now_ns < share->scan_next_ns || mt_room_excess_pages(pager)))
		return mt_pager_ms_until(now_ns, MT_MAX(share->scan_next_ns, now_ns + 100000000),
					 SCAN_WAIT_MS);
	job = mt_helper_job(&pager->helper, MT_JOB_IDLE);
	/* Whoever is busy now kicks us when he is done. */
	if (!job || !mt_share_batch_idle(pager))
		return mt_pager_ms_until(now_ns, now_ns + 100000000, SCAN_WAIT_MS);
	job->ticket = ++pager->next_ticket;
	job->count = 0;
	job->kind = MT_JOB_HASH;
	job->evict = false;
	zipped = mt_share_batch_get(pager);
	zipped->zipped = true;
	scan_again(pager, job, zipped);
	scan_sweep(pager, zipped);
	if (zipped->count)
		mt_share_send(pager, zipped, false);
	if (now_ns >= share->scan_next_ns && !mt_room_excess_pages(pager))
		share->scan_next_ns = now_ns + scan_run(pager, job) * SCAN_NS / per_ks;
	if (job->count)
		mt_helper_submit(&pager->helper, job);
	return scan_has_again(share) ? 1
				     : mt_pager_ms_until(now_ns, share->scan_next_ns, SCAN_WAIT_MS);
}
