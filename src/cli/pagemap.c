/* SPDX-License-Identifier: MIT */
/*
 * pagemap.c - "memtide pagemap": a VM's memory at a glance, page by page
 *
 * Text with a letter for every few pages, JSON with runs of equal pages, a picture, and what each
 * process of the guest has of it. The states come from the monitor; nothing is touched.
 */
#include "cli/pagemap.h"
#include "cli/fields.h"
#include "cli/table.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ROW_CELLS 64u
#define ROWS_MAX  32u

static const char pagemap_help[] =
	"usage: memtide pagemap VM [--json] [--svg FILE] [--qmp PATH --by-process]\n"
	"Shows what is in place, idle, zero, compressed, swapped, given up. Touches nothing.\n\n"
	"  --json         print JSON: counts, and runs of equal pages\n"
	"  --svg FILE     write a picture\n"
	"  --by-process   which page tables (CR3) map how much of it; Linux guests of 64 bits\n"
	"  --qmp PATH     QEMU's QMP socket, needed for that\n"
	"  --below-4g S   RAM of the guest below 4 GiB, where it can't be found out\n";

const struct pagemap_kind pagemap_kinds[PAGEMAP_CLASSES] = {
	[PAGEMAP_ACTIVE] = {"active", 'A', "#d55e00", "in place, used lately"},
	[PAGEMAP_IDLE] = {"idle", 'i', "#f0c9a0", "in place, not used lately"},
	[PAGEMAP_SHARED] = {"shared", 's', "#cc79a7", "in a frame with others"},
	[PAGEMAP_ZERO] = {"zero", '0', "#dddddd", "all zeros, not held"},
	[PAGEMAP_ZIPPED] = {"zipped", 'z', "#009e73", "compressed"},
	[PAGEMAP_SWAPPED] = {"swapped", 'w', "#0072b2", "in the swap file"},
	[PAGEMAP_RELEASED] = {"released", 'b', "#f0e442", "given up by the guest (balloon)"},
	[PAGEMAP_UNTOUCHED] = {"untouched", '.', "#f7f7f7", "never touched"},
	[PAGEMAP_LOST] = {"lost", '!', "#000000", "lost"},
};

static enum pagemap_class class_of(uint8_t state)
{
	bool used = state >> 6;

	switch (state & 63) {
	case GUEST_RESIDENT:
		return used ? PAGEMAP_ACTIVE : PAGEMAP_IDLE;
	case GUEST_NOMINATED:
		return PAGEMAP_IDLE;
	case GUEST_ZERO:
		return PAGEMAP_ZERO;
	case GUEST_SHARED:
		return PAGEMAP_SHARED;
	case GUEST_ZIPPED:
		return PAGEMAP_ZIPPED;
	case GUEST_SWAPPED:
		return PAGEMAP_SWAPPED;
	case GUEST_RELEASED:
		return PAGEMAP_RELEASED;
	case GUEST_UNTOUCHED:
		return PAGEMAP_UNTOUCHED;
	default:
		return PAGEMAP_LOST;
	}
}

enum pagemap_class pagemap_of_cell(const struct pagemap *map, uint64_t first, uint64_t count)
{
	uint64_t counts[PAGEMAP_CLASSES] = {0};
	unsigned int most = 0;

	for (uint64_t i = first; i < first + count && i < map->pages; i++)
		counts[map->classes[i]]++;
	if (counts[PAGEMAP_LOST]) /* never hidden by others */
		return PAGEMAP_LOST;
	for (unsigned int i = 1; i < PAGEMAP_CLASSES; i++)
		if (counts[i] > counts[most])
			most = i;
	return (enum pagemap_class)most;
}

/* Rows of one region. The addresses are the guest's where they are known, else offsets. */
static void print_region(const struct pagemap *map, const struct guest_region *region,
			 uint64_t cell)
{
	uint64_t pages = region->bytes >> MT_PAGE_SHIFT;

	for (uint64_t page = 0; page < pages; page += cell * ROW_CELLS) {
		uint64_t offset = page << MT_PAGE_SHIFT;
		mt_gpa_t gpa = MT_GPA(offset);

		guest_layout_gpa(map->layout, region->addr + offset, &gpa);
		printf("%9" PRIx64 " ", gpa.a);
		for (uint64_t i = 0; i < ROW_CELLS && page + i * cell < pages; i++) {
			uint64_t first = region->first_page + page + i * cell;

			putchar(pagemap_kinds[pagemap_of_cell(
						      map, first,
						      MT_MIN(cell, pages - page - i * cell))]
					.letter);
		}
		putchar('\n');
	}
}

