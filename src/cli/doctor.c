/* SPDX-License-Identifier: MIT */
/*
 * doctor.c - "memtide doctor": what this host can do, and how to fix what it can't
 *
 * Each check tries the thing itself rather than reading a version. It needs no daemon; one that
 * runs is asked for its version, pool and swap directory.
 */
#include "cli/doctor.h"
#include "cli/client.h"
#include "cli/fields.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#define SWAP_DIR_DEFAULT "/var/lib/memtide/swap"

static const char doctor_help[] =
	"usage: memtide doctor [--json] [--swap-dir DIR] [--pool SIZE] [--vmm PATH]\n"
	"Checks what this host can do. A line for each check: ok, warn or FAIL, what was found, "
	"and\n"
	"what to do. Exit status 1 on any FAIL. Needs no daemon.\n\n"
	"  --json          print {\"checks\": [{\"name\", \"status\", \"text\", \"fix\"}...], "
	"...}\n"
	"  --swap-dir DIR  the swap directory (the running daemon's, or " SWAP_DIR_DEFAULT ")\n"
	"  --pool SIZE     the pool it should work for (the running daemon's)\n"
	"  --vmm PATH      the VMM to look at (qemu-system-x86_64)\n";

void doctor_report(struct doctor *doctor, enum doctor_level level, const char *name,
		   const char *fix, const char *fmt, ...)
{
	static const char *const words[] = {"ok", "warn", "FAIL"};
	struct json_object *check;
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	doctor->count[level]++;
	if (!doctor->json) {
		printf("%-4s  %-14s  %s%s%s\n", words[level], name, text, fix ? "; " : "",
		       fix ? fix : "");
		return;
	}
	check = json_object_new_object();
	json_object_object_add(check, "name", json_object_new_string(name));
	json_object_object_add(
		check, "status",
		json_object_new_string(level == DOCTOR_FAIL ? "fail" : words[level]));
	json_object_object_add(check, "text", json_object_new_string(text));
	json_object_object_add(check, "fix", json_object_new_string(fix ? fix : ""));
	json_object_array_add(doctor->checks, check);
}

bool doctor_read_text(const char *path, char *buf, size_t room)
{
	FILE *file = fopen(path, "re");
	bool ok = file && fgets(buf, (int)room, file);

	if (ok)
		buf[strcspn(buf, "\n")] = '\0';
	if (file)
		fclose(file);
	return ok;
}

static void doctor_ask_host(struct doctor *doctor, struct client *client)
{
	struct json_object *answer = NULL, *host;
	struct mt_err err = {0};
	char text[FIELD_TEXT_MAX];

	if (client_ask(client, client_request("host"), CLIENT_ANSWER_MS, &answer, &err)) {
		doctor_report(doctor, DOCTOR_FAIL, "daemon-host", "look into the daemon's log",
			      "the daemon does not tell about the host: %s", err.msg);
		return;
	}
	host = json_object_object_get(answer, "host");
	if (!doctor->pool_bytes)
		doctor->pool_bytes = field_u64(host, "pool") << 10;
	snprintf(doctor->swap_dir_daemon, sizeof(doctor->swap_dir_daemon), "%s",
		 field_text(host, "swap_dir", text));
	if (!doctor->swap_dir_given && text[0])
		doctor->swap_dir = doctor->swap_dir_daemon;
	doctor_report(doctor, DOCTOR_OK, "swap-encrypt", NULL,
		      json_object_get_boolean(json_object_object_get(host, "swap_encrypt"))
			      ? "VMs encrypt what they swap"
			      : "VMs do not encrypt what they swap (swap-encrypt = on for that)");
	json_object_put(answer);
}

static void doctor_daemon(struct doctor *doctor, const struct cli *cli)
{
	struct client client;
	struct mt_err err = {0};
	int rc = client_open(&client, cli->socket, &err);

	if (rc) {
		/* The message says what to do by itself. Not running yet is no fault of the host.
		 */
		doctor_report(doctor, rc == -EPROTO ? DOCTOR_FAIL : DOCTOR_WARN, "daemon", NULL,
			      "%s", err.msg);
		return;
	}
	doctor_report(doctor, DOCTOR_OK, "daemon", NULL, "memtided %s answers on %s, pid %d",
		      client.daemon_version, cli->socket, (int)client.daemon_pid);
	if (strcmp(client.daemon_version, MT_VERSION))
		doctor_report(doctor, DOCTOR_WARN, "daemon-version",
			      "restart memtided after an upgrade; running VMs stay",
			      "memtided is of version %s, memtide of " MT_VERSION,
			      client.daemon_version);
	doctor_ask_host(doctor, &client);
	client_close(&client);
}

static void doctor_verdict(struct doctor *doctor)
{
	struct json_object *result;

	if (!doctor->json) {
		printf("%u ok, %u to improve, %u broken\n", doctor->count[DOCTOR_OK],
		       doctor->count[DOCTOR_WARN], doctor->count[DOCTOR_FAIL]);
		return;
	}
	result = json_object_new_object();
	json_object_object_add(result, "checks", doctor->checks);
	json_object_object_add(result, "ok", json_object_new_int((int)doctor->count[DOCTOR_OK]));
	json_object_object_add(result, "warn",
			       json_object_new_int((int)doctor->count[DOCTOR_WARN]));
	json_object_object_add(result, "fail",
			       json_object_new_int((int)doctor->count[DOCTOR_FAIL]));
	field_print_json(result);
	json_object_put(result);
}

static int doctor_run(struct cli *cli, const struct cli_verb *verb, int argc, char **argv)
{
	struct doctor doctor = {0};
	const struct cli_opt opts[] = {{"json", 0, CLI_OPT_FLAG, &cli->json},
				       {"swap-dir", 0, CLI_OPT_TEXT, &doctor.swap_dir},
				       {"pool", 0, CLI_OPT_SIZE, &doctor.pool_bytes},
				       {"vmm", 0, CLI_OPT_TEXT, &doctor.vmm},
				       {0}};
	int first, rc = cli_options(cli, verb, opts, false, argc, argv, &first);

	if (rc >= 0)
		return rc;
	if (first < argc)
		return cli_usage(verb, "unexpected argument '%s'", argv[first]);
	doctor.json = cli->json;
	doctor.checks = cli->json ? json_object_new_array() : NULL;
	doctor.swap_dir_given = doctor.swap_dir != NULL;
	doctor.vmm_given = doctor.vmm != NULL;
	if (!doctor.swap_dir)
		doctor.swap_dir = SWAP_DIR_DEFAULT;
	if (!doctor.vmm)
		doctor.vmm = "qemu-system-x86_64";
	doctor_daemon(&doctor, cli);
	doctor_kernel(&doctor);
	doctor_host(&doctor);
	doctor_swap(&doctor);
	doctor_vmm(&doctor);
	doctor_verdict(&doctor);
	return doctor.count[DOCTOR_FAIL] ? CLI_EXIT_FAILURE : 0;
}

const struct cli_verb cli_verb_doctor = {"doctor",
					 "check what this host can do and how to fix what it can't",
					 doctor_help, doctor_run};
