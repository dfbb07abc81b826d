/* SPDX-License-Identifier: MIT */
/*
 * preload.c - Memtide inside an unmodified VMM
 *
 * Loaded by "memtide run" with LD_PRELOAD. QEMU (and others) mark every block of guest RAM with
 * madvise(MADV_DONTFORK); this library stands in front of madvise() and puts each such block
 * that is large enough under management at that moment, before the guest can run. Smaller blocks
 * are firmware and video memory. Discards of managed memory are passed on, and so are unmappings of
 * it and mappings over it (munmap, mmap with MAP_FIXED, mremap). Descriptors of the library are
 * kept from being closed (files.c), and the monitor learns of files that are opened for direct I/O
 * (open.c).
 *
 * Without MEMTIDE_VM in the environment all calls go straight through; when it is empty, the VM has
 * the name that QEMU's command line gives it. Nothing here writes to the
 * VMM's output or ends it: what goes wrong is told to the daemon, and "memtide run" tells people.
 */
/* Or the C library would call mmap() mmap64(), and both are wanted here. */
#undef _FILE_OFFSET_BITS

#include "preload/preload.h"
#include "base/compiler.h"
#include "base/own_fds.h"
#include "base/size.h"
#include "base/thread.h"
#include "base/types.h"
#include "monitor/vm.h"
#include "preload/qemu_name.h"
#include "wire/wire.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24 /* Linux 5.18 */
#endif

/* Blocks smaller than this are left alone; QEMU's video memory is 16 MiB. */
#define PRELOAD_MIN_BYTES (32UL << 20)

static _Atomic(struct mt_vm *) preload_vm;
static pthread_mutex_t preload_lock = PTHREAD_MUTEX_INITIALIZER;
static pid_t preload_pid;    /* whose the VM is: a child of vfork() sees it, too */
static bool preload_refused; /* [preload_lock] do not ask the daemon again */
static __thread bool preload_inside;

bool preload_is_inside(void)
{
	return preload_inside || mt_thread_is_ours();
}

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
	mt_fds_forget();
	/* Another thread may have held it; that thread is not here. */
	pthread_mutex_init(&preload_lock, NULL);
	preload_refused = true;
}

/* The VM of this process, made at the first block of guest RAM; NULL when there is to be none. */
static struct mt_vm *preload_get_vm(void)
{
	struct mt_vm *vm = atomic_load(&preload_vm);
	struct mt_vm_options options = {.struct_size = sizeof(options)};
	char name[MT_WIRE_NAME_MAX];

	if (vm || preload_refused)
		return vm;
	options.name = secure_getenv("MEMTIDE_VM");
	options.token = secure_getenv("MEMTIDE_TOKEN");
	if (options.name && !options.name[0]) {
		qemu_name_own(name, sizeof(name));
		options.name = name;
	}
	if (!options.name || mt_vm_new(&options, &vm, NULL)) {
		preload_refused = true;
		return NULL;
	}
	preload_pid = getpid();
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
	bool inside = preload_is_inside();
	struct mt_vm *vm = inside ? NULL : atomic_load(&preload_vm);
	bool ours = vm && bytes && mt_vm_holds(vm, addr, bytes);
	int saved_errno = errno;
	int rc;

	/* MADV_FREE may drop pages at any later time, without a word: do it now instead. */
	if (ours &&
	    (advice == MADV_DONTNEED || advice == MADV_FREE || advice == MADV_DONTNEED_LOCKED))
		return preload_discard(vm, addr, bytes);
	/* Merging by KSM would make pages that can't be moved out. */
	if (ours && advice == MADV_MERGEABLE)
		return 0;
	rc = preload_madvise(addr, bytes, advice);
	if (ours && !rc &&
	    (advice == MADV_HUGEPAGE || advice == MADV_NOHUGEPAGE || advice == MADV_DONTDUMP ||
	     advice == MADV_DODUMP)) {
		preload_inside = true;
		mt_vm_advised(vm, addr, bytes);
		preload_inside = false;
		errno = saved_errno;
	}
	if (rc || advice != MADV_DONTFORK || inside)
		return rc;
	preload_take(addr, bytes);
	errno = saved_errno;
	return 0;
}

