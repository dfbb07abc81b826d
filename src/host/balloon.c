/* SPDX-License-Identifier: MIT */
/* balloon.c - poll, decide, tell; see balloon.h */
#include "host/balloon.h"
#include "base/size.h"
#include "host/balance.h"
#include "host/balloon_find.h"
#include "host/guest_stats.h"
#include "host/pause.h"
#include "host/qmp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BALLOON_KIB_PER_PAGE (MT_PAGE_SIZE / 1024)
/* With nothing to decide, reports and questions are so much rarer. */
#define BALLOON_IDLE_PART 5
/* A report is old when it is this many periods old, and a little. */
#define BALLOON_STALE_PERIODS 3
#define BALLOON_STALE_NS      (2 * MT_NS_PER_S)
/* A target that moves by less than this part of the guest is not worth a line in the events. */
#define BALLOON_EVENT_PART 32
/* How often a VM that starts is looked at. */
#define BALLOON_START_NS (200 * MT_NS_PER_MS)

struct mt_balloon {
	struct mt_server *server;
	struct mt_vmrec *vm;
	struct mt_qmp *qmp;
	struct mt_balloon_find find;

	unsigned int period_s; /* of the guest's reports, as QEMU was told; 0: not yet */
	unsigned int asked;    /* questions without answers */
	uint64_t poll_ns;

	bool size_known;
	uint64_t actual_bytes;   /* what the guest has left */
	uint64_t told_bytes;     /* what it was told to have */
	uint64_t reported_pages; /* in the balloon at the question before the last report */
	uint64_t polled_pages;   /* at the last question */
	struct mt_guest_stats stats;

	struct mt_balloon_order order;
	struct mt_balloon_state state;
	struct mt_balloon_decision decision;
	uint64_t event_pages;
	char fault[MT_WIRE_TEXT_MAX];   /* not said yet */
	uint64_t fault_ns;              /* when to say it */
	enum mt_balloon_why failed_why; /* said last; NO_NEED: none */
	bool failed_slow;
};

static uint64_t balloon_now_ns(void *ctx)
{
	const struct mt_balloon *balloon = ctx;

	return mt_server_now_ns(balloon->server);
}

static void balloon_arm(struct mt_balloon *balloon)
{
	uint64_t next_ns = mt_qmp_next_ns(balloon->qmp);

	if (balloon->fault[0])
		next_ns = MT_MIN(next_ns, balloon->fault_ns);
	if (mt_qmp_ready(balloon->qmp) && !balloon->asked)
		next_ns = MT_MIN(next_ns, balloon->poll_ns);
	mt_server_arm(balloon->server, next_ns);
}

/* All that the guest was given: managed or not, and more when QEMU says so. */
static uint64_t balloon_memsize_bytes(const struct mt_balloon *balloon)
{
	const struct mt_vmrec *vm = balloon->vm;
	uint64_t bytes = vm->base_pages * MT_PAGE_SIZE;

	for (unsigned int i = 0; i < vm->region_count; i++)
		bytes += vm->regions[i].bytes;
	return MT_MAX(bytes, balloon->actual_bytes);
}

static uint64_t balloon_size_pages(const struct mt_balloon *balloon)
{
	uint64_t memsize = balloon_memsize_bytes(balloon);

	return balloon->size_known ? (memsize - balloon->actual_bytes) / MT_PAGE_SIZE : 0;
}

/* Is anything going on that needs a report a second? The first one, too, is waited for. */
static bool balloon_busy(const struct mt_balloon *balloon)
{
	return !balloon->stats.reported || balloon->order.drive == MT_BALLOON_TAKE ||
	       balloon->state.target_pages || balloon_size_pages(balloon) > MT_BALLOON_GRAIN_PAGES;
}

static uint64_t balloon_period_ns(const struct mt_balloon *balloon)
{
	uint64_t period_ns = balloon->server->config.balloon_poll_ms * MT_NS_PER_MS;

	return balloon_busy(balloon) ? period_ns : period_ns * BALLOON_IDLE_PART;
}

static bool balloon_fresh(const struct mt_balloon *balloon)
{
	uint64_t period_ns = MT_MAX(balloon->period_s, 1) * MT_NS_PER_S;

	return mt_guest_stats_fresh(&balloon->stats,
				    BALLOON_STALE_PERIODS * period_ns + BALLOON_STALE_NS,
				    mt_server_now_ns(balloon->server));
}

