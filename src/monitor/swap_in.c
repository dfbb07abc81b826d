/* SPDX-License-Identifier: MIT */
/*
 * swap_in.c - pages from the swap file
 *
 * A read takes along pages that follow the wanted one both in the guest and in the file, when the
 * guest walks forward. Room for all of them is promised when the read starts, so that no fault
 * finds its page read but nowhere to put it.
 *
 * What was read is believed only if its checksum is that of this page at this slot. If not, or if
 * it can't be read, the page is read again, alone and after a pause: cables and controllers have
 * bad moments. Each page has a count of its own. When a page has failed SWAP_READ_TRIES times in a
 * row its only copy is lost: the page is FAILED, whoever touched it waits for ever, and the daemon
 * is told (I6: no page of unknown content is ever mapped).
 */
#include "monitor/swap_sum.h"
#include "monitor/pager.h"

#include <errno.h>

/* Reads of a page that fail one after the other before it is given up, and the pause before each.
 */
#define SWAP_READ_TRIES    4U
#define SWAP_READ_RETRY_NS 100000000ULL

_Static_assert(SWAP_READ_TRIES - 1 <= MT_TRIES_MAX, "a page's record counts the tries");

/* How many pages from @gpn on lie one behind the other in the file, all at rest, at most @max. */
static uint32_t swap_in_run(struct mt_pager *pager, mt_gpn_t gpn, uint32_t max)
{
	const struct mt_region *region = mt_region_of_gpn(&pager->regions, gpn);
	uint64_t slot = mt_page_place(&pager->map, gpn);
	uint32_t run = 1;

	if (mt_page_tries(&pager->map, gpn))
		return 1;
	max = (uint32_t)MT_MIN(max, mt_region_pages_from(region, gpn));
	while (run < max) {
		mt_gpn_t next = MT_GPN(gpn.n + run);

		if (mt_page_state(&pager->map, next) != MT_PAGE_SWAPPED ||
		    mt_page_busy(&pager->map, next) || mt_page_tries(&pager->map, next) ||
		    mt_page_place(&pager->map, next) != slot + run)
			break;
		run++;
	}
	return run;
}

enum mt_fault_outcome mt_swap_in_start(struct mt_pager *pager, mt_gpn_t gpn, uint32_t around)
{
	struct mt_swap_op *op;
	uint32_t count;

	if (mt_page_busy(&pager->map, gpn))
		return MT_FAULT_WAITS_SWAP;
	if (mt_page_tries(&pager->map, gpn) && mt_pager_now_ns() < pager->read_retry_ns)
		return MT_FAULT_WAITS_SWAP;
	if (!mt_room_for(pager, 1))
		return MT_FAULT_WAITS_MEMORY;
	op = mt_swap_op_get(pager, MT_SWAP_READ);
	if (!op)
		return MT_FAULT_WAITS_SWAP;
	count = swap_in_run(pager, gpn, MT_MIN(around, MT_SWAP_RUN));
	count = (uint32_t)MT_MIN(count, mt_room_around_pages(pager));
	op->slot = MT_SLOT(mt_page_place(&pager->map, gpn));
	op->count = count;
	if (mt_swap_io_read(&pager->swap, op->slot, count, op->buffer,
			    (uint64_t)(op - pager->swap_op))) {
		op->kind = MT_SWAP_FREE;
		return MT_FAULT_WAITS_SWAP;
	}
	for (uint32_t i = 0; i < count; i++) {
		op->gpn[i] = MT_GPN(gpn.n + i);
		mt_page_busy_set(&pager->map, op->gpn[i], op->ticket);
	}
	pager->promised_pages += count;
	return MT_FAULT_WAITS_SWAP;
}

/*
 * The read of a page failed, or brought something else. From its second try on a page is read
 * alone, so that it is not given up for another one's fault.
 */
static void swap_in_failed(struct mt_pager *pager, const struct mt_swap_op *op, uint32_t i,
			   int error)
{
	mt_gpn_t gpn = op->gpn[i];
	unsigned int tries = mt_page_tries(&pager->map, gpn) + 1;

	pager->read_retry_ns = mt_pager_now_ns() + SWAP_READ_RETRY_NS;
	if (tries >= SWAP_READ_TRIES) {
		mt_page_lost(pager, gpn, MT_PAGE_SWAPPED, MT_SLOT(op->slot.n + i), error);
		return;
	}
	mt_page_busy_clear(&pager->map, gpn, false);
	mt_page_tries_set(&pager->map, gpn, tries);
}

/* Puts page @i of a finished read into the guest. */
static void swap_in_place(struct mt_pager *pager, struct mt_swap_op *op, uint32_t i)
{
	mt_gpn_t gpn = op->gpn[i];
	mt_slot_t slot = MT_SLOT(op->slot.n + i);
	const struct mt_region *region = mt_region_of_gpn(&pager->regions, gpn);
	const uint8_t *page = op->buffer + i * MT_PAGE_SIZE;
	uint64_t bytes;

	if (mt_swap_sum(page, gpn, slot) != mt_page_sum(&pager->map, gpn)) {
		mt_count(pager, MT_C_SWAP_ERRORS, 1);
		swap_in_failed(pager, op, i, -EBADMSG);
		return;
	}
	if (pager->mem.copy(pager->mem.ctx, mt_region_addr(region, gpn), page, MT_PAGE_SIZE,
			    &bytes) != MT_MEM_DONE) {
		/* The waiting fault asks again. */
		mt_page_busy_clear(&pager->map, gpn, false);
		return;
	}
	mt_page_in_place(pager, gpn, MT_PAGE_SWAPPED);
	mt_slots_release(pager->slots, slot);
	mt_count(pager, MT_C_SWAP_IN, 1);
	if (i)
		mt_count(pager, MT_C_PREFETCHED, 1);
	else
		mt_page_came_back(pager, gpn);
}

/* Does page @i still want what was read? It was read for nothing if the guest gave it up meanwhile.
 */
static bool swap_in_current(const struct mt_pager *pager, const struct mt_swap_op *op, uint32_t i)
{
	mt_gpn_t gpn = op->gpn[i];

	if (mt_gpn_is_none(gpn))
		return false;
	MT_ASSERT(mt_page_state(&pager->map, gpn) == MT_PAGE_SWAPPED);
	MT_ASSERT(mt_page_busy(&pager->map, gpn));
	return true;
}

void mt_swap_in_forget(struct mt_pager *pager, mt_gpn_t gpn)
{
	for (uint32_t n = 0; n < MT_SWAP_OPS; n++) {
		struct mt_swap_op *op = &pager->swap_op[n];

		for (uint32_t i = 0; op->kind == MT_SWAP_READ && i < op->count; i++)
			if (op->gpn[i].n == gpn.n)
				op->gpn[i] = MT_GPN_NONE;
	}
}

void mt_swap_in_done(struct mt_pager *pager, struct mt_swap_op *op, int result)
{
	pager->promised_pages -= op->count;
	if (result)
		mt_count(pager, MT_C_SWAP_ERRORS, 1);
	for (uint32_t i = 0; i < op->count; i++) {
		if (!swap_in_current(pager, op, i))
			mt_slots_release(pager->slots, MT_SLOT(op->slot.n + i));
		else if (!result)
			swap_in_place(pager, op, i);
		else
			swap_in_failed(pager, op, i, result);
	}
	op->kind = MT_SWAP_FREE;
}
