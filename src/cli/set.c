/* SPDX-License-Identifier: MIT */
/*
 * set.c - "memtide set": change settings of a running VM or of the host
 *
 * Sizes are checked here, for a good message without a daemon; which keys there are is the
 * daemon's to know, so that an old memtide can set what a new daemon learnt.
 */
#include "cli/ask.h"
#include "cli/fields.h"
#include "wire/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char set_help[] =
	"usage: memtide set VM KEY=VALUE... [--json]\n"
	"       memtide set --host KEY=VALUE... [--json]\n"
	"Changes settings at once; either all of them or, after an error, none.\n\n"
	"  VM keys:    reservation=SIZE        never taken away once used\n"
	"              limit=SIZE|none         most machine memory the VM may hold\n"
	"              shares=low|normal|high|NUMBER\n"
	"              zip_max_pct=0..100      most of the VM's memory its zip store may take\n"
	"              target_max=SIZE|none    hold the VM to this for now, for tests\n"
	"  host keys:  pool=SIZE               the most all VMs may hold together\n"
	"              Mem.NAME=NUMBER         settings of the scheduler, as in memtide host "
	"--json\n";

/* Sizes and plain numbers must look like it. Return: 0 or -EINVAL or -ERANGE. */
static int set_check(const char *key, const char *value, struct mt_err *err)
{
	bool may_be_none = !strcmp(key, "limit") || !strcmp(key, "target_max");
	uint64_t bytes;

	if (!strcmp(key, "reservation"))
		return mt_size_parse_zero_ok(value, key, &bytes, err);
	if (!strcmp(key, "pool"))
		return mt_size_parse(value, key, &bytes, err);
	/* 0 could be meant as "nothing at all" as well as "no limit". */
	if (may_be_none && !strcmp(value, "0"))
		return mt_err_set(err, -EINVAL, "%s: must be more than 0, or 'none'", key);
	if (may_be_none && strcmp(value, "none"))
		return mt_size_parse(value, key, &bytes, err);
	return 0;
}

/* Keys that are numbers, not sizes, go as JSON numbers. */
static struct json_object *set_value(const char *key, const char *value)
{
	bool number = !strcmp(key, "shares") || !strcmp(key, "zip_max_pct");
	char *end;
	long long n;

	errno = 0;
	n = strtoll(value, &end, 10);
	if (number && value[0] && !*end && !errno)
		return json_object_new_int64(n);
	return json_object_new_string(value);
}

static int set_parse(const struct cli_verb *verb, char **args, int count,
		     struct json_object *settings)
{
	for (int i = 0; i < count; i++) {
		const char *equals = strchr(args[i], '=');
		struct mt_err err = {0};
		char key[64];

		if (!equals || equals == args[i] || equals - args[i] >= (ptrdiff_t)sizeof(key))
			return cli_usage(verb, "'%s' is not KEY=VALUE", args[i]);
		snprintf(key, sizeof(key), "%.*s", (int)(equals - args[i]), args[i]);
		if (json_object_object_get_ex(settings, key, NULL))
			return cli_usage(verb, "'%s' is given twice", key);
		if (set_check(key, equals + 1, &err))
			return cli_failed(verb, "%s", err.msg);
		json_object_object_add(settings, key, set_value(key, equals + 1));
	}
	return 0;
}

static void set_print(struct json_object *answer, bool host)
{
	struct json_object *object = json_object_object_get(answer, host ? "host" : "vm");
	char name[FIELD_TEXT_MAX], a[MT_SIZE_TEXT_MAX], b[MT_SIZE_TEXT_MAX];

	if (host) {
		printf("host: pool %s, free %s\n", field_size(object, "pool", a),
		       field_size(object, "free", b));
		return;
	}
	printf("%s: reservation %s, limit %s, shares %llu, zip_max_pct %llu\n",
	       field_text(object, "name", name), field_size(object, "reservation", a),
	       field_u64(object, "limit") ? field_size(object, "limit", b) : "none",
	       (unsigned long long)field_u64(object, "shares"),
	       (unsigned long long)field_u64(object, "zip_max_pct"));
}

static int set_send(const struct cli *cli, const struct cli_verb *verb, const char *vm,
		    struct json_object *settings)
{
	struct json_object *request = client_request("set"), *answer = NULL;
	int rc;

	if (vm)
		json_object_object_add(request, "vm", json_object_new_string(vm));
	else
		json_object_object_add(request, "host", json_object_new_boolean(1));
	json_object_object_add(request, "settings", settings);
	rc = ask_daemon(cli, verb, request, CLIENT_ANSWER_MS, &answer);
	if (rc)
		return rc;
	if (cli->json)
		field_print_json(json_object_object_get(answer, vm ? "vm" : "host"));
	else
		set_print(answer, !vm);
	json_object_put(answer);
	return 0;
}

static int set_run(struct cli *cli, const struct cli_verb *verb, int argc, char **argv)
{
	bool host = false;
	const struct cli_opt opts[] = {
		{"json", 0, CLI_OPT_FLAG, &cli->json}, {"host", 0, CLI_OPT_FLAG, &host}, {0}};
	struct json_object *settings;
	const char *vm = NULL;
	int first, rc = cli_options(cli, verb, opts, false, argc, argv, &first);

	if (rc >= 0)
		return rc;
	if (!host && first < argc)
		vm = argv[first++];
	if (!host && (!vm || !mt_wire_name_ok(vm)))
		return cli_usage(verb, "give the name of a VM, or --host");
	if (first >= argc)
		return cli_usage(verb, "nothing to set");
	settings = json_object_new_object();
	rc = set_parse(verb, argv + first, argc - first, settings);
	if (rc) {
		json_object_put(settings);
		return rc;
	}
	return set_send(cli, verb, vm, settings);
}

const struct cli_verb cli_verb_set = {"set", "change settings of a VM or the host while they run",
				      set_help, set_run};
