/* SPDX-License-Identifier: MIT */
/*
 * remap.c - the thread that moves mappings over guest memory; see remap.h
 *
 * System calls are made without the C library's functions of their names: in a VMM these may be
 * those of the preload library, which takes changes of guest memory for the VMM's and has the
 * pager make them, and that one is waiting for us.
 */
#include "sys/remap.h"
#include "base/own_fds.h"
#include "base/thread.h"
#include "sys/linux_compat.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000 /* Linux 4.17 */
#endif
#define REMAP_POLICY_OF_ADDR 2 /* MPOL_F_ADDR */

/* Spare memory is made in pieces of this size: it costs address space only. */
#define REMAP_SPARE_BYTES (256U << MT_PAGE_SHIFT)
/* Mappings in reserve; taking a frame away needs a few for a moment, and may leave two more. */
#define REMAP_RESERVE 32U

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
static void remap_mark(const struct mt_mapping_flags *flags, void *addr, uint64_t bytes)
{
	remap_advise(addr, bytes, MADV_UNMERGEABLE);
	remap_advise(addr, bytes, MADV_DONTFORK);
	if (flags->huge)
		remap_advise(addr, bytes, MADV_HUGEPAGE);
	if (flags->no_huge)
		remap_advise(addr, bytes, MADV_NOHUGEPAGE);
	if (flags->no_dump)
		remap_advise(addr, bytes, MADV_DONTDUMP);
}

static int remap_anonymous(const struct mt_mapping_flags *flags)
{
	return MAP_PRIVATE | MAP_ANONYMOUS | (flags->no_reserve ? MAP_NORESERVE : 0);
}

/*
 * A move that fails late has emptied its place before: nobody may find that, or put something
 * there. Return: was it so? Then there is nothing in the place now, and it is watched.
 */
static bool remap_fill_hole(const struct mt_remap *remap, const struct mt_remap_ask *ask)
{
	long at = syscall(SYS_mmap, ask->to, ask->bytes, PROT_NONE,
			  remap_anonymous(&ask->flags) | MAP_FIXED_NOREPLACE, -1, 0L);

	if (at == -1)
		return false;
	syscall(SYS_munlock, at, ask->bytes);
	remap_mark(&ask->flags, ask->to, ask->bytes);
	/* Watched before it can be touched; if it can't be, a touch had better be the VMM's end. */
	if (!remap_register(remap, ask->to, ask->bytes, UFFDIO_REGISTER_MODE_MISSING))
		remap_open(ask->to, ask->bytes);
	return true;
}

