/* SPDX-License-Identifier: MIT */
/* balance.c - one round of balancing; see balance.h */
#include "host/balance.h"
#include "base/size.h"
#include "host/balance_balloon.h"
#include "host/balloon.h"
#include "host/monitor_link.h"
#include "host/monitor_region.h"
#include "host/state_file.h"

#include <stdlib.h>

/* Grants come in pieces of at least this, unless less reaches the target: 256 KiB. */
#define BALANCE_QUANTUM_PAGES 64
/* A target that moves by less than this part of itself is not worth a line in the events. */
#define BALANCE_EVENT_PART 32
/* The timer is not armed for less than this: 10 ms. */
#define BALANCE_SOONEST_NS 10000000ULL

void mt_balance_want(struct mt_server *server)
{
	server->balance_due = true;
	mt_sched_touch(&server->sched);
}

void mt_balance_again(struct mt_server *server)
{
	server->balance_due = true;
}

uint64_t mt_balance_gap_pages(uint64_t grant_pages)
{
	return MT_MAX(64, MT_MIN(grant_pages >> 6, 2048));
}

/* What a VM holds, the room that its monitor keeps for faults included: it must not be asked to
 * give that up. Until it has told us, all it may. */
uint64_t mt_balance_held(const struct mt_vmrec *vm)
{
	uint64_t grant = mt_account_pages(vm->account);

	if (!vm->stats_known)
		return grant;
	return MT_MIN(grant, vm->stats[MT_C_HELD] + mt_balance_gap_pages(grant));
}

/* Guest pages with contents of their own, wherever they are. */
uint64_t mt_balance_used(const struct mt_vmrec *vm)
{
	const uint64_t *c = vm->stats;
	uint64_t empty =
		c[MT_C_UNTOUCHED] + c[MT_C_RELEASED] + c[MT_C_ZERO] + c[MT_C_SHARED_FRAMES];

	return vm->stats_known ? mt_minus(c[MT_C_MEMSIZE], empty) : mt_vm_memsize_pages(vm);
}

static struct mt_sched_host balance_host(const struct mt_server *server)
{
	uint64_t pool = mt_ledger_pool(server->ledger);
	/* shared frames are nobody's alone */
	uint64_t own = mt_ledger_own(server->ledger) + mt_ledger_common(server->ledger);
	uint64_t minfree = mt_server_minfree_pages(server, pool), held = 0;

	for (unsigned int i = 0; i < server->vm_count; i++) {
		const struct mt_vmrec *vm = server->vms[i];

		/* nobody can be told to give up memory while away: the others share the rest */
		if (!vm->link)
			own += mt_account_pages(vm->account);
		else
			held += vm->stats_known ? vm->stats[MT_C_HELD]
						: mt_account_pages(vm->account);
	}
	return (struct mt_sched_host){.pool_pages = pool,
				      /* on a small host a starting VM needs more than minFree */
				      .own_pages =
					      own + mt_minus(MT_STARTER_RESERVE_PAGES, minfree),
				      .free_pages = mt_minus(pool, own + held),
				      .waiting = server->balance_waiting};
}

/* While a file is open for I/O that the kernel does not tell of, only the balloon takes pages: the
 * least that it makes the VM fit; see balance_fit() in balance_balloon.c. */
static uint64_t balance_fixed(const struct mt_vmrec *vm)
{
	uint64_t memsize = mt_vm_memsize_pages(vm), least;

	if (!mt_vm_in_place(vm))
		return 0;
	least = mt_minus(memsize, mt_balloon_most(vm)) + mt_overhead_pages(memsize);
	return least + mt_balance_gap_pages(least);
}

/* Nothing is sampled while no page may leave its place: what is not known counts as in use. */
static uint64_t balance_active(const struct mt_server *server, const struct mt_vmrec *vm)
{
	uint64_t memsize = mt_vm_memsize_pages(vm);

	if (mt_vm_in_place(vm))
		return memsize;
	return mt_active_pages(&vm->touched, memsize, server->sched_config.sample_active_pct_min);
}

static struct mt_sched_vm balance_vm(const struct mt_server *server, const struct mt_vmrec *vm)
{
	struct mt_policy_vm policy = mt_vm_policy(vm);

	return (struct mt_sched_vm){.memsize_pages = policy.memsize_pages,
				    .overhead_pages = mt_overhead_pages(policy.memsize_pages),
				    .reservation_pages = policy.reservation_pages,
				    .limit_pages = policy.limit_pages,
				    .target_max_pages = policy.target_max_pages,
				    .shares = mt_vm_shares(vm),
				    .active_pages = balance_active(server, vm),
				    .used_pages = mt_balance_used(vm),
				    .held_pages = mt_balance_held(vm),
				    .fixed_pages = balance_fixed(vm),
				    .pressing = vm->pressing || mt_balloon_guest_short(vm),
				    .target_pages = vm->target_pages};
}

