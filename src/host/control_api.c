/* SPDX-License-Identifier: MIT */
/* control_api.c - a table of commands and their functions; see control_api.h */
#include "host/control_api.h"
#include "host/control_qmp.h"
#include "host/json_out.h"
#include "host/monitor_link.h"
#include "host/qmp_dir.h"
#include "host/registry.h"
#include "host/rights.h"
#include "host/share.h"
#include "sys/sock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The answer comes later. */
#define CONTROL_LATER      1
#define CONTROL_SHARES_MAX 1000000000ULL

/* Fills @answer, which says "ok": true already. Return: 0, CONTROL_LATER, or -errno with @err. */
typedef int control_fn(struct mt_client *client, struct json_object *request,
		       struct json_object *answer, struct mt_err *err);

int mt_control_text(struct json_object *object, const char *key, const char **ret,
		    struct mt_err *err)
{
	struct json_object *value = NULL;

	*ret = NULL;
	if (!json_object_object_get_ex(object, key, &value))
		return 0;
	if (!json_object_is_type(value, json_type_string) &&
	    !json_object_is_type(value, json_type_int))
		return mt_err_set(err, -EINVAL, "%.40s: must be a string or a number", key);
	*ret = json_object_get_string(value);
	if (!*ret || (json_object_is_type(value, json_type_string) &&
		      strlen(*ret) != (size_t)json_object_get_string_len(value)))
		return mt_err_set(err, -EINVAL, "%.40s: holds a NUL character", key);
	return 0;
}

/* A number of bytes; missing is 0. */
static int control_bytes(struct json_object *request, const char *key, uint64_t *ret,
			 struct mt_err *err)
{
	struct json_object *value = NULL;
	int64_t number;

	*ret = 0;
	if (!json_object_object_get_ex(request, key, &value))
		return 0;
	number = json_object_get_int64(value);
	if (!json_object_is_type(value, json_type_int) || number < 0 ||
	    (uint64_t)number > MT_VM_BYTES_MAX)
		return mt_err_set(err, -EINVAL, "%s: must be a number of bytes, at most 256T", key);
	*ret = (uint64_t)number;
	return 0;
}

int mt_control_shares(const char *text, struct mt_vm_settings *settings, struct mt_err *err)
{
	static const struct {
		const char *name;
		enum mt_vm_shares shares;
	} levels[] = {
		{"low", MT_SHARES_LOW}, {"normal", MT_SHARES_NORMAL}, {"high", MT_SHARES_HIGH}};
	unsigned long long number;
	char *end;

	for (size_t i = 0; i < MT_ARRAY_SIZE(levels); i++)
		if (!strcmp(text, levels[i].name)) {
			settings->shares = 0;
			settings->shares_per_mib = levels[i].shares;
			return 0;
		}
	errno = 0;
	number = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || number > CONTROL_SHARES_MAX)
		return mt_err_set(err, -EINVAL,
				  "shares: '%.40s' is not low, normal, high or a number up to %llu",
				  text, CONTROL_SHARES_MAX);
	settings->shares = number;
	if (!number)
		settings->shares_per_mib = MT_SHARES_NORMAL;
	return 0;
}

static int control_find_vm(struct mt_client *client, struct json_object *request,
			   struct mt_vmrec **ret_vm, struct mt_err *err)
{
	const char *name;
	int rc = mt_control_text(request, "vm", &name, err);

	if (rc)
		return rc;
	if (!name)
		return mt_err_set(err, -EINVAL, "the request names no VM; give \"vm\"");
	*ret_vm = mt_registry_find(client->server, name);
	/* What is not his to see is not there. */
	if (*ret_vm && !mt_rights_vm(client, *ret_vm))
		*ret_vm = NULL;
	if (!*ret_vm)
		return mt_err_set(err, -ENOENT, "there is no VM '%.63s'; 'memtide list' shows all",
				  name);
	return 0;
}

static int control_vm_settings(const struct mt_server *server, struct json_object *request,
			       struct mt_vm_settings *ret, struct mt_err *err)
{
	const char *shares, *group;
	int rc;

