/* SPDX-License-Identifier: MIT */
/*
 * mmu.c - "memtide mmu compare": what native, shadow and nested translation cost a real program
 *
 * Needs no daemon: a guest kernel and an MMU in software carry out the traces; see
 * docs/translation.md.
 */
#include "cli/cli.h"
#include "cli/fields.h"
#include "cli/table.h"
#include "lab/compare.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#define TABLE_WIDTH 200
#define MEM_MIN     (8u << 20)
#define MEM_MAX     (16ULL << 30)
#define PASSES_MAX  1000u

static const char mmu_help[] =
	"usage: memtide mmu compare TRACE... [--json] [--svg FILE] [--mem SIZE] [--passes N]\n"
	"                           [--no-walk-caches]\n"
	"Runs each trace of a real program under native, shadow and nested translation, with\n"
	"4 KiB and 2 MiB pages in guest and host, and prints what it cost: TLB misses,\n"
	"references to memory for each, faults that shadow paging adds, page-table memory, and\n"
	"the time of a model as a multiple of native with 4 KiB pages. See memtide-mmu(1).\n\n"
	"  --json            the same as JSON, with all counts\n"
	"  --svg FILE        and as a picture\n"
	"  --mem SIZE        memory of the guest (64M)\n"
	"  --passes N        count so many passes, after one that is not counted (2)\n"
	"  --no-walk-caches  every walk begins at the root\n";

struct mmu_args {
	const char *svg;
	uint64_t mem_bytes, passes;
	bool no_walk_caches;
};

static const char *size_name(bool large)
{
	return large ? "2M" : "4K";
}

static void print_result(struct table *table, const struct lab_result *r)
{
	const struct mt_mmu_stats *s = &r->stats;
	char misses[24], refs[24], added[4][24], tables[24], times[24];
	const char *row[] = {mt_mmu_mode_name(r->setup.mode),
			     size_name(r->setup.guest_large),
			     r->setup.mode == MT_MMU_NATIVE ? "-" : size_name(r->setup.host_large),
			     misses,
			     refs,
			     added[0],
			     added[1],
			     added[2],
			     added[3],
			     tables,
			     times};

	snprintf(misses, sizeof(misses), "%.2f",
		 1000.0 * (double)s->tlb_misses / (double)MT_MAX(s->accesses, 1));
	snprintf(refs, sizeof(refs), "%.2f", (double)s->refs / (double)MT_MAX(s->tlb_misses, 1));
	snprintf(added[0], sizeof(added[0]), "%" PRIu64, s->guest_faults);
	snprintf(added[1], sizeof(added[1]), "%" PRIu64, s->hidden_faults);
	snprintf(added[2], sizeof(added[2]), "%" PRIu64, s->trace_faults);
	snprintf(added[3], sizeof(added[3]), "%" PRIu64, s->violations);
	snprintf(tables, sizeof(tables), "%u+%" PRIu64, r->host_tables * 4, r->guest_tables * 4);
	snprintf(times, sizeof(times), "%.3f", r->slowdown);
	table_add(table, row);
}

static void print_comparison(const struct lab_comparison *comparison)
{
	static const char *const heading[] = {"MODE",       "GUEST",       "HOST",    ">MISS/1000",
					      ">REFS/MISS", ">FAULTS",     ">HIDDEN", ">TRACE",
					      ">EPT-VIOL",  ">TABLES-KIB", ">TIME"};
	struct table table;

	printf("%s: %" PRIu64 " accesses\n", comparison->trace->name,
	       comparison->results[0].stats.accesses);
	table_init(&table, MT_ARRAY_SIZE(heading), heading);
	for (unsigned int i = 0; i < LAB_SETUPS; i++)
		print_result(&table, &comparison->results[i]);
	table_print(&table, stdout, TABLE_WIDTH);
	table_free(&table);
}

static void add_count(struct json_object *to, const char *key, uint64_t value)
{
	json_object_object_add(to, key, json_object_new_int64((int64_t)value));
}

static struct json_object *json_of(const struct lab_result *r)
{
	struct json_object *to = json_object_new_object();
	const struct mt_mmu_stats *s = &r->stats;

