/* SPDX-License-Identifier: MIT */
/*
 * pager.c - the loop of the thread that owns a VM's pages
 *
 * One turn: wait; read faults; take discards, commands and finished work; serve the faults; give
 * memory up as far as needed; say what changed. The order matters in one place: discards are
 * taken after faults were read and before they are served (discard.h says why).
 *
 * No turn blocks: disk transfers, compression and waiting for memory all end in a later turn.
 */
#include "monitor/pager.h"
#include "base/own_fds.h"
#include "base/thread.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* Faults read in one turn. */
#define PAGER_FAULTS 16U
/* When something must be tried again but nothing will tell when. */
#define PAGER_RETRY_MS 1
/* Give-ups that found nothing to take: look again after this long. */
#define PAGER_STUCK_MS 5
/* Once nobody can wake it, the pager looks this often what others want. */
#define PAGER_CUT_MS 10
/* Look where the guest's threads run this often; without faults for as long, run anywhere. */
#define PAGER_PLACE_NS 4000000ULL

uint64_t mt_pager_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

void mt_pager_kick(struct mt_pager *pager)
{
	mt_thread_wake(pager->event_fd);
}

static void pager_zip_drop(void *ctx, void *addr, uint64_t bytes)
{
	struct mt_pager *pager = ctx;

	pager->mem.drop(pager->mem.ctx, addr, bytes);
}

static void pager_zip_moved(void *ctx, mt_gpn_t gpn, mt_zref_t to)
{
	struct mt_pager *pager = ctx;

	mt_page_moved(&pager->map, gpn, to.n);
}

/*
 * Only made accessible when it is sure not to be locked: in a VMM that called mlockall() the
 * kernel would fill all of it with memory at once.
 */
void *mt_pager_area(uint64_t bytes)
{
	void *area =
		mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (area == MAP_FAILED)
		return NULL;
	munlock(area, bytes);
	if (mprotect(area, bytes, PROT_READ | PROT_WRITE)) {
		munmap(area, bytes);
		return NULL;
	}
	madvise(area, bytes, MADV_DONTFORK);
	return area;
}

/* The same, aligned to @align (a power of two, more than a page). */
static void *pager_area_aligned(uint64_t bytes, uint64_t align)
{
	uint8_t *area = mt_pager_area(bytes + align);
	uint64_t skip;

	if (!area)
		return NULL;
	skip = mt_align_up((uint64_t)(uintptr_t)area, align) - (uint64_t)(uintptr_t)area;
	if (skip)
		munmap(area, skip);
	if (align - skip)
		munmap(area + skip + bytes, align - skip);
	return area + skip;
}

static int pager_init_areas(struct mt_pager *pager)
{
	pager->zip_arena_bytes = mt_align_up(pager->zip_arena_bytes, 1 << 16);
	pager->zip_arena = pager_area_aligned(pager->zip_arena_bytes, 1 << 16);
	pager->nursery = pager_area_aligned(MT_NURSERY_SLOTS * MT_HUGE_SIZE, MT_HUGE_SIZE);
	pager->bounce = mt_pager_area(MT_AROUND_MAX * MT_PAGE_SIZE);
	pager->zeros = mt_pager_area(MT_AROUND_MAX * MT_PAGE_SIZE);
	if (!pager->zip_arena || !pager->nursery || !pager->bounce || !pager->zeros)
		return -ENOMEM;
	madvise(pager->zip_arena, pager->zip_arena_bytes, MADV_NOHUGEPAGE);
	madvise(pager->zeros, MT_AROUND_MAX * MT_PAGE_SIZE, MADV_NOHUGEPAGE);
	madvise(pager->nursery, MT_NURSERY_SLOTS * MT_HUGE_SIZE, MADV_HUGEPAGE);
	for (uint32_t i = 0; i < MT_SWAP_BUFFERED; i++) {
		pager->swap_op[i].buffer = mt_pager_area(MT_SWAP_RUN * MT_PAGE_SIZE);
		if (!pager->swap_op[i].buffer)
			return -ENOMEM;
	}
	return 0;
}