static void print_map(const struct pagemap *map)
{
	uint64_t cell = mt_align_up(map->pages, (uint64_t)ROW_CELLS * ROWS_MAX) /
			((uint64_t)ROW_CELLS * ROWS_MAX);
	struct field_part parts[PAGEMAP_CLASSES];
	char size[MT_SIZE_TEXT_MAX];

	for (unsigned int i = 0; i < PAGEMAP_CLASSES; i++)
		parts[i] = (struct field_part){pagemap_kinds[i].letter, pagemap_kinds[i].name,
					       map->counts[i] * 4, pagemap_kinds[i].meaning};
	printf("%s: a letter stands for %s\n", map->vm, mt_size_text(cell * MT_PAGE_SIZE, size));
	for (unsigned int i = 0; i < map->layout->region_count; i++) {
		const struct guest_region *region = &map->layout->regions[i];

		if (map->layout->region_count > 1)
			printf("region %u, %s at host address 0x%" PRIx64 "\n", i,
			       mt_size_text(region->bytes, size), region->addr);
		print_region(map, region, cell);
	}
	field_print_parts(parts, PAGEMAP_CLASSES, map->pages * 4);
}

static struct json_object *json_regions(const struct pagemap *map)
{
	struct json_object *regions = json_object_new_array();

	for (unsigned int i = 0; i < map->layout->region_count; i++) {
		const struct guest_region *from = &map->layout->regions[i];
		struct json_object *region = json_object_new_object();
		char text[32];

		snprintf(text, sizeof(text), "0x%" PRIx64, from->addr);
		json_object_object_add(region, "hostAddress", json_object_new_string(text));
		json_object_object_add(region, "firstPage",
				       json_object_new_int64((int64_t)from->first_page));
		json_object_object_add(
			region, "pages",
			json_object_new_int64((int64_t)(from->bytes >> MT_PAGE_SHIFT)));
		json_object_array_add(regions, region);
	}
	return regions;
}

static struct json_object *json_runs(const struct pagemap *map)
{
	struct json_object *runs = json_object_new_array();

	for (uint64_t i = 0, first = 0; i < map->pages; i++) {
		struct json_object *run;

		if (i + 1 < map->pages && map->classes[i + 1] == map->classes[first])
			continue;
		run = json_object_new_object();
		json_object_object_add(run, "firstPage", json_object_new_int64((int64_t)first));
		json_object_object_add(run, "pages",
				       json_object_new_int64((int64_t)(i + 1 - first)));
		json_object_object_add(
			run, "state",
			json_object_new_string(pagemap_kinds[map->classes[first]].name));
		json_object_array_add(runs, run);
		first = i + 1;
	}
	return runs;
}

static void json_counts(struct json_object *to, const uint64_t *counts)
{
	for (unsigned int i = 0; i < PAGEMAP_CLASSES; i++)
		json_object_object_add(to, pagemap_kinds[i].name,
				       json_object_new_int64((int64_t)counts[i] * 4));
}

static void print_json(const struct pagemap *map, const struct pagemap_process *processes,
		       int count)
{
	struct json_object *all = json_object_new_object(), *list = json_object_new_array();

	json_object_object_add(all, "vm", json_object_new_string(map->vm));
	json_counts(all, map->counts);
	for (int i = 0; i < count; i++) {
		struct json_object *process = json_object_new_object();
		char cr3[32];

		snprintf(cr3, sizeof(cr3), "0x%" PRIx64, processes[i].cr3);
		json_object_object_add(process, "cr3", json_object_new_string(cr3));
		snprintf(cr3, sizeof(cr3), "0x%" PRIx64, processes[i].user_cr3);
		if (processes[i].user_cr3)
			json_object_object_add(process, "userCr3", json_object_new_string(cr3));
		json_object_object_add(process, "tables",
				       json_object_new_int64((int64_t)processes[i].tables * 4));
		json_object_object_add(process, "tablesUnread",
				       json_object_new_int64((int64_t)processes[i].unread * 4));
		json_counts(process, processes[i].counts);
		json_object_array_add(list, process);
	}
	if (count)
		json_object_object_add(all, "processes", list);
	else
		json_object_put(list);
	json_object_object_add(all, "regions", json_regions(map));
	json_object_object_add(all, "runs", json_runs(map));
	field_print_json(all);
	json_object_put(all);
}

