/* SPDX-License-Identifier: MIT */
/* balance.c - one round of balancing; see balance.h */
#include "host/balance.h"
#include "base/size.h"
#include "host/monitor_link.h"
#include "host/monitor_region.h"
#include "host/state_file.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* Grants come in pieces of at least this, unless less reaches the target: 256 KiB. */
#define BALANCE_QUANTUM_PAGES 64
/* A target that moves by less than this part of itself is not worth a line in the events. */
#define BALANCE_EVENT_PART 32

void mt_balance_want(struct mt_server *server, const char *fmt, ...)
{
	va_list args;

	server->balance_due = true;
	if (server->balance_why[0])
		return;
	va_start(args, fmt);
	vsnprintf(server->balance_why, sizeof(server->balance_why), fmt, args);
	va_end(args);
}

void mt_balance_again(struct mt_server *server)
{
	server->balance_due = true;
}

static uint64_t balance_minus(uint64_t from, uint64_t take)
{
	return from > take ? from - take : 0;
}

/* Connected VMs as items of a fill. @ret_vms and @ret_fills have room for all. Return: their
 * number. */
static size_t balance_collect(struct mt_server *server, struct mt_vmrec **ret_vms,
			      struct mt_fill *ret_fills, uint64_t *ret_away_pages)
{
	size_t count = 0;

	*ret_away_pages = 0;
	for (unsigned int i = 0; i < server->vm_count; i++) {
		struct mt_vmrec *vm = server->vms[i];
		struct mt_policy_vm policy = mt_vm_policy(vm);

		if (!vm->link) {
			*ret_away_pages += mt_account_pages(vm->account);
			continue;
		}
		ret_vms[count] = vm;
		ret_fills[count++] = mt_policy_fill(&policy);
	}
	return count;
}

static void balance_target_event(struct mt_server *server, const struct mt_vmrec *vm,
				 uint64_t before)
{
	uint64_t now = vm->target_pages;
	uint64_t moved = now > before ? now - before : before - now;
	char from[MT_SIZE_TEXT_MAX], to[MT_SIZE_TEXT_MAX];

	if (!before || !server->balance_why[0] || moved < before / BALANCE_EVENT_PART)
		return;
	mt_events_add(server->events, MT_EVENT_INFO, vm->name, "target %s -> %s: %s",
		      mt_size_text(before * MT_PAGE_SIZE, from),
		      mt_size_text(now * MT_PAGE_SIZE, to), server->balance_why);
}

static void balance_set_target(struct mt_server *server, struct mt_vmrec *vm, uint64_t pages)
{
	uint64_t before = vm->target_pages;
	union mt_wire_msg msg;

	if (vm->target_known && before == pages)
		return;
	vm->target_pages = pages;
	vm->target_known = true;
	mt_wire_init(&msg, MT_WIRE_TARGET, 0);
	msg.target.pages = pages;
	mt_link_send(vm->link, &msg, -1);
	if (before != pages)
		balance_target_event(server, vm, before);
}

static void balance_targets(struct mt_server *server)
{
	struct mt_vmrec *vms[MT_VMS_MAX];
	struct mt_fill fills[MT_VMS_MAX];
	uint64_t room = mt_server_room_pages(server, mt_ledger_pool(server->ledger));
	uint64_t away = 0;
	size_t count = balance_collect(server, vms, fills, &away);

	/* nobody can be told to give up memory while away: the others share the rest */
	mt_fill_proportional(balance_minus(room, away), fills, count);
	for (size_t i = 0; i < count; i++)
		balance_set_target(server, vms[i], fills[i].got);
}

static int balance_by_deadline(const void *a, const void *b)
{
	uint64_t one = mt_region_waiting(*(struct mt_vmrec *const *)a);
	uint64_t two = mt_region_waiting(*(struct mt_vmrec *const *)b);

	return one < two ? -1 : one > two;
}

/* Puts @pages more on the books for @vm; sent later. */
static void balance_plan(struct mt_server *server, struct mt_vmrec *vm, uint64_t pages)
{
	if (!pages)
		return;
	MT_ASSERT(!mt_ledger_grant(server->ledger, vm->account, pages));
	vm->plan_pages += pages;
}