static void pager_unmap(void *area, uint64_t bytes)
{
	if (area)
		munmap(area, bytes);
}

/* What the helper does when there is nothing to compress. */
static bool pager_idle_work(void *ctx)
{
	struct mt_pager *pager = ctx;

	return mt_nursery_fill(pager) || mt_mend_one(&pager->mends) || mt_share_map_idle(pager) ||
	       mt_look_hash(pager);
}

int mt_pager_init(struct mt_pager *pager, void *staging, uint32_t staging_slots)
{
	struct mt_zip_env env;
	int rc;

	mt_discards_init(&pager->discards);
	mt_share_map_init(pager);
	mt_commands_init(&pager->commands);
	pager->event_fd = mt_fd_own(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (pager->event_fd < 0)
		return -errno;
	rc = mt_map_init(&pager->map);
	if (!rc)
		rc = pager_init_areas(pager);
	if (!rc)
		rc = mt_sample_init(&pager->sample);
	if (!rc)
		rc = mt_staging_init(&pager->staging, staging, staging_slots, &pager->mem);
	if (rc)
		return rc;
	env = (struct mt_zip_env){.base = pager->zip_arena,
				  .bytes = pager->zip_arena_bytes,
				  .ctx = pager,
				  .drop = pager_zip_drop,
				  .moved = pager_zip_moved};
	rc = mt_zip_new(&env, &pager->zip);
	if (rc)
		return rc;
	pager->fixed_bytes = sizeof(*pager) + mt_slots_held_bytes(pager->staging.slots) +
			     MT_SWAP_BUFFERED * MT_SWAP_RUN * MT_PAGE_SIZE;
	pager->helper.idle_work = pager_idle_work;
	pager->helper.idle_ctx = pager;
	pager->helper.keep_fd = pager->fault_fd;
	pager->helper.read_fd = pager->mem_fd;
	return mt_helper_start(&pager->helper, pager->event_fd);
}

void mt_pager_fini(struct mt_pager *pager)
{
	mt_helper_stop(&pager->helper);
	mt_swap_io_free(&pager->swap);
	mt_slots_free(pager->slots);
	mt_zip_free(pager->zip);
	mt_staging_fini(&pager->staging);
	mt_sample_fini(&pager->sample);
	mt_map_fini(&pager->map);
	pager_unmap(pager->zip_arena, pager->zip_arena_bytes);
	pager_unmap(pager->nursery, MT_NURSERY_SLOTS * MT_HUGE_SIZE);
	pager_unmap(pager->bounce, MT_AROUND_MAX * MT_PAGE_SIZE);
	pager_unmap(pager->zeros, MT_AROUND_MAX * MT_PAGE_SIZE);
	for (uint32_t i = 0; i < MT_SWAP_BUFFERED; i++)
		pager_unmap(pager->swap_op[i].buffer, MT_SWAP_RUN * MT_PAGE_SIZE);
	if (pager->event_fd > 0)
		mt_fd_close(pager->event_fd);
	mt_commands_fini(&pager->commands);
}

static void pager_put(struct mt_pager *pager, enum mt_counter id, uint64_t value)
{
	atomic_store_explicit(&pager->counter[id], value, memory_order_relaxed);
}

/* Makes the page counts visible to other threads. */
static void pager_publish(struct mt_pager *pager)
{
	uint64_t held = mt_room_held_pages(pager);
	uint64_t memsize = 0;

	for (uint32_t i = 0; i < MT_PAGE_STATES; i++)
		memsize += pager->map.pages[i];
	pager_put(pager, MT_C_MEMSIZE, memsize);
	pager_put(pager, MT_C_RESIDENT, pager->map.pages[MT_PAGE_RESIDENT]);
	pager_put(pager, MT_C_NOMINATED, pager->map.pages[MT_PAGE_NOMINATED]);
	pager_put(pager, MT_C_ZERO, pager->map.pages[MT_PAGE_ZERO]);
	pager_put(pager, MT_C_SHARED_FRAMES, pager->map.pages[MT_PAGE_SHARED]);
	pager_put(pager, MT_C_ZIPPED, pager->map.pages[MT_PAGE_ZIPPED]);
	pager_put(pager, MT_C_SWAPPED, pager->map.pages[MT_PAGE_SWAPPED]);
	pager_put(pager, MT_C_RELEASED, pager->map.pages[MT_PAGE_RELEASED]);
	pager_put(pager, MT_C_UNTOUCHED, pager->map.pages[MT_PAGE_UNTOUCHED]);
	pager_put(pager, MT_C_FAILED,
		  pager->cut ? mt_pager_cut_pages(pager) : pager->map.pages[MT_PAGE_FAILED]);
	pager_put(pager, MT_C_DIRECT_IO, pager->in_place);
	pager_put(pager, MT_C_ZIP_HELD, mt_zip_held_bytes(pager->zip));
	pager_put(pager, MT_C_ZIP_STORED, mt_zip_stored_bytes(pager->zip));
	pager_put(pager, MT_C_OVERHEAD, mt_room_overhead_bytes(pager));
	pager_put(pager, MT_C_HELD, held);
	if (held > atomic_load_explicit(&pager->counter[MT_C_HELD_MAX], memory_order_relaxed))
		pager_put(pager, MT_C_HELD_MAX, held);
	pager_put(pager, MT_C_MENDED,
		  atomic_load_explicit(&pager->mends.mended, memory_order_relaxed));
	pager_put(pager, MT_C_SHARE_MAPPED, pager->share.mapped_pages);
	pager_put(pager, MT_C_COW_HINT,
		  MT_MAX(pager->share.cow_hint_pages, pager->share.cow_hint_round_pages));
	pager_put(pager, MT_C_SHARE_MAPS, pager->share.maps);
	pager_put(pager, MT_C_SWAP_SLOTS, pager->slots ? mt_slots_capacity(pager->slots) : 0);
}

/*
 * Somebody has closed the descriptors that guest memory is served through. The helper still holds
 * the userfaultfd, so who touches a page that is out waits for it, for ever: no page is guessed.
 */
static void pager_cut(struct mt_pager *pager)
{
	if (pager->cut)
		return;
	pager->cut = true;
	pager->notify(pager->notify_ctx);
}

uint64_t mt_pager_cut_pages(const struct mt_pager *pager)
{
	uint64_t pages = mt_regions_pages(&pager->regions) - pager->map.pages[MT_PAGE_RESIDENT];

	return MT_MAX(pages, 1U);
}

static void pager_wait(struct mt_pager *pager, int timeout_ms)
{
	struct pollfd fds[2] = {{.fd = pager->fault_fd, .events = POLLIN},
				{.fd = pager->event_fd, .events = POLLIN}};
	uint64_t drained;

	/* With every waiting place taken, faults stay in the kernel until one is free. */
	if (pager->cut || pager->waiters + PAGER_FAULTS > MT_WAITERS_MAX)
		fds[0].fd = -1;
	/* Nobody may be able to wake us. */
	if (pager->cut)
		fds[1].fd = -1;
	if (poll(fds, 2, timeout_ms) <= 0)
		return;
	if ((fds[0].revents | fds[1].revents) & POLLNVAL)
		pager_cut(pager);
	if (!(fds[1].revents & POLLIN))
		return;
	/* Nothing to read means that it was read before: fine. */
	if (read(pager->event_fd, &drained, sizeof(drained)) < 0)
		return;
}

/* Follows the threads that fault, and lets go when there is only background work to do. */
static void pager_place(struct mt_pager *pager, const struct mt_fault *faults, int count)
{
	uint64_t now_ns = mt_pager_now_ns();

	if (count > 0) {
		pager->served_ns = now_ns;
		if (now_ns - pager->placed_ns < PAGER_PLACE_NS)
			return;
		pager->mem.place(pager->mem.ctx, faults[count - 1].tid);
		pager->placed_ns = now_ns;
	} else if (pager->placed_ns && now_ns - pager->served_ns > PAGER_PLACE_NS) {
		pager->mem.place(pager->mem.ctx, 0);
		pager->placed_ns = 0;
	}
}

/* Serves what was just read, then gives memory up. Return: how long the next turn may wait. */
static int pager_serve(struct mt_pager *pager, const struct mt_fault *faults, int count,
		       bool commands_left)
{
	uint32_t for_kernel = 0;
	int idle_ms, share_ms;
	bool more;

	if (pager->waiters)
		for_kernel = mt_fault_retry(pager);
	for (int i = 0; i < count; i++)
		mt_fault_new(pager, &faults[i]);
	pager_place(pager, faults, count);
	more = mt_reclaim_step(pager);
	idle_ms = mt_sample_step(pager);
	share_ms = mt_share_step(pager);
	if (share_ms >= 0)
		idle_ms = idle_ms < 0 ? share_ms : MT_MIN(idle_ms, share_ms);
	if (pager->swap.ops && mt_swap_io_submit(&pager->swap))
		for_kernel++;
	pager->settling = pager->settling && mt_room_held_pages(pager) > mt_room_grant_pages(pager);
	mt_nursery_update(pager);
	mt_staging_flush(&pager->staging);
	mt_share_count_maps(pager);
	pager_publish(pager);
	/* Last: who sees that grant was returned sees that the memory it was for is no longer held.
	 */
	mt_room_return_grant(pager);
	if (more)
		return 0;
	if (for_kernel || commands_left)
		return PAGER_RETRY_MS;
	if (pager->waiters || mt_room_excess_pages(pager))
		return idle_ms ? PAGER_STUCK_MS : 0;
	return idle_ms;
}

static int pager_read(struct mt_pager *pager, struct mt_fault *faults)
{
	if (pager->cut || pager->waiters + PAGER_FAULTS > MT_WAITERS_MAX)
		return 0;
	return pager->mem.read_faults(pager->mem.ctx, faults, PAGER_FAULTS);
}

/* All that is left to do: others must not wait for us. Return: how long the next turn may wait. */
static int pager_serve_cut(struct mt_pager *pager)
{
	mt_discards_drain(pager);
	mt_commands_run(pager);
	pager_publish(pager);
	return PAGER_CUT_MS;
}

int mt_pager_step(struct mt_pager *pager, int timeout_ms)
{
	struct mt_fault faults[PAGER_FAULTS];
	int count, next_ms;
	bool commands_left;

	/* Odd from here on; sequentially consistent, see mt_discard(). */
	atomic_fetch_add(&pager->batch, 1);
	/* A guest that faults once often faults again at once: look before going to sleep. */
	count = pager_read(pager, faults);
	if (count <= 0) {
		atomic_fetch_add(&pager->batch, 1);
		pager_wait(pager, timeout_ms);
		atomic_fetch_add(&pager->batch, 1);
		count = pager_read(pager, faults);
	}
	if (count == -EBADF)
		pager_cut(pager);
	if (pager->cut) {
		next_ms = pager_serve_cut(pager);
		atomic_fetch_add(&pager->batch, 1);
		return next_ms;
	}
	mt_discards_drain(pager);
	mt_swap_collect(pager);
	mt_reclaim_collect(pager);
	commands_left = mt_commands_run(pager);
	next_ms = pager_serve(pager, faults, count, commands_left);
	atomic_fetch_add(&pager->batch, 1);
	return next_ms;
}

void mt_pager_run(struct mt_pager *pager, _Atomic bool *stop)
{
	int timeout_ms = 0;

	while (!atomic_load_explicit(stop, memory_order_acquire))
		timeout_ms = mt_pager_step(pager, timeout_ms);
}