static void print_processes(const struct pagemap_process *processes, int count)
{
	static const char *const heading[] = {"CR3",      ">IN-PLACE", ">ZERO",  ">ZIPPED",
					      ">SWAPPED", ">NONE",     ">TABLES"};
	struct table table;
	uint64_t unread = 0;
	int pairs = 0;

	table_init(&table, MT_ARRAY_SIZE(heading), heading);
	for (int i = 0; i < count; i++) {
		const uint64_t *c = processes[i].counts;
		uint64_t kib[] = {c[PAGEMAP_ACTIVE] + c[PAGEMAP_IDLE] + c[PAGEMAP_SHARED],
				  c[PAGEMAP_ZERO],
				  c[PAGEMAP_ZIPPED],
				  c[PAGEMAP_SWAPPED],
				  c[PAGEMAP_RELEASED] + c[PAGEMAP_UNTOUCHED],
				  processes[i].tables};
		char text[7][MT_SIZE_TEXT_MAX + 8];
		const char *row[7];

		snprintf(text[0], sizeof(text[0]), "0x%" PRIx64, processes[i].cr3);
		for (unsigned int k = 0; k < 6; k++)
			mt_size_text(kib[k] * MT_PAGE_SIZE, text[k + 1]);
		for (unsigned int k = 0; k < 7; k++)
			row[k] = text[k];
		table_add(&table, row);
		pairs += processes[i].user_cr3 != 0;
		unread += processes[i].unread;
	}
	putchar('\n');
	table_print(&table, stdout, 200);
	table_free(&table);
	if (pairs)
		printf("%d of them have a second root at CR3 + 0x1000: page-table isolation.\n",
		       pairs);
	if (unread)
		printf("%" PRIu64
		       " page tables could not be read: what they map is missing here.\n",
		       unread);
}

struct pagemap_args {
	const char *svg, *qmp;
	uint64_t below_4g;
	bool by_process;
};

static int read_map(struct guest_mem *mem, struct pagemap *map, struct mt_err *err)
{
	map->layout = &mem->layout;
	map->pages = mem->layout.pages;
	map->classes = guest_mem_states(mem, err);
	for (uint64_t i = 0; map->classes && i < map->pages; i++) {
		map->classes[i] = (uint8_t)class_of(map->classes[i]);
		map->counts[map->classes[i]]++;
	}
	return map->classes ? 0 : err->code;
}

/* All the output. Return: 0 or -errno */
static int show(const struct cli *cli, const struct pagemap_args *args, struct guest_mem *mem,
		struct pagemap *map, const struct mt_regs *regs, struct mt_err *err)
{
	struct pagemap_process *processes = NULL;
	int rc = read_map(mem, map, err), count = 0;

	if (!rc && args->by_process)
		count = rc = pagemap_processes(mem, map, regs, &processes, err);
	if (rc >= 0) {
		if (cli->json) {
			print_json(map, processes, count);
		} else {
			print_map(map);
			if (count)
				print_processes(processes, count);
		}
		rc = args->svg ? pagemap_svg(map, args->svg, err) : 0;
	}
	free(processes);
	free(map->classes);
	return rc;
}

/* Only --by-process needs to know where the guest has its memory. */
static int find_memory(const struct pagemap_args *args, struct guest_mem *mem, struct mt_regs *regs,
		       struct mt_err *err)
{
	struct qmp *qmp = malloc(sizeof(*qmp));
	int rc = qmp ? qmp_open(qmp, args->qmp, err) : mt_err_set(err, -ENOMEM, "no memory");

	if (!rc) {
		rc = qmp_registers(qmp, 0, regs, err);
		if (!rc)
			rc = guest_mem_place(mem, args->below_4g, qmp, err);
		qmp_close(qmp);
	}
	free(qmp);
	return rc;
}

static int pagemap(const struct cli *cli, const struct pagemap_args *args, const char *vm,
		   struct guest_mem *mem, struct mt_err *err)
{
	struct pagemap map = {.vm = vm};
	struct mt_regs regs;
	int rc = guest_mem_open(mem, cli->socket, vm, err);

	if (rc)
		return rc;
	if (args->qmp)
		rc = find_memory(args, mem, &regs, err);
	if (!rc)
		rc = show(cli, args, mem, &map, &regs, err);
	guest_mem_close(mem);
	return rc;
}

static int pagemap_run(struct cli *cli, const struct cli_verb *verb, int argc, char **argv)
{
	struct pagemap_args args = {0};
	const struct cli_opt opts[] = {{"svg", 0, CLI_OPT_TEXT, &args.svg},
				       {"qmp", 0, CLI_OPT_TEXT, &args.qmp},
				       {"by-process", 0, CLI_OPT_FLAG, &args.by_process},
				       {"below-4g", 0, CLI_OPT_SIZE, &args.below_4g},
				       {"json", 0, CLI_OPT_FLAG, &cli->json},
				       {0}};
	struct guest_mem *mem;
	struct mt_err err = {0};
	int first, rc = cli_options(cli, verb, opts, false, argc, argv, &first);

	if (rc >= 0)
		return rc;
	if (first + 1 != argc)
		return cli_usage(verb, "give the name of one VM");
	if (args.by_process && !args.qmp)
		return cli_usage(verb, "--by-process needs --qmp: where does CR3 point?");
	mem = calloc(1, sizeof(*mem));
	if (!mem)
		return cli_failed(verb, "no memory");
	rc = pagemap(cli, &args, argv[first], mem, &err);
	free(mem);
	return rc ? cli_failed(verb, "%s", err.msg) : 0;
}

const struct cli_verb cli_verb_pagemap = {"pagemap", "a VM's memory at a glance, page by page",
					  pagemap_help, pagemap_run};
