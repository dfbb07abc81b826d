/* SPDX-License-Identifier: MIT */
/* compare.c - one trace in all setups; see compare.h */
#include "lab/compare.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SPARE_BYTES (4u << 20) /* of host memory: a VM's pieces of 2 MiB must not just fit */

/* Native: all of memory is the machine's, in one piece. */
static const struct lab_setup setups[LAB_SETUPS] = {
	{MT_MMU_NATIVE, false, true},  {MT_MMU_NATIVE, true, true},  {MT_MMU_SHADOW, false, false},
	{MT_MMU_SHADOW, false, true},  {MT_MMU_SHADOW, true, false}, {MT_MMU_SHADOW, true, true},
	{MT_MMU_NESTED, false, false}, {MT_MMU_NESTED, false, true}, {MT_MMU_NESTED, true, false},
	{MT_MMU_NESTED, true, true}};

struct bench {
	void *memory;
	struct lab_host host;
	struct lab_vm vm;
	struct lab_kernel kernel;
	struct lab_run run;
};

static int bench_start(struct bench *bench, const struct lab_setup *setup,
		       const struct lab_compare_options *options, struct mt_err *err)
{
	uint64_t bytes = mt_align_up(options->mem_bytes, MT_HUGE_SIZE) + SPARE_BYTES;
	struct lab_vm_config vm = {.number = 1,
				   .frames = (uint32_t)(options->mem_bytes >> MT_PAGE_SHIFT),
				   .large = setup->host_large,
				   .mode = setup->mode,
				   .walk_caches = options->walk_caches};
	struct lab_kernel_config kernel = {.large = setup->guest_large};
	int rc;

	memset(bench, 0, sizeof(*bench));
	bench->memory = aligned_alloc(MT_HUGE_SIZE, bytes);
	if (!bench->memory || lab_host_init(&bench->host, bench->memory, bytes))
		return mt_err_set(err, -ENOMEM, "no memory for a guest of %llu bytes",
				  (unsigned long long)options->mem_bytes);
	memset(bench->memory, 0, bytes);
	rc = lab_vm_init(&bench->vm, &bench->host, &vm, err);
	if (!rc)
		rc = lab_kernel_boot(&bench->kernel, &bench->vm, &kernel, err);
	bench->run.kernel = &bench->kernel;
	return rc;
}

static void bench_end(struct bench *bench)
{
	if (bench->kernel.processes)
		lab_kernel_destroy(&bench->kernel);
	if (bench->vm.host)
		lab_vm_destroy(&bench->vm);
	lab_host_destroy(&bench->host);
	free(bench->memory);
}

static struct mt_mmu_stats stats_between(const struct mt_mmu_stats *from,
					 const struct mt_mmu_stats *to)
{
	return (struct mt_mmu_stats){
		.accesses = to->accesses - from->accesses,
		.tlb_misses = to->tlb_misses - from->tlb_misses,
		.walks = to->walks - from->walks,
		.refs = to->refs - from->refs,
		.guest_faults = to->guest_faults - from->guest_faults,
		.hidden_faults = to->hidden_faults - from->hidden_faults,
		.trace_faults = to->trace_faults - from->trace_faults,
		.violations = to->violations - from->violations,
		.cr3_loads = to->cr3_loads - from->cr3_loads,
		.invlpgs = to->invlpgs - from->invlpgs,
		.forced_flushes = to->forced_flushes - from->forced_flushes,
	};
}

static int bench_measure(struct bench *bench, const struct lab_trace *trace,
			 const struct lab_compare_options *options, struct lab_result *result,
			 struct mt_err *err)
{
	struct mt_mmu_stats before;
	struct lab_pass pass;
	int rc = lab_pass_begin(&pass, trace, &bench->run, err);

	if (!rc)
		rc = lab_pass_once(&pass, err);
	before = bench->vm.mmu.stats;
	for (unsigned int i = 0; !rc && i < options->passes; i++)
		rc = lab_pass_once(&pass, err);
	if (rc)
		return rc;
	result->stats = stats_between(&before, &bench->vm.mmu.stats);
	result->cost = mt_cost_of(&options->cost, result->setup.mode, &result->stats);
	result->cycles =
		result->cost.base + result->cost.walks + result->cost.exits + result->cost.faults;
	mt_mmu_table_pages(&bench->vm.mmu, &result->host_tables);
	result->guest_tables = bench->kernel.stats.tables_peak;
	return 0;
}

int lab_compare(const struct lab_trace *trace, const struct lab_compare_options *options,
		struct lab_comparison *ret, struct mt_err *err)
{
	struct bench *bench = malloc(sizeof(*bench)); /* too large for a stack */
	int rc = 0;

	if (!bench)
		return mt_err_set(err, -ENOMEM, "no memory");
	ret->trace = trace;
	for (unsigned int i = 0; !rc && i < LAB_SETUPS; i++) {
		struct lab_result *result = &ret->results[i];

		result->setup = setups[i];
		rc = bench_start(bench, &setups[i], options, err);
		if (!rc)
			rc = bench_measure(bench, trace, options, result, err);
		bench_end(bench);
		result->slowdown = rc ? 0 : (double)result->cycles / (double)ret->results[0].cycles;
	}
	free(bench);
	return rc;
}
