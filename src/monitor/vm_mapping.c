/* SPDX-License-Identifier: MIT */
/*
 * vm_mapping.c - the VMM changes the mappings under its guest memory
 *
 * The kernel tells us nothing when a VMM unmaps guest RAM, maps something else over it, or moves
 * it. What comes there next is not watched by our userfaultfd: a page moved out of it would read as
 * zeros, and so would a page that is out when its place moves away. So the map must learn of the
 * change in the same moment: the system call is made by the pager itself, in the turn in which it
 * forgets the pages. In no other order is it safe: between the two another thread may map memory in
 * the hole, and the hand of nomination would find pages there that look like the guest's (I10).
 */
#include "monitor/vm_internal.h"
#include "monitor/restore.h"

#include <errno.h>

struct vm_replace_work {
	uintptr_t first;
	uintptr_t last;
	int (*change)(void *ctx);
	void *ctx;
	bool partly; /* of some region a part is left */
	int rc;
};

static uintptr_t region_end(const struct mt_region *region)
{
	return (uintptr_t)region->base + (region->pages << MT_PAGE_SHIFT);
}

/* The part of @region in the range has gone. Return: has the region gone, too? */
static bool replace_region(struct mt_pager *pager, const struct mt_region *region,
			   struct vm_replace_work *work)
{
	uintptr_t start = MT_MAX((uintptr_t)region->base, work->first);
	uintptr_t end = MT_MIN(region_end(region), work->last);

	if (start >= end)
		return false;
	mt_share_forget_maps(pager, mt_region_gpn(region, start), (end - start) >> MT_PAGE_SHIFT);
	if (start == (uintptr_t)region->base && end == region_end(region)) {
		mt_vm_region_forget(pager, region);
		return true;
	}
	mt_discard_range(pager, mt_region_gpn(region, start), (end - start) >> MT_PAGE_SHIFT);
	mt_staging_flush(&pager->staging);
	work->partly = true;
	return false;
}

static bool vm_replace_run(struct mt_pager *pager, void *arg)
{
	struct vm_replace_work *work = arg;

	work->rc = work->change(work->ctx);
	for (uint32_t i = 0; !work->rc && i < pager->regions.count;)
		if (!replace_region(pager, &pager->regions.region[i], work))
			i++;
	return true;
}

/* Regions within the range are gone from the map: tell everyone else. */
static void vm_replace_publish(struct mt_vm *vm, const struct vm_replace_work *work)
{
	for (uint32_t i = 0; i < MT_REGIONS_MAX; i++) {
		uintptr_t start = atomic_load(&vm->range[i].start);
		uintptr_t end = atomic_load(&vm->range[i].end);

		if (!end || start < work->first || end > work->last)
			continue;
		mt_vm_unpublish(vm, start);
		mt_vm_tell_gone(vm, start, end - start);
	}
	if (work->partly)
		mt_vm_tell(vm, "the VMM replaced or unmapped part of its guest memory");
}

int mt_vm_replace(struct mt_vm *vm, void *addr, size_t bytes, int (*change)(void *ctx), void *ctx)
{
	struct vm_replace_work work = {.first = (uintptr_t)addr,
				       .last = (uintptr_t)addr + mt_align_up(bytes, MT_PAGE_SIZE),
				       .change = change,
				       .ctx = ctx};

	/* The kernel is going to refuse this one. */
	if (!bytes || work.first & (MT_PAGE_SIZE - 1) || work.last <= work.first)
		return change(ctx);
	pthread_mutex_lock(&vm->lock);
	mt_command(&vm->pager, vm_replace_run, &work);
	if (!work.rc)
		vm_replace_publish(vm, &work);
	pthread_mutex_unlock(&vm->lock);
	return work.rc;
}

/* Brings the region's pages back, and in the turn in which the last one is there forgets them. */
static bool vm_let_go_run(struct mt_pager *pager, void *arg)
{
	struct mt_restore *restore = arg;
	const struct mt_region *region;

	if (!mt_restore_some(pager, restore))
		return false;
	pager->leaving = false;
	region = mt_region_of_addr(&pager->regions, (uintptr_t)restore->only);
	if (!region || restore->failed_pages)
		return true;
	mt_vm_region_forget(pager, region);
	return true;
}

static int vm_let_go_region(struct mt_vm *vm, uintptr_t start, uintptr_t end)
{
	struct mt_restore restore = {.only = (void *)start};

	mt_command(&vm->pager, vm_let_go_run, &restore);
	if (restore.failed_pages)
		return -EIO;
	mt_uffd_unregister(&vm->uffd, (void *)start, end - start);
	mt_vm_unpublish(vm, start);
	mt_vm_tell_gone(vm, start, end - start);
	mt_vm_tell(vm, "the VMM moves guest memory to another address: it is managed no longer");
	return 0;
}

int mt_vm_let_go(struct mt_vm *vm, void *addr, size_t bytes)
{
	uintptr_t first = (uintptr_t)addr;
	int rc = 0;

	pthread_mutex_lock(&vm->lock);
	for (uint32_t i = 0; !rc && i < MT_REGIONS_MAX; i++) {
		uintptr_t start = atomic_load(&vm->range[i].start);
		uintptr_t end = atomic_load(&vm->range[i].end);

		if (end && start < first + bytes && first < end)
			rc = vm_let_go_region(vm, start, end);
	}
	pthread_mutex_unlock(&vm->lock);
	return rc;
}
