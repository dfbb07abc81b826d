/* SPDX-License-Identifier: MIT */
/* scheduler.c - claims, targets, where to steer, and the numbers behind it; see scheduler.h */
#include "policy/scheduler.h"
#include "policy/minfree.h"

#define NS_PER_S 1000000000ULL

static struct mt_tax sched_tax(const struct mt_sched_config *config)
{
	return (struct mt_tax){.rate_pct = config->idle_tax_pct,
			       .kind = (enum mt_tax_kind)config->idle_tax_type};
}

void mt_sched_touch(struct mt_sched *sched)
{
	sched->touched = true;
}

void mt_sched_press(struct mt_sched *sched)
{
	sched->pressed = true;
}

bool mt_sched_due(const struct mt_sched *sched, const struct mt_sched_config *config,
		  const struct mt_sched_host *host, uint64_t now_ns)
{
	struct mt_state_rules rules = mt_sched_config_rules(config);
	struct mt_state state = sched->state;

	if (!sched->started || sched->touched ||
	    now_ns - sched->decided_ns >= config->balance_period_s * NS_PER_S)
		return true;
	if (sched->pressed && now_ns - sched->decided_ns >= MT_SCHED_PRESS_NS)
		return true;
	return mt_state_update(&state, &rules,
			       mt_minfree_pages(host->pool_pages, config->min_free_pct),
			       host->free_pages, now_ns);
}

uint64_t mt_sched_next_ns(const struct mt_sched *sched, const struct mt_sched_config *config,
			  const struct mt_sched_host *host)
{
	struct mt_state_rules rules = mt_sched_config_rules(config);
	uint64_t next = sched->decided_ns + config->balance_period_s * NS_PER_S;
	uint64_t ease;

	if (!sched->started || sched->touched)
		return 0;
	if (sched->pressed)
		next = MT_MIN(next, sched->decided_ns + MT_SCHED_PRESS_NS);
	ease = mt_state_next_ns(&sched->state, &rules,
				mt_minfree_pages(host->pool_pages, config->min_free_pct),
				host->free_pages);
	return MT_MIN(next, ease);
}

static bool sched_state(struct mt_sched *sched, const struct mt_state_rules *rules,
			uint64_t minfree_pages, uint64_t free_pages, uint64_t now_ns)
{
	if (!sched->started) {
		sched->state = mt_state_start(rules, minfree_pages, free_pages, now_ns);
		return true;
	}
	return mt_state_update(&sched->state, rules, minfree_pages, free_pages, now_ns);
}

static uint64_t sched_growth(const struct mt_sched_config *config, const struct mt_sched_vm *vm,
			     uint64_t available_pages)
{
	uint64_t growth =
		MT_MAX(vm->used_pages / 100 * config->growth_pct, MT_SCHED_GROWTH_MIN_PAGES);

	if (!vm->pressing)
		return growth;
	return MT_MAX(growth, MT_MAX(vm->used_pages, available_pages / 8));
}

static uint64_t sched_cap(const struct mt_sched_vm *vm)
{
	uint64_t cap = vm->memsize_pages ? vm->memsize_pages + vm->overhead_pages : 0;

	cap = MT_MIN(cap, vm->limit_pages);
	return MT_MIN(cap, vm->target_max_pages);
}

/* A VM's claims; see scheduler.h. */
static struct mt_ent_vm sched_claims(const struct mt_sched_config *config,
				     const struct mt_sched_vm *vm, uint64_t available_pages)
{
	uint64_t used = MT_MIN(vm->used_pages, vm->memsize_pages);
	uint64_t grown = used + sched_growth(config, vm, available_pages);
	uint64_t cap = sched_cap(vm);
	/* one that had to give up pages within its reservation was not given it in time: all now */
	uint64_t reserved = vm->pressing ? vm->memsize_pages : grown;
	uint64_t floor = MT_MIN(vm->reservation_pages, reserved) + vm->overhead_pages;
	uint64_t want = grown + vm->overhead_pages;

	floor = MT_MIN(MT_MAX(floor, MT_POLICY_START_PAGES), cap);
	want = MT_MIN(MT_MAX(want, floor), cap);
	return (struct mt_ent_vm){
		.shares = MT_MIN(vm->shares, MT_ENT_SHARES_MAX),
		.active_pages = MT_MIN(vm->active_pages, vm->memsize_pages) + vm->overhead_pages,
		.floor_pages = floor,
		.want_pages = want,
		.cap_pages = cap,
	};
}

