/* SPDX-License-Identifier: MIT */
/*
 * reclaim.c - give memory up: how much, when, and the way of a page out
 *
 *   resident ──nominate──▶ nominated list ──job──▶ helper: zero? shared? compress ──▶ ZERO
 *       ▲                     │    (oldest first)                       ├──▶ zip store
 *       └──── touched ◀───────┴──── did not shrink, or store full ──────┴──▶ swap file
 *
 * While more is held than we are steered to, pages are nominated until a certain number waits in
 * staging, and the oldest of them go to the helper. Those that wait are a second chance for pages
 * in use: they come back at the cost of a fault, without a copy. The more may be held, the more
 * may wait.
 *
 * None is read before it is sure that no unreported I/O goes into it (mt_nominate_settle()).
 *
 * Everything here takes one step at a time and never waits: the pager serves faults in between.
 */
#include "monitor/pager.h"

/* How many pages wait for their second chance: 1/32 of what is held, within bounds. */
#define RECLAIM_WAIT_SHIFT     5
#define RECLAIM_WAIT_MIN_PAGES 128U
/* Nominated in one step. */
#define RECLAIM_STEP_PAGES 64U
/* While swap takes nothing, jobs go out this far apart. */
#define RECLAIM_RETRY_NS 5000000ULL
/* The zip store starts to pass pages on to swap this much before it is full. */
#define RECLAIM_ZIP_EARLY_BYTES (256U << 10)

static struct mt_heat_clock reclaim_clock(const struct mt_pager *pager)
{
	return mt_heat_clock(pager->left_pages,
			     pager->map.pages[MT_PAGE_RESIDENT] +
				     pager->map.pages[MT_PAGE_NOMINATED],
			     mt_regions_pages(&pager->regions));
}

void mt_page_left(struct mt_pager *pager, mt_gpn_t gpn)
{
	pager->left_pages++;
	mt_page_heat_set(&pager->map, gpn,
			 mt_heat_left(mt_page_heat(&pager->map, gpn), reclaim_clock(pager)));
}

void mt_page_came_back(struct mt_pager *pager, mt_gpn_t gpn)
{
	mt_page_heat_set(&pager->map, gpn,
			 mt_heat_back(mt_page_heat(&pager->map, gpn), reclaim_clock(pager)));
}

static uint64_t reclaim_wait_pages(const struct mt_pager *pager)
{
	uint64_t wait = mt_room_held_pages(pager) >> RECLAIM_WAIT_SHIFT;

	wait = MT_MAX(wait, RECLAIM_WAIT_MIN_PAGES);
	return MT_MIN(wait, pager->staging.size / 2);
}

/* Pages that are on their way out already: handed to the helper or being written from staging. */
static uint64_t reclaim_under_way_pages(const struct mt_pager *pager)
{
	return pager->map.pages[MT_PAGE_NOMINATED] - pager->map.nominated.count -
	       pager->sample.staged;
}

/*
 * May another job go out? Not while its pages could find no room in the queue for swap, and only
 * now and then while swap takes nothing: most of what comes back would have to wait anyway.
 */
static bool reclaim_may_dispatch(struct mt_pager *pager)
{
	uint64_t now_ns;

	if (!mt_swap_out_room(pager))
		return false;
	if (mt_swap_usable(pager))
		return true;
	now_ns = mt_pager_now_ns();
	if (now_ns < pager->reclaim_retry_ns)
		return false;
	pager->reclaim_retry_ns = now_ns + RECLAIM_RETRY_NS;
	return true;
}

/* Hands the oldest nominated pages to the helper. Return: pages handed over. */
static uint32_t reclaim_dispatch(struct mt_pager *pager, uint64_t most)
{
	struct mt_job *job = mt_helper_job(&pager->helper, MT_JOB_IDLE);

	if (!job || !pager->map.nominated.count || !reclaim_may_dispatch(pager))
		return 0;
	if (!pager->map.settled_pages && !mt_nominate_settle(pager))
		return 0;
	/* Before a page is compressed it is offered, unless the guest waits for its memory. */
	job->kind = mt_share_usable(pager) ? MT_JOB_HASH : MT_JOB_ZIP;
	if (job->kind == MT_JOB_HASH && !mt_share_batch_idle(pager)) {
		if (!pager->waiters_for_memory)
			return 0;
		job->kind = MT_JOB_ZIP;
	}
	job->ticket = ++pager->next_ticket;
	job->count = 0;
	while (job->count < MT_MIN(most, MT_JOB_PAGES) && pager->map.settled_pages) {
		mt_gpn_t gpn = pager->map.nominated.head;
		mt_stage_t slot = MT_STAGE(mt_page_place(&pager->map, gpn));

		mt_page_busy_set(&pager->map, gpn, job->ticket);
		job->gpn[job->count] = gpn;
		job->slot[job->count] = slot;
		job->page[job->count] = mt_staging_addr(&pager->staging, slot);
		job->count++;
	}
	if (job->count)
		mt_helper_submit(&pager->helper, job);
	return job->count;
}

/* Does page @i of a finished job still wait for its result? */
static bool job_page_current(const struct mt_pager *pager, const struct mt_job *job, uint32_t i)
{
	mt_gpn_t gpn = job->gpn[i];

	return mt_region_of_gpn((struct mt_regions *)&pager->regions, gpn) &&
	       mt_page_state(&pager->map, gpn) == MT_PAGE_NOMINATED &&
	       mt_page_busy(&pager->map, gpn) == job->ticket;
}

