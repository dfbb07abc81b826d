/* SPDX-License-Identifier: MIT */
/* monitor_msgs.c - dispatch, and the messages of a few lines; see monitor_msgs.h */
#include "host/monitor_msgs.h"
#include "base/size.h"
#include "host/balance.h"
#include "host/client.h"
#include "host/monitor_hello.h"
#include "host/monitor_region.h"
#include "host/pause.h"
#include "host/registry.h"
#include "host/share.h"

#include <stdio.h>
#include <string.h>

/* No number a VM reports can be larger; sums over all VMs stay within 64 bits. */
#define STATS_VALUE_MAX (1ULL << 48)

static void msgs_failed(struct mt_link *link)
{
	struct mt_vmrec *vm = link->vm;

	vm->failed = true;
	snprintf(vm->reason, sizeof(vm->reason),
		 "%llu pages were lost; the VM is stopped, restart it from its disk or a backup",
		 (unsigned long long)vm->stats[MT_C_FAILED]);
	mt_events_add(link->server->events, MT_EVENT_ERROR, vm->name, "%s", vm->reason);
	mt_pause(vm);
}

/* A monitor above its grant breaks the pool's promise: a bug of ours, or worse. Said once each
 * time. */
static void msgs_check_held(struct mt_link *link)
{
	struct mt_vmrec *vm = link->vm;
	uint64_t grant = mt_account_pages(vm->account);
	/* Before its first region a VM has no grant, but its monitor has some bookkeeping. */
	bool over = grant && vm->stats[MT_C_HELD] > grant;
	char held[MT_SIZE_TEXT_MAX], may[MT_SIZE_TEXT_MAX], text[MT_WIRE_TEXT_MAX];

	if (over && !vm->over_grant) {
		snprintf(text, sizeof(text), "holds %s (%llu pages), granted are %s (%llu pages)",
			 mt_size_text(vm->stats[MT_C_HELD] * MT_PAGE_SIZE, held),
			 (unsigned long long)vm->stats[MT_C_HELD],
			 mt_size_text(grant * MT_PAGE_SIZE, may), (unsigned long long)grant);
		mt_server_event_limited(link->server, &vm->rate, MT_EVENT_WARNING, vm->name, text);
	}
	vm->over_grant = over;
}

/* Did the VM have to give up pages of its own to bring others in? @before: its counters then. */
static bool msgs_pressing(const struct mt_vmrec *vm, const uint64_t *before)
{
	static const enum mt_counter grown[] = {MT_C_FAULT_NEW, MT_C_FAULT_ZIPPED,
						MT_C_FAULT_SHARED, MT_C_FAULT_SWAPPED};
	uint64_t grant = mt_account_pages(vm->account);

	if (!vm->stats_known)
		return false;
	if (vm->stats[MT_C_FAULT_WAITED] > before[MT_C_FAULT_WAITED])
		return true;
	if (vm->stats[MT_C_HELD] + 2 * mt_balance_gap_pages(grant) < grant)
		return false;
	for (size_t i = 0; i < MT_ARRAY_SIZE(grown); i++)
		if (vm->stats[grown[i]] > before[grown[i]])
			return true;
	return false;
}

static void msgs_active(struct mt_active *active, const uint64_t *now, const uint64_t *before,
			enum mt_counter hits, enum mt_counter hits_now, double period_s)
{
	uint64_t watched = now[MT_C_SAMPLE_WATCHED] - before[MT_C_SAMPLE_WATCHED];

	/* counts that went back are another monitor's, or nonsense: then nothing is known */
	if (now[MT_C_SAMPLE_PERIODS] > before[MT_C_SAMPLE_PERIODS] &&
	    now[MT_C_SAMPLE_WATCHED] >= before[MT_C_SAMPLE_WATCHED] && now[hits] >= before[hits])
		mt_active_end(active, watched, now[hits] - before[hits], period_s);
	mt_active_watch(active, now[MT_C_SAMPLE_NOW_WATCHED], now[hits_now]);
}

/* The counts of the sample, turned into estimates. */
static void msgs_sample(struct mt_vmrec *vm, const uint64_t *before)
{
	double period_s = vm->server->sched_config.sample_period_s;

	msgs_active(&vm->touched, vm->stats, before, MT_C_SAMPLE_TOUCHED, MT_C_SAMPLE_NOW_TOUCHED,
		    period_s);
	msgs_active(&vm->written, vm->stats, before, MT_C_SAMPLE_WRITTEN, MT_C_SAMPLE_NOW_WRITTEN,
		    period_s);
}