static void balance_target_event(struct mt_server *server, struct mt_vmrec *vm,
				 const struct mt_sched_reason *reason)
{
	uint64_t before = vm->event_pages, now = vm->target_pages;
	uint64_t moved = now > before ? now - before : before - now;
	char from[MT_SIZE_TEXT_MAX], to[MT_SIZE_TEXT_MAX], why[MT_SCHED_TEXT_MAX];

	if (before && moved < MT_MAX(before / BALANCE_EVENT_PART, 1))
		return;
	vm->event_pages = now;
	if (before)
		mt_events_add(server->events, MT_EVENT_INFO, vm->name, "target %s -> %s: %s",
			      mt_size_text(before * MT_PAGE_SIZE, from),
			      mt_size_text(now * MT_PAGE_SIZE, to), mt_sched_why_text(reason, why));
}

static void balance_set_target(struct mt_server *server, struct mt_vmrec *vm,
			       const struct mt_sched_vm *decided)
{
	vm->target_pages = decided->target_pages;
	vm->blocked = decided->blocked;
	vm->decided_pages = decided->steer_pages;
	vm->limited = decided->reason.why == MT_WHY_LIMIT;
	balance_target_event(server, vm, &decided->reason);
}

void mt_balance_steer(struct mt_vmrec *vm)
{
	uint64_t steer = mt_balance_soften(vm);
	union mt_wire_msg msg;

	if (!vm->link || (vm->target_known && vm->steer_pages == steer))
		return;
	vm->steer_pages = steer;
	vm->target_known = true;
	mt_wire_init(&msg, MT_WIRE_TARGET, 0);
	msg.target.pages = vm->steer_pages;
	mt_link_send(vm->link, &msg, -1);
}

static void balance_state_event(struct mt_server *server, const struct mt_sched_host *host,
				enum mt_host_state before, const struct mt_sched_decision *decision)
{
	char free_text[MT_SIZE_TEXT_MAX], minfree[MT_SIZE_TEXT_MAX];

	if (decision->state == before)
		return;
	mt_events_add(server->events,
		      decision->state >= MT_HOST_HARD ? MT_EVENT_WARNING : MT_EVENT_INFO, NULL,
		      "memory state %s -> %s: %s free, minFree is %s", mt_state_name(before),
		      mt_state_name(decision->state),
		      mt_size_text(host->free_pages * MT_PAGE_SIZE, free_text),
		      mt_size_text(decision->minfree_pages * MT_PAGE_SIZE, minfree));
}

static void balance_targets(struct mt_server *server, const struct mt_sched_host *host)
{
	enum mt_host_state before = server->sched.state.state;
	struct mt_sched_decision decision;
	size_t count = 0;

	for (unsigned int i = 0; i < server->vm_count; i++)
		if (server->vms[i]->link)
			server->sched_vms[count++] = balance_vm(server, server->vms[i]);
	decision = mt_sched_decide(&server->sched, &server->sched_config, host, server->sched_vms,
				   server->sched_work, count, mt_server_now_ns(server));
	balance_state_event(server, host, before, &decision);
	count = 0;
	for (unsigned int i = 0; i < server->vm_count; i++)
		if (server->vms[i]->link)
			balance_set_target(server, server->vms[i], &server->sched_vms[count++]);
	mt_balance_balloons(server, host, &decision);
	for (unsigned int i = 0; i < server->vm_count; i++)
		mt_balance_steer(server->vms[i]);
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
			mt_minus(mt_vm_start_pages(vms[i]), mt_account_pages(vms[i]->account));

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
	uint64_t goal;
	uint64_t fair; /* part of what there is by the fill */
};

/* Lowest grant-to-goal ratio first, by cross multiplication. */
static int balance_by_need(const void *a, const void *b)
{
	const struct balance_want *one = a, *two = b;
	unsigned __int128 left = (unsigned __int128)one->grant * two->goal;
	unsigned __int128 right = (unsigned __int128)two->grant * one->goal;

	if (left != right)
		return left < right ? -1 : 1;
	return one->vm->id < two->vm->id ? -1 : 1;
}

/* VMs below what they deserve, or with @beyond below what they may have of spare memory. */
static size_t balance_below(struct mt_server *server, bool beyond, struct balance_want *ret_wants,
			    struct mt_fill *ret_fills, uint64_t *ret_granted)
{
	size_t count = 0;

