/* SPDX-License-Identifier: MIT */
/*
 * proportional.c - water-filling by bisection on the level; see proportional.h
 *
 * The level is a fixed-point number with 32 fractional bits. The sum of what all items get grows
 * with the level, so bisection finds the highest level that fits; the few pages that rounding
 * leaves go to the first items that the next level would have given more.
 */
#include "policy/proportional.h"

#define LEVEL_SHIFT 32

static uint64_t fill_at(const struct mt_fill *item, uint64_t level)
{
	unsigned __int128 part = ((unsigned __int128)item->weight * level) >> LEVEL_SHIFT;

	if (part < item->floor)
		return item->floor;
	return part > item->cap ? item->cap : (uint64_t)part;
}

static uint64_t fill_sum(const struct mt_fill *items, size_t count, uint64_t level)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += fill_at(&items[i], level);
	return sum;
}

/* Not even the floors fit: everyone loses the same part of its floor. */
static uint64_t fill_scaled_floors(uint64_t total, struct mt_fill *items, size_t count,
				   uint64_t floors)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < count; i++) {
		items[i].got = (uint64_t)((unsigned __int128)items[i].floor * total / floors);
		sum += items[i].got;
	}
	return sum;
}

/* Highest level whose sum is at most @total; level 0 always is. */
static uint64_t fill_level(uint64_t total, const struct mt_fill *items, size_t count)
{
	uint64_t low = 0, high = UINT64_MAX;

	while (low < high) {
		uint64_t middle = low + (high - low) / 2 + 1;

		if (fill_sum(items, count, middle) <= total)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

uint64_t mt_fill_proportional(uint64_t total, struct mt_fill *items, size_t count)
{
	uint64_t floors, level, next, sum = 0;

	for (size_t i = 0; i < count; i++)
		MT_ASSERT(items[i].floor <= items[i].cap && items[i].cap <= MT_POLICY_MAX &&
			  items[i].weight <= MT_POLICY_MAX);
	floors = fill_sum(items, count, 0);
	if (floors > total)
		return fill_scaled_floors(total, items, count, floors);
	level = fill_level(total, items, count);
	next = level < UINT64_MAX ? level + 1 : level;
	for (size_t i = 0; i < count; i++) {
		items[i].got = fill_at(&items[i], level);
		sum += items[i].got;
	}
	for (size_t i = 0; i < count && sum < total; i++) {
		uint64_t more = fill_at(&items[i], next) - items[i].got;

		more = MT_MIN(more, total - sum);
		items[i].got += more;
		sum += more;
	}
	return sum;
}

uint64_t mt_policy_cap(const struct mt_policy_vm *vm)
{
	uint64_t cap;

	if (!vm->memsize_pages)
		return 0;
	cap = vm->memsize_pages + vm->memsize_pages / MT_POLICY_OVERHEAD_PART +
	      MT_POLICY_OVERHEAD_PAGES;
	cap = MT_MIN(cap, vm->limit_pages);
	return MT_MIN(cap, vm->target_max_pages);
}

uint64_t mt_policy_floor(const struct mt_policy_vm *vm)
{
	uint64_t floor = MT_MAX(vm->reservation_pages, MT_POLICY_START_PAGES);

	return MT_MIN(floor, mt_policy_cap(vm));
}

struct mt_fill mt_policy_fill(const struct mt_policy_vm *vm)
{
	return (struct mt_fill){.weight = vm->memsize_pages,
				.floor = mt_policy_floor(vm),
				.cap = mt_policy_cap(vm)};
}
