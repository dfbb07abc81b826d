/* SPDX-License-Identifier: MIT */
/* balance_balloon.c - see balance_balloon.h */
#include "host/balance_balloon.h"
#include "host/balance.h"
#include "host/balloon.h"

static enum mt_balloon_drive balance_drive(const struct mt_vmrec *vm, bool reclaim,
					   const struct mt_sched_decision *decision)
{
	if (vm->limited)
		return MT_BALLOON_TAKE;
	if (!reclaim)
		return MT_BALLOON_EASE;
	/* then the others are paged instead, but this one can't be */
	if (decision->state >= MT_HOST_HARD && !(decision->actions & MT_ACT_BALLOON) &&
	    !mt_vm_in_place(vm))
		return MT_BALLOON_HOLD;
	return MT_BALLOON_TAKE;
}

/* Room for guest pages within what @vm is steered to: not for bookkeeping, nor what is kept free
 * for faults. */
static uint64_t balance_fit(const struct mt_vmrec *vm)
{
	uint64_t overhead = mt_overhead_pages(mt_vm_memsize_pages(vm));

	return mt_minus(vm->decided_pages, overhead + mt_balance_gap_pages(vm->decided_pages));
}

void mt_balance_balloons(struct mt_server *server, const struct mt_sched_host *host,
			 const struct mt_sched_decision *decision)
{
	bool reclaim = host->waiting || decision->state >= MT_HOST_SOFT;
	uint64_t spare = mt_minus(host->free_pages, decision->minfree_pages);
	uint64_t size, balloons = 0;

	server->paging = decision->state >= MT_HOST_HARD;
	for (unsigned int i = 0; i < server->vm_count; i++)
		balloons += mt_balloon_size(server->vms[i], &size) && size;
	for (unsigned int i = 0; i < server->vm_count; i++) {
		struct mt_vmrec *vm = server->vms[i];
		struct mt_balloon_order order = {.drive = balance_drive(vm, reclaim, decision),
						 .fit_pages = balance_fit(vm),
						 .spare_pages = spare / MT_MAX(balloons, 1)};

		/* nothing is known of what a VM without managed memory may have */
		if (!vm->link || !mt_vm_memsize_pages(vm))
			order = (struct mt_balloon_order){.drive = MT_BALLOON_HOLD};
		mt_balloon_drive(vm, &order);
	}
}

uint64_t mt_balance_soften(struct mt_vmrec *vm)
{
	uint64_t held = mt_balance_held(vm);

	if (vm->server->paging || !mt_balloon_works(vm)) {
		vm->soft_pages = 0;
		return vm->decided_pages;
	}
	vm->soft_pages = vm->soft_pages ? MT_MIN(vm->soft_pages, held) : held;
	return MT_MAX(vm->decided_pages, vm->soft_pages);
}