/*
 * May the zip store grow by @bytes? It gives back a page of staging for each that it takes, except
 * when its table of blocks grows, too: one page more, which the grant must have room for (I4).
 */
static bool reclaim_zip_may_grow(struct mt_pager *pager, uint32_t bytes)
{
	uint64_t after_bytes = mt_zip_held_bytes_after(pager->zip, bytes);
	uint64_t more =
		mt_pages_of_bytes(after_bytes) - mt_pages_of_bytes(mt_zip_held_bytes(pager->zip));

	if (after_bytes > mt_room_zip_max_bytes(pager))
		return false;
	if (more <= 1)
		return true;
	/* What this job has given back so far counts. */
	mt_staging_flush(&pager->staging);
	return mt_room_for(pager, more - 1);
}

static bool reclaim_zip(struct mt_pager *pager, const struct mt_job *job, uint32_t i)
{
	const uint8_t *data = job->out + i * MT_ZIP_OBJECT_MAX;
	mt_zref_t ref;

	if (job->verdict[i] != MT_JOB_SHRUNK) {
		mt_count(pager, MT_C_ZIP_REJECTED, 1);
		return false;
	}
	if (!reclaim_zip_may_grow(pager, job->bytes[i]))
		return false;
	if (mt_zip_put(pager->zip, job->gpn[i], data, job->bytes[i], &ref))
		return false;
	mt_page_set(&pager->map, job->gpn[i], MT_PAGE_NOMINATED, MT_PAGE_ZIPPED, ref.n);
	mt_page_left(pager, job->gpn[i]);
	mt_count(pager, MT_C_ZIP_IN, 1);
	return true;
}

void mt_reclaim_zero(struct mt_pager *pager, mt_gpn_t gpn, mt_stage_t slot)
{
	if (!mt_page_is_zero(mt_staging_addr(&pager->staging, slot))) {
		mt_count(pager, MT_C_ZERO_DENIED, 1);
		mt_page_busy_clear(&pager->map, gpn, false);
		return;
	}
	mt_page_set(&pager->map, gpn, MT_PAGE_NOMINATED, MT_PAGE_ZERO, 0);
	mt_page_left(pager, gpn);
	mt_staging_free_full(&pager->staging, slot);
}

static void reclaim_take_job(struct mt_pager *pager, struct mt_job *job)
{
	if (job->kind == MT_JOB_HASH) {
		mt_share_offer_job(pager, job);
		mt_staging_flush(&pager->staging);
		return;
	}
	for (uint32_t i = 0; i < job->count; i++) {
		mt_gpn_t gpn = job->gpn[i];

		if (!job_page_current(pager, job, i)) {
			mt_staging_free_full(&pager->staging, job->slot[i]);
		} else if (job->verdict[i] == MT_JOB_ZERO) {
			mt_reclaim_zero(pager, gpn, job->slot[i]);
		} else if (reclaim_zip(pager, job, i)) {
			mt_staging_free_full(&pager->staging, job->slot[i]);
		} else {
			mt_swap_out_enqueue(pager, gpn, job->slot[i], job->ticket);
		}
	}
	mt_swap_out_queued(pager);
	mt_staging_flush(&pager->staging);
	atomic_store_explicit(&job->phase, MT_JOB_IDLE, memory_order_relaxed);
}

void mt_reclaim_collect(struct mt_pager *pager)
{
	struct mt_job *job;

	while ((job = mt_helper_job(&pager->helper, MT_JOB_DONE)))
		reclaim_take_job(pager, job);
}

/* Keeps some room in the zip store, so that fresh pages find a place at once. */
static void reclaim_ease_zip(struct mt_pager *pager)
{
	uint64_t max_bytes = mt_room_zip_max_bytes(pager);
	uint64_t early = MT_MIN(max_bytes / 8, RECLAIM_ZIP_EARLY_BYTES);

	while (mt_zip_held_bytes(pager->zip) > max_bytes - early && mt_swap_out_oldest(pager))
		;
}

bool mt_reclaim_step(struct mt_pager *pager)
{
	uint64_t excess = mt_room_excess_pages(pager);
	uint64_t wait, under_way;
	uint32_t nominated = 0, sent;
	bool urgent = pager->waiters_for_memory > 0;

	if (pager->leaving)
		return false;
	reclaim_ease_zip(pager);
	mt_swap_out_queued(pager);
	if (!excess && !urgent)
		return false;
	excess = MT_MAX(excess, MT_JOB_PAGES);
	wait = reclaim_wait_pages(pager);
	under_way = reclaim_under_way_pages(pager);
	if (pager->map.nominated.count < wait)
		nominated = mt_nominate_some(pager, RECLAIM_STEP_PAGES);
	if (under_way >= excess)
		return nominated > 0;
	if (pager->map.nominated.count <= wait / 2 && nominated && !urgent)
		return true;
	if (urgent && !nominated && !pager->map.nominated.count)
		mt_sample_give_up(pager);
	sent = reclaim_dispatch(pager, excess - under_way);
	return nominated || sent ||
	       (pager->map.nominated.count < wait && mt_nominate_may_find(pager));
}
