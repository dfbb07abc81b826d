/* SPDX-License-Identifier: MIT */
/* share.c - offer pages, take the answers, release frames; see share.h */
#include "monitor/pager.h"

#include <string.h>
#include <xxhash.h>

/* An answer that takes longer comes too late: the pages go on without it. */
#define SHARE_PATIENCE_NS 200000000ULL
#define SHARE_PATIENCE_MS 200

uint64_t mt_share_hash(const void *page)
{
	return XXH3_64bits(page, MT_PAGE_SIZE);
}

bool mt_share_usable(const struct mt_pager *pager)
{
	const struct mt_share *share = &pager->share;

	return share->sync == MT_SHARE_SYNCED && !pager->leaving &&
	       atomic_load_explicit(&share->pages_per_ks, memory_order_relaxed);
}

static int batch_phase(const struct mt_share_batch *batch)
{
	return atomic_load_explicit(&batch->phase, memory_order_acquire);
}

bool mt_share_batch_idle(const struct mt_pager *pager)
{
	for (uint32_t i = 0; i < MT_SHARE_BATCHES; i++)
		if (batch_phase(&pager->share.batch[i]) == MT_SHARE_IDLE)
			return true;
	return false;
}

struct mt_share_batch *mt_share_batch_get(struct mt_pager *pager)
{
	for (uint32_t i = 0; i < MT_SHARE_BATCHES; i++) {
		struct mt_share_batch *batch = &pager->share.batch[i];

		if (batch_phase(batch) != MT_SHARE_IDLE)
			continue;
		batch->count = 0;
		batch->evict = batch->zipped = batch->contents = false;
		return batch;
	}
	return NULL;
}

const uint8_t *mt_share_frame(const struct mt_pager *pager, mt_gpn_t gpn)
{
	return pager->share.frames + (mt_page_place(&pager->map, gpn) << MT_PAGE_SHIFT);
}

bool mt_share_intact(const struct mt_pager *pager, mt_gpn_t gpn)
{
	return mt_share_hash(mt_share_frame(pager, gpn)) == mt_page_sum(&pager->map, gpn);
}

void mt_share_let_go(struct mt_pager *pager, mt_gpn_t gpn, mt_frame_t frame)
{
	struct mt_share *share = &pager->share;
	uint32_t tail = atomic_load_explicit(&share->release_tail, memory_order_relaxed);

	/* What the daemon has not been told of, it need not be told the end of. */
	if (share->sync == MT_SHARE_CUT ||
	    (share->sync == MT_SHARE_TELLING && gpn.n >= share->tell_next.n))
		return;
	if (tail - atomic_load_explicit(&share->release_head, memory_order_acquire) ==
	    MT_SHARE_RELEASES) {
		atomic_store_explicit(&share->release_lost, true, memory_order_release);
		pager->notify(pager->notify_ctx);
		return;
	}
	share->release[tail % MT_SHARE_RELEASES] = frame;
	atomic_store_explicit(&share->release_tail, tail + 1, memory_order_release);
	if (tail % MT_WIRE_SHARE_RELEASES == 0)
		pager->notify(pager->notify_ctx);
}

static bool share_current(const struct mt_pager *pager, mt_gpn_t gpn, uint64_t ticket)
{
	return mt_region_of_gpn((struct mt_regions *)&pager->regions, gpn) &&
	       mt_page_state(&pager->map, gpn) == MT_PAGE_NOMINATED &&
	       mt_page_busy(&pager->map, gpn) == ticket;
}

static void share_retag(struct mt_pager *pager, mt_gpn_t gpn, uint64_t ticket)
{
	if (mt_page_busy(&pager->map, gpn))
		mt_page_busy_clear(&pager->map, gpn, false);
	mt_page_busy_set(&pager->map, gpn, ticket);
}

/* A page that is not shared after all goes back into its place; without room, to the others. */
static void share_put_back(struct mt_pager *pager, mt_gpn_t gpn, uint64_t ticket)
{
	share_retag(pager, gpn, ticket | MT_TICKET_UNREAD);
	if (mt_nominate_undo(pager, gpn, true) != MT_MEM_DONE &&
	    share_current(pager, gpn, ticket | MT_TICKET_UNREAD))
		mt_page_busy_clear(&pager->map, gpn, false);
}

