/* SPDX-License-Identifier: MIT */
/*
 * translate.c - "memtide translate": from a guest virtual address down to where the page is
 *
 * Walks the guest's own page tables in its memory, which is read through the daemon from wherever
 * it is: a table that is compressed or swapped out stays so. Registers come from QEMU's monitor
 * (--qmp) or the command line.
 */
#include "cli/cli.h"
#include "cli/fields.h"
#include "cli/sharers.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char translate_help[] =
	"usage: memtide translate VM --gva ADDR|- [--qmp PATH [--cpu N]] [--cr3 X [--paging "
	"MODE]]\n"
	"       memtide translate VM --gpa ADDR|- [--qmp PATH]\n"
	"Shows each step of a guest virtual address's translation, and where the page is now:\n"
	"in place, compressed, swapped, .... Brings nothing in and does not stop the guest.\n\n"
	"  --gva ADDR    a guest virtual address; -: addresses from standard input, a line each\n"
	"  --gpa ADDR    a guest physical address\n"
	"  --qmp PATH    QEMU's QMP socket: for the processor's registers\n"
	"  --cpu N       whose registers (0)\n"
	"  --cr3 X       these page tables instead\n"
	"  --paging M    their kind: 4level (default without --qmp), 5level, pae or 32bit\n"
	"  --below-4g S  RAM of the guest below 4 GiB, where it can't be found out\n"
	"  --json        print JSON\n";

struct translate {
	const struct cli *cli;
	const struct cli_verb *verb;
	struct guest_mem mem;
	struct mt_memory memory;
	struct mt_regs regs;
};

struct translate_args {
	const char *gva, *gpa, *qmp, *cr3, *paging;
	uint64_t cpu, below_4g;
};

static bool read_address(const char *text, uint64_t *ret)
{
	char *end;

	errno = 0;
	*ret = strtoull(text, &end, 16);
	return text[0] && text[0] != '-' && text[0] != '+' && !*end && !errno;
}

static const char *flags_text(uint64_t entry, unsigned int level, char text[static 48])
{
	static const struct {
		uint64_t bit;
		const char *name;
	} flags[] = {{MT_PTE_P, "P"}, {MT_PTE_RW, "RW"}, {MT_PTE_US, "US"}, {MT_PTE_A, "A"},
		     {MT_PTE_D, "D"}, {MT_PTE_PS, "PS"}, {MT_PTE_G, "G"},   {MT_PTE_NX, "NX"}};
	size_t used = 0;

	text[0] = '\0';
	for (size_t i = 0; i < MT_ARRAY_SIZE(flags); i++)
		if ((entry & flags[i].bit) && !(flags[i].bit == MT_PTE_PS && level == 1))
			used += (size_t)snprintf(text + used, 48 - used, "%s%s", used ? " " : "",
						 flags[i].name);
	return text;
}

static const char *page_text(const struct guest_page *page, char text[static 160])
{
	switch (page->state) {
	case GUEST_RESIDENT:
		if (page->machine_pfn == UINT64_MAX)
			snprintf(text, 160, "resident at host address 0x%" PRIx64, page->host_addr);
		else
			snprintf(text, 160,
				 "resident at host address 0x%" PRIx64 ", machine frame 0x%" PRIx64,
				 page->host_addr, page->machine_pfn);
		return text;
	case GUEST_NOMINATED:
		snprintf(text, 160, "nominated, waiting in staging slot %" PRIu64, page->place);
		return text;
	case GUEST_ZIPPED:
		snprintf(text, 160, "zipped to %" PRIu64 " bytes, object 0x%" PRIx64, page->length,
			 page->place);
		return text;
	case GUEST_SWAPPED:
		snprintf(text, 160, "swapped, slot %" PRIu64, page->place);
		return text;
	case GUEST_SHARED:
		if (page->machine_pfn == UINT64_MAX)
			snprintf(text, 160, "shared, frame %" PRIu64 " of its share group",
				 page->place);
		else
			snprintf(text, 160,
				 "shared, frame %" PRIu64
				 " of its share group, machine frame 0x%" PRIx64 " to be read",
				 page->place, page->machine_pfn);
		return text;
	case GUEST_UNTOUCHED:
		return "never touched: zeros";
	case GUEST_ZERO:
		return "known to be all zeros, not held";
	case GUEST_RELEASED:
		return "given up by the guest: zeros";
	case GUEST_FAILED:
		return "lost";
	default:
		return guest_state_name(page->state);
	}
}