/* What @vm's floor lacks of what can't be taken from it. */
static uint64_t sched_fixed_more(const struct mt_sched_config *config, const struct mt_sched_vm *vm,
				 const struct mt_ent_vm *claims, uint64_t available_pages)
{
	uint64_t held = vm->held_pages + sched_growth(config, vm, available_pages);
	uint64_t fixed = MT_MIN(vm->fixed_pages, held);

	return mt_minus(MT_MIN(fixed, claims->cap_pages), claims->floor_pages);
}

/* Raises the floors of VMs whose pages can't be moved away, by what the floors of all leave. */
static void sched_fix(const struct mt_sched_config *config, const struct mt_sched_vm *vms,
		      struct mt_ent_vm *work, size_t count, uint64_t available_pages)
{
	uint64_t floors = 0, more = 0, room;

	for (size_t i = 0; i < count; i++) {
		floors += work[i].floor_pages;
		more += sched_fixed_more(config, &vms[i], &work[i], available_pages);
	}
	room = mt_minus(available_pages, floors);
	for (size_t i = 0; more && i < count; i++) {
		uint64_t part = sched_fixed_more(config, &vms[i], &work[i], available_pages);

		if (more > room)
			part = (uint64_t)((unsigned __int128)part * room / more);
		work[i].floor_pages += part;
		work[i].want_pages = MT_MAX(work[i].want_pages, work[i].floor_pages);
	}
}

/* Why the target is what it is, as far as the VM's own numbers tell. */
static enum mt_why sched_why(const struct mt_sched_vm *vm, const struct mt_ent_vm *claims,
			     bool plenty)
{
	uint64_t target = claims->target_pages;

	if (target < claims->floor_pages)
		return MT_WHY_SHORT;
	if (target == claims->cap_pages)
		return target < vm->memsize_pages + vm->overhead_pages ? MT_WHY_LIMIT : MT_WHY_ALL;
	if (plenty)
		return target == claims->want_pages ? MT_WHY_WANT : MT_WHY_SPARE;
	if (target == claims->want_pages)
		return MT_WHY_WANT;
	if (target == claims->floor_pages && target <= vm->fixed_pages)
		return MT_WHY_FIXED;
	if (target == claims->floor_pages)
		return vm->reservation_pages ? MT_WHY_RESERVATION : MT_WHY_MINIMUM;
	return MT_WHY_SHARES; /* decided by price; which way is seen later */
}

static uint64_t sched_bound(const struct mt_sched_vm *vm, const struct mt_ent_vm *claims,
			    enum mt_why why)
{
	if (why == MT_WHY_LIMIT)
		return claims->cap_pages;
	if (why == MT_WHY_FIXED)
		return MT_MIN(vm->held_pages, vm->fixed_pages);
	if (why == MT_WHY_RESERVATION)
		return vm->reservation_pages;
	return vm->used_pages;
}

/* What @vm pays for what it had before, and what for after. */
static void sched_reason(const struct mt_tax *tax, struct mt_sched_vm *vm,
			 const struct mt_ent_vm *claims, bool plenty)
{
	uint64_t before = vm->target_pages;
	uint64_t idle = mt_minus(before, claims->active_pages);
	struct mt_sched_reason *reason = &vm->reason;

	*reason = (struct mt_sched_reason){
		.why = sched_why(vm, claims, plenty),
		.before_pages = before,
		.after_pages = claims->target_pages,
		.idle_pct = before ? (unsigned int)(idle * 100 / before) : 0,
		.idle_cost = 1.0,
		.rho = mt_ent_rho(tax, claims->shares, claims->active_pages, before),
	};
	reason->bound_pages = sched_bound(vm, claims, reason->why);
	if (idle)
		reason->idle_cost = (mt_ent_charge(tax, claims->active_pages, before) -
				     (double)claims->active_pages) /
				    (double)idle;
	if (reason->why != MT_WHY_SHARES)
		return;
	if (claims->target_pages >= before)
		reason->why = MT_WHY_GAIN;
	else if (idle && reason->idle_cost > 1.0)
		reason->why = MT_WHY_TAX;
}

