/* SPDX-License-Identifier: MIT */
/*
 * share_look.c - hash pages where they are, and move only those that have a like
 *
 * Most pages have none, most of the time. To move each of them out and back would cost ten times
 * what its hash costs, and would split large pages. So the helper reads pages in place, many at a
 * time, and the daemon is told their hashes:
 *
 *   pager: add pages ──▶ helper: hash ──▶ pager ──▶ link: ask ──▶ pager: go through the answers
 *
 * The guest goes on writing meanwhile, so a hash proves nothing. A page with an answer to act on is
 * moved to staging, and there it is compared with the frame, hashed anew, or read as zero again,
 * before anything else happens; from there on it is in a batch like any other (share.c).
 *
 * A page in a large page stays where it is, whatever the answer: it only counts as one that sharing
 * would save (cowHint).
 */
#include "monitor/pager.h"

/* Pages read in one call; the copies lie on the helper's stack. */
#define LOOK_READ 8U

static int look_phase(const struct mt_share_look *look)
{
	return atomic_load_explicit(&look->phase, memory_order_acquire);
}

static void look_set(struct mt_share_look *look, enum mt_look_phase phase)
{
	atomic_store_explicit(&look->phase, phase, memory_order_release);
}

bool mt_look_idle(const struct mt_pager *pager)
{
	return look_phase(&pager->share.look) == MT_LOOK_IDLE;
}

void mt_look_add(struct mt_pager *pager, mt_gpn_t gpn, bool large)
{
	const struct mt_region *region = mt_region_of_gpn(&pager->regions, gpn);
	struct mt_share_look *look = &pager->share.look;
	uint32_t i = look->count++;

	look->gpn[i] = gpn.n;
	look->page[i] = mt_region_addr(region, gpn);
	look->answer[i] = MT_LOOK_ABSENT;
	look->large[i] = large;
}

void mt_look_start(struct mt_pager *pager)
{
	struct mt_share_look *look = &pager->share.look;

	if (!look->count)
		return;
	look->done = 0;
	look_set(look, MT_LOOK_TO_HASH);
	mt_helper_wake(&pager->helper);
}

/* Pages from @first on that lie one behind the other, as many as are read at once. */
static uint32_t look_read_run(const struct mt_share_look *look, uint32_t first)
{
	uint32_t run = 1;

	while (run < LOOK_READ && first + run < look->count &&
	       look->page[first + run] == look->page[first] + run * MT_PAGE_SIZE)
		run++;
	return run;
}

static void look_hash_run(struct mt_pager *pager, uint32_t first, uint32_t run)
{
	struct mt_share_look *look = &pager->share.look;
	uint8_t copy[LOOK_READ][MT_PAGE_SIZE];

	if (!pager->mem.read(pager->mem.ctx, copy, look->page[first], run))
		return;
	for (uint32_t i = 0; i < run; i++) {
		bool zero = mt_page_is_zero(copy[i]);

		look->answer[first + i] = zero ? MT_LOOK_ZERO : MT_LOOK_TO_ASK;
		look->hash[first + i] = zero ? 0 : mt_share_hash(copy[i]);
	}
}

bool mt_look_hash(struct mt_pager *pager)
{
	struct mt_share_look *look = &pager->share.look;

	if (look_phase(look) != MT_LOOK_TO_HASH)
		return false;
	for (uint32_t done = 0, run; done < look->count; done += run) {
		run = look_read_run(look, done);
		look_hash_run(pager, done, run);
	}
	look_set(look, MT_LOOK_HASHED);
	mt_pager_kick(pager);
	return true;
}

static bool look_to_act_on(const struct mt_share_look *look, uint32_t i)
{
	uint32_t answer = look->answer[i];

	return !look->large[i] && (mt_answer_is_frame(answer) || answer == MT_WIRE_SHARE_WANTED ||
				   answer == MT_LOOK_ZERO);
}

/* Page @i stays where it is. */
static void look_leave(struct mt_pager *pager, uint32_t i)
{
	struct mt_share_look *look = &pager->share.look;
	uint32_t answer = look->answer[i];

	if (look->large[i]) {
		mt_count(pager, MT_C_SHARE_LARGE, 1);
		pager->share.cow_hint_pages +=
			answer == MT_LOOK_ZERO || answer == MT_WIRE_SHARE_LIKE;
		return;
	}
	if (mt_answer_is_frame(answer)) {
		mt_share_let_go(pager, MT_GPN(0), MT_FRAME(answer));
		answer = MT_LOOK_ABSENT;
	}
	mt_share_count_why(pager, answer);
}

/* Pages from @first on that are neighbours in the guest and are to be moved, @most at most. */
static uint32_t look_run(struct mt_pager *pager, uint32_t first, uint32_t most)
{
	const struct mt_share_look *look = &pager->share.look;
	const struct mt_region *region =
		mt_region_of_gpn(&pager->regions, MT_GPN(look->gpn[first]));
	uint32_t run = 0;

	if (!region)
		return 0;
	most = MT_MIN(most, look->count - first);
	most = (uint32_t)MT_MIN(most, mt_region_pages_from(region, MT_GPN(look->gpn[first])));
	while (run < most && look->gpn[first + run] == look->gpn[first] + run &&
	       look_to_act_on(look, first + run) &&
	       mt_page_state(&pager->map, MT_GPN(look->gpn[first + run])) == MT_PAGE_RESIDENT)
		run++;
	return run;
}

