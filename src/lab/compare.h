/* SPDX-License-Identifier: MIT */
/*
 * compare.h - one trace under native, shadow and nested translation, with small and large pages
 *
 * Every setup has a fresh host, VM and guest kernel. The first pass of the trace warms it up (the
 * host allocates, EPT and shadow fill); what is counted is the passes after it. Costs are those of
 * the model in mmu/cost.h.
 */
#ifndef MT_LAB_COMPARE_H
#define MT_LAB_COMPARE_H

#include "lab/trace.h"
#include "mmu/cost.h"

#include <stdio.h>

#define LAB_SETUPS 10 /* native has no host pages: 2; shadow and nested: 4 each */

struct lab_setup {
	enum mt_mmu_mode mode;
	bool guest_large; /* 2 MiB pages in the guest's tables where they fit */
	bool host_large;  /* the host backs the VM in 2 MiB pieces */
};

struct lab_compare_options {
	uint64_t mem_bytes;  /* of the guest */
	unsigned int passes; /* counted */
	bool walk_caches;
	struct mt_cost cost;
};

struct lab_result {
	struct lab_setup setup;
	struct mt_mmu_stats stats; /* of the counted passes */
	struct mt_cost_sum cost;
	uint64_t cycles;       /* all of cost */
	uint32_t host_tables;  /* page-table pages of the host, at most */
	uint64_t guest_tables; /* of the guest, at most */
	double slowdown;       /* cycles, as a multiple of native 4 KiB */
};

struct lab_comparison {
	const struct lab_trace *trace;
	struct lab_result results[LAB_SETUPS];
};

/** lab_compare() - run @trace in all setups. Return: 0 or -errno */
int lab_compare(const struct lab_trace *trace, const struct lab_compare_options *options,
		struct lab_comparison *ret, struct mt_err *err);

/** lab_compare_svg() - bars of modelled time for each trace and setup. Return: 0 or -errno */
int lab_compare_svg(const struct lab_comparison *comparisons, unsigned int count, const char *path,
		    struct mt_err *err);

#endif