static bool balloon_present(const struct mt_balloon *balloon)
{
	return mt_qmp_ready(balloon->qmp) && balloon->find.path[0] && balloon->size_known;
}

static void balloon_event(struct mt_balloon *balloon, enum mt_event_level level, const char *text)
{
	mt_server_event_limited(balloon->server, &balloon->vm->rate, level, balloon->vm->name,
				text);
}

static void balloon_told(void *ctx, struct json_object *value, const char *error)
{
	struct mt_balloon *balloon = ctx;
	char text[MT_WIRE_TEXT_MAX];

	if (!value) {
		snprintf(text, sizeof(text), "balloon: %.200s", error);
		mt_text_clean(text);
		balloon_event(balloon, MT_EVENT_WARNING, text);
	}
	balloon_arm(balloon);
}

/* Tells the balloon how much memory to leave to the guest. */
static void balloon_tell(struct mt_balloon *balloon, uint64_t pages)
{
	uint64_t memsize = balloon_memsize_bytes(balloon);
	uint64_t left = memsize - MT_MIN(pages * MT_PAGE_SIZE, memsize);
	struct json_object *arguments;

	if (left == balloon->told_bytes || !mt_qmp_ready(balloon->qmp))
		return;
	arguments = json_object_new_object();
	json_object_object_add(arguments, "value", json_object_new_uint64(left));
	if (!mt_qmp_ask(balloon->qmp, "balloon", arguments, balloon_told, balloon))
		balloon->told_bytes = left;
}

static void balloon_target_event(struct mt_balloon *balloon)
{
	uint64_t before = balloon->event_pages, now = balloon->decision.target_pages;
	uint64_t moved = now > before ? now - before : before - now;
	uint64_t part = balloon_memsize_bytes(balloon) / MT_PAGE_SIZE / BALLOON_EVENT_PART;
	char from[MT_SIZE_TEXT_MAX], to[MT_SIZE_TEXT_MAX], text[MT_WIRE_TEXT_MAX];

	if (before == now || (moved < part && now && before))
		return;
	balloon->event_pages = now;
	snprintf(text, sizeof(text), "balloon %s -> %s: %s",
		 mt_size_text(before * MT_PAGE_SIZE, from), mt_size_text(now * MT_PAGE_SIZE, to),
		 mt_balloon_why_text(balloon->decision.why));
	balloon_event(balloon, MT_EVENT_INFO, text);
}

/* Said once for each reason, until it works again. */
static void balloon_failed_event(struct mt_balloon *balloon)
{
	const struct mt_balloon_decision *decision = &balloon->decision;
	bool needed = balloon->order.drive == MT_BALLOON_TAKE &&
		      mt_balance_used(balloon->vm) > balloon->order.fit_pages;
	bool failed = decision->slow || decision->why >= MT_BALLOON_UNSAFE;
	char text[MT_WIRE_TEXT_MAX];

	if (!needed)
		return;
	if (decision->works)
		balloon->failed_why = MT_BALLOON_NO_NEED;
	if (!failed ||
	    (balloon->failed_why == decision->why && balloon->failed_slow == decision->slow))
		return;
	balloon->failed_why = decision->why;
	balloon->failed_slow = decision->slow;
	snprintf(text, sizeof(text), "balloon: %s: pages are compressed and swapped instead",
		 decision->slow ? "slower than wanted" : mt_balloon_why_text(decision->why));
	balloon_event(balloon, MT_EVENT_INFO, text);
}

/* The monitor may rely on the balloon, or no longer; not before it has been told a target. */
static void balloon_steer(const struct mt_balloon *balloon)
{
	if (balloon->vm->target_known)
		mt_balance_steer(balloon->vm);
}

