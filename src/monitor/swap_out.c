/* SPDX-License-Identifier: MIT */
/*
 * swap_out.c - pages to the swap file
 *
 * Two sources: nominated pages that would not shrink, written straight from staging, and the zip
 * store's oldest pages when it is full, unpacked into the transfer's buffer. A page keeps its old
 * copy until its write has ended well (I5), and its record is looked at again then: a page that
 * was touched meanwhile went back to the guest from its old copy, and the write was for nothing.
 *
 * A swap slot belongs to the transfer until it has ended, so that a late write can never land on
 * a slot that has been given to another page.
 */
#include "monitor/swap_sum.h"
#include "monitor/pager.h"

#include <errno.h>
#include <lz4.h>
#include <string.h>

/* After a failed write, time before the swap file is tried again. */
#define SWAP_RETRY_NS 1000000000ULL
/* The same after it was found full. */
#define SWAP_FULL_NS 100000000ULL

/* Transfers kept for reads, since a guest waits for those. */
#define SWAP_READS_MIN 2U

struct mt_swap_op *mt_swap_op_get(struct mt_pager *pager, enum mt_swap_kind kind)
{
	uint32_t first = kind == MT_SWAP_FROM_STAGING ? MT_SWAP_BUFFERED : 0;
	uint32_t end = kind == MT_SWAP_FROM_STAGING ? MT_SWAP_OPS : MT_SWAP_BUFFERED;

	if (kind == MT_SWAP_FROM_ZIP)
		first = SWAP_READS_MIN;
	for (uint32_t i = first; i < end; i++) {
		struct mt_swap_op *op = &pager->swap_op[i];

		if (op->kind != MT_SWAP_FREE)
			continue;
		op->kind = kind;
		op->count = 0;
		op->ticket = ++pager->next_ticket;
		return op;
	}
	return NULL;
}

bool mt_swap_usable(const struct mt_pager *pager)
{
	return pager->slots && (!pager->swap_retry_ns || mt_pager_now_ns() >= pager->swap_retry_ns);
}

/* Slots for the transfer; when none is left, swap rests for a while. */
static bool swap_op_slots(struct mt_pager *pager, struct mt_swap_op *op, uint32_t want)
{
	if (!mt_slots_alloc(pager->slots, want, &op->slot, &op->count))
		return true;
	pager->swap_retry_ns = mt_pager_now_ns() + SWAP_FULL_NS;
	op->kind = MT_SWAP_FREE;
	return false;
}

static int swap_write(struct mt_pager *pager, struct mt_swap_op *op, const uint8_t *pages)
{
	for (uint32_t i = 0; i < op->count; i++)
		op->sum[i] =
			mt_swap_sum(pages + i * MT_PAGE_SIZE, op->gpn[i], MT_SLOT(op->slot.n + i));
	return mt_swap_io_write(&pager->swap, op->slot, pages, op->count,
				(uint64_t)(op - pager->swap_op));
}

/* The transfer never started: its slots are free again. */
static void swap_op_abandon(struct mt_pager *pager, struct mt_swap_op *op)
{
	for (uint32_t i = 0; i < op->count; i++)
		mt_slots_release(pager->slots, MT_SLOT(op->slot.n + i));
	op->kind = MT_SWAP_FREE;
}

void mt_swap_out_enqueue(struct mt_pager *pager, mt_gpn_t gpn, mt_stage_t slot, uint64_t ticket)
{
	struct mt_swap_queue *queue = &pager->swap_queue;

	MT_ASSERT(queue->count < MT_SWAP_QUEUE);
	queue->page[queue->count].gpn = gpn;
	queue->page[queue->count].slot = slot;
	queue->page[queue->count].ticket = ticket;
	queue->count++;
}

bool mt_swap_out_room(const struct mt_pager *pager)
{
	return pager->swap_queue.count + MT_JOBS * MT_JOB_PAGES <= MT_SWAP_QUEUE;
}

/* Takes the first @count pages off the queue. */
static void swap_queue_shift(struct mt_swap_queue *queue, uint32_t count)
{
	queue->count -= count;
	memmove(queue->page, queue->page + count, queue->count * sizeof(queue->page[0]));
}

