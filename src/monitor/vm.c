/* SPDX-License-Identifier: MIT */
/*
 * vm.c - a VM under management: the public API
 *
 * Puts the parts together: the connection to the daemon, the userfaultfd, the pager and its
 * thread. Start-up and teardown are written out in order here and nowhere else.
 *
 * A region comes in three steps, so that no touch falls between them: the pager gets to know it,
 * faults are switched on, and what is there already is taken in.
 */
#include "monitor/vm.h"
#include "base/cleanup.h"
#include "monitor/link.h"
#include "monitor/pager.h"
#include "monitor/restore.h"
#include "sys/mapping.h"
#include "sys/swap_io.h"
#include "sys/uffd.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Address space, not memory: where nominated pages wait, and where compressed ones live. */
#define VM_STAGING_SLOTS   32768U
#define VM_ZIP_ARENA_BYTES (16ULL << 30)
#define VM_DEFAULT_SOCKET  "/run/memtide/control.sock"
#define VM_ZIP_MAX_PCT	   10
/* Pages of a new region looked at in one turn: some 64 MiB each millisecond. */
#define VM_ADOPT_STEP	   16384U

/* A region as other threads see it; [0, 0) when the place is free. */
struct vm_range {
	_Atomic uintptr_t start;
	_Atomic uintptr_t end;
};

struct mt_vm {
	struct mt_pager pager;
	struct mt_uffd uffd;
	struct mt_link link;
	uint8_t *staging;
	int swap_fd;
	pthread_t thread;
	bool started;
	_Atomic bool stop;
	pthread_mutex_t lock; /* regions come and go one at a time */
	struct vm_range range[MT_REGIONS_MAX];
};

_Static_assert(MEMTIDE_NAME_MAX == MT_WIRE_NAME_MAX, "names are equally long everywhere");
_Static_assert(MEMTIDE_ERROR_MAX == MT_ERR_MSG_MAX, "messages are equally long everywhere");
_Static_assert(sizeof(struct mt_vm_error) == sizeof(struct mt_err), "one is the other");

/* The public error is the internal one under a public name. */
static struct mt_err *vm_err(struct mt_vm_error *err)
{
	return (struct mt_err *)err;
}

/* Set in the pager's threads only: the VMM's calls are watched, theirs are not. */
static __thread bool vm_in_pager;

bool mt_vm_in_pager(void)
{
	return vm_in_pager;
}

static void *vm_pager_main(void *arg)
{
	struct mt_vm *vm = arg;

	vm_in_pager = true;
	pthread_setname_np(pthread_self(), "memtide-pager");
	mt_pager_run(&vm->pager, &vm->stop);
	return NULL;
}

static int vm_start_pager(struct mt_vm *vm)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = -pthread_create(&vm->thread, NULL, vm_pager_main, vm);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	vm->started = rc == 0;
	return rc;
}

static int vm_make_pager(struct mt_vm *vm, struct mt_err *err)
{
	uint64_t bytes = (uint64_t)VM_STAGING_SLOTS << MT_PAGE_SHIFT;
	struct mt_pager *pager = &vm->pager;
	void *staging = mt_pager_area(bytes);
	int rc;

	if (!staging)
		return mt_err_set(err, -ENOMEM, "no address space for staging");
	vm->staging = staging;
	madvise(staging, bytes, MADV_NOHUGEPAGE);
	rc = mt_uffd_register(&vm->uffd, staging, bytes, err);
	if (rc)
		return rc;
	mt_uffd_mem_ops(&vm->uffd, &pager->mem);
	pager->fault_fd = vm->uffd.fd;
	pager->zip_arena_bytes = VM_ZIP_ARENA_BYTES;
	pager->notify = mt_link_kick;
	pager->notify_ctx = &vm->link;
	atomic_init(&pager->zip_max_pct, VM_ZIP_MAX_PCT);
	atomic_init(&pager->target_pages, UINT64_MAX);
	rc = mt_pager_init(pager, staging, VM_STAGING_SLOTS);
	return rc ? mt_err_set(err, rc, "start the pager: %s", strerror(-rc)) : 0;
}

/* Undoes whatever of mt_vm_new() was done. The userfaultfd goes last: see uffd.h. */
static void vm_free(struct mt_vm *vm)
{
	mt_link_close(&vm->link);
	if (vm->started) {
		atomic_store_explicit(&vm->stop, true, memory_order_release);
		mt_pager_kick(&vm->pager);
		pthread_join(vm->thread, NULL);
	}
	if (vm->pager.mem.ctx)
		mt_pager_fini(&vm->pager);
	if (vm->staging)
		munmap(vm->staging, (uint64_t)VM_STAGING_SLOTS << MT_PAGE_SHIFT);
	if (vm->swap_fd >= 0)
		close(vm->swap_fd);
	mt_uffd_close(&vm->uffd);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
}