static const char *end_text(const struct mt_walk *walk, const struct mt_err *err)
{
	switch (walk->end) {
	case MT_WALK_OK:
		return "mapped";
	case MT_WALK_PAGE_FAULT:
		return walk->error_code & MT_PF_RSVD ? "a reserved bit is set" : "not mapped";
	case MT_WALK_NONCANONICAL:
		return "not an address in this mode";
	case MT_WALK_NO_MEMORY:
		return "the table lies where the guest has no memory";
	case MT_WALK_FAILED:
		return err->msg;
	}
	MT_UNREACHABLE("all ends are above");
}

static void walk_gva(struct translate *t, uint64_t gva, struct mt_walk *walk)
{
	mt_walk(&t->regs, &t->memory, MT_GVA(gva), MT_ACCESS_LOOK, NULL, walk);
}

static void print_page(struct translate *t, mt_gpa_t gpa)
{
	struct guest_page page;
	char text[160];
	int rc = guest_mem_page(&t->mem, gpa, &page);

	printf("GPA 0x%" PRIx64 "  %s\n", gpa.a,
	       rc == -ENXIO ? "no memory of the guest"
	       : rc         ? t->mem.err.msg
			    : page_text(&page, text));
	if (!rc && page.state == GUEST_SHARED)
		sharers_print(&t->mem, page.place);
}

static int print_walk(struct translate *t, uint64_t gva)
{
	struct mt_walk walk;
	char flags[48], where[160];

	walk_gva(t, gva, &walk);
	printf("GVA 0x%" PRIx64 "  CR3 0x%" PRIx64 ", %u levels\n", gva, t->regs.cr3,
	       mt_regs_levels(&t->regs));
	for (unsigned int i = 0; i < walk.step_count; i++) {
		const struct mt_walk_step *step = &walk.steps[i];
		bool last_missing = i + 1 == walk.step_count &&
				    (walk.end == MT_WALK_NO_MEMORY || walk.end == MT_WALK_FAILED);
		struct guest_page page;
		int rc = guest_mem_page(&t->mem, step->at, &page);

		printf("  %-4s entry at 0x%" PRIx64, mt_level_name(step->level), step->at.a);
		if (last_missing)
			printf("\n");
		else
			printf(" = 0x%016" PRIx64 "  %s  (table: %s)\n", step->entry,
			       flags_text(step->entry, step->level, flags),
			       rc ? "?" : page_text(&page, where));
	}
	if (walk.end != MT_WALK_OK) {
		printf("  %s\n", end_text(&walk, &t->mem.err));
		return 1;
	}
	printf("  page of %s, %s, %s, %s\n",
	       walk.page_shift == 12   ? "4 KiB"
	       : walk.page_shift == 21 ? "2 MiB"
	       : walk.page_shift == 22 ? "4 MiB"
	       : walk.page_shift == 30 ? "1 GiB"
				       : "any size",
	       walk.rights & MT_PTE_RW ? "writable" : "read-only",
	       walk.rights & MT_PTE_US ? "user" : "kernel only",
	       walk.rights & MT_PTE_NX ? "executable" : "not executable");
	print_page(t, walk.gpa);
	return 0;
}

static void json_hex(struct json_object *to, const char *key, uint64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "0x%" PRIx64, value);
	json_object_object_add(to, key, json_object_new_string(text));
}

/* @sharers: tell who else uses the frame it may be in */
static struct json_object *json_page(struct translate *t, mt_gpa_t gpa, bool sharers)
{
	struct json_object *to = json_object_new_object();
	struct guest_page page;
	int rc = guest_mem_page(&t->mem, gpa, &page);

