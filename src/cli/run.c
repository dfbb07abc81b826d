/* SPDX-License-Identifier: MIT */
/*
 * run.c - "memtide run": start an unmodified VMM with a monitor in it
 *
 * The command line is checked first, then the daemon is told of the VM, then the VMM runs as a
 * child with the preload library and a token in its environment. Until a monitor with that token
 * has reported in, this process watches; a VMM that stays unmanaged although management was asked
 * for is stopped, not left to eat the host. After that it only passes signals on and waits, in the
 * foreground of the terminal like the VMM itself. See run_watch.c for what happens once it runs.
 */
#include "cli/run.h"
#include "cli/fields.h"
#include "cli/vmm.h"
#include "base/size.h"
#include "wire/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char run_help[] =
	"usage: memtide run [OPTION]... -- VMM [ARGUMENT]...\n"
	"Starts a VMM (qemu-system-x86_64) with its guest memory under management. Exits with the\n"
	"VMM's exit status, or 128 and the number of the signal that ended it.\n\n"
	"  --name NAME           name of the VM: 1 to 63 of a-z A-Z 0-9 . _ - (vm-PID)\n"
	"  --reservation SIZE    memory never taken away once used (0)\n"
	"  --limit SIZE          most machine memory it may hold (no limit)\n"
	"  --shares SHARES       low, normal, high or a number: weight in contention (normal)\n"
	"  --share-group NAME    share equal pages only with VMs of this group\n"
	"  --qmp PATH            a QMP socket the VMM serves and nobody else uses (one is added)\n"
	"  --no-balloon          add neither balloon nor QMP socket to QEMU's command line\n"
	"  --attach-timeout SEC  stop the VMM if it is not under management by then (10)\n"
	"  --verbose             say what is done\n";

static int run_shares(const struct cli_verb *verb, struct run_options *o)
{
	char *end;

	if (!o->shares || !strcmp(o->shares, "low") || !strcmp(o->shares, "normal") ||
	    !strcmp(o->shares, "high"))
		return 0;
	errno = 0;
	o->shares_number = strtoull(o->shares, &end, 10);
	if (o->shares[0] < '0' || o->shares[0] > '9' || *end || errno || !o->shares_number ||
	    o->shares_number > INT64_MAX)
		return cli_usage(verb,
				 "--shares: '%s' is not low, normal, high or a number above 0",
				 o->shares);
	return 0;
}

static int run_validate(const struct cli_verb *verb, struct run_options *o)
{
	char a[MT_SIZE_TEXT_MAX], b[MT_SIZE_TEXT_MAX];

	if (!o->name) {
		snprintf(o->name_made, sizeof(o->name_made), "vm-%d", (int)getpid());
		o->name = o->name_made;
	}
	if (!mt_wire_name_ok(o->name))
		return cli_usage(verb,
				 "--name: '%s' is not a name: 1 to 63 of a-z A-Z 0-9 . _ -, "
				 "starting with a letter, digit or _",
				 o->name);
	if (o->share_group && !mt_wire_name_ok(o->share_group))
		return cli_usage(verb,
				 "--share-group: '%s' is not a name: 1 to 63 of a-z A-Z 0-9 . _ -",
				 o->share_group);
	if (o->limit_bytes && o->reservation_bytes > o->limit_bytes)
		return cli_usage(verb, "--reservation %s is more than --limit %s",
				 mt_size_text(o->reservation_bytes, a),
				 mt_size_text(o->limit_bytes, b));
	if (o->qmp && o->no_balloon)
		return cli_usage(verb, "--qmp is for the balloon, and --no-balloon leaves it out");
	return run_shares(verb, o);
}

/* The VMM makes the socket, perhaps after it has changed its directory. */
static int run_qmp_path(const struct cli_verb *verb, struct run_options *o)
{
	char here[PATH_MAX] = "";
	int length;

	if (!o->qmp)
		return 0;
	if (o->qmp[0] != '/' && !getcwd(here, sizeof(here)))
		return cli_failed(verb, "--qmp: the working directory: %s", strerror(errno));
	length = snprintf(o->qmp_path, sizeof(o->qmp_path), "%s%s%s", here, here[0] ? "/" : "",
			  o->qmp);
	if (length >= (int)sizeof(o->qmp_path))
		return cli_failed(verb, "--qmp: '%.40s...' is too long for a socket", o->qmp);
	return 0;
}