static int vm_check_options(const struct mt_vm_options *options, struct mt_err *err)
{
	if (!options || options->struct_size < sizeof(*options))
		return mt_err_set(err, -EINVAL, "options are missing, or struct_size is not set");
	if (!options->name || !mt_wire_name_ok(options->name))
		return mt_err_set(err, -EINVAL,
				  "'%s' is not a name: 1 to 63 of a-z A-Z 0-9 . _ - are",
				  options->name ? options->name : "");
	if (options->limit_bytes && options->reservation_bytes > options->limit_bytes)
		return mt_err_set(err, -EINVAL, "the reservation is larger than the limit");
	return 0;
}

static const char *vm_socket(const struct mt_vm_options *options)
{
	const char *socket = options->socket ? options->socket : secure_getenv("MEMTIDE_SOCKET");

	return socket && socket[0] ? socket : VM_DEFAULT_SOCKET;
}

int mt_vm_new(const struct mt_vm_options *options, struct mt_vm **ret_vm, struct mt_vm_error *verr)
{
	struct mt_err *err = vm_err(verr);
	MT_AUTO_CLOSE int device_fd = -1;
	struct mt_link_options link;
	struct mt_vm *vm;
	int rc = vm_check_options(options, err);

	if (rc)
		return rc;
	vm = calloc(1, sizeof(*vm));
	if (!vm)
		return mt_err_set(err, -ENOMEM, "out of memory");
	vm->swap_fd = -1;
	vm->uffd.fd = -1;
	vm->uffd.pagemap_fd = -1;
	pthread_mutex_init(&vm->lock, NULL);
	link = (struct mt_link_options){.socket = vm_socket(options),
					.name = options->name,
					.token = options->token,
					.reservation_bytes = options->reservation_bytes,
					.limit_bytes = options->limit_bytes,
					.shares = options->shares};
	rc = mt_link_open(&vm->link, &link, &device_fd, err);
	if (!rc)
		rc = mt_uffd_open(&vm->uffd, device_fd, err);
	if (!rc)
		rc = vm_make_pager(vm, err);
	if (!rc && (rc = vm_start_pager(vm)))
		mt_err_set(err, rc, "start the pager's thread: %s", strerror(-rc));
	if (!rc && (rc = mt_link_start(&vm->link, &vm->pager)))
		mt_err_set(err, rc, "start the link's thread: %s", strerror(-rc));
	if (rc) {
		vm_free(vm);
		return rc;
	}
	*ret_vm = vm;
	return 0;
}

/* What a region command works on, and what came of it. */
struct vm_region_work {
	struct mt_vm *vm;
	struct mt_region region;
	uint64_t swap_pages; /* size of the swap file now */
	uint64_t done_pages;
	int rc;
};

/* The swap file has grown, or come into being. */
static int vm_take_swap(struct mt_vm *vm, uint64_t pages)
{
	struct mt_pager *pager = &vm->pager;
	int rc;

	if (vm->swap_fd < 0 || !pages)
		return 0;
	if (pages > UINT32_MAX - 1)
		return -EFBIG;
	if (pager->slots)
		return mt_slots_grow(pager->slots, (uint32_t)pages);
	rc = mt_swap_io_new(vm->swap_fd, MT_SWAP_OPS * 2, pager->event_fd, &pager->swap, NULL);
	if (rc)
		return rc;
	return mt_slots_new((uint32_t)pages, &pager->slots);
}

static bool vm_region_insert(struct mt_pager *pager, void *arg)
{
	struct vm_region_work *work = arg;

	work->rc = vm_take_swap(work->vm, work->swap_pages);
	if (!work->rc)
		work->rc = mt_map_extend(&pager->map, work->region.pages, &work->region.first);
	if (work->rc)
		return true;
	work->rc = mt_region_insert(&pager->regions, &work->region);
	if (work->rc)
		mt_map_retract(&pager->map, work->region.first, work->region.pages);
	return true;
}