	json_hex(to, "gpa", gpa.a);
	json_object_object_add(to, "state",
			       json_object_new_string(rc ? "none" : guest_state_name(page.state)));
	if (rc)
		return to;
	json_hex(to, "hostAddress", page.host_addr);
	if (page.machine_pfn != UINT64_MAX)
		json_hex(to, "machineFrame", page.machine_pfn);
	if (page.state == GUEST_ZIPPED) {
		json_hex(to, "zipObject", page.place);
		json_object_object_add(to, "zipBytes", json_object_new_int64((int64_t)page.length));
	} else if (page.state == GUEST_SHARED) {
		json_object_object_add(to, "sharedFrame",
				       json_object_new_int64((int64_t)page.place));
		if (sharers)
			json_object_object_add(to, "sharers",
					       sharers_json(&t->mem, page.place, &t->mem.err));
	} else if (page.state == GUEST_SWAPPED) {
		json_object_object_add(to, "swapSlot", json_object_new_int64((int64_t)page.place));
	}
	return to;
}

static int print_json(struct translate *t, uint64_t gva)
{
	struct json_object *all = json_object_new_object(), *steps = json_object_new_array();
	struct mt_walk walk;

	walk_gva(t, gva, &walk);
	json_hex(all, "gva", gva);
	json_hex(all, "cr3", t->regs.cr3);
	json_object_object_add(all, "levels", json_object_new_int((int)mt_regs_levels(&t->regs)));
	for (unsigned int i = 0; i < walk.step_count; i++) {
		struct json_object *step = json_object_new_object();

		json_object_object_add(step, "table",
				       json_object_new_string(mt_level_name(walk.steps[i].level)));
		json_hex(step, "entry", walk.steps[i].entry);
		json_object_object_add(step, "at", json_page(t, walk.steps[i].at, false));
		json_object_array_add(steps, step);
	}
	json_object_object_add(all, "steps", steps);
	json_object_object_add(all, "result", json_object_new_string(end_text(&walk, &t->mem.err)));
	if (walk.end == MT_WALK_OK) {
		json_object_object_add(all, "pageBytes",
				       json_object_new_int64(1LL << walk.page_shift));
		json_object_object_add(all, "page", json_page(t, walk.gpa, true));
	}
	field_print_json(all);
	json_object_put(all);
	return walk.end == MT_WALK_OK ? 0 : 1;
}

/* Addresses from standard input: "GVA GPA HOSTADDRESS STATE" for each, or "GVA - - WHY". */
static int translate_lines(struct translate *t, bool virtual)
{
	char line[128];

	while (fgets(line, sizeof(line), stdin)) {
		struct mt_walk walk = {.end = MT_WALK_OK};
		struct guest_page page;
		uint64_t address;
		int rc = -ENXIO;

		line[strcspn(line, " \t\r\n")] = '\0';
		if (!read_address(line, &address))
			return cli_failed(t->verb, "'%s' is no hexadecimal address", line);
		walk.gpa.a = address;
		if (virtual)
			walk_gva(t, address, &walk);
		if (walk.end == MT_WALK_OK)
			rc = guest_mem_page(&t->mem, walk.gpa, &page);
		if (walk.end != MT_WALK_OK)
			printf("0x%" PRIx64 " - - %s\n", address, end_text(&walk, &t->mem.err));
		else if (rc)
			printf("0x%" PRIx64 " 0x%" PRIx64 " - %s\n", address, walk.gpa.a,
			       rc == -ENXIO ? "no memory of the guest" : t->mem.err.msg);
		else
			printf("0x%" PRIx64 " 0x%" PRIx64 " 0x%" PRIx64 " %s\n", address,
			       walk.gpa.a, page.host_addr, guest_state_name(page.state));
	}
	return 0;
}

static int translate_one(struct translate *t, const struct translate_args *args)
{
	const char *text = args->gva ? args->gva : args->gpa;
	uint64_t address;

	if (!strcmp(text, "-"))
		return translate_lines(t, args->gva != NULL);
	if (!read_address(text, &address))
		return cli_usage(t->verb, "'%s' is no hexadecimal address", text);
	if (args->gva)
		return t->cli->json ? print_json(t, address) : print_walk(t, address);
	if (t->cli->json) {
		struct json_object *page = json_page(t, MT_GPA(address), true);

		field_print_json(page);
		json_object_put(page);
		return 0;
	}
	print_page(t, MT_GPA(address));
	return 0;
}