/* Pages of a batch that go back into their places: together, if they lie one behind the other. */
struct share_backs {
	mt_gpn_t gpn[MT_JOB_PAGES];
	uint32_t count;
};

/* Pages from @first on that are one behind the other in the guest and in staging. */
static uint32_t share_backs_run(struct mt_pager *pager, const struct share_backs *backs,
				uint32_t first)
{
	const struct mt_region *region = mt_region_of_gpn(&pager->regions, backs->gpn[first]);
	uint64_t place = mt_page_place(&pager->map, backs->gpn[first]);
	uint64_t most = mt_region_pages_from(region, backs->gpn[first]);
	uint32_t run = 1;

	while (first + run < backs->count && run < most &&
	       backs->gpn[first + run].n == backs->gpn[first].n + run &&
	       mt_page_place(&pager->map, backs->gpn[first + run]) == place + run)
		run++;
	return run;
}

/* Nobody reads them any more. What can't be moved together goes alone. */
static void share_put_all_back(struct mt_pager *pager, const struct share_backs *backs,
			       uint64_t ticket)
{
	for (uint32_t done = 0, run; done < backs->count; done += run) {
		run = share_backs_run(pager, backs, done);
		run = run > 1 ? mt_nominate_undo_run(pager, backs->gpn[done], run) : 0;
		if (run)
			continue;
		share_put_back(pager, backs->gpn[done], ticket);
		run = 1;
	}
}

/* The pages' tickets say whether the link is going to read them. */
void mt_share_send(struct mt_pager *pager, struct mt_share_batch *batch, bool contents)
{
	batch->contents = contents;
	batch->unanswered = batch->count;
	batch->number = ++pager->share.last_number;
	batch->since_ns = mt_pager_now_ns();
	batch->ticket = ++pager->next_ticket;
	if (!contents)
		batch->ticket |= MT_TICKET_UNREAD;
	for (uint32_t i = 0; i < batch->count; i++) {
		batch->answer[i] = MT_WIRE_SHARE_NONE;
		share_retag(pager, batch->gpn[i], batch->ticket);
	}
	atomic_store_explicit(&batch->phase, MT_SHARE_TO_SEND, memory_order_release);
	pager->notify(pager->notify_ctx);
}

/* Page @i of a hashed job: to the batch if there is one, to those left in the job otherwise. */
static void share_take_hashed(struct mt_pager *pager, struct mt_job *job, uint32_t i,
			      struct mt_share_batch *batch)
{
	mt_gpn_t gpn = job->gpn[i];

	mt_count(pager, MT_C_SHARE_SCANNED, 1);
	if (!share_current(pager, gpn, job->ticket)) {
		mt_staging_free_full(&pager->staging, job->slot[i]);
		mt_count(pager, MT_C_SHARE_VOLATILE, 1);
	} else if (job->verdict[i] == MT_JOB_ZERO) {
		mt_reclaim_zero(pager, gpn, job->slot[i]);
	} else if (batch) {
		batch->gpn[batch->count] = gpn;
		batch->slot[batch->count] = job->slot[i];
		batch->page[batch->count] = job->page[i];
		batch->hash[batch->count] = job->hash[i];
		batch->count++;
	} else {
		job->gpn[job->left] = gpn;
		job->slot[job->left] = job->slot[i];
		job->page[job->left] = job->page[i];
		job->left++;
	}
}

void mt_share_offer_job(struct mt_pager *pager, struct mt_job *job)
{
	struct mt_share_batch *batch = mt_share_usable(pager) ? mt_share_batch_get(pager) : NULL;

	job->left = 0;
	for (uint32_t i = 0; i < job->count; i++)
		share_take_hashed(pager, job, i, batch);
	if (batch && batch->count) {
		batch->evict = true;
		mt_share_send(pager, batch, false);
	}
	if (job->left) {
		job->count = job->left;
		job->kind = MT_JOB_ZIP;
		mt_helper_submit(&pager->helper, job);
		return;
	}
	atomic_store_explicit(&job->phase, MT_JOB_IDLE, memory_order_relaxed);
}