	*ret = (struct mt_vm_settings){.shares_per_mib = MT_SHARES_NORMAL,
				       .zip_max_pct = server->config.zip_max_pct};
	rc = control_bytes(request, "reservation_bytes", &ret->reservation_bytes, err);
	if (!rc)
		rc = control_bytes(request, "limit_bytes", &ret->limit_bytes, err);
	if (!rc)
		rc = mt_control_text(request, "shares", &shares, err);
	if (!rc && shares)
		rc = mt_control_shares(shares, ret, err);
	if (!rc)
		rc = mt_control_text(request, "share_group", &group, err);
	if (rc || !group || !group[0])
		return rc;
	if (!mt_wire_name_ok(group))
		return mt_err_set(err, -EINVAL,
				  "share_group: '%.63s' is no name; use 1 to 63 of "
				  "a-z A-Z 0-9 . _ - and no dot or dash in front",
				  group);
	snprintf(ret->share_group, sizeof(ret->share_group), "%s", group);
	return 0;
}

static int control_vm_create(struct mt_client *client, struct json_object *request,
			     struct json_object *answer, struct mt_err *err)
{
	struct mt_server *server = client->server;
	char token[MT_WIRE_TOKEN_MAX], qmp_path[MT_QMP_PATH_MAX] = "";
	struct mt_vm_settings settings;
	struct mt_vmrec *vm = NULL;
	const char *name;
	int rc = mt_control_text(request, "name", &name, err);

	if (!rc)
		rc = control_vm_settings(server, request, &settings, err);
	if (!rc)
		rc = mt_rights_create(server, client->uid, &settings, err);
	if (!rc)
		rc = mt_random_token(token, err);
	if (!rc)
		rc = mt_control_qmp_new(client, request, qmp_path, answer, err);
	if (rc)
		return rc;
	rc = mt_registry_add(server, name ? name : "", &settings, &vm, err);
	if (rc) {
		mt_qmp_dir_remove(server, qmp_path);
		return rc;
	}
	memcpy(vm->qmp_path, qmp_path, sizeof(qmp_path));
	memcpy(vm->token, token, sizeof(token));
	vm->creator = client;
	vm->owner = client->uid;
	vm->owner_known = true;
	mt_events_add(server->events, MT_EVENT_INFO, vm->name, "created; waiting for its VMM");
	json_object_object_add(answer, "token", json_object_new_string(token));
	return 0;
}

/* Somebody serves QMP for a VM's VMM. */
static int control_qmp(struct mt_client *client, struct json_object *request,
		       struct json_object *answer, struct mt_err *err)
{
	struct mt_vmrec *vm = NULL;
	int rc = control_find_vm(client, request, &vm, err);

	(void)answer;
	return rc ? rc : mt_control_qmp_for(client, vm, request, err);
}

static struct json_object *control_vms(const struct mt_client *client)
{
	struct json_object *vms = json_object_new_array();
	const struct mt_server *server = client->server;

	for (unsigned int i = 0; i < server->vm_count; i++)
		if (mt_rights_vm(client, server->vms[i]))
			json_object_array_add(vms, mt_json_vm(server->vms[i]));
	return vms;
}

static int control_list(struct mt_client *client, struct json_object *request,
			struct json_object *answer, struct mt_err *err)
{
	(void)request;
	(void)err;
	json_object_object_add(answer, "vms", control_vms(client));
	json_object_object_add(answer, "host", mt_json_host(client->server));
	return 0;
}

static int control_show(struct mt_client *client, struct json_object *request,
			struct json_object *answer, struct mt_err *err)
{
	struct mt_vmrec *vm = NULL;
	int rc = control_find_vm(client, request, &vm, err);

	if (!rc)
		json_object_object_add(answer, "vm", mt_json_vm(vm));
	return rc;
}

static int control_host(struct mt_client *client, struct json_object *request,
			struct json_object *answer, struct mt_err *err)
{
	(void)request;
	(void)err;
	json_object_object_add(answer, "host", mt_json_host(client->server));
	return 0;
}

static int control_set(struct mt_client *client, struct json_object *request,
		       struct json_object *answer, struct mt_err *err)
{
	struct json_object *host = NULL;
	struct mt_vmrec *vm = NULL;
	int rc;

