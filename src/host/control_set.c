/* SPDX-License-Identifier: MIT */
/*
 * control_set.c - the "set" request: live changes of a VM's settings or of the pool
 *
 * All or nothing: settings are read into a copy, the copy is judged as a whole, what can fail
 * (swap space for a lower reservation) is done, and only then does the copy become the settings.
 */
#include "base/size.h"
#include "host/balance.h"
#include "host/control_api.h"
#include "host/monitor_hello.h"
#include "host/monitor_region.h"
#include "host/registry.h"
#include "host/rights.h"
#include "host/state_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int set_size_or_none(const char *text, const char *key, uint64_t *ret, struct mt_err *err)
{
	if (!strcmp(text, "none") || !strcmp(text, "0")) {
		*ret = 0;
		return 0;
	}
	return mt_size_parse(text, key, ret, err);
}

static int set_zip_max_pct(const char *text, uint32_t *ret, struct mt_err *err)
{
	char *end;
	unsigned long number = strtoul(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end || number > 100)
		return mt_err_set(err, -EINVAL,
				  "zip_max_pct: '%.40s' is not a number from 0 to 100", text);
	*ret = (uint32_t)number;
	return 0;
}

static int set_one(struct mt_vm_settings *settings, const char *key, const char *text,
		   struct mt_err *err)
{
	if (!strcmp(key, "reservation"))
		return mt_size_parse_zero_ok(text, key, &settings->reservation_bytes, err);
	if (!strcmp(key, "limit"))
		return set_size_or_none(text, key, &settings->limit_bytes, err);
	if (!strcmp(key, "target_max"))
		return set_size_or_none(text, key, &settings->target_max_bytes, err);
	if (!strcmp(key, "shares"))
		return mt_control_shares(text, settings, err);
	if (!strcmp(key, "zip_max_pct"))
		return set_zip_max_pct(text, &settings->zip_max_pct, err);
	return mt_err_set(err, -EINVAL,
			  "'%.40s' is not a setting; there are reservation, limit, "
			  "shares, zip_max_pct and target_max",
			  key);
}

/* The object "settings" of @request, with at least one key. */
static int set_settings(struct json_object *request, struct json_object **ret, struct mt_err *err)
{
	if (!json_object_object_get_ex(request, "settings", ret) ||
	    !json_object_is_type(*ret, json_type_object) || !json_object_object_length(*ret))
		return mt_err_set(err, -EINVAL, "the request has no \"settings\"");
	return 0;
}

/* "limit=300M, shares=high" for the event. */
static void set_describe(struct json_object *settings, char *text, size_t room)
{
	size_t used = 0;

	text[0] = '\0';
	json_object_object_foreach(settings, key, value)
	{
		int wrote = snprintf(text + used, room - used, "%s%s=%s", used ? ", " : "", key,
				     json_object_get_string(value));

		if (wrote < 0 || (size_t)wrote >= room - used)
			return;
		used += (size_t)wrote;
	}
}

static int set_read(struct json_object *settings, struct mt_vm_settings *fresh, struct mt_err *err)
{
	json_object_object_foreach(settings, key, value)
	{
		const char *text;
		int rc = mt_control_text(settings, key, &text, err);

		(void)value;
		if (!rc)
			rc = set_one(fresh, key, text, err);
		if (rc)
			return rc;
	}
	return 0;
}

int mt_control_set_vm(struct mt_client *client, struct mt_vmrec *vm, struct json_object *request,
		      struct mt_err *err)
{
	struct mt_server *server = client->server;
	struct mt_vm_settings fresh = vm->settings;
	struct json_object *settings = NULL;
	char text[MT_WIRE_TEXT_MAX - 64];
	int rc = set_settings(request, &settings, err);

	if (!rc)
		rc = set_read(settings, &fresh, err);
	if (!rc)
		rc = mt_rights_change(client, &vm->settings, &fresh, err);
	if (!rc)
		rc = mt_registry_check_settings(server, vm, &fresh, err);
	/* less is guaranteed: more may have to be swapped */
	if (!rc && fresh.reservation_bytes < vm->settings.reservation_bytes &&
	    mt_vm_memsize_pages(vm))
		rc = mt_region_swap_grow(server, vm, fresh.reservation_bytes, err);
	if (rc)
		return rc;
	vm->settings = fresh;
	set_describe(settings, text, sizeof(text));
	mt_events_add(server->events, MT_EVENT_INFO, vm->name, "set: %s", text);
	mt_monitor_send_settings(vm);
	mt_state_file_touch(server);
	mt_balance_want(server);
	return 0;
}

/* Reads all keys into copies: @ret_pool_bytes is 0 when the pool stays. */
static int set_read_host(struct json_object *settings, struct mt_sched_config *config,
			 uint64_t *ret_pool_bytes, struct mt_err *err)
{
	*ret_pool_bytes = 0;
	json_object_object_foreach(settings, key, value)
	{
		bool pool = !strcmp(key, "pool");
		const char *text;
		int rc = mt_control_text(settings, key, &text, err);

		(void)value;
		if (!rc && !pool && !mt_setting_find(key))
			return mt_err_set(
				err, -EINVAL,
				"'%.40s' is not a setting of the host; there are pool and "
				"those 'memtide host --json' shows under settings",
				key);
		if (!rc)
			rc = pool ? mt_size_parse(text, key, ret_pool_bytes, err)
				  : mt_sched_config_parse(config, key, text, err);
		if (rc)
			return rc;
	}
	return mt_sched_config_check(config, err);
}

int mt_control_set_host(struct mt_server *server, struct json_object *request, struct mt_err *err)
{
	struct mt_sched_config fresh = server->sched_config, old = fresh;
	uint64_t bytes, pool = mt_ledger_pool(server->ledger);
	struct json_object *settings = NULL;
	char text[MT_WIRE_TEXT_MAX - 64];
	int rc = set_settings(request, &settings, err);

	if (!rc)
		rc = set_read_host(settings, &fresh, &bytes, err);
	if (!rc && bytes) {
		rc = mt_config_check_pool(&server->config, bytes, err);
		pool = bytes / MT_PAGE_SIZE;
	}
	if (rc)
		return rc;
	/* minFree may be another one */
	server->sched_config = fresh;
	rc = mt_registry_check_promises(server, pool, err);
	if (rc && (bytes || fresh.min_free_pct != old.min_free_pct)) {
		server->sched_config = old;
		return rc;
	}
	if (bytes)
		mt_ledger_set_pool(server->ledger, pool);
	set_describe(settings, text, sizeof(text));
	mt_events_add(server->events, MT_EVENT_INFO, NULL, "set: %s", text);
	mt_monitor_send_settings_all(server);
	mt_state_file_touch(server);
	mt_balance_want(server);
	return 0;
}