/* The page is equal to the frame, and the guest can't write to it: it needs its own copy no more.
 */
static void share_page(struct mt_pager *pager, const struct mt_share_batch *batch, uint32_t i)
{
	mt_page_set(&pager->map, batch->gpn[i], MT_PAGE_NOMINATED, MT_PAGE_SHARED,
		    batch->answer[i]);
	mt_page_sum_set(&pager->map, batch->gpn[i], batch->hash[i]);
	mt_page_left(pager, batch->gpn[i]);
	mt_staging_free_full(&pager->staging, batch->slot[i]);
	mt_count(pager, MT_C_SHARE_MADE, 1);
}

/* Pages that have just been shared, for a guest whose reads can't be told from writes. */
static void share_map_batch(struct mt_pager *pager, const mt_gpn_t *gpn, uint32_t count)
{
	for (uint32_t i = 0; pager->share.map_at_once && i < count; i++)
		if (mt_region_of_gpn(&pager->regions, gpn[i]) &&
		    mt_page_state(&pager->map, gpn[i]) == MT_PAGE_SHARED &&
		    !mt_page_mapped(&pager->map, gpn[i]) && !mt_share_map(pager, gpn[i]))
			return;
}

void mt_share_count_why(struct mt_pager *pager, uint32_t answer)
{
	if (answer == MT_WIRE_SHARE_SAME)
		mt_count(pager, MT_C_SHARE_UNCHANGED, 1);
	else if (answer == MT_WIRE_SHARE_FULL)
		mt_count(pager, MT_C_SHARE_FULL, 1);
	else if (answer == MT_LOOK_ABSENT || answer == MT_LOOK_ZERO)
		mt_count(pager, MT_C_SHARE_VOLATILE, 1);
	else
		mt_count(pager, MT_C_SHARE_NO_MATCH, 1);
}

/* Page @i of an answered batch has gone back to the guest, or was given up, meanwhile. */
static void share_too_late(struct mt_pager *pager, const struct mt_share_batch *batch, uint32_t i)
{
	/* While it was only offered, its slot went with it. */
	if (batch->contents)
		mt_staging_free_full(&pager->staging, batch->slot[i]);
	if (mt_answer_is_frame(batch->answer[i]))
		mt_share_let_go(pager, MT_GPN(0), MT_FRAME(batch->answer[i]));
	mt_count(pager, MT_C_SHARE_VOLATILE, 1);
}

/* Page @i is not to be shared: back into its place, or to the job that compresses. */
static void share_go_on(struct mt_pager *pager, const struct mt_share_batch *batch, uint32_t i,
			struct mt_job *job, struct share_backs *backs)
{
	if (!job) {
		backs->gpn[backs->count++] = batch->gpn[i];
		return;
	}
	share_retag(pager, batch->gpn[i], job->ticket);
	job->gpn[job->count] = batch->gpn[i];
	job->slot[job->count] = batch->slot[i];
	job->page[job->count] = batch->page[i];
	job->count++;
}

/* Page @i is not like the frame it was to share. Has it changed since it was hashed in its place?
 */
static void share_count_unlike(struct mt_pager *pager, const struct mt_share_batch *batch,
			       uint32_t i)
{
	bool changed = mt_share_hash(batch->page[i]) != batch->hash[i];

	mt_count(pager, changed ? MT_C_SHARE_VOLATILE : MT_C_SHARE_DIFFERS, 1);
}

/* What became of page @i. Return: does the daemon want its content? */
static bool share_take_answer(struct mt_pager *pager, struct mt_share_batch *batch, uint32_t i,
			      struct mt_job *job, struct share_backs *backs)
{
	uint32_t answer = batch->answer[i];

