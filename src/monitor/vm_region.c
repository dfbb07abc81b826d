/* SPDX-License-Identifier: MIT */
/*
 * vm_region.c - guest RAM comes under management, is given up, goes
 *
 * A region comes in three steps in one command, so that no touch falls between them and nobody
 * sees it half taken in: the pager gets to know it, faults are switched on, and what is there
 * already is taken in.
 */
#include "monitor/vm_internal.h"
#include "base/own_fds.h"
#include "sys/mapping.h"
#include "sys/swap_crypt.h"
#include "sys/swap_io.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Pages of a new region looked at in one turn: some 64 MiB each millisecond. */
#define VM_ADOPT_STEP 16384U
/* Writes that may be under way to an encrypted swap file; each takes a buffer of 128 KiB. */
#define VM_CRYPT_WRITES 6U

/* What a region command works on, and what came of it. */
struct vm_region_work {
	struct mt_vm *vm;
	struct mt_region region;
	uint64_t swap_pages; /* size of the swap file now */
	bool swap_encrypt;   /* if it is new, what is written to it is to be encrypted */
	uint64_t done_pages;
	struct mt_err *err;
	int rc;
};

static int vm_open_swap(struct mt_vm *vm, bool encrypt, struct mt_err *err)
{
	struct mt_swap_io io;
	int rc = mt_swap_io_new(vm->swap_fd, MT_SWAP_OPS * 2, vm->pager.event_fd, &io, err);

	if (rc)
		return rc;
	if (encrypt)
		rc = mt_swap_crypt_new(&io, VM_CRYPT_WRITES, MT_SWAP_STAGED_RUN, err);
	if (rc)
		mt_swap_io_free(&io);
	else
		vm->pager.swap = io;
	return rc;
}

/* The swap file has grown, or come into being. */
static int vm_take_swap(struct mt_vm *vm, const struct vm_region_work *work)
{
	struct mt_pager *pager = &vm->pager;
	uint64_t pages = work->swap_pages;
	int rc;

	if (vm->swap_fd < 0 || !pages)
		return 0;
	if (pages > UINT32_MAX - 1)
		return -EFBIG;
	if (pager->slots)
		return mt_slots_grow(pager->slots, (uint32_t)pages);
	rc = vm_open_swap(vm, work->swap_encrypt, work->err);
	if (rc)
		return rc;
	atomic_store_explicit(&pager->counter[MT_C_SWAP_ENCRYPTED], pager->swap.encrypted,
			      memory_order_relaxed);
	return mt_slots_new((uint32_t)pages, &pager->slots);
}

static int vm_region_insert(struct mt_pager *pager, struct vm_region_work *work)
{
	int rc = vm_take_swap(work->vm, work);

	if (!rc)
		rc = mt_map_extend(&pager->map, work->region.pages, &work->region.first);
	if (rc)
		return mt_err_set(work->err, rc, "take in the region: %s", strerror(-rc));
	rc = mt_region_insert(&pager->regions, &work->region);
	if (rc) {
		mt_map_retract(&pager->map, work->region.first, work->region.pages);
		return mt_err_set(work->err, rc, "take in the region: %s", strerror(-rc));
	}
	rc = mt_uffd_register(&work->vm->uffd, work->region.base,
			      work->region.pages << MT_PAGE_SHIFT, work->err);
	if (rc) {
		mt_region_delete(&pager->regions, work->region.base);
		mt_map_retract(&pager->map, work->region.first, work->region.pages);
	}
	return rc;
}

/* Pages that are in place already are the guest's: take them in, some at a time. */
static int vm_region_adopt(struct mt_pager *pager, struct vm_region_work *work)
{
	bool present[VM_ADOPT_STEP], unknown;
	uint32_t count = (uint32_t)MT_MIN(VM_ADOPT_STEP, work->region.pages - work->done_pages);
	mt_gpn_t first = MT_GPN(work->region.first.n + work->done_pages);

	/* Cannot fail for memory that was just registered; if it does, pages are taken as touched.
	 */
	unknown = pager->mem.present(pager->mem.ctx, mt_region_addr(&work->region, first), count,
				     present);
	if (unknown)
		memset(present, true, sizeof(present));
	for (uint32_t i = 0; i < count; i++) {
		mt_gpn_t gpn = MT_GPN(first.n + i);

		if (!present[i] || mt_page_state(&pager->map, gpn) != MT_PAGE_UNTOUCHED)
			continue;
		mt_page_set(&pager->map, gpn, MT_PAGE_UNTOUCHED, MT_PAGE_RESIDENT, 0);
		/* If it is not there, it has never been: zeros. */
		if (unknown)
			mt_page_droppable_set(&pager->map, gpn);
	}
	work->done_pages += count;
	/* What was there before may be more than was granted: it is given up from here on. */
	pager->settling = true;
	return 0;
}

