/* SPDX-License-Identifier: MIT */
/* json_out.c - records as JSON; see json_out.h and docs/protocol.md */
#include "host/json_out.h"
#include "host/balloon.h"
#include "host/share.h"
#include "sys/swap_file.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define KIB_PER_PAGE (MT_PAGE_SIZE / 1024)

/* What a VM's counters come to; sums of these make the host object. */
struct json_sums {
	uint64_t memsize, granted, consumed, shared, zero, vmmemctl, zipped, zip_held, zip_saved;
	uint64_t shared_frames, sharedcommon, charge, shared_saved;
	uint64_t swapused, swapin, swapout, overhead, held; /* all in KiB */
};

static void json_number(struct json_object *object, const char *key, uint64_t value)
{
	json_object_object_add(object, key, json_object_new_uint64(value));
}

static void json_text(struct json_object *object, const char *key, const char *value)
{
	json_object_object_add(object, key, json_object_new_string(value));
}

struct json_object *mt_json_greeting(void)
{
	struct json_object *line = json_object_new_object();

	json_number(line, "memtide", 1);
	json_text(line, "version", MT_VERSION);
	json_number(line, "pid", (uint64_t)getpid());
	return line;
}

struct json_object *mt_json_ok(void)
{
	struct json_object *answer = json_object_new_object();

	json_object_object_add(answer, "ok", json_object_new_boolean(true));
	return answer;
}

struct json_object *mt_json_error(const struct mt_err *err)
{
	struct json_object *answer = json_object_new_object();
	const char *code = strerrorname_np(-err->code);
	char text[MT_ERR_MSG_MAX];

	/* it may quote what a client sent */
	memcpy(text, err->msg, sizeof(text));
	mt_text_clean(text);
	json_object_object_add(answer, "ok", json_object_new_boolean(false));
	json_text(answer, "error", text);
	json_text(answer, "code", code ? code : "EIO");
	return answer;
}

struct json_object *mt_json_event(const struct mt_event *event)
{
	struct json_object *object = json_object_new_object();

	json_number(object, "id", event->id);
	json_number(object, "time_ns", event->time_ns);
	json_text(object, "level", mt_event_level_name(event->level));
	json_text(object, "vm", event->vm);
	json_text(object, "text", event->text);
	return object;
}

struct json_object *mt_json_peeked(const struct mt_wire_peeked *msg)
{
	struct json_object *answer = mt_json_ok();
	char text[2 * MT_PEEK_MAX + 1] = "";

	for (uint32_t i = 0; i < msg->count; i++)
		snprintf(text + (size_t)i * 2, 3, "%02x", msg->data[i]);
	json_text(answer, "data", text);
	json_number(answer, "state", msg->state);
	json_number(answer, "place", msg->place);
	json_number(answer, "length", msg->length);
	return answer;
}

struct json_object *mt_json_sharer(const struct mt_vmrec *vm, uint64_t pages)
{
	struct json_object *object = json_object_new_object();

	json_text(object, "vm", vm->name);
	json_number(object, "pages", pages);
	return object;
}

struct json_object *mt_json_checked(const struct mt_wire_checked *msg)
{
	struct json_object *answer = mt_json_ok();
	char text[MT_WIRE_TEXT_MAX];

	memcpy(text, msg->text, sizeof(text));
	mt_text_clean(text);
	json_number(answer, "pages", msg->pages);
	json_number(answer, "violations", msg->violations);
	json_text(answer, "first", text);
	return answer;
}

static struct json_sums json_sums_of(const struct mt_vmrec *vm)
{
	const uint64_t *c = vm->stats;
	struct json_sums s = {0};
	uint64_t ballooned;

	s.memsize = mt_vm_memsize_pages(vm) * KIB_PER_PAGE;
	s.shared = (c[MT_C_ZERO] + c[MT_C_SHARED_FRAMES]) * KIB_PER_PAGE;
	s.shared_frames = c[MT_C_SHARED_FRAMES] * KIB_PER_PAGE;
	s.charge = mt_share_vm_charge(vm) * KIB_PER_PAGE;
	s.consumed = (c[MT_C_RESIDENT] + c[MT_C_NOMINATED]) * KIB_PER_PAGE;
	s.granted = s.consumed + s.shared;
	s.consumed += s.charge;
	/* the VM's own count and ours may be a moment apart */
	s.shared_saved = s.shared_frames > s.charge ? s.shared_frames - s.charge : 0;
	s.zero = c[MT_C_ZERO] * KIB_PER_PAGE;
	s.vmmemctl =
		(mt_balloon_size(vm, &ballooned) ? ballooned : c[MT_C_RELEASED]) * KIB_PER_PAGE;
	s.zipped = c[MT_C_ZIPPED] * KIB_PER_PAGE;
	s.zip_held = c[MT_C_ZIP_HELD] / 1024;
	s.zip_saved = s.zipped > s.zip_held ? s.zipped - s.zip_held : 0;
	s.swapused = c[MT_C_SWAPPED] * KIB_PER_PAGE;
	s.swapin = c[MT_C_SWAP_IN] * KIB_PER_PAGE;
	s.swapout = c[MT_C_SWAP_OUT] * KIB_PER_PAGE;
	s.overhead = c[MT_C_OVERHEAD] / 1024;
	s.held = c[MT_C_HELD] * KIB_PER_PAGE;
	return s;
}