	if (!share_current(pager, batch->gpn[i], batch->ticket)) {
		share_too_late(pager, batch, i);
		return false;
	}
	if (answer == MT_WIRE_SHARE_WANTED && !batch->contents && mt_share_usable(pager))
		return true;
	if (answer == MT_LOOK_ZERO && mt_page_is_zero(batch->page[i])) {
		mt_reclaim_zero(pager, batch->gpn[i], batch->slot[i]);
		return false;
	}
	if (mt_answer_is_frame(answer)) {
		const uint8_t *frame = pager->share.frames + ((uint64_t)answer << MT_PAGE_SHIFT);

		if (!memcmp(batch->page[i], frame, MT_PAGE_SIZE)) {
			share_page(pager, batch, i);
			return false;
		}
		mt_share_let_go(pager, MT_GPN(0), MT_FRAME(answer));
		share_count_unlike(pager, batch, i);
	} else {
		mt_share_count_why(pager, answer);
	}
	share_go_on(pager, batch, i, job, backs);
	return false;
}

/* What is to be compressed may have to wait for other jobs. */
bool mt_share_batch_take(struct mt_pager *pager, struct mt_share_batch *batch)
{
	struct mt_job *job = NULL;
	uint32_t wanted = 0, count = batch->count;
	struct share_backs backs = {.count = 0};
	mt_gpn_t gpn[MT_JOB_PAGES];

	if (batch->evict) {
		job = mt_helper_job(&pager->helper, MT_JOB_IDLE);
		if (!job || !mt_swap_out_room(pager))
			return false;
		job->ticket = ++pager->next_ticket;
		job->count = 0;
		job->kind = MT_JOB_ZIP;
	}
	memcpy(gpn, batch->gpn, sizeof(gpn));
	for (uint32_t i = 0; i < count; i++) {
		if (!share_take_answer(pager, batch, i, job, &backs))
			continue;
		batch->gpn[wanted] = batch->gpn[i];
		batch->slot[wanted] = batch->slot[i];
		batch->page[wanted] = batch->page[i];
		batch->hash[wanted] = batch->hash[i];
		wanted++;
	}
	if (job && job->count)
		mt_helper_submit(&pager->helper, job);
	share_put_all_back(pager, &backs, batch->ticket);
	batch->count = wanted;
	if (wanted)
		mt_share_send(pager, batch, true);
	else
		atomic_store_explicit(&batch->phase, MT_SHARE_IDLE, memory_order_relaxed);
	share_map_batch(pager, gpn, count);
	return true;
}

/* The daemon takes too long. If it still answers, the link gives back what it was given. */
static void share_lose_patience(struct mt_share_batch *batch)
{
	int asked = MT_SHARE_ASKED;

	if (mt_pager_now_ns() - batch->since_ns < SHARE_PATIENCE_NS ||
	    !atomic_compare_exchange_strong(&batch->phase, &asked, MT_SHARE_IDLE))
		return;
	/* what was answered so far counts */
	atomic_store_explicit(&batch->phase, MT_SHARE_ANSWERED, memory_order_relaxed);
}

int mt_share_step(struct mt_pager *pager)
{
	struct mt_share *share = &pager->share;
	bool waiting = false;
	int scan_ms;

	for (uint32_t i = 0; i < MT_SHARE_BATCHES; i++) {
		struct mt_share_batch *batch = &share->batch[i];

		if (batch_phase(batch) == MT_SHARE_ASKED)
			share_lose_patience(batch);
		if (batch_phase(batch) == MT_SHARE_ANSWERED && batch->zipped) {
			mt_share_zipped_take(pager, batch);
			share_map_batch(pager, batch->gpn, batch->count);
		} else if (batch_phase(batch) == MT_SHARE_ANSWERED) {
			waiting |= !mt_share_batch_take(pager, batch);
		}
		waiting |= batch_phase(batch) != MT_SHARE_IDLE;
	}
	mt_look_step(pager);
	scan_ms = mt_share_scan(pager);
	if (!waiting)
		return scan_ms;
	return scan_ms < 0 ? SHARE_PATIENCE_MS : MT_MIN(scan_ms, SHARE_PATIENCE_MS);
}