/* One command, so that nobody looks at a region that is half taken in. */
static bool vm_region_take_in(struct mt_pager *pager, void *arg)
{
	struct vm_region_work *work = arg;

	if (!work->done_pages)
		work->rc = vm_region_insert(pager, work);
	if (!work->rc)
		work->rc = vm_region_adopt(pager, work);
	return work->rc || work->done_pages == work->region.pages;
}

/*
 * Frames that could not be taken away stay in use for as long as the VM is there, as the VMM may
 * read them.
 */
static void vm_region_abandon(struct mt_pager *pager, const struct mt_region *region)
{
	for (uint64_t i = 0; pager->share.mapped_pages && i < region->pages; i++) {
		mt_gpn_t gpn = MT_GPN(region->first.n + i);

		if (!mt_page_mapped(&pager->map, gpn))
			continue;
		mt_share_forget_maps(pager, gpn, 1);
		mt_page_set(&pager->map, gpn, MT_PAGE_SHARED, MT_PAGE_RELEASED, 0);
	}
}

void mt_vm_region_forget(struct mt_pager *pager, const struct mt_region *entry)
{
	struct mt_region region = *entry;

	mt_discard_range(pager, region.first, region.pages);
	vm_region_abandon(pager, &region);
	for (uint64_t i = 0; i < region.pages; i++)
		mt_page_set(&pager->map, MT_GPN(region.first.n + i), MT_PAGE_RELEASED,
			    MT_PAGE_UNTOUCHED, 0);
	mt_mend_forget(&pager->mends, region.base, region.pages << MT_PAGE_SHIFT);
	mt_region_delete(&pager->regions, region.base);
	mt_map_retract(&pager->map, region.first, region.pages);
	mt_staging_flush(&pager->staging);
}

static bool vm_region_delete(struct mt_pager *pager, void *arg)
{
	struct vm_region_work *work = arg;
	const struct mt_region *region =
		mt_region_of_addr(&pager->regions, (uint64_t)(uintptr_t)work->region.base);

	work->rc = -EINVAL;
	if (!region || region->base != work->region.base || region->pages != work->region.pages)
		return true;
	work->region = *region;
	mt_vm_region_forget(pager, region);
	work->rc = 0;
	return true;
}

static void vm_publish(struct mt_vm *vm, uintptr_t start, uintptr_t end)
{
	for (uint32_t i = 0; i < MT_REGIONS_MAX; i++) {
		if (atomic_load(&vm->range[i].end))
			continue;
		atomic_store(&vm->range[i].start, start);
		atomic_store(&vm->range[i].end, end);
		return;
	}
}

void mt_vm_unpublish(struct mt_vm *vm, uintptr_t start)
{
	for (uint32_t i = 0; i < MT_REGIONS_MAX; i++)
		if (atomic_load(&vm->range[i].end) && atomic_load(&vm->range[i].start) == start)
			atomic_store(&vm->range[i].end, 0);
}

bool mt_vm_holds(struct mt_vm *vm, const void *addr, size_t bytes)
{
	uintptr_t start = (uintptr_t)addr;

	for (uint32_t i = 0; i < MT_REGIONS_MAX; i++) {
		uintptr_t end = atomic_load_explicit(&vm->range[i].end, memory_order_acquire);

		if (end && start < end &&
		    start + bytes > atomic_load_explicit(&vm->range[i].start, memory_order_acquire))
			return true;
	}
	return false;
}

static int vm_check_range(const void *addr, size_t bytes)
{
	uintptr_t bits = (uintptr_t)addr | bytes;

	return !addr || !bytes || bits & (MT_PAGE_SIZE - 1) ? -EINVAL : 0;
}

