/* SPDX-License-Identifier: MIT */
/* hist.c - latency histogram; see hist.h */
#include "base/hist.h"

/* Index = 4 * log2(ns) + the two bits below the leading one. */
static unsigned int hist_bucket(uint64_t ns)
{
	unsigned int log2, index;

	if (ns < 4)
		return (unsigned int)ns;
	log2 = 63 - (unsigned int)__builtin_clzll(ns);
	index = 4 * (log2 - 1) + (unsigned int)((ns >> (log2 - 2)) & 3);
	return index < MT_HIST_BUCKETS ? index : MT_HIST_BUCKETS - 1;
}

static uint64_t hist_bucket_end_ns(unsigned int index)
{
	unsigned int log2 = index / 4 + 1;

	if (index < 4)
		return index;
	return ((uint64_t)(4 + index % 4 + 1) << (log2 - 2)) - 1;
}

static uint64_t hist_read(const _Atomic uint64_t *value)
{
	return atomic_load_explicit(value, memory_order_relaxed);
}

/* There is one writer, so this need not be one step. */
static void hist_more(_Atomic uint64_t *value, uint64_t more)
{
	atomic_store_explicit(value, hist_read(value) + more, memory_order_relaxed);
}

void mt_hist_add(struct mt_hist *hist, uint64_t ns)
{
	hist_more(&hist->count[hist_bucket(ns)], 1);
	hist_more(&hist->sum_ns, ns);
	if (ns > mt_hist_max_ns(hist))
		atomic_store_explicit(&hist->max_ns, ns, memory_order_relaxed);
}

uint64_t mt_hist_max_ns(const struct mt_hist *hist)
{
	return hist_read(&hist->max_ns);
}

uint64_t mt_hist_total(const struct mt_hist *hist)
{
	uint64_t total = 0;

	for (unsigned int i = 0; i < MT_HIST_BUCKETS; i++)
		total += hist_read(&hist->count[i]);
	return total;
}

uint64_t mt_hist_percentile_ns(const struct mt_hist *hist, unsigned int pct)
{
	uint64_t total = mt_hist_total(hist);
	uint64_t wanted = (total * pct + 99) / 100;
	uint64_t seen = 0;

	if (!total)
		return 0;
	for (unsigned int i = 0; i < MT_HIST_BUCKETS; i++) {
		seen += hist_read(&hist->count[i]);
		if (seen >= wanted && seen)
			return hist_bucket_end_ns(i);
	}
	return mt_hist_max_ns(hist);
}
