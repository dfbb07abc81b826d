/* SPDX-License-Identifier: MIT */
/*
 * cost.h - what translation costs, in processor cycles: a model, not a measurement
 *
 * cycles = accesses x access + refs x ref + the sum of events x their cost; the slow-down is that
 * over accesses x access alone, a machine that translates for nothing. Events cost what published
 * nanobenchmarks say, rounded: on the first processors with hardware support an exit to the
 * hypervisor and back took about 2,000 cycles, a page fault of a guest about 1,000 natively and
 * three to ten times that under a hypervisor that sees it first, a traced store of a page-table
 * entry 400 (binary translation) to 9,000 (plain exits) cycles: Adams and Agesen, ASPLOS 2006, as
 * retold by others. That most references of a walk hit caches is our assumption. The absolute
 * figures age; the signs of the differences are what the model is for.
 */
#ifndef MT_MMU_COST_H
#define MT_MMU_COST_H

#include "mmu/mmu.h"

/* Cycles. */
struct mt_cost {
	unsigned int access;       /* of the program, with the work around it */
	unsigned int ref;          /* a reference of a walk, mostly to a cache */
	unsigned int guest_fault;  /* of the guest's own kernel, native or nested */
	unsigned int fault_exit;   /* more under shadow: it comes to the hypervisor first */
	unsigned int hidden_fault; /* exit, walk, fill, back */
	unsigned int trace_fault;  /* exit, emulate the store, follow it */
	unsigned int switch_exit;  /* CR3 load or INVLPG under shadow */
	unsigned int violation;    /* EPT's: exit, map, back */
};

#define MT_COST_DEFAULT                         \
	((struct mt_cost){.access = 4,          \
			  .ref = 8,             \
			  .guest_fault = 1000,  \
			  .fault_exit = 2500,   \
			  .hidden_fault = 2500, \
			  .trace_fault = 2500,  \
			  .switch_exit = 1500,  \
			  .violation = 2500})

struct mt_cost_sum {
	uint64_t base;   /* accesses */
	uint64_t walks;  /* references of walks */
	uint64_t exits;  /* to the hypervisor: hidden and trace faults, CR3, violations */
	uint64_t faults; /* the guest's own, in its own kernel */
};

/** mt_cost_of() - the model's cycles for what was counted in @mode */
struct mt_cost_sum mt_cost_of(const struct mt_cost *cost, enum mt_mmu_mode mode,
			      const struct mt_mmu_stats *stats);

/** mt_cost_slowdown_pct() - time that translation adds to the accesses, in percent of theirs */
double mt_cost_slowdown_pct(const struct mt_cost_sum *sum);

#endif