static void json_counters(struct json_object *object, const uint64_t *counters)
{
	for (unsigned int i = 0; i < MT_COUNTER_MAX; i++) {
		uint64_t value = counters[i];

		if (mt_counter_info[i].kind == MT_COUNTER_PAGES)
			value *= KIB_PER_PAGE;
		else if (mt_counter_info[i].kind == MT_COUNTER_BYTES)
			value /= 1024;
		json_number(object, mt_counter_info[i].name, value);
	}
}

static struct json_object *json_regions(const struct mt_vmrec *vm)
{
	struct json_object *regions = json_object_new_array();

	for (unsigned int i = 0; i < vm->region_count; i++) {
		struct json_object *region;

		if (vm->regions[i].pending || vm->regions[i].unmanaged)
			continue;
		region = json_object_new_object();
		json_number(region, "addr", vm->regions[i].addr);
		json_number(region, "bytes", vm->regions[i].bytes);
		json_object_array_add(regions, region);
	}
	return regions;
}

static void json_vm_settings(struct json_object *object, const struct mt_vmrec *vm)
{
	const struct mt_vm_settings *settings = &vm->settings;

	json_number(object, "shares", mt_vm_shares(vm));
	json_number(object, "reservation", settings->reservation_bytes / 1024);
	json_number(object, "limit", settings->limit_bytes / 1024);
	json_number(object, "target_max", settings->target_max_bytes / 1024);
	json_number(object, "zip_max_pct", settings->zip_max_pct);
	json_text(object, "share_group", settings->share_group);
}

static uint64_t json_slack_pct(const uint64_t *counters)
{
	uint64_t held = counters[MT_C_ZIP_HELD], stored = counters[MT_C_ZIP_STORED];

	return stored && held > stored ? (held - stored) * 100 / stored : 0;
}

static uint64_t json_active(const struct mt_vmrec *vm, const struct mt_active *active,
			    unsigned int floor_pct)
{
	return mt_active_pages(active, mt_vm_memsize_pages(vm), floor_pct) * KIB_PER_PAGE;
}

struct json_object *mt_json_vm(const struct mt_vmrec *vm)
{
	const struct mt_sched_config *config = &vm->server->sched_config;
	struct json_object *object = json_object_new_object();
	struct json_sums s = json_sums_of(vm);

	json_text(object, "name", vm->name);
	json_number(object, "pid", (uint64_t)vm->pid);
	json_text(object, "state", mt_vm_state_name(mt_vm_state(vm)));
	json_text(object, "vmm", vm->vmm);
	json_text(object, "reason", vm->reason);
	json_vm_settings(object, vm);
	json_object_object_add(object, "regions", json_regions(vm));
	json_counters(object, vm->stats);
	/* the daemon's own books are what counts, and derived numbers replace raw ones */
	json_number(object, "grant", mt_account_pages(vm->account) * KIB_PER_PAGE);
	json_number(object, "target", vm->steer_pages * KIB_PER_PAGE);
	json_number(object, "swapSpace",
		    vm->swap_bytes ? vm->swap_bytes / 1024
				   : vm->stats[MT_C_SWAP_SLOTS] * KIB_PER_PAGE);
	json_number(object, "memsize", s.memsize);
	json_number(object, "granted", s.granted);
	json_number(object, "consumed", s.consumed);
	json_number(object, "sharedSaved", s.shared_saved);
	json_number(object, "shared", s.shared);
	json_number(object, "vmmemctl", s.vmmemctl);
	json_number(object, "zipSaved", s.zip_saved);
	json_number(object, "swapin", s.swapin);
	json_number(object, "swapout", s.swapout);
	json_number(object, "entitlement", vm->target_pages * KIB_PER_PAGE);
	json_number(object, "active", json_active(vm, &vm->touched, config->sample_active_pct_min));
	json_number(object, "activewrite",
		    json_active(vm, &vm->written, config->sample_dirtied_pct_min));
	json_number(object, "slack_pct", json_slack_pct(vm->stats));
	mt_balloon_json(vm, object);
	return object;
}