/* Moves what was made ready at @from over its place; unmaps it when that can't be. */
static int remap_move(const struct mt_remap *remap, const struct mt_remap_ask *ask, void *from)
{
	int rc;

	if (syscall(SYS_mremap, from, ask->bytes, ask->bytes, MREMAP_MAYMOVE | MREMAP_FIXED,
		    ask->to) != -1)
		return 0;
	rc = -errno;
	syscall(SYS_munmap, from, ask->bytes);
	if (remap_fill_hole(remap, ask) && ask->frames_fd < 0)
		return 0;
	return rc;
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
static int remap_more_spare(struct mt_remap *remap, const struct mt_remap_ask *ask)
{
	uint64_t bytes = MT_MAX(ask->bytes, REMAP_SPARE_BYTES);
	int rc;

	remap_drop_spare(remap);
	remap->spare_guard =
		remap_mmap(bytes + 2 * MT_PAGE_SIZE, remap_anonymous(&ask->flags), -1, 0);
	if (!remap->spare_guard)
		return -errno;
	remap->spare = remap->spare_guard + MT_PAGE_SIZE;
	remap->spare_bytes = bytes;
	remap->spare_flags = ask->flags;
	remap_mark(&ask->flags, remap->spare, bytes);
	if (remap->policy.mode)
		syscall(SYS_mbind, remap->spare, bytes, remap->policy.mode, remap->policy.nodes,
			(unsigned long)MT_REMAP_NODES, 0U);
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
	int rc;

	if (remap->spare_bytes < ask->bytes ||
	    memcmp(&remap->spare_flags, &ask->flags, sizeof(ask->flags)) != 0) {
		rc = remap_more_spare(remap, ask);
		if (rc)
			return rc;
	}
	from = remap->spare;
	remap->spare += ask->bytes;
	remap->spare_bytes -= ask->bytes;
	return remap_move(remap, ask, from);
}

/* The place is still guest memory: what replaces the frame one day must be like it. */
static void remap_note_policy(struct mt_remap *remap, const void *place)
{
	struct mt_remap_policy policy = {.mode = 0};

	if (syscall(SYS_get_mempolicy, &policy.mode, policy.nodes, (unsigned long)MT_REMAP_NODES,
		    place, (unsigned long)REMAP_POLICY_OF_ADDR))
		policy = (struct mt_remap_policy){.mode = 0};
	if (policy.mode == remap->policy.mode &&
	    !memcmp(policy.nodes, remap->policy.nodes, sizeof(policy.nodes)))
		return;
	remap->policy = policy;
	remap_drop_spare(remap);
}

static int remap_frames(struct mt_remap *remap, const struct mt_remap_ask *ask)
{
	uint8_t *ready =
		remap_mmap(ask->bytes, MAP_PRIVATE | MAP_NORESERVE, ask->frames_fd, ask->offset);
	int rc;

	if (!ready)
		return -errno;
	remap_note_policy(remap, ask->to);
	remap_mark(&ask->flags, ready, ask->bytes);
	rc = remap_open(ready, ask->bytes);
	/* Before it is watched: for a frame that is not there we would wait for the pager, and the
	 * pager waits for us. */
	remap_advise(ready, ask->bytes, MADV_POPULATE_READ);
	if (!rc)
		rc = remap_register(remap, ready, ask->bytes,
				    UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP);
	if (!rc)
		rc = remap_protect(remap, ready, ask->bytes);
	if (rc) {
		syscall(SYS_munmap, ready, ask->bytes);
		return rc;
	}
	return remap_move(remap, ask, ready);
}

static void remap_drop_reserve(struct mt_remap *remap)
{
	if (remap->reserve)
		syscall(SYS_munmap, remap->reserve, REMAP_RESERVE * MT_PAGE_SIZE);
	remap->reserve = NULL;
}

/* Pages that differ in what may be done with them are mappings of their own. */
static bool remap_has_reserve(struct mt_remap *remap)
{
	if (remap->reserve)
		return true;
	remap->reserve = remap_mmap(REMAP_RESERVE * MT_PAGE_SIZE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	for (uint32_t i = 1; remap->reserve && i < REMAP_RESERVE; i += 2)
		if (syscall(SYS_mprotect, remap->reserve + i * MT_PAGE_SIZE, MT_PAGE_SIZE,
			    PROT_READ))
			remap_drop_reserve(remap);
	return remap->reserve;
}

static int remap_do(struct mt_remap *remap, const struct mt_remap_ask *ask)
{
	int rc;

	if (ask->frames_fd >= 0)
		return remap_has_reserve(remap) ? remap_frames(remap, ask) : -ENOMEM;
	rc = remap_nothing(remap, ask);
	if (rc != -ENOMEM || !remap->reserve)
		return rc;
	remap_drop_reserve(remap);
	return remap_nothing(remap, ask);
}

/* The other thread may read what this one wrote, and write it. */
static void remap_hand_over(struct mt_remap *remap, int wake_fd)
{
	atomic_fetch_add_explicit(&remap->handed, 1, memory_order_release);
	mt_thread_wake(wake_fd);
}

static void remap_taken(struct mt_remap *remap)
{
	(void)atomic_load_explicit(&remap->handed, memory_order_acquire);
}

static void *remap_main(void *arg)
{
	struct mt_remap *remap = arg;
	uint64_t woken;

	mt_thread_enter("memtide-remap");
	mt_placement_init(&remap->placement);
	for (;;) {
		if (read(remap->wake_fd, &woken, sizeof(woken)) < 0) {
			if (errno == EINTR)
				continue;
			break;
		}
		if (atomic_load_explicit(&remap->stop, memory_order_acquire))
			break;
		remap_taken(remap);
		mt_placement_at(&remap->placement, remap->ask.cpu);
		remap->rc = remap_do(remap, &remap->ask);
		remap_hand_over(remap, remap->done_fd);
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
	int rc;

	remap->uffd = uffd;
	remap->wake_fd = mt_fd_own(eventfd(0, EFD_CLOEXEC));
	remap->done_fd = mt_fd_own(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (remap->wake_fd < 0 || remap->done_fd < 0)
		return -errno;
	rc = mt_thread_start(&remap->thread, NULL, remap_main, remap);
	remap->started = rc == 0;
	return rc;
}

void mt_remap_stop(struct mt_remap *remap)
{
	if (remap->started) {
		atomic_store_explicit(&remap->stop, true, memory_order_release);
		mt_thread_wake(remap->wake_fd);
		pthread_join(remap->thread, NULL);
	}
	remap_drop_spare(remap);
	remap_drop_reserve(remap);
	mt_fd_close(remap->wake_fd);
	mt_fd_close(remap->done_fd);
	mt_remap_init(remap);
}

void mt_remap_ask(struct mt_remap *remap, const struct mt_remap_ask *ask)
{
	remap->ask = *ask;
	remap_hand_over(remap, remap->wake_fd);
}

bool mt_remap_done(struct mt_remap *remap, int *ret_rc)
{
	uint64_t done;

	if (read(remap->done_fd, &done, sizeof(done)) != sizeof(done))
		return false;
	remap_taken(remap);
	*ret_rc = remap->rc;
	return true;
}
