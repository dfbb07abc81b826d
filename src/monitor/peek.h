/* SPDX-License-Identifier: MIT */
/*
 * peek.h - look at a guest page wherever it is, and leave it there
 *
 * For tools that walk a guest's page tables, which may themselves be compressed or swapped out. The
 * pager says where a page is and copies what only it may touch (staging, zip store); what can be
 * waited for, guest RAM and the swap file, is read by the thread that asked. No state changes, and
 * no page comes in. A page the guest brings in or gives up meanwhile is looked at again.
 */
#ifndef MT_MONITOR_PEEK_H
#define MT_MONITOR_PEEK_H

#include "monitor/pager.h"
#include "wire/wire.h"

struct mt_peek {
	uint64_t addr; /* in: anywhere in the page */
	enum mt_page_state state;
	mt_gpn_t gpn;
	uint64_t place;  /* staging slot, zip reference, swap slot */
	uint64_t length; /* of a zip object */
	uint64_t sum;    /* checksum of a page in the swap file */
	uint8_t *at;     /* its place in guest RAM */
	bool copied;     /* .page is filled */
	uint8_t page[MT_PAGE_SIZE] __attribute__((aligned(MT_PAGE_SIZE)));
};

/**
 * mt_peek_page() - the page at @peek->addr; any thread but the pager
 * @swap_fd: the swap file, or -1
 *
 * Return: 0; -EFAULT: not guest memory; -EIO: the page is lost, or its copy is damaged; -EAGAIN: it
 * would not stand still
 */
MT_MUST_CHECK int mt_peek_page(struct mt_pager *pager, int swap_fd, struct mt_peek *peek);

/** mt_peek_answer() - carry out a PEEK message; as mt_peek_page() */
void mt_peek_answer(struct mt_pager *pager, int swap_fd, const struct mt_wire_peek *ask,
		    struct mt_wire_peeked *answer);

#endif
