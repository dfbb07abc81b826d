/* SPDX-License-Identifier: MIT */
/*
 * vm.c - a VM under management: the public API
 *
 * Puts the parts together: the connection to the daemon, the userfaultfd, the pager and its
 * thread. Start-up and teardown are written out in order here and nowhere else. Regions are in
 * vm_region.c.
 */
#include "monitor/vm_internal.h"
#include "base/cleanup.h"
#include "base/own_fds.h"
#include "base/thread.h"
#include "monitor/restore.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Address space, not memory: where nominated pages wait, and where compressed ones live. */
#define VM_STAGING_SLOTS   32768U
#define VM_ZIP_ARENA_BYTES (16ULL << 30)
#define VM_DEFAULT_SOCKET  "/run/memtide/control.sock"
#define VM_ZIP_MAX_PCT     10

_Static_assert(MEMTIDE_NAME_MAX == MT_WIRE_NAME_MAX, "names are equally long everywhere");
_Static_assert(MEMTIDE_ERROR_MAX == MT_ERR_MSG_MAX, "messages are equally long everywhere");
_Static_assert(sizeof(struct mt_vm_error) == sizeof(struct mt_err), "one is the other");

static void *vm_pager_main(void *arg)
{
	struct mt_vm *vm = arg;

	mt_thread_enter("memtide-pager");
	mt_pager_run(&vm->pager, &vm->stop);
	return NULL;
}

static int vm_start_pager(struct mt_vm *vm)
{
	int rc = mt_thread_start(&vm->thread, NULL, vm_pager_main, vm);

	vm->started = rc == 0;
	return rc;
}

/* All of it is reserved at the start, so that it can't run short when a page has to go somewhere.
 */
static int vm_no_space(const char *what, uint64_t bytes, struct mt_err *err)
{
	return mt_err_set(
		err, -ENOMEM,
		"no address space for %s (%llu MiB, reserved, not used): raise 'ulimit -v' "
		"or vm.max_map_count, or set vm.overcommit_memory to 0 or 1",
		what, (unsigned long long)(bytes >> 20));
}

static int vm_make_pager(struct mt_vm *vm, struct mt_err *err)
{
	uint64_t bytes = (uint64_t)VM_STAGING_SLOTS << MT_PAGE_SHIFT;
	struct mt_pager *pager = &vm->pager;
	void *staging = mt_pager_area(bytes);
	int rc;

	if (!staging)
		return vm_no_space("staging", bytes, err);
	vm->staging = staging;
	madvise(staging, bytes, MADV_NOHUGEPAGE);
	rc = mt_uffd_register(&vm->uffd, staging, bytes, err);
	if (rc)
		return rc;
	mt_uffd_mem_ops(&vm->uffd, &pager->mem);
	pager->fault_fd = vm->uffd.fd;
	pager->mem_fd = vm->uffd.mem_fd;
	pager->zip_arena_bytes = VM_ZIP_ARENA_BYTES;
	pager->notify = mt_link_kick;
	pager->notify_ctx = &vm->link;
	atomic_init(&pager->zip_max_pct, VM_ZIP_MAX_PCT);
	atomic_init(&pager->target_pages, UINT64_MAX);
	rc = mt_pager_init(pager, staging, VM_STAGING_SLOTS);
	if (rc == -ENOMEM)
		return vm_no_space("the stores", VM_ZIP_ARENA_BYTES, err);
	if (!rc && pager->helper.files < 0)
		mt_vm_tell(vm, "close_range(CLOSE_RANGE_UNSHARE) is denied: were the VMM to close "
			       "Memtide's descriptors, pages would be lost; allow that call in its "
			       "sandbox");
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
	mt_share_link_fini(&vm->link, &vm->pager);
	if (vm->staging)
		munmap(vm->staging, (uint64_t)VM_STAGING_SLOTS << MT_PAGE_SHIFT);
	mt_fd_close(vm->swap_fd);
	mt_uffd_close(&vm->uffd);
	mt_direct_io_close(&vm->direct_lists);
	pthread_mutex_destroy(&vm->lock);
	pthread_mutex_destroy(&vm->direct_lock);
	free(vm);
}

static int vm_check_options(const struct mt_vm_options *options, struct mt_err *err)
{
	if (!options || options->struct_size < sizeof(*options))
		return mt_err_set(err, -EINVAL, "options are missing, or struct_size is not set");
	if (!options->name || !mt_wire_name_ok(options->name))
		return mt_err_set(err, -EINVAL,
				  "the VM's name must be 1 to 63 of a-z A-Z 0-9 . _ - and start "
				  "with a letter, a digit or _");
	if (options->share_group && options->share_group[0] &&
	    !mt_wire_name_ok(options->share_group))
		return mt_err_set(err, -EINVAL, "the share group's name must be like a VM's");
	if (options->limit_bytes && options->reservation_bytes > options->limit_bytes)
		return mt_err_set(err, -EINVAL, "the reservation is larger than the limit");
	return 0;
}