void preload_direct_io(int fd)
{
	struct mt_vm *vm = preload_is_inside() ? NULL : atomic_load(&preload_vm);

	if (!vm || getpid() != preload_pid)
		return;
	preload_inside = true;
	mt_vm_direct_io(vm, fd);
	preload_inside = false;
}

/* A call that changes mappings, to be made by the pager when guest memory is concerned. */
struct preload_call {
	long number;
	long argument[6];
	void *result;
};

static int preload_make_call(void *ctx)
{
	struct preload_call *call = ctx;
	const long *a = call->argument;

	call->result = (void *)(uintptr_t)syscall(call->number, a[0], a[1], a[2], a[3], a[4], a[5]);
	return call->result == MAP_FAILED ? -errno : 0;
}

/* Makes @call, which replaces or unmaps @bytes at @addr. */
static void *preload_replace(struct preload_call *call, void *addr, size_t bytes)
{
	bool inside = preload_is_inside();
	struct mt_vm *vm = inside ? NULL : atomic_load(&preload_vm);
	int rc;

	if (!vm || !bytes || !mt_vm_holds(vm, addr, bytes)) {
		preload_make_call(call);
		return call->result;
	}
	preload_inside = true;
	rc = mt_vm_replace(vm, addr, bytes, preload_make_call, call);
	preload_inside = false;
	/* The pager's errno is not ours. */
	if (rc)
		errno = -rc;
	return call->result;
}

MT_PUBLIC int munmap(void *addr, size_t bytes);
MT_PUBLIC int munmap(void *addr, size_t bytes)
{
	/* QEMU unmaps a block together with the guard page behind it. */
	struct preload_call call = {SYS_munmap, {(long)(uintptr_t)addr, (long)bytes}, NULL};

	return preload_replace(&call, addr, bytes) == MAP_FAILED ? -1 : 0;
}

MT_PUBLIC void *mmap(void *addr, size_t bytes, int protection, int flags, int fd, off_t offset);
MT_PUBLIC void *mmap(void *addr, size_t bytes, int protection, int flags, int fd, off_t offset)
{
	struct preload_call call = {
		SYS_mmap,
		{(long)(uintptr_t)addr, (long)bytes, protection, flags, fd, (long)offset},
		NULL};

	/* QEMU maps fresh memory over guest pages that the hardware lost. */
	return preload_replace(&call, addr, flags & MAP_FIXED ? bytes : 0);
}

MT_PUBLIC void *mmap64(void *addr, size_t bytes, int protection, int flags, int fd, off64_t offset);
MT_PUBLIC void *mmap64(void *addr, size_t bytes, int protection, int flags, int fd, off64_t offset)
{
	return mmap(addr, bytes, protection, flags, fd, offset);
}

MT_PUBLIC void *mremap(void *old, size_t old_bytes, size_t bytes, int flags, ...);
MT_PUBLIC void *mremap(void *old, size_t old_bytes, size_t bytes, int flags, ...)
{
	bool inside = preload_is_inside();
	struct mt_vm *vm = inside ? NULL : atomic_load(&preload_vm);
	struct preload_call call = {
		SYS_mremap, {(long)(uintptr_t)old, (long)old_bytes, (long)bytes, flags}, NULL};
	void *to = NULL;
	va_list ap;
	int rc = 0;

	if (flags & MREMAP_FIXED) {
		va_start(ap, flags);
		to = va_arg(ap, void *);
		va_end(ap);
	}
	call.argument[4] = (long)(uintptr_t)to;
	if (vm && mt_vm_holds(vm, old, MT_MAX(old_bytes, 1UL))) {
		preload_inside = true;
		rc = mt_vm_let_go(vm, old, MT_MAX(old_bytes, 1UL));
		preload_inside = false;
	}
	if (rc) {
		errno = EFAULT;
		return MAP_FAILED;
	}
	return preload_replace(&call, to, to ? bytes : 0);
}