static void balloon_decide(struct mt_balloon *balloon)
{
	uint64_t before = balloon->state.target_pages, back;
	const uint64_t *value = balloon->stats.value;
	struct mt_balloon_guest guest = {
		.drive = balloon->order.drive,
		.max_pct = balloon->server->sched_config.ctl_max_pct,
		.present = balloon_present(balloon),
		.deflates_on_oom = balloon->find.deflates_on_oom,
		.fresh = balloon_fresh(balloon),
		.total_pages = balloon->stats.total_max_bytes / MT_PAGE_SIZE,
		.available_pages = value[MT_GUEST_USABLE] / MT_PAGE_SIZE,
		.swapped_in_pages = balloon->stats.swapped_in_bytes / MT_PAGE_SIZE,
		.memsize_pages = balloon_memsize_bytes(balloon) / MT_PAGE_SIZE,
		.ballooned_pages = balloon_size_pages(balloon),
		.reported_pages = balloon->reported_pages,
		.used_pages = mt_balance_used(balloon->vm),
		.fit_pages = balloon->order.fit_pages,
		.spare_pages = balloon->order.spare_pages};

	balloon->decision =
		mt_balloon_decide(&balloon->state, &guest, mt_server_now_ns(balloon->server));
	/* free memory is given out once */
	back = before - MT_MIN(before, balloon->state.target_pages);
	balloon->order.spare_pages -= MT_MIN(back, balloon->order.spare_pages);
	/* one report of swapping is one reason to back off */
	balloon->stats.swapped_in_bytes = 0;
	if (guest.present && guest.deflates_on_oom && guest.fresh) {
		balloon_tell(balloon, balloon->decision.target_pages);
		balloon_target_event(balloon);
	}
	balloon_failed_event(balloon);
}

static void balloon_size(struct mt_balloon *balloon, struct json_object *object)
{
	struct json_object *actual = NULL;

	if (!json_object_object_get_ex(object, "actual", &actual) ||
	    !json_object_is_type(actual, json_type_int))
		return;
	balloon->actual_bytes = MT_MIN(json_object_get_uint64(actual), MT_VM_BYTES_MAX);
	if (balloon->size_known)
		return;
	/* what somebody else, or an earlier daemon, put into it stays until there is a reason */
	balloon->size_known = true;
	balloon->told_bytes = balloon->actual_bytes;
	balloon->state = (struct mt_balloon_state){.target_pages = balloon_size_pages(balloon),
						   .taken_ns = mt_server_now_ns(balloon->server)};
	balloon->event_pages = balloon->state.target_pages;
}

static void balloon_on_size(void *ctx, struct json_object *value, const char *error)
{
	struct mt_balloon *balloon = ctx;

	(void)error;
	balloon->asked--;
	if (value)
		balloon_size(balloon, value);
	balloon_arm(balloon);
}

static void balloon_on_stats(void *ctx, struct json_object *value, const char *error)
{
	struct mt_balloon *balloon = ctx;
	uint64_t now_ns = mt_server_now_ns(balloon->server);

	(void)error;
	balloon->asked--;
	if (!value)
		balloon->find.path[0] = '\0'; /* unplugged: look again */
	else if (mt_guest_stats_take(&balloon->stats, value, now_ns))
		balloon->reported_pages = balloon->polled_pages;
	balloon->polled_pages = balloon_size_pages(balloon);
	balloon_decide(balloon);
	balloon_steer(balloon);
	balloon_arm(balloon);
}

static void balloon_on_period(void *ctx, struct json_object *value, const char *error)
{
	struct mt_balloon *balloon = ctx;

	(void)error;
	if (!value)
		balloon->period_s = 0;
	balloon_arm(balloon);
}

/* Has QEMU ask the guest's driver for a report so often. */
static void balloon_set_period(struct mt_balloon *balloon)
{
	uint64_t period_ns = balloon_period_ns(balloon);
	unsigned int period_s =
		(unsigned int)MT_MAX((period_ns + MT_NS_PER_S / 2) / MT_NS_PER_S, 1);
	struct json_object *arguments;

	if (balloon->period_s == period_s)
		return;
	arguments = json_object_new_object();
	json_object_object_add(arguments, "path", json_object_new_string(balloon->find.path));
	json_object_object_add(arguments, "property",
			       json_object_new_string("guest-stats-polling-interval"));
	json_object_object_add(arguments, "value", json_object_new_int64(period_s));
	if (!mt_qmp_ask(balloon->qmp, "qom-set", arguments, balloon_on_period, balloon))
		balloon->period_s = period_s;
}

static void balloon_ask(struct mt_balloon *balloon, const char *command,
			struct json_object *arguments, mt_qmp_answer_fn *answer)
{
	if (!mt_qmp_ask(balloon->qmp, command, arguments, answer, balloon))
		balloon->asked++;
}

static void balloon_found(void *ctx)
{
	struct mt_balloon *balloon = ctx;

	balloon->asked--;
	balloon->poll_ns = mt_server_now_ns(balloon->server);
	if (!balloon->find.path[0]) {
		balloon->poll_ns += balloon_period_ns(balloon);
		balloon_decide(balloon);
		balloon_steer(balloon);
	}
	balloon_arm(balloon);
}