/* Is the page still where it was queued, and wanted by nobody? */
static bool swap_queued_current(struct mt_pager *pager, uint32_t i)
{
	mt_gpn_t gpn = pager->swap_queue.page[i].gpn;

	return mt_region_of_gpn(&pager->regions, gpn) &&
	       mt_page_state(&pager->map, gpn) == MT_PAGE_NOMINATED &&
	       mt_page_busy(&pager->map, gpn) == pager->swap_queue.page[i].ticket;
}

/* Length of the run of consecutive staging slots at the queue's head; pages that went are dropped.
 */
static uint32_t swap_queue_run(struct mt_pager *pager)
{
	struct mt_swap_queue *queue = &pager->swap_queue;
	uint32_t gone = 0, run = 0;

	while (gone < queue->count && !swap_queued_current(pager, gone))
		mt_staging_free_full(&pager->staging, queue->page[gone++].slot);
	swap_queue_shift(queue, gone);
	while (run < queue->count && run < MT_SWAP_STAGED_RUN &&
	       queue->page[run].slot.n == queue->page[0].slot.n + run &&
	       swap_queued_current(pager, run))
		run++;
	return run;
}

/* Starts one write of the first @run pages of the queue, or of fewer. False when it can't be. */
static bool swap_out_run(struct mt_pager *pager, uint32_t run)
{
	struct mt_swap_op *op = mt_swap_op_get(pager, MT_SWAP_FROM_STAGING);

	if (!op || !swap_op_slots(pager, op, run))
		return false;
	op->stage = pager->swap_queue.page[0].slot;
	for (uint32_t i = 0; i < op->count; i++)
		op->gpn[i] = pager->swap_queue.page[i].gpn;
	if (swap_write(pager, op, mt_staging_addr(&pager->staging, op->stage))) {
		swap_op_abandon(pager, op);
		return false;
	}
	for (uint32_t i = 0; i < op->count; i++) {
		/* The job's ticket makes way for the transfer's. */
		mt_page_busy_clear(&pager->map, op->gpn[i], false);
		mt_page_busy_set(&pager->map, op->gpn[i], op->ticket);
	}
	swap_queue_shift(&pager->swap_queue, op->count);
	return true;
}

/* Without swap, pages that would not shrink wait on the nominated list for better times. */
static void swap_queue_give_up(struct mt_pager *pager)
{
	uint32_t run;

	while ((run = swap_queue_run(pager))) {
		for (uint32_t i = 0; i < run; i++)
			mt_page_busy_clear(&pager->map, pager->swap_queue.page[i].gpn, false);
		swap_queue_shift(&pager->swap_queue, run);
	}
}

void mt_swap_out_queued(struct mt_pager *pager)
{
	uint32_t run;

	if (!pager->swap_queue.count)
		return;
	while (mt_swap_usable(pager) && (run = swap_queue_run(pager)))
		if (!swap_out_run(pager, run))
			break;
	if (!mt_swap_usable(pager))
		swap_queue_give_up(pager);
}

static void swap_unpack(struct mt_pager *pager, mt_gpn_t gpn, uint8_t *to)
{
	mt_zref_t ref = {mt_page_place(&pager->map, gpn)};
	const void *data;
	mt_gpn_t owner;
	uint32_t bytes = mt_zip_get(pager->zip, ref, &data, &owner);

	MT_ASSERT(owner.n == gpn.n);
	MT_ASSERT(LZ4_decompress_safe(data, (char *)to, (int)bytes, (int)MT_PAGE_SIZE) ==
		  (int)MT_PAGE_SIZE);
}

