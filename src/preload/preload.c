/* SPDX-License-Identifier: MIT */
/*
 * preload.c - Memtide inside an unmodified VMM
 *
 * Loaded by "memtide run" with LD_PRELOAD. QEMU (and others) mark every block of guest RAM with
 * madvise(MADV_DONTFORK); this library stands in front of madvise() and puts each such block
 * that is large enough under management at that moment, before the guest can run. Smaller blocks
 * are firmware and video memory. Discards and unmappings of managed memory are passed on too.
 *
 * Without MEMTIDE_VM in the environment all calls go straight through. Nothing here writes to the
 * VMM's output or ends it: what goes wrong is told to the daemon, and "memtide run" tells people.
 */
#include "base/compiler.h"
#include "base/size.h"
#include "base/types.h"
#include "monitor/vm.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Blocks smaller than this are left alone; QEMU's video memory is 16 MiB. */
#define PRELOAD_MIN_BYTES (32UL << 20)

static _Atomic(struct mt_vm *) preload_vm;
static pthread_mutex_t preload_lock = PTHREAD_MUTEX_INITIALIZER;
static bool preload_refused; /* [preload_lock] do not ask the daemon again */
/* The library's own calls, and those it makes while it takes a block in, go straight through. */
static __thread bool preload_inside;

static size_t preload_min_bytes(void)
{
	const char *text = secure_getenv("MEMTIDE_MIN_REGION");
	uint64_t bytes = PRELOAD_MIN_BYTES;

	if (text && mt_size_parse(text, "MEMTIDE_MIN_REGION", &bytes, NULL))
		bytes = PRELOAD_MIN_BYTES;
	return bytes;
}

/* A child has none of the monitor's threads and, as it is marked, none of the guest's memory. */
static void preload_forked(void)
{
	atomic_store(&preload_vm, NULL);
	/* Another thread may have held it; that thread is not here. */
	pthread_mutex_init(&preload_lock, NULL);
	preload_refused = true;
}

/* The VM of this process, made at the first block of guest RAM; NULL when there is to be none. */
static struct mt_vm *preload_get_vm(void)
{
	struct mt_vm *vm = atomic_load(&preload_vm);
	struct mt_vm_options options = {.struct_size = sizeof(options)};

	if (vm || preload_refused)
		return vm;
	options.name = secure_getenv("MEMTIDE_VM");
	options.token = secure_getenv("MEMTIDE_TOKEN");
	if (!options.name || mt_vm_new(&options, &vm, NULL)) {
		preload_refused = true;
		return NULL;
	}
	pthread_atfork(NULL, NULL, preload_forked);
	atomic_store(&preload_vm, vm);
	return vm;
}

/* A block of guest RAM has been marked: take it in. */
static void preload_take(void *addr, size_t bytes)
{
	struct mt_vm_error err = {0};
	struct mt_vm *vm;
	int rc;

	if (!secure_getenv("MEMTIDE_VM") || bytes < preload_min_bytes())
		return;
	pthread_mutex_lock(&preload_lock);
	preload_inside = true;
	vm = preload_get_vm();
	if (vm && !mt_vm_holds(vm, addr, bytes)) {
		rc = mt_vm_region_add(vm, addr, bytes, &err);
		if (rc == -EMEDIUMTYPE)
			mt_vm_tell_unmanaged(vm, addr, bytes);
		else if (rc)
			mt_vm_tell(vm, err.message);
	}
	preload_inside = false;
	pthread_mutex_unlock(&preload_lock);
}

static int preload_madvise(void *addr, size_t bytes, int advice)
{
	return (int)syscall(SYS_madvise, addr, bytes, advice);
}

static int preload_discard(struct mt_vm *vm, void *addr, size_t bytes)
{
	int rc;

	/* The kernel rounds the length up; a start inside a page is the caller's mistake. */
	if ((uintptr_t)addr & (MT_PAGE_SIZE - 1))
		return preload_madvise(addr, bytes, MADV_DONTNEED);
	preload_inside = true;
	rc = mt_vm_drop(vm, addr, mt_align_up(bytes, MT_PAGE_SIZE));
	preload_inside = false;
	if (!rc)
		return 0;
	errno = -rc;
	return -1;
}

MT_PUBLIC int madvise(void *addr, size_t bytes, int advice);
MT_PUBLIC int madvise(void *addr, size_t bytes, int advice)
{
	bool inside = preload_inside || mt_vm_in_pager();
	struct mt_vm *vm = inside ? NULL : atomic_load(&preload_vm);
	bool ours = vm && bytes && mt_vm_holds(vm, addr, bytes);
	int saved_errno = errno;
	int rc;

	/* MADV_FREE may drop pages at any later time, without a word: do it now instead. */
	if (ours && (advice == MADV_DONTNEED || advice == MADV_FREE))
		return preload_discard(vm, addr, bytes);
	/* Merging by KSM would make pages that can't be moved out. */
	if (ours && advice == MADV_MERGEABLE)
		return 0;
	rc = preload_madvise(addr, bytes, advice);
	if (rc || advice != MADV_DONTFORK || inside)
		return rc;
	preload_take(addr, bytes);
	errno = saved_errno;
	return 0;
}

MT_PUBLIC int munmap(void *addr, size_t bytes);
MT_PUBLIC int munmap(void *addr, size_t bytes)
{
	bool inside = preload_inside || mt_vm_in_pager();
	struct mt_vm *vm = inside ? NULL : atomic_load(&preload_vm);

	if (vm && mt_vm_holds(vm, addr, bytes)) {
		/* QEMU unmaps a block together with the guard page behind it. */
		preload_inside = true;
		mt_vm_unmap(vm, addr, bytes);
		preload_inside = false;
	}
	return (int)syscall(SYS_munmap, addr, bytes);
}