/* To whom memory went, and from whom it came: the price nearest to a VM's own on the other side. */
static void sched_compare(struct mt_sched_vm *vms, size_t count)
{
	double gained = 0.0, lost = 0.0;

	for (size_t i = 0; i < count; i++) {
		const struct mt_sched_reason *reason = &vms[i].reason;

		if (!reason->before_pages)
			continue;
		if (reason->after_pages > reason->before_pages &&
		    (gained <= 0.0 || reason->rho < gained))
			gained = reason->rho;
		if (reason->after_pages < reason->before_pages && reason->rho > lost)
			lost = reason->rho;
	}
	for (size_t i = 0; i < count; i++) {
		struct mt_sched_reason *reason = &vms[i].reason;

		reason->rho_next = reason->after_pages < reason->before_pages ? gained : lost;
	}
}

/* Free memory beyond minFree for each VM that could do with more. */
static uint64_t sched_spare(const struct mt_sched_host *host, uint64_t minfree_pages,
			    const struct mt_sched_vm *vms, size_t count)
{
	uint64_t pressing = 0;

	for (size_t i = 0; i < count; i++)
		pressing += vms[i].pressing;
	return mt_minus(host->free_pages, minfree_pages) / MT_MAX(pressing, 1);
}

/* See scheduler.h: nobody gives up memory that nobody needs, nor does it lie about unused. */
static uint64_t sched_steer(const struct mt_sched_vm *vm, const struct mt_ent_vm *claims,
			    bool reclaim, uint64_t spare_pages)
{
	uint64_t may = vm->held_pages + (vm->pressing ? spare_pages : 0);

	if (reclaim || may <= claims->target_pages)
		return claims->target_pages;
	return MT_MIN(may, claims->cap_pages);
}

struct mt_sched_decision mt_sched_decide(struct mt_sched *sched,
					 const struct mt_sched_config *config,
					 const struct mt_sched_host *host, struct mt_sched_vm *vms,
					 struct mt_ent_vm *work, size_t count, uint64_t now_ns)
{
	struct mt_state_rules rules = mt_sched_config_rules(config);
	struct mt_tax tax = sched_tax(config);
	struct mt_sched_decision decision = {
		.minfree_pages = mt_minfree_pages(host->pool_pages, config->min_free_pct)};
	uint64_t wants = 0, keep = host->own_pages + decision.minfree_pages;
	uint64_t spare = sched_spare(host, decision.minfree_pages, vms, count);
	bool reclaim;

	decision.state_changed =
		sched_state(sched, &rules, decision.minfree_pages, host->free_pages, now_ns);
	decision.state = sched->state.state;
	decision.actions =
		mt_state_actions(decision.state, &rules, decision.minfree_pages, host->free_pages);
	decision.available_pages = mt_minus(host->pool_pages, keep);
	for (size_t i = 0; i < count; i++)
		work[i] = sched_claims(config, &vms[i], decision.available_pages);
	sched_fix(config, vms, work, count, decision.available_pages);
	for (size_t i = 0; i < count; i++)
		wants += work[i].want_pages;
	decision.targets_pages = mt_ent_share_out(&tax, decision.available_pages, work, count);
	reclaim = host->waiting || decision.state >= MT_HOST_SOFT;
	for (size_t i = 0; i < count; i++) {
		sched_reason(&tax, &vms[i], &work[i], wants <= decision.available_pages);
		vms[i].steer_pages = sched_steer(&vms[i], &work[i], reclaim, spare);
		vms[i].target_pages = work[i].target_pages;
		vms[i].blocked = (decision.actions & MT_ACT_BLOCK) &&
				 vms[i].held_pages > vms[i].target_pages;
	}
	sched_compare(vms, count);
	*sched = (struct mt_sched){.started = true, .state = sched->state, .decided_ns = now_ns};
	return decision;
}