	json_object_object_get_ex(request, "host", &host);
	if (json_object_get_boolean(host)) {
		rc = mt_rights_host(client, err);
		if (!rc)
			rc = mt_control_set_host(client->server, request, err);
		if (!rc)
			json_object_object_add(answer, "host", mt_json_host(client->server));
		return rc;
	}
	rc = control_find_vm(client, request, &vm, err);
	if (!rc)
		rc = mt_control_set_vm(client, vm, request, err);
	if (!rc)
		json_object_object_add(answer, "vm", mt_json_vm(vm));
	return rc;
}

static int control_events(struct mt_client *client, struct json_object *request,
			  struct json_object *answer, struct mt_err *err)
{
	const struct mt_events *events = client->server->events;
	struct json_object *list, *value = NULL;
	int64_t after = 0;

	if (json_object_object_get_ex(request, "after", &value)) {
		after = json_object_get_int64(value);
		if (!json_object_is_type(value, json_type_int) || after < 0)
			return mt_err_set(err, -EINVAL, "after: must be the number of an event");
	}
	list = json_object_new_array();
	for (uint64_t id = MT_MAX((uint64_t)after + 1, mt_events_first(events));
	     id <= mt_events_last(events); id++)
		if (mt_rights_event(client, mt_events_get(events, id)))
			json_object_array_add(list, mt_json_event(mt_events_get(events, id)));
	json_object_object_add(answer, "events", list);
	if (json_object_object_get_ex(request, "follow", &value) &&
	    json_object_get_boolean(value)) {
		client->follow = true;
		client->event_last = mt_events_last(events);
	}
	return 0;
}

/* Send @msg to the monitor of the VM that the request names; the client waits for its answer. */
static int control_ask_monitor(struct mt_client *client, struct json_object *request,
			       union mt_wire_msg *msg, struct mt_err *err)
{
	struct mt_server *server = client->server;
	struct mt_vmrec *vm = NULL;
	int rc = control_find_vm(client, request, &vm, err);

	if (rc)
		return rc;
	if (!vm->link)
		return mt_err_set(err, -ENOTCONN, "VM '%s' is %s: its monitor can't be asked",
				  vm->name, mt_vm_state_name(mt_vm_state(vm)));
	/* 0 means none; a number comes again after four billion requests */
	if (!++server->last_serial)
		server->last_serial = 1;
	client->check_serial = server->last_serial;
	client->check_vm = vm->id;
	client->check_by_ns =
		mt_server_now_ns(server) + server->config.check_timeout_ms * MT_NS_PER_MS;
	mt_server_arm(server, client->check_by_ns);
	msg->head.serial = client->check_serial;
	mt_link_send(vm->link, msg, -1);
	return CONTROL_LATER;
}

static int control_check(struct mt_client *client, struct json_object *request,
			 struct json_object *answer, struct mt_err *err)
{
	union mt_wire_msg msg;

	(void)answer;
	mt_wire_init(&msg, MT_WIRE_CHECK, 0);
	return control_ask_monitor(client, request, &msg, err);
}

/* @key: how much is wanted */
static int control_look(struct mt_client *client, struct json_object *request, const char *key,
			enum mt_peek_what what, struct mt_err *err)
{
	struct json_object *addr = NULL, *count = NULL;
	union mt_wire_msg msg;

	mt_wire_init(&msg, MT_WIRE_PEEK, 0);
	if (!json_object_object_get_ex(request, "addr", &addr) ||
	    !json_object_is_type(addr, json_type_int) || json_object_get_int64(addr) < 0)
		return mt_err_set(err, -EINVAL,
				  "addr: must be a host address in a region of the VM");
	if (!json_object_object_get_ex(request, key, &count) ||
	    !json_object_is_type(count, json_type_int) || json_object_get_int64(count) < 1 ||
	    json_object_get_int64(count) > MT_PEEK_MAX)
		return mt_err_set(err, -EINVAL, "%s: must be from 1 to %d", key, MT_PEEK_MAX);
	msg.peek.addr = (uint64_t)json_object_get_int64(addr);
	msg.peek.count = (uint32_t)json_object_get_int64(count);
	msg.peek.what = what;
	return control_ask_monitor(client, request, &msg, err);
}

static int control_peek(struct mt_client *client, struct json_object *request,
			struct json_object *answer, struct mt_err *err)
{
	(void)answer;
	return control_look(client, request, "bytes", MT_PEEK_BYTES, err);
}

static int control_states(struct mt_client *client, struct json_object *request,
			  struct json_object *answer, struct mt_err *err)
{
	(void)answer;
	return control_look(client, request, "pages", MT_PEEK_STATES, err);
}