static void balloon_poll(struct mt_balloon *balloon)
{
	struct json_object *arguments;

	balloon->poll_ns = mt_server_now_ns(balloon->server) + balloon_period_ns(balloon);
	if (!balloon->find.path[0]) {
		if (!mt_balloon_find(&balloon->find, balloon->qmp, balloon_found, balloon))
			balloon->asked++;
		return;
	}
	balloon_set_period(balloon);
	balloon_ask(balloon, "query-balloon", NULL, balloon_on_size);
	arguments = json_object_new_object();
	json_object_object_add(arguments, "path", json_object_new_string(balloon->find.path));
	json_object_object_add(arguments, "property", json_object_new_string("guest-stats"));
	balloon_ask(balloon, "qom-get", arguments, balloon_on_stats);
}

static void balloon_on_ready(void *ctx)
{
	struct mt_balloon *balloon = ctx;

	balloon->poll_ns = mt_server_now_ns(balloon->server);
	mt_pause_ready(balloon->vm);
	balloon_arm(balloon);
}

/* Retries keep these rare enough to go around the limit for events that a peer causes. */
static void balloon_say_fault(struct mt_balloon *balloon)
{
	if (balloon->fault[0])
		mt_events_add(balloon->server->events, MT_EVENT_WARNING, balloon->vm->name, "%s",
			      balloon->fault);
	balloon->fault[0] = '\0';
}

/* The balloon is out of reach: whatever it was to bring must be had otherwise. */
static void balloon_on_fault(void *ctx, const char *what, uint32_t retry_ms)
{
	struct mt_balloon *balloon = ctx;

	balloon_say_fault(balloon);
	mt_pause_cut(balloon->vm, what);
	balloon->asked = 0;
	balloon->period_s = 0;
	balloon->find.path[0] = '\0';
	/* said a little later: a VMM that ends hangs up first, and that is no news */
	snprintf(balloon->fault, sizeof(balloon->fault), "QMP: %.160s; trying again in %u ms", what,
		 retry_ms);
	mt_text_clean(balloon->fault);
	balloon->fault_ns = mt_server_now_ns(balloon->server) + retry_ms * MT_NS_PER_MS;
	balloon_decide(balloon);
	balloon_steer(balloon);
	balloon_arm(balloon);
}

/* What the old guest said does not hold for the new one, and a booting guest needs its memory. */
static void balloon_restart(struct mt_balloon *balloon, int64_t at_s)
{
	if (balloon->state.target_pages)
		balloon_event(balloon, MT_EVENT_INFO, "the guest starts anew: balloon let go");
	mt_guest_stats_reset(&balloon->stats, at_s);
	balloon->state = (struct mt_balloon_state){0};
	balloon->event_pages = 0;
	balloon_tell(balloon, 0);
	balloon_decide(balloon);
	balloon_steer(balloon);
}

static void balloon_on_event(void *ctx, const char *name, int64_t at_s, struct json_object *data)
{
	struct mt_balloon *balloon = ctx;

	if (!strcmp(name, "RESET"))
		balloon_restart(balloon, at_s);
	else if (!strcmp(name, "BALLOON_CHANGE") && balloon->size_known && data)
		balloon_size(balloon, data);
	balloon_arm(balloon);
}

static const struct mt_qmp_ops balloon_qmp_ops = {.ready = balloon_on_ready,
						  .fault = balloon_on_fault,
						  .event = balloon_on_event,
						  .now_ns = balloon_now_ns};

void mt_balloon_start(struct mt_server *server, struct mt_vmrec *vm)
{
	const struct mt_qmp_config config = {.timeout_ms = server->config.qmp_timeout_ms,
					     .retry_ms = server->config.qmp_retry_ms};
	struct mt_balloon *balloon;
	struct mt_err err = {0};

	if (!vm->qmp_path[0] || vm->balloon)
		return;
	balloon = calloc(1, sizeof(*balloon));
	if (balloon) {
		balloon->server = server;
		balloon->vm = vm;
		balloon->qmp =
			mt_qmp_new(server->loop, vm->qmp_path, vm->qmp_pid ? vm->qmp_pid : vm->pid,
				   &config, &balloon_qmp_ops, balloon, &err);
	}
	if (!balloon || !balloon->qmp) {
		free(balloon);
		mt_events_add(server->events, MT_EVENT_WARNING, vm->name,
			      "no memory for its balloon");
		return;
	}
	vm->balloon = balloon;
	mt_server_arm(server, mt_server_now_ns(server));
}