/* First come, first served. Return: what those still waiting need, to be kept for them. */
static uint64_t balance_starters(struct mt_server *server)
{
	struct mt_vmrec *vms[MT_VMS_MAX];
	size_t count = 0;
	uint64_t waiting = 0;

	for (unsigned int i = 0; i < server->vm_count; i++)
		if (server->vms[i]->link && !server->vms[i]->link->broken &&
		    mt_region_waiting(server->vms[i]))
			vms[count++] = server->vms[i];
	qsort(vms, count, sizeof(vms[0]), balance_by_deadline);
	for (size_t i = 0; i < count; i++) {
		uint64_t need =
			balance_minus(mt_vm_start_pages(vms[i]), mt_account_pages(vms[i]->account));

		if (waiting + need <= mt_ledger_ungranted(server->ledger))
			balance_plan(server, vms[i], need);
		else
			waiting += need;
	}
	return waiting;
}

struct balance_want {
	struct mt_vmrec *vm;
	uint64_t grant;
	uint64_t fair; /* part of what there is by the fill */
};

/* Lowest grant-to-target ratio first, by cross multiplication. */
static int balance_by_need(const void *a, const void *b)
{
	const struct balance_want *one = a, *two = b;
	unsigned __int128 left = (unsigned __int128)one->grant * two->vm->target_pages;
	unsigned __int128 right = (unsigned __int128)two->grant * one->vm->target_pages;

	if (left != right)
		return left < right ? -1 : 1;
	return one->vm->id < two->vm->id ? -1 : 1;
}

static size_t balance_below_target(struct mt_server *server, struct balance_want *ret_wants,
				   struct mt_fill *ret_fills, uint64_t *ret_granted)
{
	size_t count = 0;

	*ret_granted = 0;
	for (unsigned int i = 0; i < server->vm_count; i++) {
		struct mt_vmrec *vm = server->vms[i];
		uint64_t grant = mt_account_pages(vm->account);

		if (!vm->link || vm->link->broken || grant >= vm->target_pages)
			continue;
		ret_fills[count] = (struct mt_fill){
			.weight = vm->target_pages, .floor = grant, .cap = vm->target_pages};
		ret_wants[count++] = (struct balance_want){.vm = vm, .grant = grant};
		*ret_granted += grant;
	}
	return count;
}

static void balance_others(struct mt_server *server, uint64_t waiting)
{
	struct balance_want wants[MT_VMS_MAX];
	struct mt_fill fills[MT_VMS_MAX];
	uint64_t keep = waiting + MT_STARTER_RESERVE_PAGES, granted = 0;
	uint64_t left = balance_minus(mt_ledger_ungranted(server->ledger), keep);
	size_t count = balance_below_target(server, wants, fills, &granted);

	if (!left || !count)
		return;
	mt_fill_proportional(granted + left, fills, count);
	for (size_t i = 0; i < count; i++)
		wants[i].fair = fills[i].got - wants[i].grant;
	qsort(wants, count, sizeof(wants[0]), balance_by_need);
	for (size_t i = 0; i < count && left; i++) {
		uint64_t need = wants[i].vm->target_pages - wants[i].grant;
		uint64_t piece = MT_MAX(wants[i].fair, BALANCE_QUANTUM_PAGES);

		piece = MT_MIN(piece, need);
		if (piece > left)
			break;
		balance_plan(server, wants[i].vm, piece);
		left -= piece;
	}
}

/* The books and the state file know of it; now the monitors may. */
static void balance_send_grants(struct mt_server *server)
{
	union mt_wire_msg msg;

	for (unsigned int i = 0; i < server->vm_count; i++) {
		struct mt_vmrec *vm = server->vms[i];

		if (!vm->plan_pages)
			continue;
		mt_wire_init(&msg, MT_WIRE_GRANT_ADD, 0);
		msg.grant_add.pages = vm->plan_pages;
		vm->plan_pages = 0;
		mt_link_send(vm->link, &msg, -1);
	}
}

/* Without the state file no grant goes out: a daemon started anew could give it out twice. */
static void balance_take_back(struct mt_server *server)
{
	for (unsigned int i = 0; i < server->vm_count; i++) {
		struct mt_vmrec *vm = server->vms[i];

		MT_ASSERT(!mt_ledger_return(server->ledger, vm->account, vm->plan_pages));
		vm->plan_pages = 0;
	}
}

bool mt_balance_run(struct mt_server *server)
{
	uint64_t waiting;

	if (!server->balance_due)
		return false;
	server->balance_due = false;
	if (server->balance_why[0])
		balance_targets(server);
	server->balance_why[0] = '\0';
	waiting = balance_starters(server);
	balance_others(server, waiting);
	if (mt_state_file_secure(server)) {
		balance_take_back(server);
		return true;
	}
	balance_send_grants(server);
	for (unsigned int i = 0; i < server->vm_count; i++)
		mt_region_answer(server, server->vms[i]);
	return true;
}
