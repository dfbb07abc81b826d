/* SPDX-License-Identifier: MIT */
/*
 * remap.c - the thread that moves mappings over guest memory; see remap.h
 *
 * System calls are made without the C library's functions of their names: in a VMM these may be
 * those of the preload library, which takes changes of guest memory for the VMM's and has the
 * pager make them, and that one is waiting for us.
 */
#include "sys/remap.h"
#include "sys/linux_compat.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif

/* Spare memory is made in pieces of this size: it costs address space only. */
#define REMAP_SPARE_BYTES (256U << MT_PAGE_SHIFT)

static uint8_t *remap_mmap(uint64_t bytes, int flags, int fd, uint64_t offset)
{
	long at = syscall(SYS_mmap, NULL, bytes, PROT_NONE, flags, fd, (long)offset);

	if (at == -1)
		return NULL;
	syscall(SYS_munlock, at, bytes);
	return (uint8_t *)at;
}

/*
 * Only what is sure not to be locked is made accessible: in a VMM that called mlockall() the kernel
 * would fill it with pages at once, and what is to be empty would read as zeros.
 */
static int remap_open(void *addr, uint64_t bytes)
{
	return syscall(SYS_mprotect, addr, bytes, PROT_READ | PROT_WRITE) ? -errno : 0;
}

static int remap_advise(void *addr, uint64_t bytes, int advice)
{
	return syscall(SYS_madvise, addr, bytes, advice) ? -errno : 0;
}

static int remap_register(const struct mt_remap *remap, void *addr, uint64_t bytes, uint64_t mode)
{
	struct uffdio_register reg = {.range = {.start = (uintptr_t)addr, .len = bytes},
				      .mode = mode};

	return ioctl(remap->uffd, UFFDIO_REGISTER, &reg) ? -errno : 0;
}

static int remap_protect(const struct mt_remap *remap, void *addr, uint64_t bytes)
{
	struct uffdio_writeprotect protect = {.range = {.start = (uintptr_t)addr, .len = bytes},
					      .mode = UFFDIO_WRITEPROTECT_MODE_WP};

	return ioctl(remap->uffd, UFFDIO_WRITEPROTECT, &protect) ? -errno : 0;
}

/* What the guest's memory is marked with: mappings that differ in it are never joined. */
static void remap_mark(const struct mt_remap *remap, void *addr, uint64_t bytes)
{
	remap_advise(addr, bytes, MADV_DONTFORK);
	if (remap->flags.huge)
		remap_advise(addr, bytes, MADV_HUGEPAGE);
	if (remap->flags.no_huge)
		remap_advise(addr, bytes, MADV_NOHUGEPAGE);
	if (remap->flags.no_dump)
		remap_advise(addr, bytes, MADV_DONTDUMP);
}

/* Moves what was made ready at @from over its place; unmaps it when that can't be. */
static int remap_move(const struct mt_remap_ask *ask, void *from)
{
	int rc;

	if (syscall(SYS_mremap, from, ask->bytes, ask->bytes, MREMAP_MAYMOVE | MREMAP_FIXED,
		    ask->to) != -1)
		return 0;
	rc = -errno;
	syscall(SYS_munmap, from, ask->bytes);
	return rc;
}

static int remap_frames(const struct mt_remap *remap, const struct mt_remap_ask *ask)
{
	uint8_t *ready =
		remap_mmap(ask->bytes, MAP_PRIVATE | MAP_NORESERVE, ask->frames_fd, ask->offset);
	int rc;

	if (!ready)
		return -errno;
	remap_mark(remap, ready, ask->bytes);
	rc = remap_open(ready, ask->bytes);
	if (!rc)
		rc = remap_register(remap, ready, ask->bytes,
				    UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP);
	if (!rc)
		rc = remap_protect(remap, ready, ask->bytes);
	if (rc) {
		syscall(SYS_munmap, ready, ask->bytes);
		return rc;
	}
	/* What is not there yet comes at the guest's first read. */
	remap_advise(ready, ask->bytes, MADV_POPULATE_READ);
	return remap_move(ask, ready);
}