void mt_balloon_stop(struct mt_vmrec *vm)
{
	if (!vm->balloon)
		return;
	mt_qmp_free(vm->balloon->qmp);
	free(vm->balloon);
	vm->balloon = NULL;
}

void mt_balloon_expire(struct mt_server *server)
{
	for (unsigned int i = 0; i < server->vm_count; i++) {
		struct mt_balloon *balloon = server->vms[i]->balloon;

		if (!balloon)
			continue;
		/* before its memory is there, QEMU does not serve its socket */
		if (mt_vm_state(server->vms[i]) == MT_VM_STARTING) {
			mt_server_arm(server, mt_server_now_ns(server) + BALLOON_START_NS);
			continue;
		}
		if (balloon->fault_ns <= mt_server_now_ns(server))
			balloon_say_fault(balloon);
		mt_qmp_expire(balloon->qmp);
		if (mt_qmp_ready(balloon->qmp) && !balloon->asked &&
		    balloon->poll_ns <= mt_server_now_ns(server))
			balloon_poll(balloon);
		mt_pause_ready(server->vms[i]);
		balloon_arm(balloon);
	}
}

void mt_balloon_drive(struct mt_vmrec *vm, const struct mt_balloon_order *order)
{
	struct mt_balloon *balloon = vm->balloon;

	if (!balloon)
		return;
	if (order->drive == MT_BALLOON_TAKE && balloon->order.drive != MT_BALLOON_TAKE)
		balloon->poll_ns = mt_server_now_ns(balloon->server);
	balloon->order = *order;
	balloon_decide(balloon);
	balloon_arm(balloon);
}

struct mt_qmp *mt_balloon_qmp(const struct mt_vmrec *vm)
{
	return vm->balloon ? vm->balloon->qmp : NULL;
}

bool mt_balloon_works(const struct mt_vmrec *vm)
{
	return vm->balloon && vm->balloon->decision.works;
}

uint64_t mt_balloon_most(const struct mt_vmrec *vm)
{
	uint64_t others;

	if (!vm->balloon)
		return 0;
	others = balloon_memsize_bytes(vm->balloon) / MT_PAGE_SIZE - mt_vm_memsize_pages(vm);
	return mt_minus(vm->balloon->decision.most_pages, others);
}

bool mt_balloon_guest_short(const struct mt_vmrec *vm)
{
	return vm->balloon && vm->balloon->decision.guest_short;
}

bool mt_balloon_size(const struct mt_vmrec *vm, uint64_t *ret_pages)
{
	if (!vm->balloon || !vm->balloon->size_known)
		return false;
	*ret_pages = balloon_size_pages(vm->balloon);
	return true;
}

/* One word for people and tests. */
static const char *balloon_word(const struct mt_balloon *balloon)
{
	if (!balloon)
		return "none";
	if (!mt_qmp_ready(balloon->qmp))
		return "unreachable";
	if (!balloon_present(balloon))
		return "absent";
	if (!balloon->find.deflates_on_oom)
		return "unsafe";
	return balloon_fresh(balloon) ? "working" : "silent";
}

static void balloon_number(struct json_object *object, const char *key, uint64_t kib)
{
	json_object_object_add(object, key, json_object_new_uint64(kib));
}

void mt_balloon_json(const struct mt_vmrec *vm, struct json_object *object)
{
	const struct mt_balloon *balloon = vm->balloon;
	uint64_t pages = 0, released = vm->stats[MT_C_RELEASED], cap = 0;
	bool known = mt_balloon_size(vm, &pages);
	struct json_object *guest;

	if (known)
		cap = mt_balloon_cap(balloon->stats.total_max_bytes / MT_PAGE_SIZE,
				     balloon->server->sched_config.ctl_max_pct);
	json_object_object_add(object, "balloon", json_object_new_string(balloon_word(balloon)));
	json_object_object_add(object, "qmp", json_object_new_string(vm->qmp_path));
	balloon_number(object, "vmmemctltarget",
		       known ? balloon->state.target_pages * BALLOON_KIB_PER_PAGE : 0);
	balloon_number(object, "vmmemctlmax", cap * BALLOON_KIB_PER_PAGE);
	balloon_number(object, "reportedFree",
		       known && released > pages ? (released - pages) * BALLOON_KIB_PER_PAGE : 0);
	if (!known)
		return;
	guest = json_object_new_object();
	balloon_number(guest, "actual", balloon->actual_bytes / 1024);
	mt_guest_stats_json(&balloon->stats, balloon_fresh(balloon), guest);
	json_object_object_add(object, "guest", guest);
}
