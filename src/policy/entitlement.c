/* SPDX-License-Identifier: MIT */
/*
 * entitlement.c - the level by bisection, the last pages by a heap; see entitlement.h
 *
 * Doubles find the level but never decide between two VMs: the level is lowered by more than
 * their error before pages are counted, and what is missing to the total, about a page for each
 * VM, is dealt out one by one in the exact order of charge per share.
 */
#include "policy/entitlement.h"

/* What an active page costs; an idle one costs a whole number of these for most tax rates. */
#define COST_ONE 65536U
/* The error of one evaluation in doubles is some 2^-51 of the result. */
#define LEVEL_SLACK 1e-12
#define LEVEL_STEPS 200

typedef unsigned __int128 charge_t;

static uint32_t cost_taxed(uint64_t rate_300ths)
{
	return (uint32_t)((uint64_t)COST_ONE * 300 / (300 - rate_300ths));
}

/* Saturating: the end of a price is at most the end of all memory. */
static uint64_t pages_times(uint64_t pages, uint64_t times)
{
	return pages > MT_ENT_PAGES_MAX / times ? MT_ENT_PAGES_MAX : pages * times;
}

static void ent_prices(const struct mt_tax *tax, uint64_t active_pages, uint64_t *end,
		       uint32_t *cost)
{
	uint64_t rate = MT_MIN(tax->rate_pct, 99U);
	bool flat = tax->kind == MT_TAX_FLAT;

	end[0] = MT_MIN(active_pages, MT_ENT_PAGES_MAX);
	end[1] = pages_times(end[0], 2);
	end[2] = pages_times(end[0], 4);
	end[3] = UINT64_MAX;
	cost[0] = COST_ONE;
	cost[1] = cost_taxed(flat ? 3 * rate : rate);
	cost[2] = cost_taxed(flat ? 3 * rate : 2 * rate);
	cost[3] = cost_taxed(3 * rate);
}

static charge_t ent_charge(const uint64_t *end, const uint32_t *cost, uint64_t pages)
{
	charge_t charge = 0;
	uint64_t done = 0;

	for (unsigned int i = 0; i < MT_ENT_SEGMENTS && done < pages; i++) {
		uint64_t to = MT_MIN(pages, end[i]);

		charge += (charge_t)(to - done) * cost[i];
		done = to;
	}
	return charge;
}

/* The inverse: pages to be had for a charge, between low and high. */
static uint64_t ent_pages_at(const struct mt_ent_vm *vm, double level)
{
	double left = level * (double)vm->shares;
	uint64_t done = 0;

	for (unsigned int i = 0; i < MT_ENT_SEGMENTS && done < vm->work.high; i++) {
		uint64_t end = MT_MIN(vm->work.end[i], vm->work.high);
		double price = (double)(end - done) * vm->work.cost[i];

		if (left < price) {
			done += (uint64_t)(left / vm->work.cost[i]);
			break;
		}
		left -= price;
		done = end;
	}
	return MT_MAX(vm->work.low, MT_MIN(done, vm->work.high));
}

static uint64_t ent_sum_at(const struct mt_ent_vm *vms, size_t count, double level)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += ent_pages_at(&vms[i], level);
	return sum;
}

/* A level that gives out nearly @total, and not more: a page for each VM may be missing. */
static double ent_level(uint64_t total, const struct mt_ent_vm *vms, size_t count)
{
	double low = 0.0, high = 0.0;

	for (size_t i = 0; i < count; i++) {
		charge_t most = ent_charge(vms[i].work.end, vms[i].work.cost, vms[i].work.high);

		high = MT_MAX(high, (double)most / (double)vms[i].shares);
	}
	for (unsigned int step = 0; step < LEVEL_STEPS; step++) {
		double middle = low + (high - low) / 2;
		uint64_t sum = ent_sum_at(vms, count, middle);

		if (sum > total) {
			high = middle;
			continue;
		}
		low = middle;
		if (total - sum <= count)
			break;
	}
	return low * (1.0 - LEVEL_SLACK);
}

/* Is the next page of @a due before that of @b? */
static bool ent_before(const struct mt_ent_vm *vms, uint32_t a, uint32_t b)
{
	charge_t left = vms[a].work.next * vms[b].shares;
	charge_t right = vms[b].work.next * vms[a].shares;

	return left != right ? left < right : a < b;
}

static void heap_sink(struct mt_ent_vm *vms, size_t size, size_t at)
{
	uint32_t moved = vms[at].work.heap;

	for (;;) {
		size_t child = 2 * at + 1;

		if (child >= size)
			break;
		if (child + 1 < size &&
		    ent_before(vms, vms[child + 1].work.heap, vms[child].work.heap))
			child++;
		if (!ent_before(vms, vms[child].work.heap, moved))
			break;
		vms[at].work.heap = vms[child].work.heap;
		at = child;
	}
	vms[at].work.heap = moved;
}

static void ent_next(struct mt_ent_vm *vm)
{
	vm->work.next = ent_charge(vm->work.end, vm->work.cost, vm->target_pages + 1);
}