uint32_t mt_swap_out_oldest(struct mt_pager *pager)
{
	uint32_t want = (uint32_t)MT_MIN(MT_SWAP_RUN, pager->map.zipped.count);
	struct mt_swap_op *op;

	if (!want || !mt_swap_usable(pager))
		return 0;
	op = mt_swap_op_get(pager, MT_SWAP_FROM_ZIP);
	if (!op || !swap_op_slots(pager, op, want))
		return 0;
	for (uint32_t i = 0; i < op->count; i++) {
		op->gpn[i] = pager->map.zipped.head;
		swap_unpack(pager, op->gpn[i], op->buffer + i * MT_PAGE_SIZE);
		mt_page_busy_set(&pager->map, op->gpn[i], op->ticket);
	}
	if (swap_write(pager, op, op->buffer)) {
		for (uint32_t i = op->count; i-- > 0;)
			mt_page_busy_clear(&pager->map, op->gpn[i], true);
		swap_op_abandon(pager, op);
		return 0;
	}
	return op->count;
}

/* Is page @i of the transfer still waiting for it in @state? */
static bool swap_page_current(struct mt_pager *pager, const struct mt_swap_op *op, uint32_t i,
			      enum mt_page_state state)
{
	return mt_region_of_gpn(&pager->regions, op->gpn[i]) &&
	       mt_page_state(&pager->map, op->gpn[i]) == state &&
	       mt_page_busy(&pager->map, op->gpn[i]) == op->ticket;
}

static void swap_out_failed(struct mt_pager *pager, struct mt_swap_op *op, enum mt_page_state state)
{
	mt_count(pager, MT_C_SWAP_ERRORS, 1);
	pager->swap_retry_ns = mt_pager_now_ns() + SWAP_RETRY_NS;
	for (uint32_t i = 0; i < op->count; i++) {
		mt_slots_release(pager->slots, MT_SLOT(op->slot.n + i));
		if (swap_page_current(pager, op, i, state))
			mt_page_busy_clear(&pager->map, op->gpn[i], state == MT_PAGE_ZIPPED);
		else if (state == MT_PAGE_NOMINATED)
			mt_staging_free_full(&pager->staging, MT_STAGE(op->stage.n + i));
	}
	pager->notify(pager->notify_ctx);
}

void mt_swap_out_done(struct mt_pager *pager, struct mt_swap_op *op, int result)
{
	bool staged = op->kind == MT_SWAP_FROM_STAGING;
	enum mt_page_state state = staged ? MT_PAGE_NOMINATED : MT_PAGE_ZIPPED;

	if (result) {
		swap_out_failed(pager, op, state);
	} else {
		pager->swap_retry_ns = 0;
		for (uint32_t i = 0; i < op->count; i++) {
			mt_slot_t slot = MT_SLOT(op->slot.n + i);

			if (staged)
				mt_staging_free_full(&pager->staging, MT_STAGE(op->stage.n + i));
			if (!swap_page_current(pager, op, i, state)) {
				mt_slots_release(pager->slots, slot);
				continue;
			}
			if (!staged)
				mt_zip_del(pager->zip,
					   (mt_zref_t){mt_page_place(&pager->map, op->gpn[i])});
			mt_page_set(&pager->map, op->gpn[i], state, MT_PAGE_SWAPPED, slot.n);
			if (staged)
				mt_page_left(pager, op->gpn[i]);
			mt_page_sum_set(&pager->map, op->gpn[i], op->sum[i]);
			mt_count(pager, MT_C_SWAP_OUT, 1);
			if (!staged)
				mt_count(pager, MT_C_ZIP_TO_SWAP, 1);
		}
	}
	mt_staging_flush(&pager->staging);
	op->kind = MT_SWAP_FREE;
}

bool mt_swap_collect(struct mt_pager *pager)
{
	struct mt_swap_done done[MT_SWAP_OPS];
	uint32_t count;

	if (!pager->swap.ops)
		return false;
	count = mt_swap_io_reap(&pager->swap, done, MT_SWAP_OPS);
	for (uint32_t i = 0; i < count; i++) {
		struct mt_swap_op *op = &pager->swap_op[done[i].cookie];

		MT_ASSERT(done[i].cookie < MT_SWAP_OPS && op->kind != MT_SWAP_FREE);
		if (op->kind == MT_SWAP_READ)
			mt_swap_in_done(pager, op, done[i].result);
		else
			mt_swap_out_done(pager, op, done[i].result);
	}
	return count > 0;
}