/* Locked guest memory can't be taken away; QEMU does that when told so. */
static bool run_locks_memory(char **vmm_argv)
{
	for (int i = 1; vmm_argv[i] && vmm_argv[i + 1]; i++) {
		const char *option = vmm_argv[i] + (vmm_argv[i][0] == '-' && vmm_argv[i][1] == '-');
		const char *value = vmm_argv[i + 1], *lock;

		if (!strcmp(option, "-realtime"))
			lock = strstr(value, "mlock");
		else if (!strcmp(option, "-overcommit"))
			lock = strstr(value, "mem-lock");
		else
			continue;
		if (!lock)
			continue;
		lock += strcspn(lock, "=,");
		if (strncmp(lock, "=off", 4) && strncmp(lock, "=no", 3) &&
		    strncmp(lock, "=false", 6))
			return true;
	}
	return false;
}

static int run_prepare(const struct cli_verb *verb, struct run_options *o)
{
	struct mt_err err = {0};
	enum vmm_kind kind = VMM_DYNAMIC;

	if (vmm_find(o->vmm_argv[0], o->vmm_path, &err) || vmm_inspect(o->vmm_path, &kind, &err) ||
	    vmm_preload_find(o->preload, &err))
		return cli_failed(verb, "%s", err.msg);
	if (run_locks_memory(o->vmm_argv))
		cli_failed(verb,
			   "warning: mem-lock=on: locked guest memory can't be overcommitted; "
			   "leave it out of the VMM's command line");
	qemu_look(o->vmm_path, o->vmm_argv, &o->look);
	run_say(o, "VMM %s%s", o->vmm_path,
		kind == VMM_SCRIPT
			? " (a script; whether its VMM can be managed shows when it runs)"
			: "");
	run_say(o, "preloading %s", o->preload);
	return run_qmp_path(verb, o);
}

/* Puts at the end of QEMU's command line what it lacks for ballooning, and says so. */
static int run_extend(const struct cli_verb *verb, struct run_options *o)
{
	const char *config = NULL;
	struct mt_err err = {0};

	if (!o->look.is_qemu || o->no_balloon)
		return 0;
	if (!o->qmp && o->qmp_path[0]) {
		if (qemu_write_config(o->qmp_path, o->qmp_config, sizeof(o->qmp_config), &err))
			cli_failed(verb, "warning: no QMP socket, so no ballooning: %s", err.msg);
		else
			config = o->qmp_config;
	}
	o->vmm_argv = qemu_extend(o->vmm_argv, o->look.balloon, config);
	if (!o->vmm_argv)
		return cli_failed(verb, "out of memory");
	if (o->look.balloon)
		run_say(o, "added -device %s", o->look.balloon);
	else
		run_say(o, "no balloon added: %s",
			o->look.has_balloon ? "there is one" : o->look.why);
	if (config)
		run_say(o, "added -readconfig %s (QMP at %s)", config, o->qmp_path);
	return 0;
}

static struct json_object *run_request(const struct run_options *o)
{
	struct json_object *request = client_request("vm_create"), *shares;

	if (o->shares_number)
		shares = json_object_new_int64((int64_t)o->shares_number);
	else if (!o->shares || !strcmp(o->shares, "normal"))
		shares = json_object_new_int(0);
	else
		shares = json_object_new_string(o->shares);
	json_object_object_add(request, "name", json_object_new_string(o->name));
	json_object_object_add(request, "reservation_bytes",
			       json_object_new_int64((int64_t)o->reservation_bytes));
	json_object_object_add(request, "limit_bytes",
			       json_object_new_int64((int64_t)o->limit_bytes));
	json_object_object_add(request, "shares", shares);
	if (o->qmp_path[0])
		json_object_object_add(request, "qmp", json_object_new_string(o->qmp_path));
	else if (o->look.is_qemu && !o->no_balloon)
		json_object_object_add(request, "qmp_new", json_object_new_boolean(true));
	json_object_object_add(request, "share_group",
			       json_object_new_string(o->share_group ? o->share_group : ""));
	return request;
}