static void remap_drop_spare(struct mt_remap *remap)
{
	if (!remap->spare_guard)
		return;
	syscall(SYS_munmap, remap->spare_guard, MT_PAGE_SIZE);
	syscall(SYS_munmap, remap->spare, remap->spare_bytes + MT_PAGE_SIZE);
	remap->spare_guard = remap->spare = NULL;
	remap->spare_bytes = 0;
}

/*
 * The guards keep it from being joined with guest memory beside it: what belongs to a mapping that
 * has pages could not be joined with what is around it in its new place.
 */
static int remap_more_spare(struct mt_remap *remap, uint64_t bytes)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | (remap->flags.no_reserve ? MAP_NORESERVE : 0);
	int rc;

	remap_drop_spare(remap);
	bytes = MT_MAX(bytes, REMAP_SPARE_BYTES);
	remap->spare_guard = remap_mmap(bytes + 2 * MT_PAGE_SIZE, flags, -1, 0);
	if (!remap->spare_guard)
		return -errno;
	remap->spare = remap->spare_guard + MT_PAGE_SIZE;
	remap->spare_bytes = bytes;
	remap_mark(remap, remap->spare, bytes);
	rc = remap_open(remap->spare, bytes);
	if (!rc)
		rc = remap_register(remap, remap->spare, bytes, UFFDIO_REGISTER_MODE_MISSING);
	if (rc)
		remap_drop_spare(remap);
	return rc;
}

static int remap_nothing(struct mt_remap *remap, const struct mt_remap_ask *ask)
{
	uint8_t *from;

	if (remap->spare_bytes < ask->bytes) {
		int rc = remap_more_spare(remap, ask->bytes);

		if (rc)
			return rc;
	}
	from = remap->spare;
	remap->spare += ask->bytes;
	remap->spare_bytes -= ask->bytes;
	return remap_move(ask, from);
}

static void remap_notify(int fd)
{
	uint64_t one = 1;

	/* Fails only when the counter is at its end, and then the sleeper wakes anyway. */
	if (write(fd, &one, sizeof(one)) < 0)
		return;
}

static void *remap_main(void *arg)
{
	struct mt_remap *remap = arg;
	uint64_t woken;

	pthread_setname_np(pthread_self(), "memtide-remap");
	for (;;) {
		if (read(remap->wake_fd, &woken, sizeof(woken)) < 0) {
			if (errno == EINTR)
				continue;
			break;
		}
		if (atomic_load_explicit(&remap->stop, memory_order_acquire))
			break;
		remap->rc = remap->ask.frames_fd >= 0 ? remap_frames(remap, &remap->ask)
						      : remap_nothing(remap, &remap->ask);
		remap_notify(remap->done_fd);
	}
	return NULL;
}

void mt_remap_init(struct mt_remap *remap)
{
	memset(remap, 0, sizeof(*remap));
	remap->uffd = remap->wake_fd = remap->done_fd = -1;
}

int mt_remap_start(struct mt_remap *remap, int uffd)
{
	sigset_t all, old;
	int rc;

	remap->uffd = uffd;
	remap->wake_fd = eventfd(0, EFD_CLOEXEC);
	remap->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (remap->wake_fd < 0 || remap->done_fd < 0)
		return -errno;
	/* The VMM's signals are the VMM's business. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = -pthread_create(&remap->thread, NULL, remap_main, remap);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	remap->started = rc == 0;
	return rc;
}

void mt_remap_stop(struct mt_remap *remap)
{
	if (remap->started) {
		atomic_store_explicit(&remap->stop, true, memory_order_release);
		remap_notify(remap->wake_fd);
		pthread_join(remap->thread, NULL);
	}
	remap_drop_spare(remap);
	if (remap->wake_fd >= 0)
		close(remap->wake_fd);
	if (remap->done_fd >= 0)
		close(remap->done_fd);
	mt_remap_init(remap);
}

void mt_remap_ask(struct mt_remap *remap, const struct mt_remap_ask *ask)
{
	remap->ask = *ask;
	remap_notify(remap->wake_fd);
}

bool mt_remap_done(struct mt_remap *remap, int *ret_rc)
{
	uint64_t done;

	if (read(remap->done_fd, &done, sizeof(done)) != sizeof(done))
		return false;
	*ret_rc = remap->rc;
	return true;
}