/* One page at a time to the VM whose next page is the cheapest. */
static void ent_deal(struct mt_ent_vm *vms, size_t count, uint64_t pages)
{
	size_t size = 0;

	for (size_t i = 0; i < count; i++) {
		if (vms[i].target_pages >= vms[i].work.high)
			continue;
		ent_next(&vms[i]);
		vms[size++].work.heap = (uint32_t)i;
	}
	for (size_t i = size / 2; i-- > 0;)
		heap_sink(vms, size, i);
	while (pages && size) {
		struct mt_ent_vm *vm = &vms[vms[0].work.heap];

		vm->target_pages++;
		pages--;
		if (vm->target_pages < vm->work.high)
			ent_next(vm);
		else
			vms[0].work.heap = vms[--size].work.heap;
		heap_sink(vms, size, 0);
	}
}

/* Not even what nobody may undercut fits: everyone loses the same part of it. */
static uint64_t ent_scale_down(uint64_t total, struct mt_ent_vm *vms, size_t count, uint64_t floors)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < count; i++) {
		vms[i].target_pages = (uint64_t)((charge_t)vms[i].work.low * total / floors);
		sum += vms[i].target_pages;
	}
	for (size_t i = 0; i < count && sum < total; i++) {
		if (vms[i].target_pages >= vms[i].work.low)
			continue;
		vms[i].target_pages++;
		sum++;
	}
	return sum;
}

/* Shares out @total between low and high of each VM. Return: the sum given. */
static uint64_t ent_fill(uint64_t total, struct mt_ent_vm *vms, size_t count)
{
	uint64_t lows = 0, highs = 0, sum = 0;
	double level;

	for (size_t i = 0; i < count; i++) {
		lows += vms[i].work.low;
		highs += vms[i].work.high;
	}
	if (lows > total)
		return ent_scale_down(total, vms, count, lows);
	level = highs > total ? ent_level(total, vms, count) : 0.0;
	for (size_t i = 0; i < count; i++) {
		vms[i].target_pages =
			highs > total ? ent_pages_at(&vms[i], level) : vms[i].work.high;
		sum += vms[i].target_pages;
	}
	if (highs <= total)
		return highs;
	ent_deal(vms, count, total - sum);
	return total;
}

static void ent_prepare(const struct mt_tax *tax, struct mt_ent_vm *vm)
{
	MT_ASSERT(vm->cap_pages <= MT_ENT_PAGES_MAX && vm->shares <= MT_ENT_SHARES_MAX);
	vm->shares = MT_MAX(vm->shares, 1);
	ent_prices(tax, vm->active_pages, vm->work.end, vm->work.cost);
}

uint64_t mt_ent_share_out(const struct mt_tax *tax, uint64_t total_pages, struct mt_ent_vm *vms,
			  size_t count)
{
	uint64_t wants = 0;

	for (size_t i = 0; i < count; i++) {
		MT_ASSERT(vms[i].floor_pages <= vms[i].want_pages &&
			  vms[i].want_pages <= vms[i].cap_pages);
		ent_prepare(tax, &vms[i]);
		wants += vms[i].want_pages;
	}
	for (size_t i = 0; i < count; i++) {
		bool plenty = wants <= total_pages;

		vms[i].work.low = plenty ? vms[i].want_pages : vms[i].floor_pages;
		vms[i].work.high = plenty ? vms[i].cap_pages : vms[i].want_pages;
	}
	return ent_fill(total_pages, vms, count);
}

uint64_t mt_ent_revoke(const struct mt_tax *tax, uint64_t need_pages, struct mt_ent_vm *vms,
		       size_t count)
{
	uint64_t floors = 0, held = 0, keep;

	for (size_t i = 0; i < count; i++) {
		ent_prepare(tax, &vms[i]);
		vms[i].work.high = vms[i].cap_pages;
		vms[i].work.low = MT_MIN(vms[i].floor_pages, vms[i].cap_pages);
		floors += vms[i].work.low;
		held += vms[i].work.high;
	}
	keep = held - MT_MIN(need_pages, held - floors);
	ent_fill(keep, vms, count);
	return held - keep;
}

double mt_ent_charge(const struct mt_tax *tax, uint64_t active_pages, uint64_t pages)
{
	uint64_t end[MT_ENT_SEGMENTS];
	uint32_t cost[MT_ENT_SEGMENTS];

	ent_prices(tax, active_pages, end, cost);
	return (double)ent_charge(end, cost, pages) / COST_ONE;
}

double mt_ent_rho(const struct mt_tax *tax, uint64_t shares, uint64_t active_pages, uint64_t pages)
{
	return pages ? (double)shares / mt_ent_charge(tax, active_pages, pages) : 0.0;
}

double mt_ent_idle_cost(const struct mt_tax *tax)
{
	return (double)cost_taxed(3 * (uint64_t)MT_MIN(tax->rate_pct, 99U)) / COST_ONE;
}