static const char *vm_mapping_trouble(enum mt_mapping kind)
{
	switch (kind) {
	case MT_MAPPING_SHARED:
		return "it is shared memory, whose pages cannot be moved out: balloon only";
	case MT_MAPPING_FILE:
		return "it is a mapping of a file";
	case MT_MAPPING_HUGETLB:
		return "it is hugetlb memory, which cannot be overcommitted";
	case MT_MAPPING_LOCKED:
		return "it is locked in memory (mlock, mem-lock=on)";
	case MT_MAPPING_OTHER:
		return "it is not mapped readable and writable throughout";
	case MT_MAPPING_ANON:
		break;
	}
	return NULL;
}

/* Asks the daemon for swap space and a first grant. Grants come before the answer. */
static int vm_region_request(struct mt_vm *vm, struct vm_region_work *work, struct mt_err *err)
{
	union mt_wire_msg msg;
	int fd = -1;
	int rc;

	mt_wire_init(&msg, MT_WIRE_REGION_ADD, 0);
	msg.region_add.addr = (uintptr_t)work->region.base;
	msg.region_add.bytes = work->region.pages << MT_PAGE_SHIFT;
	rc = mt_link_request(&vm->link, &msg, &fd, err);
	if (rc)
		return rc;
	if (fd >= 0 && vm->swap_fd < 0) {
		vm->swap_fd = mt_fd_own(fd);
		atomic_store(&vm->link.swap_fd, vm->swap_fd);
	} else if (fd >= 0) {
		close(fd);
	}
	work->swap_pages = msg.region_ok.swap_bytes >> MT_PAGE_SHIFT;
	work->swap_encrypt = msg.region_ok.swap_encrypt;
	return 0;
}

void mt_vm_tell_gone(struct mt_vm *vm, uintptr_t start, uint64_t bytes)
{
	union mt_wire_msg msg;

	mt_wire_init(&msg, MT_WIRE_REGION_DEL, 0);
	msg.region_del.addr = start;
	msg.region_del.bytes = bytes;
	mt_link_tell(&vm->link, &msg);
}

struct vm_advised {
	struct mt_vm *vm;
	uintptr_t start;
	uint64_t bytes;
	struct mt_mapping_flags flags;
};

static bool vm_advised_run(struct mt_pager *pager, void *arg)
{
	const struct vm_advised *advised = arg;

	(void)pager;
	mt_uffd_like(&advised->vm->uffd, (const void *)advised->start, advised->bytes,
		     &advised->flags);
	return true;
}

void mt_vm_advised(struct mt_vm *vm, const void *addr, size_t bytes)
{
	uintptr_t first = (uintptr_t)addr;

	for (uint32_t i = 0; i < MT_REGIONS_MAX; i++) {
		struct vm_advised advised = {.vm = vm, .start = atomic_load(&vm->range[i].start)};
		uintptr_t end = atomic_load(&vm->range[i].end);

		if (!end || advised.start >= first + bytes || first >= end)
			continue;
		advised.bytes = end - advised.start;
		advised.flags = mt_mapping_flags((const void *)advised.start);
		mt_command(&vm->pager, vm_advised_run, &advised);
	}
}

static int vm_region_add(struct mt_vm *vm, struct vm_region_work *work, struct mt_err *err)
{
	uint64_t bytes = work->region.pages << MT_PAGE_SHIFT;
	int rc = vm_region_request(vm, work, err);

	if (rc) {
		/* The answer may still come: the daemon must not count what is not there. */
		if (rc == -ETIMEDOUT)
			mt_vm_tell_gone(vm, (uintptr_t)work->region.base, bytes);
		return rc;
	}
	work->err = err;
	mt_vm_direct_first(vm);
	/* Pages merged by KSM or shared with a forked child can't be moved. */
	madvise(work->region.base, bytes, MADV_UNMERGEABLE);
	madvise(work->region.base, bytes, MADV_DONTFORK);
	vm_publish(vm, (uintptr_t)work->region.base, (uintptr_t)work->region.base + bytes);
	mt_command(&vm->pager, vm_region_take_in, work);
	if (!work->rc)
		mt_vm_advised(vm, work->region.base, bytes);
	if (work->rc) {
		mt_vm_unpublish(vm, (uintptr_t)work->region.base);
		mt_vm_tell_gone(vm, (uintptr_t)work->region.base, bytes);
	}
	return work->rc;
}

