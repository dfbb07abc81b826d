/* SPDX-License-Identifier: MIT */
/* cost.c - the cost model of translation; see cost.h */
#include "mmu/cost.h"

struct mt_cost_sum mt_cost_of(const struct mt_cost *cost, enum mt_mmu_mode mode,
			      const struct mt_mmu_stats *stats)
{
	struct mt_cost_sum sum = {
		.base = stats->accesses * cost->access,
		.walks = stats->refs * cost->ref,
		.faults = stats->guest_faults * cost->guest_fault,
	};

	if (mode == MT_MMU_SHADOW)
		sum.exits = stats->guest_faults * cost->fault_exit +
			    stats->hidden_faults * cost->hidden_fault +
			    stats->trace_faults * cost->trace_fault +
			    (stats->cr3_loads + stats->invlpgs) * cost->switch_exit;
	if (mode == MT_MMU_NESTED)
		sum.exits = stats->violations * cost->violation;
	return sum;
}

double mt_cost_slowdown_pct(const struct mt_cost_sum *sum)
{
	uint64_t added = sum->walks + sum->exits + sum->faults;

	return sum->base ? 100.0 * (double)added / (double)sum->base : 0;
}
