/* SPDX-License-Identifier: MIT */
/* host.c - "memtide host": the pool and what became of it */
#include "cli/ask.h"
#include "cli/fields.h"

static const char host_help[] =
	"usage: memtide host [--json]\n"
	"Shows the host: the pool, who holds it, what sharing, compression and swapping saved.\n\n"
	"  --json  print the host's object; sizes in KiB, see docs/protocol.md\n";

static void host_identity(struct json_object *host)
{
	char version[FIELD_TEXT_MAX], state[FIELD_TEXT_MAX];
	uint64_t up_s = field_u64(host, "uptime_s");

	printf("memtided %s, pid %llu, up %llud %02llu:%02llu:%02llu, state %s\n",
	       field_text(host, "version", version), (unsigned long long)field_u64(host, "pid"),
	       (unsigned long long)(up_s / 86400), (unsigned long long)(up_s / 3600 % 24),
	       (unsigned long long)(up_s / 60 % 60), (unsigned long long)(up_s % 60),
	       field_text(host, "state", state));
}

static void host_rows(struct json_object *host)
{
	static const struct {
		const char *name, *label, *meaning;
	} rows[] = {
		{"pool", "pool", "the most all VMs and the daemon may hold together"},
		{"free", "free", "held by nobody"},
		{"ungranted", "ungranted", "granted to nobody"},
		{"granted_out", "granted out", "what VMs may hold now"},
		{"heldMax", "held at most", "by all VMs at once, so far"},
		{"minfree", "minfree", "free memory the daemon wants to keep"},
		{"memsize", "promised", "to all guests"},
		{"consumed", "consumed", "machine memory behind guest pages"},
		{"shared", "shared", "guest pages that are zero or share a frame"},
		{"sharedcommon", "common", "frames they share"},
		{"vmmemctl", "given up", "by guests (balloon, free pages)"},
		{"zipped", "zipped", "compressed pages, at their full size"},
		{"zipSaved", "zip saved", "by compression"},
		{"swapused", "swapped", "in swap files"},
	};
	char size[MT_SIZE_TEXT_MAX];

	printf("\nMemory\n");
	for (size_t i = 0; i < MT_ARRAY_SIZE(rows); i++)
		printf("  %-12s %7s  %s\n", rows[i].label, field_size(host, rows[i].name, size),
		       rows[i].meaning);
	printf("  %-12s %6lld%%  what %llu VMs are promised, against the pool\n", "overcommit",
	       (long long)field_i64(host, "overcommit_pct"),
	       (unsigned long long)field_u64(host, "vms"));
}

static void host_pool_bar(struct json_object *host)
{
	struct field_part parts[] = {
		{'#', "guests", field_u64(host, "consumed"), "machine memory behind guest pages"},
		{'z', "zip stores", field_u64(host, "zipHeld"), "compressed pages"},
		{'o', "overhead", field_u64(host, "overhead"), "monitors' bookkeeping"},
		{'.', "free", field_u64(host, "free"), "held by nobody"},
	};

	printf("\nWhere the pool is\n");
	field_print_parts(parts, MT_ARRAY_SIZE(parts), field_u64(host, "pool"));
}

static void host_swap(struct json_object *host)
{
	char dir[FIELD_TEXT_MAX], in[MT_SIZE_TEXT_MAX], out[MT_SIZE_TEXT_MAX];
	char room[MT_SIZE_TEXT_MAX];

	printf("\nSwap\n  directory    %s, %s free\n", field_text(host, "swap_dir", dir),
	       field_size(host, "swap_dir_free", room));
	printf("  encrypted    %s\n",
	       json_object_get_boolean(json_object_object_get(host, "swap_encrypt")) ? "yes"
										     : "no");
	printf("  since start  %s in, %s out\n", field_size(host, "swapin", in),
	       field_size(host, "swapout", out));
}

static int host_run(struct cli *cli, const struct cli_verb *verb, int argc, char **argv)
{
	const struct cli_opt opts[] = {{"json", 0, CLI_OPT_FLAG, &cli->json}, {0}};
	struct json_object *answer = NULL, *host;
	int first, rc = cli_options(cli, verb, opts, false, argc, argv, &first);

	if (rc >= 0)
		return rc;
	if (first < argc)
		return cli_usage(verb, "unexpected argument '%s'", argv[first]);
	rc = ask_daemon(cli, verb, client_request("host"), CLIENT_ANSWER_MS, &answer);
	if (rc)
		return rc;
	host = json_object_object_get(answer, "host");
	if (cli->json) {
		field_print_json(host);
	} else {
		host_identity(host);
		host_rows(host);
		host_pool_bar(host);
		host_swap(host);
	}
	json_object_put(answer);
	return 0;
}

const struct cli_verb cli_verb_host = {"host", "show the host: pool, free memory, savings",
				       host_help, host_run};