int mt_vm_region_add(struct mt_vm *vm, void *addr, size_t bytes, struct mt_vm_error *verr)
{
	struct vm_region_work work = {.vm = vm,
				      .region = {.base = addr, .pages = bytes >> MT_PAGE_SHIFT}};
	struct mt_err *err = mt_vm_err(verr);
	const char *trouble;
	int rc;

	if (vm_check_range(addr, bytes))
		return mt_err_set(err, -EINVAL, "a region starts and ends at page boundaries");
	trouble = vm_mapping_trouble(mt_mapping_kind(addr, bytes));
	if (trouble)
		return mt_err_set(err, -EMEDIUMTYPE, "guest RAM of %zu MiB cannot be managed: %s",
				  bytes >> 20, trouble);
	pthread_mutex_lock(&vm->lock);
	if (mt_vm_holds(vm, addr, bytes))
		rc = mt_err_set(err, -EINVAL, "the region overlaps one that is managed already");
	else
		rc = vm_region_add(vm, &work, err);
	pthread_mutex_unlock(&vm->lock);
	return rc;
}

/* Does one region hold the whole range? */
static bool vm_contains(struct mt_vm *vm, const void *addr, size_t bytes)
{
	uintptr_t start = (uintptr_t)addr;

	for (uint32_t i = 0; i < MT_REGIONS_MAX; i++) {
		uintptr_t end = atomic_load(&vm->range[i].end);

		if (end && start >= atomic_load(&vm->range[i].start) && start < end &&
		    bytes <= end - start)
			return true;
	}
	return false;
}

int mt_vm_region_discard(struct mt_vm *vm, void *addr, size_t bytes)
{
	if (vm_check_range(addr, bytes) || !vm_contains(vm, addr, bytes))
		return -EINVAL;
	return mt_discard(&vm->pager, addr, bytes);
}

int mt_vm_drop(struct mt_vm *vm, void *addr, size_t bytes)
{
	return vm_check_range(addr, bytes) ? -EINVAL : mt_discard(&vm->pager, addr, bytes);
}

int mt_vm_region_remove(struct mt_vm *vm, void *addr, size_t bytes)
{
	struct vm_region_work work = {.vm = vm,
				      .region = {.base = addr, .pages = bytes >> MT_PAGE_SHIFT}};

	if (vm_check_range(addr, bytes))
		return -EINVAL;
	pthread_mutex_lock(&vm->lock);
	mt_command(&vm->pager, vm_region_delete, &work);
	if (!work.rc) {
		mt_vm_unpublish(vm, (uintptr_t)addr);
		mt_uffd_unregister(&vm->uffd, addr, bytes);
		madvise(addr, bytes, MADV_DONTNEED);
		mt_vm_tell_gone(vm, (uintptr_t)addr, bytes);
	}
	pthread_mutex_unlock(&vm->lock);
	return work.rc;
}

void mt_vm_tell_unmanaged(struct mt_vm *vm, const void *addr, size_t bytes)
{
	static const uint32_t why[] = {
		[MT_MAPPING_ANON] = MT_UNMANAGED_OTHER,
		[MT_MAPPING_SHARED] = MT_UNMANAGED_SHARED,
		[MT_MAPPING_FILE] = MT_UNMANAGED_FILE,
		[MT_MAPPING_HUGETLB] = MT_UNMANAGED_HUGETLB,
		[MT_MAPPING_LOCKED] = MT_UNMANAGED_LOCKED,
		[MT_MAPPING_OTHER] = MT_UNMANAGED_OTHER,
	};
	union mt_wire_msg msg;

	mt_wire_init(&msg, MT_WIRE_UNMANAGED, 0);
	msg.unmanaged.addr = (uintptr_t)addr;
	msg.unmanaged.bytes = bytes;
	msg.unmanaged.why = why[mt_mapping_kind(addr, bytes)];
	mt_link_tell(&vm->link, &msg);
}

void mt_vm_tell(struct mt_vm *vm, const char *text)
{
	union mt_wire_msg msg;

	mt_wire_init(&msg, MT_WIRE_EVENT, 0);
	msg.event.level = MT_EVENT_WARNING;
	snprintf(msg.event.text, sizeof(msg.event.text), "%s", text);
	mt_link_tell(&vm->link, &msg);
}