/* Is page @i in staging, to be put into a batch? */
static bool look_moved(const struct mt_pager *pager, uint32_t i)
{
	const struct mt_share_look *look = &pager->share.look;
	mt_gpn_t gpn = MT_GPN(look->gpn[i]);

	return look_to_act_on(look, i) &&
	       mt_region_of_gpn((struct mt_regions *)&pager->regions, gpn) &&
	       mt_page_state(&pager->map, gpn) == MT_PAGE_NOMINATED &&
	       !mt_page_busy(&pager->map, gpn);
}

/* Page @i into the batch, if it is in staging. @settled: as mt_nominate_settle() said */
static void look_put(struct mt_pager *pager, struct mt_share_batch *batch, uint32_t i, bool settled)
{
	struct mt_share_look *look = &pager->share.look;
	mt_gpn_t gpn = MT_GPN(look->gpn[i]);
	uint32_t n = batch->count;
	bool moved = look_moved(pager, i);

	if (!moved || !settled || n == MT_JOB_PAGES) {
		if (moved)
			mt_nominate_undo(pager, gpn, true);
		look_leave(pager, i);
		return;
	}
	batch->gpn[n] = gpn;
	batch->slot[n] = MT_STAGE(mt_page_place(&pager->map, gpn));
	batch->page[n] = mt_staging_addr(&pager->staging, batch->slot[n]);
	batch->hash[n] = look->hash[i];
	batch->answer[n] = look->answer[i];
	/* What is sent has to have the hash that is said to be its own. */
	if (batch->answer[n] == MT_WIRE_SHARE_WANTED &&
	    mt_share_hash(batch->page[n]) != batch->hash[n])
		batch->answer[n] = MT_LOOK_ABSENT;
	mt_page_busy_set(&pager->map, gpn, batch->ticket);
	batch->count++;
}

/* Moves pages that there is something to do with, a batch full at most. Return: behind the last. */
static uint32_t look_move(struct mt_pager *pager)
{
	const struct mt_share_look *look = &pager->share.look;
	uint32_t i = look->done, moved = 0;

	while (i < look->count && moved < MT_JOB_PAGES) {
		uint32_t run = look_run(pager, i, MT_JOB_PAGES - moved);

		if (run)
			mt_nominate_run(pager, MT_GPN(look->gpn[i]), run);
		moved += run;
		i += MT_MAX(run, 1U);
	}
	return i;
}

/* Return: false when pages can't be told to be nobody's, and are back in their places. */
static bool look_take_some(struct mt_pager *pager, struct mt_share_batch *batch)
{
	struct mt_share_look *look = &pager->share.look;
	uint32_t end = look_move(pager);
	bool settled = mt_nominate_settle(pager);

	batch->ticket = ++pager->next_ticket | MT_TICKET_UNREAD;
	while (look->done < end)
		look_put(pager, batch, look->done++, settled);
	/* Nothing in it is to be compressed, so it does not have to wait for that. */
	if (batch->count)
		MT_ASSERT(mt_share_batch_take(pager, batch));
	return settled;
}

/* The look has its hashes. What it finds out without the daemon is known by now. */
static void look_ask(struct mt_pager *pager)
{
	struct mt_share_look *look = &pager->share.look;

	mt_count(pager, MT_C_SHARE_SCANNED, look->count);
	if (!mt_share_usable(pager)) {
		look_set(look, MT_LOOK_IDLE);
		return;
	}
	look->number = ++pager->share.last_number;
	look_set(look, MT_LOOK_TO_SEND);
	pager->notify(pager->notify_ctx);
}

/* Goes through the answers as far as there are batches to put pages into. */
static void look_take(struct mt_pager *pager)
{
	struct mt_share_look *look = &pager->share.look;
	struct mt_share_batch *batch;
	bool on = mt_share_usable(pager);

	while (look->done < look->count) {
		batch = on ? mt_share_batch_get(pager) : NULL;
		if (batch)
			on = look_take_some(pager, batch);
		else if (on)
			return;
		else
			look_leave(pager, look->done++);
	}
	look_set(look, MT_LOOK_IDLE);
}

void mt_look_step(struct mt_pager *pager)
{
	int phase = look_phase(&pager->share.look);

	if (phase == MT_LOOK_HASHED)
		look_ask(pager);
	else if (phase == MT_LOOK_ANSWERED)
		look_take(pager);
}

void mt_look_cut(struct mt_pager *pager)
{
	int phase = look_phase(&pager->share.look);

	if (phase != MT_LOOK_TO_HASH && phase != MT_LOOK_HASHED)
		look_set(&pager->share.look, MT_LOOK_IDLE);
}