	*ret_granted = 0;
	for (unsigned int i = 0; i < server->vm_count; i++) {
		struct mt_vmrec *vm = server->vms[i];
		uint64_t grant = mt_account_pages(vm->account);
		uint64_t goal = vm->steer_pages;

		if (!beyond)
			goal = MT_MIN(goal, vm->target_pages);
		if (!vm->link || vm->link->broken || vm->blocked || grant >= goal)
			continue;
		ret_fills[count] = (struct mt_fill){.weight = goal, .floor = grant, .cap = goal};
		ret_wants[count++] = (struct balance_want){.vm = vm, .grant = grant, .goal = goal};
		*ret_granted += grant;
	}
	return count;
}

/* Hands out what is not granted, but for @keep pages. */
static void balance_hand_out(struct mt_server *server, uint64_t keep, bool beyond)
{
	struct balance_want wants[MT_VMS_MAX];
	struct mt_fill fills[MT_VMS_MAX];
	uint64_t left = mt_minus(mt_ledger_ungranted(server->ledger), keep), granted = 0;
	size_t count = balance_below(server, beyond, wants, fills, &granted);

	if (!left || !count)
		return;
	mt_fill_proportional(granted + left, fills, count);
	for (size_t i = 0; i < count; i++)
		wants[i].fair = fills[i].got - wants[i].grant;
	qsort(wants, count, sizeof(wants[0]), balance_by_need);
	for (size_t i = 0; i < count && left; i++) {
		uint64_t need = wants[i].goal - wants[i].grant;
		uint64_t piece = MT_MAX(wants[i].fair, BALANCE_QUANTUM_PAGES);

		piece = MT_MIN(piece, need);
		if (piece > left)
			break;
		balance_plan(server, wants[i].vm, piece);
		left -= piece;
	}
}

/*
 * The cushion of minFree is there for VMs that are owed memory while others still give it up; what
 * goes beyond anybody's target must leave it alone.
 */
static void balance_others(struct mt_server *server, uint64_t waiting)
{
	uint64_t minfree = mt_server_minfree_pages(server, mt_ledger_pool(server->ledger));

	balance_hand_out(server, waiting + MT_STARTER_RESERVE_PAGES, false);
	balance_hand_out(server, waiting + MT_MAX(minfree, MT_STARTER_RESERVE_PAGES), true);
}

/*
 * Is @vm below its target and about to need more than its grant? A VM that has room to grow is not
 * worth taking memory from others for, even if it deserves more.
 */
static bool balance_short(const struct mt_vmrec *vm)
{
	uint64_t grant = mt_account_pages(vm->account);
	uint64_t goal = MT_MIN(vm->target_pages, vm->steer_pages);

	if (!vm->link || vm->link->broken || grant >= goal)
		return false;
	return vm->pressing ||
	       grant < MT_MIN(goal, mt_balance_held(vm) + MT_SCHED_GROWTH_MIN_PAGES);
}

/* Whoever is short makes the next decision one that takes from those above their targets; the first
 * time at once. */
static void balance_note_waiting(struct mt_server *server, uint64_t starters)
{
	bool waiting = starters > 0;

	for (unsigned int i = 0; !waiting && i < server->vm_count; i++)
		waiting = balance_short(server->vms[i]);
	if (waiting && !server->balance_waiting)
		mt_sched_touch(&server->sched);
	else if (waiting)
		mt_sched_press(&server->sched);
	server->balance_waiting = waiting;
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

static void balance_arm(struct mt_server *server, const struct mt_sched_host *host)
{
	uint64_t next = mt_sched_next_ns(&server->sched, &server->sched_config, host);

	mt_server_arm(server, MT_MAX(next, mt_server_now_ns(server) + BALANCE_SOONEST_NS));
}

bool mt_balance_run(struct mt_server *server)
{
	struct mt_sched_host host = balance_host(server);
	bool decide = mt_sched_due(&server->sched, &server->sched_config, &host,
				   mt_server_now_ns(server));
	uint64_t waiting;

	if (!server->balance_due && !decide) {
		balance_arm(server, &host);
		return false;
	}
	server->balance_due = false;
	if (decide)
		balance_targets(server, &host);
	waiting = balance_starters(server);
	balance_others(server, waiting);
	balance_note_waiting(server, waiting);
	if (mt_state_file_secure(server)) {
		balance_take_back(server);
		return true;
	}
	balance_send_grants(server);
	for (unsigned int i = 0; i < server->vm_count; i++)
		mt_region_answer(server, server->vms[i]);
	return true;
}