	json_object_object_add(to, "mode", json_object_new_string(mt_mmu_mode_name(r->setup.mode)));
	json_object_object_add(to, "guestPages",
			       json_object_new_string(size_name(r->setup.guest_large)));
	if (r->setup.mode != MT_MMU_NATIVE)
		json_object_object_add(to, "hostPages",
				       json_object_new_string(size_name(r->setup.host_large)));
	add_count(to, "accesses", s->accesses);
	add_count(to, "tlbMisses", s->tlb_misses);
	add_count(to, "refs", s->refs);
	add_count(to, "guestFaults", s->guest_faults);
	add_count(to, "hiddenFaults", s->hidden_faults);
	add_count(to, "traceFaults", s->trace_faults);
	add_count(to, "eptViolations", s->violations);
	add_count(to, "cr3Loads", s->cr3_loads);
	add_count(to, "invlpgs", s->invlpgs);
	add_count(to, "hostTablesKiB", r->host_tables * 4ULL);
	add_count(to, "guestTablesKiB", r->guest_tables * 4);
	add_count(to, "cycles", r->cycles);
	json_object_object_add(to, "time", json_object_new_double(r->slowdown));
	return to;
}

static void print_json(const struct lab_comparison *comparisons, unsigned int count)
{
	struct json_object *all = json_object_new_object();
	struct json_object *traces = json_object_new_array();

	for (unsigned int i = 0; i < count; i++) {
		struct json_object *trace = json_object_new_object();
		struct json_object *results = json_object_new_array();

		json_object_object_add(trace, "trace",
				       json_object_new_string(comparisons[i].trace->name));
		for (unsigned int k = 0; k < LAB_SETUPS; k++)
			json_object_array_add(results, json_of(&comparisons[i].results[k]));
		json_object_object_add(trace, "results", results);
		json_object_array_add(traces, trace);
	}
	json_object_object_add(all, "traces", traces);
	field_print_json(all);
	json_object_put(all);
}

/* Read and run all; print as it goes unless JSON is wanted. */
static int compare_all(const struct cli *cli, const struct lab_compare_options *options,
		       char **paths, unsigned int count, struct lab_comparison *comparisons,
		       struct lab_trace *traces, struct mt_err *err)
{
	for (unsigned int i = 0; i < count; i++) {
		int rc = lab_trace_read(&traces[i], paths[i], err);

		if (!rc)
			rc = lab_compare(&traces[i], options, &comparisons[i], err);
		if (rc)
			return rc;
		if (cli->json)
			continue;
		if (i)
			putchar('\n');
		print_comparison(&comparisons[i]);
	}
	if (cli->json)
		print_json(comparisons, count);
	return 0;
}

static int compare(const struct cli *cli, const struct cli_verb *verb, const struct mmu_args *args,
		   char **paths, unsigned int count)
{
	struct lab_compare_options options = {.mem_bytes = args->mem_bytes,
					      .passes = (unsigned int)args->passes,
					      .walk_caches = !args->no_walk_caches,
					      .cost = MT_COST_DEFAULT};
	struct lab_comparison *comparisons = calloc(count, sizeof(*comparisons));
	struct lab_trace *traces = calloc(count, sizeof(*traces));
	struct mt_err err = {0};
	int rc = -1;

	if (comparisons && traces)
		rc = compare_all(cli, &options, paths, count, comparisons, traces, &err);
	if (!rc && args->svg)
		rc = lab_compare_svg(comparisons, count, args->svg, &err);
	for (unsigned int i = 0; traces && i < count; i++)
		lab_trace_free(&traces[i]);
	free(comparisons);
	free(traces);
	return rc ? cli_failed(verb, "%s", err.msg) : 0;
}

static int mmu_verb_run(struct cli *cli, const struct cli_verb *verb, int argc, char **argv)
{
	struct mmu_args args = {.mem_bytes = 64u << 20, .passes = 2};
	const struct cli_opt opts[] = {{"json", 0, CLI_OPT_FLAG, &cli->json},
				       {"svg", 0, CLI_OPT_TEXT, &args.svg},
				       {"mem", 0, CLI_OPT_SIZE, &args.mem_bytes},
				       {"passes", 0, CLI_OPT_COUNT, &args.passes},
				       {"no-walk-caches", 0, CLI_OPT_FLAG, &args.no_walk_caches},
				       {0}};
	int first, rc = cli_options(cli, verb, opts, false, argc, argv, &first);

	if (rc >= 0)
		return rc;
	if (first >= argc || strcmp(argv[first], "compare"))
		return cli_usage(verb, "say what to do: compare");
	if (first + 1 >= argc)
		return cli_usage(verb, "give at least one trace");
	if (args.mem_bytes < MEM_MIN || args.mem_bytes > MEM_MAX)
		return cli_usage(verb, "the guest can have 8M to 16G of memory");
	if (args.passes > PASSES_MAX)
		return cli_usage(verb, "at most %u passes", PASSES_MAX);
	return compare(cli, verb, &args, argv + first + 1, (unsigned int)(argc - first - 1));
}

const struct cli_verb cli_verb_mmu = {"mmu", "compare ways of address translation on a trace",
				      mmu_help, mmu_verb_run};
