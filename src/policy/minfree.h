/* SPDX-License-Identifier: MIT */
/*
 * minfree.h - how much of the pool is kept free as the measure of all memory states
 *
 * A small host needs a larger part of its memory as a cushion than a large one, so the part sinks
 * as the pool grows. The formula is that of vSphere 5.0 and later (reference, section 3.1): 6 % of
 * the first 4 GiB, 4 % of the next 8, 2 % of the next 16, 1 % of the rest, of *managed* memory,
 * which here is the pool.
 */
#ifndef MT_POLICY_MINFREE_H
#define MT_POLICY_MINFREE_H

#include "base/types.h"

/**
 * mt_minfree_pages() - the pages of a pool to keep free
 * @fixed_pct: Mem.MemMinFreePct: 0 for the sliding scale, otherwise a flat percentage of the pool
 */
uint64_t mt_minfree_pages(uint64_t pool_pages, unsigned int fixed_pct);

#endif
