/* SPDX-License-Identifier: MIT */
/*
 * show.c - "memtide show": everything about one VM, grouped
 *
 * First who it is and what it may have, then where its pages are as a bar, then what happened.
 */
#include "cli/ask.h"
#include "cli/fields.h"
#include "wire/counters.h"

#include <string.h>

static const char show_help[] =
	"usage: memtide show VM [--json]\n"
	"Shows one VM: its settings, where its pages are, its faults.\n\n"
	"  --json  print the VM's object; sizes in KiB, see docs/protocol.md\n";

static void show_identity(struct json_object *vm)
{
	char text[FIELD_TEXT_MAX], size[MT_SIZE_TEXT_MAX];

	printf("%s: ", field_text(vm, "name", text));
	printf("%s", field_text(vm, "state", text));
	if (field_u64(vm, "pid"))
		printf(", pid %llu", (unsigned long long)field_u64(vm, "pid"));
	if (field_text(vm, "vmm", text)[0])
		printf(", %s", text);
	putchar('\n');
	if (field_text(vm, "reason", text)[0])
		printf("  reason       %s\n", text);
	printf("\nSettings\n  reservation  %s\n", field_size(vm, "reservation", size));
	printf("  limit        %s\n",
	       field_u64(vm, "limit") ? field_size(vm, "limit", size) : "none");
	printf("  shares       %llu\n", (unsigned long long)field_u64(vm, "shares"));
	printf("  share group  %s\n", field_text(vm, "share_group", text)[0] ? text : "(its own)");
	printf("  zip store    at most %llu %% of the VM's memory\n",
	       (unsigned long long)field_u64(vm, "zip_max_pct"));
}

static void show_regions(struct json_object *vm)
{
	struct json_object *regions = json_object_object_get(vm, "regions");
	char size[MT_SIZE_TEXT_MAX];

	if (!json_object_is_type(regions, json_type_array))
		return;
	for (size_t i = 0; i < json_object_array_length(regions); i++) {
		struct json_object *region = json_object_array_get_idx(regions, i);

		printf("  region       %s at 0x%llx\n",
		       mt_size_text(field_u64(region, "bytes"), size),
		       (unsigned long long)field_u64(region, "addr"));
	}
}

static void show_memory(struct json_object *vm)
{
	static const struct {
		const char *name, *label, *meaning;
	} rows[] = {
		{"memsize", "promised", "to the guest"},
		{"held", "held", "machine memory, all told"},
		{"heldMax", "held at most", "so far"},
		{"grant", "grant", "what it may hold now"},
		{"target", "target", "what it is steered to"},
		{"entitlement", "entitlement", "what it deserves"},
		{"active", "active", "guest memory it uses, estimated"},
		{"activewrite", "written", "guest memory it writes to, estimated"},
		{"granted", "granted", "guest pages that are backed, or need no backing"},
		{"consumed", "consumed", "machine memory behind guest pages"},
		{"vmmemctl", "balloon", "given up by the guest when asked to"},
		{"reportedFree", "reported free", "given up by the guest by itself"},
		{"sharedSaved", "sharing saved", "pages in frames, less its part of these"},
		{"zipHeld", "zip store", "machine memory of the compressed pages"},
		{"zipSaved", "zip saved", "by compression"},
		{"swapSpace", "swap file", "its size"},
		{"overhead", "overhead", "bookkeeping"},
	};
	char size[MT_SIZE_TEXT_MAX];

	printf("\nMemory\n");
	for (size_t i = 0; i < MT_ARRAY_SIZE(rows); i++)
		printf("  %-13s %7s  %s\n", rows[i].label, field_size(vm, rows[i].name, size),
		       rows[i].meaning);
	printf("  %-13s %7s  what it swaps\n", "encrypted",
	       field_u64(vm, "swapEncrypted") ? "yes" : "no");
	if (field_u64(vm, "directIo"))
		printf("  %-13s %7s  its direct I/O is not reported by the kernel (see events)\n",
		       "in place", "all");
	show_regions(vm);
}