static int control_words(struct mt_client *client, struct json_object *request,
			 struct json_object *answer, struct mt_err *err)
{
	(void)answer;
	return control_look(client, request, "pages", MT_PEEK_WORDS, err);
}

static int control_frame(struct json_object *request, mt_frame_t *ret, struct mt_err *err)
{
	struct json_object *value = NULL;

	if (!json_object_object_get_ex(request, "frame", &value) ||
	    !json_object_is_type(value, json_type_int) || json_object_get_int64(value) < 0 ||
	    json_object_get_int64(value) >= MT_FRAMES_MAX)
		return mt_err_set(err, -EINVAL, "frame: must be the number of a shared frame");
	*ret = MT_FRAME((uint32_t)json_object_get_int64(value));
	return 0;
}

/* Who uses a frame of the VM's group, among those the client may see. */
static int control_sharers(struct mt_client *client, struct json_object *request,
			   struct json_object *answer, struct mt_err *err)
{
	const struct mt_server *server = client->server;
	struct json_object *list;
	struct mt_vmrec *vm = NULL;
	mt_frame_t frame;
	int rc = control_find_vm(client, request, &vm, err);

	if (!rc)
		rc = control_frame(request, &frame, err);
	if (rc)
		return rc;
	list = json_object_new_array();
	for (unsigned int i = 0; i < server->vm_count; i++) {
		const struct mt_vmrec *other = server->vms[i];
		uint32_t pages = vm->share_group && other->share_group == vm->share_group
					 ? mt_share_vm_uses(other, frame)
					 : 0;

		if (pages && mt_rights_vm(client, other))
			json_object_array_add(list, mt_json_sharer(other, pages));
	}
	json_object_object_add(answer, "sharers", list);
	return 0;
}

/* Which pages of one VM use it: its monitor knows. */
static int control_frame_pages(struct mt_client *client, struct json_object *request,
			       struct json_object *answer, struct mt_err *err)
{
	struct json_object *from = NULL;
	union mt_wire_msg msg;
	mt_frame_t frame;
	int rc = control_frame(request, &frame, err);

	(void)answer;
	if (rc)
		return rc;
	if (json_object_object_get_ex(request, "from", &from) &&
	    (!json_object_is_type(from, json_type_int) || json_object_get_int64(from) < 0))
		return mt_err_set(err, -EINVAL, "from: must be a host address");
	mt_wire_init(&msg, MT_WIRE_PEEK, 0);
	msg.peek.addr = (uint64_t)json_object_get_int64(from);
	msg.peek.what = MT_PEEK_FRAME;
	msg.peek.frame = frame.n;
	return control_ask_monitor(client, request, &msg, err);
}

static const struct {
	const char *name;
	control_fn *run;
} control_table[] = {
	{"vm_create", control_vm_create},
	{"list", control_list},
	{"show", control_show},
	{"host", control_host},
	{"set", control_set},
	{"events", control_events},
	{"words", control_words},
	{"check", control_check},
	{"peek", control_peek},
	{"states", control_states},
	{"sharers", control_sharers},
	{"frame_pages", control_frame_pages},
	{"qmp", control_qmp},
};

static int control_run(struct mt_client *client, struct json_object *request,
		       struct json_object *answer, struct mt_err *err)
{
	const char *cmd;
	int rc = mt_control_text(request, "cmd", &cmd, err);

	if (rc)
		return rc;
	if (!cmd)
		return mt_err_set(err, -EINVAL, "the request has no \"cmd\"");
	for (size_t i = 0; i < MT_ARRAY_SIZE(control_table); i++)
		if (!strcmp(cmd, control_table[i].name))
			return control_table[i].run(client, request, answer, err);
	return mt_err_set(err, -EINVAL,
			  "'%.40s' is no command; tool and daemon may be of different versions",
			  cmd);
}

void mt_control_request(struct mt_client *client, struct json_object *request)
{
	struct json_object *answer = mt_json_ok();
	struct mt_err err = {0};
	int rc = control_run(client, request, answer, &err);

	if (!rc) {
		mt_client_answer(client, answer);
		return;
	}
	json_object_put(answer);
	if (rc < 0)
		mt_client_error(client, &err);
}
