/* SPDX-License-Identifier: MIT */
/*
 * sample.h - how much of its memory the guest uses, from a few pages that are watched
 *
 * At the start of a period n pages of the guest are drawn at random. Those that are in their place
 * are moved to staging, like nominated pages, but are kept away from reclaim: they are busy with
 * MT_TICKET_SAMPLE. A touch brings such a page back by MOVE, as ever, and counts; at the end of the
 * period the others go back the same way, without anybody having waited. Pages that are somewhere
 * else already count as touched when they fault. What came into its place otherwise, along with a
 * neighbour, counts as touched too, at the end: the guest is walking towards it.
 *
 * The cost: n faults of a few microseconds in a period at most, and a MOVE there and back for each
 * page. Drawing and returning is done in small steps, so that faults do not wait for it. A page
 * drawn from a large page (2 MiB) splits that one; when it is back, it is mended (mend.h).
 *
 * With new settings a new period begins, and the one that runs counts for nothing.
 *
 * The daemon turns the counts into an estimate (policy/active.h).
 */
#ifndef MT_MONITOR_SAMPLE_H
#define MT_MONITOR_SAMPLE_H

#include "base/compiler.h"
#include "base/types.h"

#include <stdatomic.h>

/* Most pages in a sample: the range of Mem.SamplePages. */
#define MT_SAMPLE_MAX 4096U

enum mt_sample_phase {
	MT_SAMPLE_IDLE,
	MT_SAMPLE_DRAWING,   /* pages up to @next are being watched, the rest follows */
	MT_SAMPLE_WATCHING,  /* until @end_ns */
	MT_SAMPLE_RETURNING, /* pages up to @next are back */
};

struct mt_sample_page {
	mt_gpn_t gpn;
	bool watched;
	bool touched;
	bool written;
	bool broke; /* a large page, when it was drawn */
};

struct mt_sample {
	/* Settings; set by the link thread. 0: no sampling. */
	_Atomic uint64_t period_ns;
	_Atomic uint32_t pages;

	enum mt_sample_phase phase;
	uint64_t end_ns;
	uint64_t drawn_period_ns; /* the settings the running period was drawn with */
	uint32_t drawn_pages;
	uint64_t random;
	uint32_t count;
	uint32_t next;
	uint32_t staged; /* pages that are in staging for us */
	uint32_t watched, touched, written;
	uint32_t most; /* pages drawn at once so far: so much of the table has memory */
	struct mt_sample_page *page; /* sorted by number; room for MT_SAMPLE_MAX */
};

struct mt_pager;

/** mt_sample_init() - make the table. Return: 0 or -ENOMEM. */
MT_MUST_CHECK int mt_sample_init(struct mt_sample *sample);
void mt_sample_fini(struct mt_sample *sample);

/** mt_sample_bytes() - memory the table takes */
uint64_t mt_sample_bytes(const struct mt_sample *sample);

/** mt_sample_step() - do what is due. Return: ms until there is something to do; -1: nothing. */
int mt_sample_step(struct mt_pager *pager);

/** mt_sample_touch() - the guest has faulted on page @gpn */
void mt_sample_touch(struct mt_pager *pager, mt_gpn_t gpn, bool write);

/** mt_sample_watches() - is it waited for a touch of page @gpn? */
bool mt_sample_watches(struct mt_pager *pager, mt_gpn_t gpn);

/** mt_sample_give_up() - nothing else is left to take: reclaim may have the pages in staging */
void mt_sample_give_up(struct mt_pager *pager);

#endif