static bool read_paging(const char *text, enum mt_paging *ret)
{
	static const struct {
		const char *name;
		enum mt_paging paging;
	} modes[] = {{"4level", MT_PAGING_4LEVEL},
		     {"5level", MT_PAGING_5LEVEL},
		     {"pae", MT_PAGING_PAE},
		     {"32bit", MT_PAGING_32BIT}};

	for (size_t i = 0; i < MT_ARRAY_SIZE(modes); i++)
		if (!strcmp(text, modes[i].name)) {
			*ret = modes[i].paging;
			return true;
		}
	return false;
}

/* Registers from QEMU, then what the command line says instead. */
static int find_regs(struct translate *t, const struct translate_args *args, struct qmp *qmp)
{
	struct mt_err err;

	t->regs = (struct mt_regs){.paging = MT_PAGING_4LEVEL,
				   .phys_bits = 52,
				   .nxe = true,
				   .pse = true,
				   .pages_1g = true};
	if (qmp && args->gva && qmp_registers(qmp, (unsigned int)args->cpu, &t->regs, &err))
		return cli_failed(t->verb, "%s", err.msg);
	if (args->cr3 && !read_address(args->cr3, &t->regs.cr3))
		return cli_usage(t->verb, "--cr3: '%s' is no hexadecimal number", args->cr3);
	if (args->paging && !read_paging(args->paging, &t->regs.paging))
		return cli_usage(t->verb, "--paging is 4level, 5level, pae or 32bit");
	return 0;
}

static int open_vm(struct translate *t, const struct translate_args *args, struct qmp *qmp,
		   const char *vm)
{
	struct mt_err err;

	if (guest_mem_open(&t->mem, t->cli->socket, vm, &err))
		return cli_failed(t->verb, "%s", err.msg);
	if (!guest_mem_place(&t->mem, args->below_4g, qmp, &err))
		return 0;
	guest_mem_close(&t->mem);
	return cli_failed(t->verb, "%s", err.msg);
}

static int translate(struct translate *t, const struct translate_args *args, const char *vm)
{
	struct qmp *qmp = NULL;
	struct mt_err err;
	int rc = 0;

	if (args->qmp) {
		qmp = malloc(sizeof(*qmp));
		rc = qmp ? qmp_open(qmp, args->qmp, &err) : mt_err_set(&err, -ENOMEM, "no memory");
		if (rc) {
			free(qmp);
			return cli_failed(t->verb, "%s", err.msg);
		}
	}
	rc = find_regs(t, args, qmp);
	if (!rc)
		rc = open_vm(t, args, qmp, vm);
	if (qmp)
		qmp_close(qmp);
	free(qmp);
	if (rc)
		return rc;
	t->memory = guest_mem_memory(&t->mem);
	rc = translate_one(t, args);
	guest_mem_close(&t->mem);
	return rc;
}

static int translate_run(struct cli *cli, const struct cli_verb *verb, int argc, char **argv)
{
	struct translate_args args = {0};
	const struct cli_opt opts[] = {{"gva", 0, CLI_OPT_TEXT, &args.gva},
				       {"gpa", 0, CLI_OPT_TEXT, &args.gpa},
				       {"qmp", 0, CLI_OPT_TEXT, &args.qmp},
				       {"cr3", 0, CLI_OPT_TEXT, &args.cr3},
				       {"paging", 0, CLI_OPT_TEXT, &args.paging},
				       {"cpu", 0, CLI_OPT_COUNT, &args.cpu},
				       {"below-4g", 0, CLI_OPT_SIZE, &args.below_4g},
				       {"json", 0, CLI_OPT_FLAG, &cli->json},
				       {0}};
	struct translate *t;
	int first, rc = cli_options(cli, verb, opts, false, argc, argv, &first);

	if (rc >= 0)
		return rc;
	if (first + 1 != argc)
		return cli_usage(verb, "give the name of one VM");
	if (!args.gva == !args.gpa)
		return cli_usage(verb, "give --gva or --gpa");
	if (args.gva && !args.qmp && !args.cr3)
		return cli_usage(verb, "whose page tables? Give --qmp or --cr3");
	t = calloc(1, sizeof(*t));
	if (!t)
		return cli_failed(verb, "no memory");
	t->cli = cli;
	t->verb = verb;
	rc = translate(t, &args, argv[first]);
	free(t);
	return rc;
}

const struct cli_verb cli_verb_translate = {"translate",
					    "follow a guest address down to where its page is",
					    translate_help, translate_run};
