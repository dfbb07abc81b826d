/* SPDX-License-Identifier: MIT */
/*
 * fake_swap_io.h - a swap file in memory that fails when told to
 *
 * Implements monitor/swap_io.h. Nasty where the contract allows it: a transfer takes place only
 * when it is reported, until then a read's pages are full of rubbish, so a caller that looks too
 * early or changes a page too early gets caught. Starting a transfer on a slot that another one
 * under way uses (unless both read) traps.
 */
#ifndef MT_TESTS_FAKE_SWAP_IO_H
#define MT_TESTS_FAKE_SWAP_IO_H

#include "monitor/swap_io.h"

struct mt_fake_swap;

/* May be changed at any time. Numbers count transfers of that kind from 1; 0 is never. */
struct mt_fake_swap_faults {
	uint64_t seed;
	uint32_t delay_max;         /* a transfer ends after up to so many calls of reap() */
	bool reorder;               /* transfers end in any order */
	bool busy;                  /* write() and read() return -EBUSY */
	bool stuck;                 /* nothing ends */
	uint64_t eio_write;         /* this write fails, half of it done */
	uint64_t eio_read;          /* this read fails, half of it done */
	uint32_t eio_percent;       /* so many transfers in a hundred fail */
	bool eio_passes;            /* a slot that could not be read can be, the next time */
	uint64_t torn_write;        /* this write succeeds, but half of each page is not there */
	uint64_t lost_write;        /* this write succeeds, but nothing happened */
	uint64_t misdirected_write; /* this write succeeds, one slot too far */
	uint64_t rot_read;          /* this read succeeds, with one bit of its first page changed */
};

struct mt_fake_swap_counts {
	uint64_t writes; /* transfers started */
	uint64_t reads;
	uint64_t pages_written;
	uint64_t pages_read;
	uint64_t failed;
	uint32_t under_way;
};

/**
 * mt_fake_swap_new() - @slots slots full of rubbish
 * @event_fd: eventfd to signal, or -1 to make one
 * @ret_io: to be used, and freed with mt_swap_io_free(), which frees the fake
 */
struct mt_fake_swap *mt_fake_swap_new(uint32_t slots, uint32_t depth, int event_fd,
				      struct mt_swap_io *ret_io);

/** mt_fake_swap_faults() - the faults, to be changed in place */
struct mt_fake_swap_faults *mt_fake_swap_faults(struct mt_fake_swap *fake);

struct mt_fake_swap_counts mt_fake_swap_counts(const struct mt_fake_swap *fake);

/** mt_fake_swap_page() - what lies in @slot, to look at or to spoil */
void *mt_fake_swap_page(struct mt_fake_swap *fake, mt_slot_t slot);

#endif