static void json_sums_add(struct json_sums *sum, const struct json_sums *vm)
{
	sum->memsize += vm->memsize;
	sum->granted += vm->granted;
	sum->consumed += vm->consumed;
	sum->shared += vm->shared;
	sum->zero += vm->zero;
	sum->vmmemctl += vm->vmmemctl;
	sum->zipped += vm->zipped;
	sum->zip_held += vm->zip_held;
	sum->zip_saved += vm->zip_saved;
	sum->swapused += vm->swapused;
	sum->swapin += vm->swapin;
	sum->swapout += vm->swapout;
	sum->overhead += vm->overhead;
	sum->held += vm->held;
	sum->charge += vm->charge;
	sum->shared_frames += vm->shared_frames;
}

static void json_host_pool(struct json_object *object, const struct mt_server *server,
			   const struct json_sums *sums)
{
	const struct mt_ledger *ledger = server->ledger;
	uint64_t pool = mt_ledger_pool(ledger) * KIB_PER_PAGE;
	uint64_t used =
		(mt_server_held_pages(server) + mt_ledger_own(ledger) + mt_ledger_common(ledger)) *
		KIB_PER_PAGE;

	json_number(object, "pool", pool);
	json_number(object, "granted_out", mt_ledger_granted(ledger) * KIB_PER_PAGE);
	json_number(object, "free", used < pool ? pool - used : 0);
	json_number(object, "ungranted", mt_ledger_ungranted(ledger) * KIB_PER_PAGE);
	json_number(object, "own", mt_ledger_own(ledger) * KIB_PER_PAGE);
	json_number(object, "held", mt_server_held_pages(server) * KIB_PER_PAGE);
	json_number(object, "heldMax", server->held_max_pages * KIB_PER_PAGE);
	json_number(object, "minfree",
		    mt_server_minfree_pages(server, mt_ledger_pool(ledger)) * KIB_PER_PAGE);
	json_text(object, "state", mt_state_name(server->sched.state.state));
	json_number(object, "vms", server->vm_count);
	json_number(object, "memsize", sums->memsize);
	json_number(object, "overcommit_pct",
		    sums->memsize > pool ? (sums->memsize - pool) * 100 / pool : 0);
}

static void json_host_sums(struct json_object *object, const struct json_sums *sums)
{
	json_number(object, "granted", sums->granted);
	json_number(object, "consumed", sums->consumed);
	json_number(object, "shared", sums->shared);
	/* frames that guest pages share; zero pages need none */
	json_number(object, "sharedcommon", sums->sharedcommon);
	json_number(object, "sharedSaved",
		    sums->shared_frames > sums->sharedcommon
			    ? sums->shared_frames - sums->sharedcommon
			    : 0);
	json_number(object, "zero", sums->zero);
	json_number(object, "vmmemctl", sums->vmmemctl);
	json_number(object, "zipped", sums->zipped);
	json_number(object, "zipHeld", sums->zip_held);
	json_number(object, "zipSaved", sums->zip_saved);
	json_number(object, "swapused", sums->swapused);
	json_number(object, "swapin", sums->swapin);
	json_number(object, "swapout", sums->swapout);
	json_number(object, "overhead", sums->overhead);
}

static struct json_object *json_settings(const struct mt_sched_config *config)
{
	struct json_object *settings = json_object_new_object();

	for (size_t i = 0; i < mt_settings_count; i++)
		json_number(settings, mt_settings[i].name,
			    mt_setting_value(&mt_settings[i], config));
	return settings;
}

struct json_object *mt_json_host(const struct mt_server *server)
{
	struct json_object *object = json_object_new_object();
	struct json_sums sums = {0};

	for (unsigned int i = 0; i < server->vm_count; i++) {
		struct json_sums vm = json_sums_of(server->vms[i]);

		json_sums_add(&sums, &vm);
	}
	/* each frame once, whoever uses it */
	sums.consumed -= sums.charge;
	sums.sharedcommon = mt_share_frames(server) * KIB_PER_PAGE;
	sums.consumed += sums.sharedcommon;
	json_host_pool(object, server, &sums);
	json_host_sums(object, &sums);
	json_object_object_add(object, "settings", json_settings(&server->sched_config));
	json_text(object, "swap_dir", server->config.swap_dir);
	json_object_object_add(object, "swap_encrypt",
			       json_object_new_boolean(server->config.swap_encrypt));
	json_number(object, "swap_dir_free",
		    mt_swap_dir_free_bytes(server->config.swap_dir) / 1024);
	json_number(object, "uptime_s",
		    (mt_server_now_ns(server) - server->started_ns) / MT_NS_PER_S);
	json_text(object, "version", MT_VERSION);
	json_number(object, "pid", (uint64_t)getpid());
	return object;
}
