/* SPDX-License-Identifier: MIT */
/*
 * check.c - "memtide check": have a VM's monitor audit its live page map
 *
 * For scripts: exit status 1 when any invariant is broken, or when the audit could not be made.
 */
#include "cli/ask.h"
#include "cli/fields.h"

/* The daemon gives the monitor 30 s; wait a little longer, for its own word on that. */
#define CHECK_ANSWER_MS 35000

static const char check_help[] =
	"usage: memtide check VM [--json]\n"
	"Audits the page map of a running VM. Exit status 1 on any broken invariant.\n\n"
	"  --json  print {\"pages\": N, \"violations\": N, \"first\": \"...\"}\n";

static int check_run(struct cli *cli, const struct cli_verb *verb, int argc, char **argv)
{
	const struct cli_opt opts[] = {{"json", 0, CLI_OPT_FLAG, &cli->json}, {0}};
	struct json_object *request, *answer = NULL;
	char text[FIELD_TEXT_MAX];
	uint64_t violations;
	int first, rc = cli_options(cli, verb, opts, false, argc, argv, &first);

	if (rc >= 0)
		return rc;
	if (first + 1 != argc)
		return cli_usage(verb, "give the name of one VM");
	request = client_request("check");
	json_object_object_add(request, "vm", json_object_new_string(argv[first]));
	rc = ask_daemon(cli, verb, request, CHECK_ANSWER_MS, &answer);
	if (rc)
		return rc;
	if (!json_object_object_get_ex(answer, "violations", NULL)) {
		json_object_put(answer);
		return cli_failed(verb, "%s: the daemon's answer has no result", argv[first]);
	}
	violations = field_u64(answer, "violations");
	if (cli->json) {
		json_object_object_del(answer, "ok");
		field_print_json(answer);
	} else {
		printf("%s: %llu pages checked, %llu violations\n", argv[first],
		       (unsigned long long)field_u64(answer, "pages"),
		       (unsigned long long)violations);
	}
	if (violations)
		rc = cli_failed(verb,
				"%s: %llu broken invariants, the first: %s; please report this",
				argv[first], (unsigned long long)violations,
				field_text(answer, "first", text));
	json_object_put(answer);
	return rc;
}

const struct cli_verb cli_verb_check = {"check", "audit a VM's live page map", check_help,
					check_run};