/* Pages that are in place already are the guest's: take them in, some at a time. */
static bool vm_region_adopt(struct mt_pager *pager, void *arg)
{
	struct vm_region_work *work = arg;
	bool present[VM_ADOPT_STEP];
	uint32_t count = (uint32_t)MT_MIN(VM_ADOPT_STEP, work->region.pages - work->done_pages);
	mt_gpn_t first = MT_GPN(work->region.first.n + work->done_pages);

	work->rc = pager->mem.present(pager->mem.ctx, mt_region_addr(&work->region, first), count,
				      present);
	for (uint32_t i = 0; !work->rc && i < count; i++) {
		mt_gpn_t gpn = MT_GPN(first.n + i);

		if (present[i] && mt_page_state(&pager->map, gpn) == MT_PAGE_UNTOUCHED)
			mt_page_set(&pager->map, gpn, MT_PAGE_UNTOUCHED, MT_PAGE_RESIDENT, 0);
	}
	work->done_pages += count;
	return work->rc || work->done_pages == work->region.pages;
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
	mt_discard_range(pager, region->first, region->pages);
	for (uint64_t i = 0; i < work->region.pages; i++)
		mt_page_set(&pager->map, MT_GPN(work->region.first.n + i), MT_PAGE_RELEASED,
			    MT_PAGE_UNTOUCHED, 0);
	mt_region_delete(&pager->regions, work->region.base);
	mt_map_retract(&pager->map, work->region.first, work->region.pages);
	mt_staging_flush(&pager->staging);
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

static void vm_unpublish(struct mt_vm *vm, uintptr_t start)
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
	if (fd >= 0 && vm->swap_fd < 0)
		vm->swap_fd = fd;
	else if (fd >= 0)
		close(fd);
	work->swap_pages = msg.region_ok.swap_bytes >> MT_PAGE_SHIFT;
	return 0;
}

static void vm_region_tell_gone(struct mt_vm *vm, const struct mt_region *region)
{
	union mt_wire_msg msg;

	mt_wire_init(&msg, MT_WIRE_REGION_DEL, 0);
	msg.region_del.addr = (uintptr_t)region->base;
	msg.region_del.bytes = region->pages << MT_PAGE_SHIFT;
	mt_link_tell(&vm->link, &msg);
}

static int vm_region_add(struct mt_vm *vm, struct vm_region_work *work, struct mt_err *err)
{
	uint64_t bytes = work->region.pages << MT_PAGE_SHIFT;
	int rc = vm_region_request(vm, work, err);

	if (rc)
		return rc;
	mt_command(&vm->pager, vm_region_insert, work);
	if (work->rc) {
		rc = mt_err_set(err, work->rc, "take in the region: %s", strerror(-work->rc));
		goto refuse;
	}
	/* Pages merged by KSM can't be moved; ours is the sharing here. */
	madvise(work->region.base, bytes, MADV_UNMERGEABLE);
	rc = mt_uffd_register(&vm->uffd, work->region.base, bytes, err);
	if (rc) {
		mt_command(&vm->pager, vm_region_delete, work);
		goto refuse;
	}
	vm_publish(vm, (uintptr_t)work->region.base, (uintptr_t)work->region.base + bytes);
	mt_command(&vm->pager, vm_region_adopt, work);
	return 0;
refuse:
	vm_region_tell_gone(vm, &work->region);
	return rc;
}

int mt_vm_region_add(struct mt_vm *vm, void *addr, size_t bytes, struct mt_vm_error *verr)
{
	struct vm_region_work work = {.vm = vm,
				      .region = {.base = addr, .pages = bytes >> MT_PAGE_SHIFT}};
	struct mt_err *err = vm_err(verr);
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

int mt_vm_region_discard(struct mt_vm *vm, void *addr, size_t bytes)
{
	if (vm_check_range(addr, bytes) || !mt_vm_holds(vm, addr, bytes))
		return -EINVAL;
	return mt_discard(&vm->pager, addr, bytes);
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
		vm_unpublish(vm, (uintptr_t)addr);
		mt_uffd_unregister(&vm->uffd, addr, bytes);
		madvise(addr, bytes, MADV_DONTNEED);
		vm_region_tell_gone(vm, &work.region);
	}
	pthread_mutex_unlock(&vm->lock);
	return work.rc;
}

static uint64_t vm_bytes(const struct mt_vm *vm, enum mt_counter id)
{
	return atomic_load_explicit(&vm->pager.counter[id], memory_order_relaxed) << MT_PAGE_SHIFT;
}

static uint64_t vm_count(const struct mt_vm *vm, enum mt_counter id)
{
	return atomic_load_explicit(&vm->pager.counter[id], memory_order_relaxed);
}