static const char *vm_socket(const struct mt_vm_options *options)
{
	const char *socket = options->socket ? options->socket : secure_getenv("MEMTIDE_SOCKET");

	return socket && socket[0] ? socket : VM_DEFAULT_SOCKET;
}

/* Shared pages are read in their frames, unless the user would rather have them copied back. */
static bool vm_maps_frames(void)
{
	const char *value = secure_getenv("MEMTIDE_SHARE_MAP");

	return !value || strcmp(value, "0") != 0;
}

int mt_vm_new(const struct mt_vm_options *options, struct mt_vm **ret_vm, struct mt_vm_error *verr)
{
	struct mt_err own = {0}, *err = verr ? mt_vm_err(verr) : &own;
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
	vm->uffd.pagemap_fd = vm->uffd.mem_fd = -1;
	vm->uffd.direct = vm->direct_lists = (struct mt_direct_lists){-1, -1};
	mt_remap_init(&vm->uffd.remap);
	vm->link.frames_fd = -1;
	pthread_mutex_init(&vm->lock, NULL);
	pthread_mutex_init(&vm->direct_lock, NULL);
	rc = mt_direct_io_open(&vm->direct_lists);
	link = (struct mt_link_options){.socket = vm_socket(options),
					.name = options->name,
					.token = options->token,
					.reservation_bytes = options->reservation_bytes,
					.limit_bytes = options->limit_bytes,
					.shares = options->shares,
					.share_group = options->share_group};
	if (rc)
		mt_err_set(err, rc, "open /proc/self/fd: %s", strerror(-rc));
	else
		rc = mt_link_open(&vm->link, &link, &device_fd, err);
	if (!rc)
		rc = mt_uffd_open(&vm->uffd, device_fd, vm_maps_frames(), err);
	if (!rc)
		rc = vm_make_pager(vm, err);
	if (!rc && (rc = vm_start_pager(vm)))
		mt_err_set(err, rc, "start the pager's thread: %s", strerror(-rc));
	vm->link.look = mt_vm_direct_look;
	vm->link.look_ctx = vm;
	if (!rc && (rc = mt_link_start(&vm->link, &vm->pager)))
		mt_err_set(err, rc, "start the link's thread: %s", strerror(-rc));
	if (rc) {
		/* people look there, not at what the VMM may say of it */
		mt_vm_tell(vm, err->msg);
		vm_free(vm);
		return rc;
	}
	*ret_vm = vm;
	return 0;
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
		MT_C_FAULT_NEW,    MT_C_FAULT_NOMINATED, MT_C_FAULT_ZERO,    MT_C_FAULT_ZIPPED,
		MT_C_FAULT_SHARED, MT_C_FAULT_SWAPPED,   MT_C_FAULT_PRESENT, MT_C_FAULT_UNSEEN};
	uint64_t grant_pages;

	if (!stats || stats->struct_size < sizeof(*stats))
		return -EINVAL;
	/* Grant and held change together; what is held was granted before or is now. */
	grant_pages = mt_room_grant_pages(&vm->pager);
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
		.target_bytes = MT_MIN(atomic_load(&vm->pager.target_pages),
				       mt_room_grant_pages(&vm->pager))
				<< MT_PAGE_SHIFT,
		.fault_p50_ns = mt_hist_percentile_ns(&vm->pager.fault_hist, 50),
		.fault_p99_ns = mt_hist_percentile_ns(&vm->pager.fault_hist, 99),
		.failed_pages = vm_count(vm, MT_C_FAILED),
	};
	for (size_t i = 0; i < MT_ARRAY_SIZE(fault_kinds); i++)
		stats->faults += vm_count(vm, fault_kinds[i]);
	grant_pages = MT_MAX(grant_pages, mt_room_grant_pages(&vm->pager));
	stats->grant_bytes = grant_pages << MT_PAGE_SHIFT;
	return 0;
}

int mt_vm_leave(struct mt_vm *vm, struct mt_vm_error *verr)
{
	struct mt_restore restore = {.left = false};

	if (!vm)
		return 0;
	mt_command(&vm->pager, mt_restore_some, &restore);
	if (restore.failed_pages)
		return mt_err_set(mt_vm_err(verr), -EIO, "%lu pages are lost; the VM stays managed",
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