/* The guest's own view, under the names that "virsh dommemstat" uses. */
static void show_guest(struct json_object *vm)
{
	static const struct {
		const char *name, *meaning;
	} rows[] = {
		{"actual", "what the balloon leaves it"},
		{"available", "what its kernel manages"},
		{"usable", "what it can use without swapping"},
		{"unused", "free"},
		{"disk_caches", "caches of its disks"},
		{"swap_in", "read from its own swap space"},
		{"swap_out", "written there"},
	};
	struct json_object *guest = json_object_object_get(vm, "guest");
	char text[MT_SIZE_TEXT_MAX], word[FIELD_TEXT_MAX], most[MT_SIZE_TEXT_MAX];

	printf("\nGuest\n  balloon      %s", field_text(vm, "balloon", word)[0] ? word : "none");
	if (guest)
		printf(", steered to %s, at most %s", field_size(vm, "vmmemctltarget", text),
		       field_size(vm, "vmmemctlmax", most));
	putchar('\n');
	if (!guest || json_object_get_boolean(json_object_object_get(guest, "stale"))) {
		printf("  it does not report about its memory\n");
		return;
	}
	for (size_t i = 0; i < MT_ARRAY_SIZE(rows); i++)
		if (json_object_object_get(guest, rows[i].name))
			printf("  %-12s %7s  %s\n", rows[i].name,
			       field_size(guest, rows[i].name, text), rows[i].meaning);
}

static void show_pages(struct json_object *vm)
{
	struct field_part parts[] = {
		{'#', "resident", 0, "in place"},
		{'n', "nominated", 0, "moved out, waiting for a second chance"},
		{'=', "shared", 0, "in shared frames"},
		{'0', "zero", 0, "all zeros, costs nothing"},
		{'z', "zipped", 0, "compressed"},
		{'s', "swapped", 0, "in the swap file"},
		{'r', "released", 0, "given up by the guest"},
		{'.', "untouched", 0, "never touched"},
		{'!', "failed", 0, "LOST"},
	};
	static const enum mt_counter counters[MT_ARRAY_SIZE(parts)] = {
		MT_C_RESIDENT, MT_C_NOMINATED, MT_C_SHARED_FRAMES, MT_C_ZERO,   MT_C_ZIPPED,
		MT_C_SWAPPED,  MT_C_RELEASED,  MT_C_UNTOUCHED,     MT_C_FAILED,
	};

	for (size_t i = 0; i < MT_ARRAY_SIZE(parts); i++)
		parts[i].kib = field_u64(vm, mt_counter_info[counters[i]].name);
	printf("\nWhere its pages are\n");
	field_print_parts(parts, MT_ARRAY_SIZE(parts), field_u64(vm, "memsize"));
}

/* Every counter of events and times that is not zero, with its own meaning. */
static void show_events(struct json_object *vm)
{
	char text[MT_SIZE_TEXT_MAX];

	printf("\nSince the start: %llu faults\n", (unsigned long long)field_faults(vm));
	for (unsigned int i = 0; i < MT_COUNTER_MAX; i++) {
		const struct mt_counter_info *info = &mt_counter_info[i];
		uint64_t value = field_u64(vm, info->name);

		if (!value || info->kind == MT_COUNTER_PAGES || info->kind == MT_COUNTER_BYTES)
			continue;
		/* swapin and swapout are KiB here, as vSphere has them. */
		if (i == MT_C_SWAP_IN || i == MT_C_SWAP_OUT)
			mt_size_text(value << 10, text);
		else if (info->kind == MT_COUNTER_NS)
			field_ns_text(value, text);
		else
			field_count_text(value, text);
		printf("  %-15s %8s  %s\n", info->name, text, info->meaning);
	}
}

static int show_run(struct cli *cli, const struct cli_verb *verb, int argc, char **argv)
{
	const struct cli_opt opts[] = {{"json", 0, CLI_OPT_FLAG, &cli->json}, {0}};
	struct json_object *request, *answer = NULL, *vm;
	int first, rc = cli_options(cli, verb, opts, false, argc, argv, &first);

	if (rc >= 0)
		return rc;
	if (first + 1 != argc)
		return cli_usage(verb, "give the name of one VM");
	request = client_request("show");
	json_object_object_add(request, "vm", json_object_new_string(argv[first]));
	rc = ask_daemon(cli, verb, request, CLIENT_ANSWER_MS, &answer);
	if (rc)
		return rc;
	vm = json_object_object_get(answer, "vm");
	if (cli->json) {
		field_print_json(vm);
	} else {
		show_identity(vm);
		show_memory(vm);
		show_guest(vm);
		show_pages(vm);
		show_events(vm);
	}
	json_object_put(answer);
	return 0;
}

const struct cli_verb cli_verb_show = {"show", "show everything about one VM", show_help, show_run};
