/* SPDX-License-Identifier: MIT */
/*
 * hist.h - latency histogram: fixed size, four buckets to each doubling, one writer
 *
 * Buckets are wide enough to be cheap on the fault path and fine enough (error at most 19 %) to
 * compare percentiles. One thread writes; a reader on another may see a count that is one behind,
 * never a torn one.
 */
#ifndef MT_BASE_HIST_H
#define MT_BASE_HIST_H

#include <stdatomic.h>
#include <stdint.h>

#define MT_HIST_BUCKETS 160

struct mt_hist {
	_Atomic uint64_t count[MT_HIST_BUCKETS];
	_Atomic uint64_t sum_ns;
	_Atomic uint64_t max_ns;
};

/** mt_hist_add() - count one event that took @ns nanoseconds */
void mt_hist_add(struct mt_hist *hist, uint64_t ns);

/** mt_hist_total() - number of events counted */
uint64_t mt_hist_total(const struct mt_hist *hist);

/** mt_hist_max_ns() - the longest */
uint64_t mt_hist_max_ns(const struct mt_hist *hist);

/** mt_hist_percentile_ns() - upper edge of the bucket that holds the @pct-th percentile; 0 if empty
 */
uint64_t mt_hist_percentile_ns(const struct mt_hist *hist, unsigned int pct);

#endif