static void msgs_stats(struct mt_link *link, const struct mt_wire_stats *stats)
{
	struct mt_server *server = link->server;
	struct mt_vmrec *vm = link->vm;
	uint64_t lost = vm->stats[MT_C_FAILED];
	uint64_t before[MT_COUNTER_MAX], held;

	memcpy(before, vm->stats, sizeof(before));
	for (unsigned int i = 0; i < MT_COUNTER_MAX; i++) {
		uint64_t value = i < stats->count ? stats->value[i] : 0;

		vm->stats[i] = MT_MIN(value, STATS_VALUE_MAX);
	}
	if (vm->stats[MT_C_FAILED] > lost)
		msgs_failed(link);
	msgs_check_held(link);
	if (stats->count > MT_C_MEMSIZE)
		mt_region_compare(vm, vm->stats[MT_C_MEMSIZE]);
	vm->pressing = msgs_pressing(vm, before);
	/* the first ones after a reconnection cover an unknown time */
	if (vm->stats_known || !before[MT_C_SAMPLE_PERIODS])
		msgs_sample(vm, before);
	vm->stats_known = true;
	if (vm->pressing || !before[MT_C_DIRECT_IO] != !vm->stats[MT_C_DIRECT_IO])
		mt_sched_press(&server->sched);
	held = mt_server_held_pages(server);
	server->held_max_pages = MT_MAX(server->held_max_pages, held);
}

static void msgs_grant_return(struct mt_link *link, const struct mt_wire_grant_return *msg)
{
	struct mt_server *server = link->server;
	struct mt_vmrec *vm = link->vm;

	if (mt_registry_returned(vm, msg->pages)) {
		mt_link_break(link, "dropped: returned %llu pages and was granted %llu",
			      (unsigned long long)msg->pages,
			      (unsigned long long)mt_account_pages(vm->account));
		return;
	}
	mt_balance_again(server);
}

static void msgs_event(struct mt_link *link, const struct mt_wire_event *event)
{
	enum mt_event_level level = MT_EVENT_INFO;

	if (event->level == MT_EVENT_WARNING || event->level == MT_EVENT_ERROR)
		level = (enum mt_event_level)event->level;
	mt_server_event_limited(link->server, &link->vm->rate, level, link->vm->name, event->text);
}

static void msgs_bye(struct mt_link *link)
{
	mt_registry_remove(link->server, link->vm, "left management");
}

static void msgs_share(struct mt_link *link, enum mt_wire_type type, const union mt_wire_msg *msg,
		       int passed)
{
	if (type == MT_WIRE_SHARE_OFFER)
		mt_share_offered(link, &msg->share_offer);
	else if (type == MT_WIRE_SHARE_LOOK)
		mt_share_looked(link, &msg->share_look);
	else if (type == MT_WIRE_SHARE_PAGE)
		mt_share_page(link, &msg->share_page);
	else if (type == MT_WIRE_SHARE_RELEASE)
		mt_share_released(link, &msg->share_release);
	else
		mt_share_kept(link, &msg->share_keep, passed);
}

static void msgs_dispatch(struct mt_link *link, enum mt_wire_type type,
			  const union mt_wire_msg *msg, int passed)
{
	switch (type) {
	case MT_WIRE_HELLO:
		mt_monitor_hello(link, &msg->hello, passed);
		break;
	case MT_WIRE_REGION_ADD:
		mt_region_add(link, &msg->region_add);
		break;
	case MT_WIRE_REGION_DEL:
		mt_region_del(link, &msg->region_del);
		break;
	case MT_WIRE_UNMANAGED:
		mt_region_unmanaged(link, &msg->unmanaged);
		break;
	case MT_WIRE_STATS:
		msgs_stats(link, &msg->stats);
		break;
	case MT_WIRE_GRANT_RETURN:
		msgs_grant_return(link, &msg->grant_return);
		break;
	case MT_WIRE_EVENT:
		msgs_event(link, &msg->event);
		break;
	case MT_WIRE_CHECKED:
		mt_client_checked(link->server, link->vm, &msg->checked);
		break;
	case MT_WIRE_PEEKED:
		mt_client_peeked(link->server, link->vm, &msg->peeked);
		break;
	case MT_WIRE_BYE:
		msgs_bye(link);
		break;
	case MT_WIRE_SHARE_OFFER:
	case MT_WIRE_SHARE_LOOK:
	case MT_WIRE_SHARE_PAGE:
	case MT_WIRE_SHARE_RELEASE:
	case MT_WIRE_SHARE_KEEP:
		msgs_share(link, type, msg, passed);
		break;
	case MT_WIRE_SHARE_START:
	case MT_WIRE_SHARE_ANSWER:
	case MT_WIRE_SHARE_AGAIN:
	case MT_WIRE_SHARE_LOOKED:
	case MT_WIRE_WELCOME:
	case MT_WIRE_REFUSED:
	case MT_WIRE_REGION_OK:
	case MT_WIRE_GRANT_ADD:
	case MT_WIRE_TARGET:
	case MT_WIRE_SETTINGS:
	case MT_WIRE_CHECK:
	case MT_WIRE_PEEK:
	default:
		mt_link_break(link, "dropped: sent a daemon's message");
	}
}

void mt_monitor_message(struct mt_link *link, const union mt_wire_msg *msg, int passed)
{
	enum mt_wire_type type = (enum mt_wire_type)msg->head.type;

	if (!link->vm != (type == MT_WIRE_HELLO)) {
		mt_link_break(link, "dropped: process %d sent %s %s HELLO", (int)link->pid,
			      mt_wire_type_name(type), link->vm ? "after its" : "before a");
		return;
	}
	msgs_dispatch(link, type, msg, passed);
}
