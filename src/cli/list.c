/* SPDX-License-Identifier: MIT */
/*
 * list.c - "memtide list": one line for each VM, and one for the host
 *
 * The columns answer the first questions of someone with a tight host: who is promised how much,
 * who holds how much, and where the rest of each VM is.
 */
#include "cli/ask.h"
#include "cli/fields.h"
#include "cli/table.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

#define LIST_WIDTH 100

static const char list_help[] =
	"usage: memtide list [--json] [--watch SEC]\n"
	"Lists the VMs and, in the last line, the host.\n\n"
	"  MEM     promised to the guest\n"
	"  HELD    machine memory the VM takes now, all told\n"
	"  TARGET  what it is steered to; ACTIVE: guest memory it uses, estimated\n"
	"  RESID   guest pages in place; ZERO: known to be zero; ZIP: compressed (full size);\n"
	"  SWAP    in the swap file; FAULTS: served since the start\n\n"
	"  --json       print {\"vms\": [...], \"host\": {...}}; sizes in KiB\n"
	"  --watch SEC  again every SEC seconds, until interrupted\n";

static void list_add(struct table *table, struct json_object *vm)
{
	char name[FIELD_TEXT_MAX], state[FIELD_TEXT_MAX], size[8][MT_SIZE_TEXT_MAX];
	const char *row[] = {
		field_text(vm, "name", name),
		field_text(vm, "state", state),
		field_size(vm, "memsize", size[0]),
		field_size(vm, "held", size[1]),
		field_size(vm, "target", size[2]),
		field_size(vm, "active", size[7]),
		field_size(vm, "resident", size[3]),
		field_size(vm, "zero", size[4]),
		field_size(vm, "zipped", size[5]),
		field_size(vm, "swapped", size[6]),
		NULL,
	};
	char faults[MT_SIZE_TEXT_MAX];

	row[10] = field_count_text(field_faults(vm), faults);
	table_add(table, row);
}

static void list_host_line(struct json_object *host)
{
	char pool[MT_SIZE_TEXT_MAX], held[MT_SIZE_TEXT_MAX], free_text[MT_SIZE_TEXT_MAX];
	char memsize[MT_SIZE_TEXT_MAX], state[FIELD_TEXT_MAX];
	uint64_t pool_kib = field_u64(host, "pool"), free_kib = field_u64(host, "free");
	uint64_t held_kib = pool_kib > free_kib ? pool_kib - free_kib : 0;

	printf("host: pool %s, held %s, free %s, promised %s, overcommit %lld %%, state %s\n",
	       field_size(host, "pool", pool), mt_size_text(held_kib << 10, held),
	       field_size(host, "free", free_text), field_size(host, "memsize", memsize),
	       (long long)field_i64(host, "overcommit_pct"), field_text(host, "state", state));
}

static void list_print(struct json_object *answer)
{
	static const char *const heading[] = {"NAME",    "STATE",   ">MEM",   ">HELD",
					      ">TARGET", ">ACTIVE", ">RESID", ">ZERO",
					      ">ZIP",    ">SWAP",   ">FAULTS"};
	struct json_object *vms = json_object_object_get(answer, "vms");
	size_t count =
		json_object_is_type(vms, json_type_array) ? json_object_array_length(vms) : 0;
	struct table table;

	table_init(&table, MT_ARRAY_SIZE(heading), heading);
	for (size_t i = 0; i < count; i++)
		list_add(&table, json_object_array_get_idx(vms, i));
	table_print(&table, stdout, LIST_WIDTH);
	table_free(&table);
	list_host_line(json_object_object_get(answer, "host"));
}

static int list_once(const struct cli *cli, const struct cli_verb *verb, bool clear)
{
	struct json_object *answer = NULL;
	int rc = ask_daemon(cli, verb, client_request("list"), CLIENT_ANSWER_MS, &answer);

	if (rc)
		return rc;
	if (clear)
		fputs("\033[H\033[2J", stdout);
	if (cli->json) {
		json_object_object_del(answer, "ok");
		field_print_json(answer);
	} else {
		list_print(answer);
	}
	json_object_put(answer);
	return 0;
}

static int list_watch(const struct cli *cli, const struct cli_verb *verb, uint64_t watch_ms)
{
	struct timespec pause = {.tv_sec = (time_t)(watch_ms / 1000),
				 .tv_nsec = (long)(watch_ms % 1000) * 1000000};
	bool terminal = isatty(STDOUT_FILENO) && !cli->json;
	int rc;

	while (!(rc = list_once(cli, verb, terminal))) {
		if (!terminal && !cli->json)
			putchar('\n');
		/* Whoever reads a pipe wants each block at once; nobody reading ends the watch. */
		if (fflush(stdout))
			return 0;
		nanosleep(&pause, NULL);
	}
	return rc;
}

static int list_run(struct cli *cli, const struct cli_verb *verb, int argc, char **argv)
{
	uint64_t watch_ms = 0;
	const struct cli_opt opts[] = {{"json", 0, CLI_OPT_FLAG, &cli->json},
				       {"watch", 'w', CLI_OPT_SECONDS, &watch_ms},
				       {0}};
	int first, rc = cli_options(cli, verb, opts, false, argc, argv, &first);

	if (rc >= 0)
		return rc;
	if (first < argc)
		return cli_usage(verb, "unexpected argument '%s'", argv[first]);
	return watch_ms ? list_watch(cli, verb, watch_ms) : list_once(cli, verb, false);
}

const struct cli_verb cli_verb_list = {"list", "list VMs and what they hold", list_help, list_run};