/* Where the daemon wants QEMU's QMP socket. An older one says nothing. */
static void run_qmp_answer(const struct cli_verb *verb, struct run_options *o,
			   struct json_object *answer)
{
	const char *path = json_object_get_string(json_object_object_get(answer, "qmp"));
	const char *why = json_object_get_string(json_object_object_get(answer, "qmp_why"));

	if (path && path[0] == '/' && strlen(path) < sizeof(o->qmp_path))
		snprintf(o->qmp_path, sizeof(o->qmp_path), "%s", path);
	else if (why)
		cli_failed(verb, "warning: no QMP socket, so no ballooning: %s", why);
}

static int run_register(const struct cli_verb *verb, struct run_options *o, struct client *client)
{
	struct json_object *answer = NULL;
	struct mt_err err = {0};
	const char *token;
	int rc = client_ask(client, run_request(o), CLIENT_ANSWER_MS, &answer, &err);

	if (rc == -EEXIST)
		return cli_failed(verb,
				  "%s (VM '%s'); give another --name, 'memtide list' shows those "
				  "in use",
				  err.msg, o->name);
	if (rc)
		return cli_failed(verb, "%s", err.msg);
	token = json_object_get_string(json_object_object_get(answer, "token"));
	if (!token || !token[0] || strlen(token) >= sizeof(o->token)) {
		json_object_put(answer);
		return cli_failed(verb,
				  "the daemon gave no usable token; are memtide and memtided of "
				  "one version?");
	}
	snprintf(o->token, sizeof(o->token), "%s", token);
	run_qmp_answer(verb, o, answer);
	json_object_put(answer);
	run_say(o, "VM '%s' is known to memtided %s (pid %d)", o->name, client->daemon_version,
		(int)client->daemon_pid);
	return 0;
}

static int run_with_daemon(const struct cli *cli, const struct cli_verb *verb,
			   struct run_options *o)
{
	struct mt_err err = {0};
	struct client client;
	int rc = run_prepare(verb, o);

	if (rc)
		return rc;
	/* The VMM may change its directory before the monitor connects, and ".vm" is at the real
	 * path. */
	if (!realpath(cli->socket, o->socket))
		snprintf(o->socket, sizeof(o->socket), "%s", cli->socket);
	if (client_open(&client, cli->socket, &err))
		return cli_failed(verb, "%s", err.msg);
	rc = run_register(verb, o, &client);
	if (!rc)
		rc = run_extend(verb, o);
	if (!rc)
		rc = run_watched(verb, o, &client);
	client_close(&client);
	return rc;
}

static int run_run(struct cli *cli, const struct cli_verb *verb, int argc, char **argv)
{
	struct run_options o = {.attach_timeout_ms = 10000};
	const struct cli_opt opts[] = {{"name", 0, CLI_OPT_TEXT, &o.name},
				       {"reservation", 0, CLI_OPT_SIZE_OR_0, &o.reservation_bytes},
				       {"limit", 0, CLI_OPT_SIZE, &o.limit_bytes},
				       {"shares", 0, CLI_OPT_TEXT, &o.shares},
				       {"share-group", 0, CLI_OPT_TEXT, &o.share_group},
				       {"attach-timeout", 0, CLI_OPT_SECONDS, &o.attach_timeout_ms},
				       {"qmp", 0, CLI_OPT_TEXT, &o.qmp},
				       {"no-balloon", 0, CLI_OPT_FLAG, &o.no_balloon},
				       {"verbose", 'v', CLI_OPT_FLAG, &o.verbose},
				       {0}};
	int first, rc = cli_options(cli, verb, opts, true, argc, argv, &first);

	if (rc >= 0)
		return rc;
	if (first >= argc)
		return cli_usage(verb, "no VMM given");
	o.vmm_argv = argv + first;
	rc = run_validate(verb, &o);
	return rc ? rc : run_with_daemon(cli, verb, &o);
}

const struct cli_verb cli_verb_run = {"run", "start a VMM under management", run_help, run_run};
