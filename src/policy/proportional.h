/* SPDX-License-Identifier: MIT */
/*
 * proportional.h - the plain policy: every VM gets memory in proportion to what it was promised
 *
 * Pure functions: numbers in, numbers out. mt_fill_proportional() is the one algorithm: it pours
 * a total over items in proportion to their weights, like water over basins with a floor (never
 * below, as long as the floors fit at all) and a rim (never above; what one can't take the others
 * get). The daemon uses it twice: for targets (weight is the VM's memory) and to hand out
 * returned memory (weight is the target, floor the present grant), which raises the VM that is
 * furthest below its target first.
 */
#ifndef MT_POLICY_PROPORTIONAL_H
#define MT_POLICY_PROPORTIONAL_H

#include "base/compiler.h"
#include "base/types.h"

/* A limit that does not bind. */
#define MT_POLICY_NO_LIMIT UINT64_MAX
/* Largest number the policy calculates with: 2^48 pages, more than any address space. */
#define MT_POLICY_MAX (1ULL << 48)
/* A monitor's own memory on top of the guest's: a fixed part and a part for each guest page. */
#ifndef MT_POLICY_OVERHEAD_PAGES /* a simulation has less of everything */
#define MT_POLICY_OVERHEAD_PAGES ((12UL << 20) / MT_PAGE_SIZE)
#endif
#define MT_POLICY_OVERHEAD_PART 128
/* With less than this a VM can't make progress at all. */
#ifndef MT_POLICY_START_PAGES
#define MT_POLICY_START_PAGES ((16UL << 20) / MT_PAGE_SIZE)
#endif

struct mt_fill {
	uint64_t weight;
	uint64_t floor; /* at most cap */
	uint64_t cap;
	uint64_t got; /* result */
};

/* What the policy must know about a VM. */
struct mt_policy_vm {
	uint64_t memsize_pages;
	uint64_t reservation_pages;
	uint64_t limit_pages;      /* MT_POLICY_NO_LIMIT: none */
	uint64_t target_max_pages; /* MT_POLICY_NO_LIMIT: none */
};

/**
 * mt_fill_proportional() - share out @total
 *
 * Gives every item clamp(level * weight, floor, cap) with the one level that uses @total up, or
 * every cap when there is room for all of them (an item of weight 0 stays at its floor). When the
 * floors alone exceed @total, every item gets its floor scaled down.
 *
 * Return: the sum of what was given; never more than @total.
 */
uint64_t mt_fill_proportional(uint64_t total, struct mt_fill *items, size_t count);

/** mt_policy_cap() - most machine memory @vm can use or may have, in pages; 0 without guest memory
 */
uint64_t mt_policy_cap(const struct mt_policy_vm *vm);

/** mt_policy_floor() - memory @vm must be able to have: its reservation, and enough to run; at most
 * its cap */
uint64_t mt_policy_floor(const struct mt_policy_vm *vm);

/** mt_policy_fill() - @vm as an item of the fill that gives targets */
struct mt_fill mt_policy_fill(const struct mt_policy_vm *vm);

#endif
