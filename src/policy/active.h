/* SPDX-License-Identifier: MIT */
/*
 * active.h - how much memory a VM is using, from a few pages that are watched
 *
 * Every sample period n random pages of a VM are watched and the touched ones counted; touched/n
 * estimates the part of its memory in use (OSDI'02 paper, section 5.3). Three averages smooth it:
 * a slow one, a fast one, and the fast one with the unfinished period taken in. The estimate is
 * the largest of the three, so it goes up at once and down slowly: a VM gets memory when it needs
 * it and does not lose it for a short rest.
 *
 * The gains of the averages are not published. Ours:
 *  - an average's gain for a period of T seconds is T / (T + tau), so that changing the period
 *    changes the effort, not the speed: tau is 240 s for the slow average (gain 0.2 with 60 s) and
 *    180 s for the fast one (0.25);
 *  - the fast average's gain grows to 1 when a sample differs from it by more than chance
 *    explains. Chance is the binomial standard error of the sample, so few samples move it less.
 *    Up to one standard error the gain is the plain one, from 3 on it is 1, between them it grows
 *    with the square. So noise is averaged away and a real step is believed at once. A step up is
 *    taken to be a standard error larger than seen: the period began before it, so it is still
 *    being underestimated;
 *  - the unfinished period counts only upward: pages not touched yet say nothing.
 *
 * Before the first finished period the VM counts as fully active: no evidence, no tax.
 *
 * One such object estimates memory touched, another one memory written. The period is counted in
 * time the VM runs; a stopped VM's periods must not be ended.
 */
#ifndef MT_POLICY_ACTIVE_H
#define MT_POLICY_ACTIVE_H

#include "base/types.h"

struct mt_active {
	double slow; /* averages, as parts of 1 */
	double fast;
	double now;  /* fast, with the unfinished period */
	bool primed; /* a period has ended */
};

/** mt_active_init() - nothing known */
void mt_active_init(struct mt_active *active);

/**
 * mt_active_watch() - the period goes on
 * @watched: pages watched since its start; fewer than planned is fine, 0 too
 * @touched: those of them that were touched; more than @watched counts as all
 */
void mt_active_watch(struct mt_active *active, uint64_t watched, uint64_t touched);

/** mt_active_end() - the period is over; it lasted @period_s seconds */
void mt_active_end(struct mt_active *active, uint64_t watched, uint64_t touched, double period_s);

/** mt_active_part() - the estimate, 0.0 to 1.0 */
double mt_active_part(const struct mt_active *active);

/**
 * mt_active_pages() - the estimate in pages
 * @sampled_pages: the memory that pages are drawn from
 * @floor_pct: Mem.SampleActivePctMin or Mem.SampleDirtiedPctMin
 */
uint64_t mt_active_pages(const struct mt_active *active, uint64_t sampled_pages,
			 unsigned int floor_pct);

#endif
