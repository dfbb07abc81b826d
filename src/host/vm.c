/* SPDX-License-Identifier: MIT */
/* vm.c - numbers and names that follow from a VM's record; see vm.h */
#include "host/vm.h"

#define MIB (1ULL << 20)

bool mt_vm_in_place(const struct mt_vmrec *vm)
{
	return vm->stats_known && vm->stats[MT_C_DIRECT_IO];
}

uint64_t mt_vm_memsize_pages(const struct mt_vmrec *vm)
{
	uint64_t pages = vm->base_pages;

	for (unsigned int i = 0; i < vm->region_count; i++)
		if (!vm->regions[i].unmanaged)
			pages += vm->regions[i].bytes / MT_PAGE_SIZE;
	return pages;
}

static uint64_t vm_limit_pages(uint64_t bytes)
{
	return bytes ? MT_MAX(bytes / MT_PAGE_SIZE, 1) : MT_POLICY_NO_LIMIT;
}

struct mt_policy_vm mt_vm_policy(const struct mt_vmrec *vm)
{
	const struct mt_vm_settings *settings = &vm->settings;

	return (struct mt_policy_vm){
		.memsize_pages = mt_vm_memsize_pages(vm),
		.reservation_pages = mt_pages_of_bytes(settings->reservation_bytes),
		.limit_pages = vm_limit_pages(settings->limit_bytes),
		.target_max_pages = vm_limit_pages(settings->target_max_bytes)};
}

uint64_t mt_vm_start_pages(const struct mt_vmrec *vm)
{
	struct mt_policy_vm policy = mt_vm_policy(vm);
	uint64_t cap = mt_policy_cap(&policy);

	return MT_MIN(cap, MT_POLICY_START_PAGES);
}

struct mt_admit_vm mt_vm_admission(const struct mt_vmrec *vm, const struct mt_vm_settings *settings)
{
	uint64_t memsize = vm ? mt_vm_memsize_pages(vm) : 0;
	uint64_t reservation = mt_pages_of_bytes(settings->reservation_bytes);

	return (struct mt_admit_vm){.memsize_pages = memsize ? memsize : reservation,
				    .reservation_pages = reservation,
				    .limit_pages = vm_limit_pages(settings->limit_bytes),
				    .swap_pages = vm ? vm->swap_bytes / MT_PAGE_SIZE : 0};
}

uint64_t mt_vm_promise_pages(const struct mt_vmrec *vm)
{
	struct mt_admit_vm admission;

	MT_ASSERT(vm);
	admission = mt_vm_admission(vm, &vm->settings);
	/* before it has memory its reservation is kept for it all the same */
	return admission.memsize_pages ? mt_admit_promise(&admission) : 0;
}

uint64_t mt_vm_shares(const struct mt_vmrec *vm)
{
	if (vm->settings.shares)
		return vm->settings.shares;
	return mt_vm_memsize_pages(vm) * MT_PAGE_SIZE / MIB * vm->settings.shares_per_mib;
}

uint64_t mt_vm_swap_bytes_wanted(const struct mt_vmrec *vm, uint64_t reservation_bytes)
{
	uint64_t bytes = mt_vm_memsize_pages(vm) * MT_PAGE_SIZE;
	uint64_t reserved = mt_align_down(reservation_bytes, MT_PAGE_SIZE);

	return bytes > reserved ? bytes - reserved : 0;
}

static bool vm_has_managed(const struct mt_vmrec *vm)
{
	if (vm->base_pages)
		return true;
	for (unsigned int i = 0; i < vm->region_count; i++)
		if (!vm->regions[i].unmanaged && !vm->regions[i].pending)
			return true;
	return false;
}

enum mt_vm_state mt_vm_state(const struct mt_vmrec *vm)
{
	if (vm->failed)
		return MT_VM_FAILED;
	if (!vm->pid)
		return MT_VM_STARTING;
	if (!vm->link)
		return MT_VM_AWAY;
	if (vm_has_managed(vm))
		return MT_VM_RUNNING;
	if (vm->refused)
		return MT_VM_REFUSED;
	return vm->unmanaged ? MT_VM_UNMANAGED : MT_VM_STARTING;
}

const char *mt_vm_state_name(enum mt_vm_state state)
{
	switch (state) {
	case MT_VM_STARTING:
		return "starting";
	case MT_VM_RUNNING:
		return "running";
	case MT_VM_UNMANAGED:
		return "unmanaged";
	case MT_VM_REFUSED:
		return "refused";
	case MT_VM_FAILED:
		return "failed";
	case MT_VM_AWAY:
		return "away";
	}
	return "starting";
}
