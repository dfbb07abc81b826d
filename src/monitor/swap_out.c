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

struct mt_swap_op *mt_swap_op_get(struct mt_pager *pager, enum mt_swap_kind kind)
{
	uint32_t idle = 0;
	struct mt_swap_op *op = NULL;

	for (uint32_t i = 0; i < MT_SWAP_OPS; i++) {
		if (pager->swap_op[i].kind != MT_SWAP_FREE)
			continue;
		idle++;
		op = &pager->swap_op[i];
	}
	/* The last two are for reads: a guest waits for those. */
	if (!op || (kind != MT_SWAP_READ && idle <= 2))
		return NULL;
	op->kind = kind;
	op->count = 0;
	op->ticket = ++pager->next_ticket;
	return op;
}

static bool swap_usable(const struct mt_pager *pager)
{
	return pager->slots && (!pager->swap_retry_ns || mt_pager_now_ns() >= pager->swap_retry_ns);
}

static int swap_write(struct mt_pager *pager, struct mt_swap_op *op, const uint8_t *pages)
{
	for (uint32_t i = 0; i < op->count; i++)
		op->sum[i] = mt_swap_sum(pages + i * MT_PAGE_SIZE, op->gpn[i],
					    MT_SLOT(op->slot.n + i));
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

uint32_t mt_swap_out_staged(struct mt_pager *pager, const mt_gpn_t *gpn, mt_stage_t first,
			    uint32_t count)
{
	struct mt_swap_op *op;

	if (!swap_usable(pager))
		return 0;
	op = mt_swap_op_get(pager, MT_SWAP_FROM_STAGING);
	if (!op)
		return 0;
	op->stage = first;
	if (mt_slots_alloc(pager->slots, MT_MIN(count, MT_SWAP_RUN), &op->slot, &op->count)) {
		op->kind = MT_SWAP_FREE;
		return 0;
	}
	memcpy(op->gpn, gpn, op->count * sizeof(*gpn));
	if (swap_write(pager, op, mt_staging_addr(&pager->staging, first))) {
		swap_op_abandon(pager, op);
		return 0;
	}
	for (uint32_t i = 0; i < op->count; i++) {
		/* The job's ticket makes way for the transfer's. */
		mt_page_busy_clear(&pager->map, gpn[i], false);
		mt_page_busy_set(&pager->map, gpn[i], op->ticket);
	}
	return op->count;
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

	if (!want || !swap_usable(pager))
		return 0;
	op = mt_swap_op_get(pager, MT_SWAP_FROM_ZIP);
	if (!op)
		return 0;
	if (mt_slots_alloc(pager->slots, want, &op->slot, &op->count)) {
		op->kind = MT_SWAP_FREE;
		return 0;
	}
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

static void swap_out_failed(struct mt_pager *pager, struct mt_swap_op *op,
			    enum mt_page_state state)
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