int mt_vm_stats_read(struct mt_vm *vm, struct mt_vm_stats *stats)
{
	static const enum mt_counter fault_kinds[] = {
		MT_C_FAULT_NEW,	    MT_C_FAULT_NOMINATED, MT_C_FAULT_ZERO,  MT_C_FAULT_ZIPPED,
		MT_C_FAULT_SWAPPED, MT_C_FAULT_PRESENT,	  MT_C_FAULT_UNSEEN};

	if (!stats || stats->struct_size < sizeof(*stats))
		return -EINVAL;
	*stats = (struct mt_vm_stats){
		.struct_size = stats->struct_size,
		.memsize_bytes = vm_bytes(vm, MT_C_MEMSIZE),
		.held_bytes = vm_bytes(vm, MT_C_HELD),
		.resident_bytes = vm_bytes(vm, MT_C_RESIDENT),
		.nominated_bytes = vm_bytes(vm, MT_C_NOMINATED),
		.zero_bytes = vm_bytes(vm, MT_C_ZERO),
		.zipped_bytes = vm_bytes(vm, MT_C_ZIPPED),
		.zip_held_bytes = vm_count(vm, MT_C_ZIP_HELD),
		.zip_stored_bytes = vm_count(vm, MT_C_ZIP_STORED),
		.swapped_bytes = vm_bytes(vm, MT_C_SWAPPED),
		.released_bytes = vm_bytes(vm, MT_C_RELEASED),
		.overhead_bytes = vm_count(vm, MT_C_OVERHEAD),
		.grant_bytes = mt_room_grant_pages(&vm->pager) << MT_PAGE_SHIFT,
		.target_bytes = MT_MIN(atomic_load(&vm->pager.target_pages),
				       mt_room_grant_pages(&vm->pager))
				<< MT_PAGE_SHIFT,
		.fault_p50_ns = mt_hist_percentile_ns(&vm->pager.fault_hist, 50),
		.fault_p99_ns = mt_hist_percentile_ns(&vm->pager.fault_hist, 99),
		.failed_pages = vm_count(vm, MT_C_FAILED),
	};
	for (size_t i = 0; i < MT_ARRAY_SIZE(fault_kinds); i++)
		stats->faults += vm_count(vm, fault_kinds[i]);
	return 0;
}

int mt_vm_leave(struct mt_vm *vm, struct mt_vm_error *verr)
{
	struct mt_restore restore = {.left = false};

	if (!vm)
		return 0;
	mt_command(&vm->pager, mt_restore_some, &restore);
	if (restore.failed_pages)
		return mt_err_set(vm_err(verr), -EIO, "%lu pages are lost; the VM stays managed",
				  (unsigned long)restore.failed_pages);
	for (uint32_t i = 0; i < MT_REGIONS_MAX; i++) {
		uintptr_t start = atomic_load(&vm->range[i].start);
		uintptr_t end = atomic_load(&vm->range[i].end);

		if (end)
			mt_uffd_unregister(&vm->uffd, (void *)start, end - start);
	}
	vm_free(vm);
	return 0;
}

void mt_vm_unmap(struct mt_vm *vm, void *addr, size_t bytes)
{
	uintptr_t first = (uintptr_t)addr;
	uintptr_t last = first + mt_align_up(bytes, MT_PAGE_SIZE);

	/* The kernel is going to refuse this one. */
	if (!bytes || first & (MT_PAGE_SIZE - 1))
		return;
	for (uint32_t i = 0; i < MT_REGIONS_MAX; i++) {
		uintptr_t start = atomic_load(&vm->range[i].start);
		uintptr_t end = atomic_load(&vm->range[i].end);

		if (!end || start >= last || end <= first)
			continue;
		if (start >= first && end <= last) {
			(void)mt_vm_region_remove(vm, (void *)start, end - start);
			continue;
		}
		/* Nothing of a hole may stay in the map: what is mapped there next is not ours. */
		start = MT_MAX(start, first);
		(void)mt_discard(&vm->pager, (void *)start, MT_MIN(end, last) - start);
		mt_vm_tell(vm, "the VMM unmapped part of its guest memory");
	}
}

void mt_vm_tell_unmanaged(struct mt_vm *vm, const void *addr, size_t bytes)
{
	static const uint32_t why[] = {
		[MT_MAPPING_ANON] = MT_UNMANAGED_OTHER,	     [MT_MAPPING_SHARED] = MT_UNMANAGED_SHARED,
		[MT_MAPPING_FILE] = MT_UNMANAGED_FILE,	     [MT_MAPPING_HUGETLB] = MT_UNMANAGED_HUGETLB,
		[MT_MAPPING_LOCKED] = MT_UNMANAGED_LOCKED,   [MT_MAPPING_OTHER] = MT_UNMANAGED_OTHER,
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
