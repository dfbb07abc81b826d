/* SPDX-License-Identifier: MIT */
/*
 * fault.c - serve one fault: find where the page is, bring it back
 *
 * What can be done at once is done at once. A fault that needs memory beyond the grant, or a page
 * from the swap file, is put on a list of waiters and tried again whenever the pager has got
 * something done; in between other faults are served. Trying again starts from the page's state
 * at that time, so it does not matter what happened to the page meanwhile.
 *
 * Nothing here allocates, logs or takes a lock.
 */
#include "monitor/pager.h"

#include <errno.h>
#include <lz4.h>
#include <string.h>

/*
 * Nothing could be put at @addr. If it is not mapped as it was any more, the thread finds out by
 * itself what is there now, but it must be woken for that: the kernel did not.
 */
static enum mt_fault_outcome fault_unplaced(struct mt_pager *pager, uint8_t *addr,
					    enum mt_mem_outcome outcome)
{
	if (outcome != MT_MEM_GONE)
		return MT_FAULT_WAITS_KERNEL;
	pager->mem.wake(pager->mem.ctx, addr, MT_PAGE_SIZE);
	return MT_FAULT_SERVED;
}

/*
 * Puts @pages pages at @addr. Return: how many were put, from the first on. A window may reach over
 * the end of a mapping, which the kernel refuses as a whole: then it is the page asked for alone.
 */
static uint32_t fault_put(struct mt_pager *pager, uint8_t *addr, const uint8_t *from,
			  uint32_t pages, enum mt_mem_outcome *ret_outcome)
{
	uint64_t bytes = 0;

	*ret_outcome = pager->mem.copy(pager->mem.ctx, addr, from, (uint64_t)pages << MT_PAGE_SHIFT,
				       &bytes);
	if (*ret_outcome == MT_MEM_GONE && !bytes && pages > 1)
		*ret_outcome = pager->mem.copy(pager->mem.ctx, addr, from, MT_PAGE_SIZE, &bytes);
	return (uint32_t)(bytes >> MT_PAGE_SHIFT);
}

/* Pages from @gpn on, at most @max, in one of the @states, a bit for each; no mapped frames. */
static uint32_t fault_run(struct mt_pager *pager, mt_gpn_t gpn, uint32_t max, unsigned int states)
{
	const struct mt_region *region = mt_region_of_gpn(&pager->regions, gpn);
	uint32_t run = 0;

	max = (uint32_t)MT_MIN(max, mt_region_pages_from(region, gpn));
	while (run < max) {
		enum mt_page_state state = mt_page_state(&pager->map, MT_GPN(gpn.n + run));

		if (!(states & 1U << state) || mt_page_mapped(&pager->map, MT_GPN(gpn.n + run)))
			break;
		run++;
	}
	return run;
}

/*
 * A page nobody has a copy of: zeros, and while there is plenty of room, more of the same around
 * it, since a guest that starts touching memory goes on. With room for a large page, one of those.
 */
static enum mt_fault_outcome fault_first_touch(struct mt_pager *pager, mt_gpn_t gpn)
{
	const struct mt_region *region = mt_region_of_gpn(&pager->regions, gpn);
	uint8_t *addr = mt_region_addr(region, gpn);
	enum mt_mem_outcome outcome;
	uint32_t window, pages;

	/* Before the streams are looked at: a fault that tries again must not spoil them. */
	if (!mt_room_left_pages(pager))
		return MT_FAULT_WAITS_MEMORY;
	window = mt_stream_window(&pager->streams, gpn, MT_AROUND_MAX);
	if (!mt_room_excess_pages(pager)) {
		if (mt_nursery_take(pager, region, gpn))
			return MT_FAULT_SERVED;
		window = MT_AROUND_MAX - (gpn.n - region->first.n) % MT_AROUND_MAX;
	}
	pages = (uint32_t)MT_MIN(window, mt_room_around_pages(pager));
	pages = fault_run(pager, gpn, pages, 1U << MT_PAGE_UNTOUCHED | 1U << MT_PAGE_RELEASED);
	pages = fault_put(pager, addr, pager->zeros, pages, &outcome);
	/* A page we thought was not there: it is in its place, and that is all we need to know. */
	if (outcome == MT_MEM_EXISTS && !pages) {
		pager->mem.wake(pager->mem.ctx, addr, MT_PAGE_SIZE);
		pages = 1;
	}
	if (!pages)
		return fault_unplaced(pager, addr, outcome);
	for (uint32_t i = 0; i < pages; i++) {
		mt_gpn_t done = MT_GPN(gpn.n + i);

		mt_page_in_place(pager, done, mt_page_state(&pager->map, done));
	}
	mt_stream_brought(&pager->streams, gpn, pages);
	mt_count(pager, MT_C_FAULT_NEW, 1);
	return MT_FAULT_SERVED;
}

static void fault_lost(struct mt_pager *pager, mt_gpn_t gpn)
{
	enum mt_page_state state = mt_page_state(&pager->map, gpn);
	mt_zref_t ref = {mt_page_place(&pager->map, gpn)};
	const void *data;
	mt_gpn_t owner;

	mt_page_lost(pager, gpn, state, MT_SLOT_NONE, -EBADMSG);
	if (state == MT_PAGE_SHARED) {
		mt_share_let_go(pager, gpn, MT_FRAME(ref.n));
		return;
	}
	/* The store goes on moving objects about, and must not move one that no page points at. */
	mt_zip_get(pager->zip, ref, &data, &owner);
	if (owner.n == gpn.n)
		mt_zip_del(pager->zip, ref);
}

/* Unpacks page @gpn, ZIPPED, SHARED or ZERO, to @to. False when its copy is damaged. */
static bool fault_unpack(struct mt_pager *pager, mt_gpn_t gpn, uint8_t *to)
{
	const void *data;
	mt_gpn_t owner;
	uint32_t bytes;

	if (mt_page_state(&pager->map, gpn) == MT_PAGE_ZERO) {
		memset(to, 0, MT_PAGE_SIZE);
		return true;
	}
	if (mt_page_state(&pager->map, gpn) == MT_PAGE_SHARED) {
		memcpy(to, mt_share_frame(pager, gpn), MT_PAGE_SIZE);
		return mt_share_hash(to) == mt_page_sum(&pager->map, gpn);
	}
	bytes = mt_zip_get(pager->zip, (mt_zref_t){mt_page_place(&pager->map, gpn)}, &data, &owner);
	return owner.n == gpn.n && LZ4_decompress_safe(data, (char *)to, (int)bytes,
						       (int)MT_PAGE_SIZE) == (int)MT_PAGE_SIZE;
}

/* Page @gpn is in its place: frees its copy and counts. @around: it was not the one asked for. */
static void fault_unpacked(struct mt_pager *pager, mt_gpn_t gpn, bool around)
{
	enum mt_page_state state = mt_page_state(&pager->map, gpn);
	mt_zref_t ref = {mt_page_place(&pager->map, gpn)};

	mt_page_in_place(pager, gpn, state);
	if (state == MT_PAGE_ZIPPED) {
		mt_zip_del(pager->zip, ref);
		mt_count(pager, MT_C_ZIP_OUT, 1);
	} else if (state == MT_PAGE_SHARED) {
		mt_share_let_go(pager, gpn, MT_FRAME(ref.n));
	}
	if (around) {
		mt_count(pager, MT_C_PREFETCHED, 1);
		return;
	}
	mt_page_came_back(pager, gpn);
	mt_count(pager,
		 state == MT_PAGE_ZIPPED   ? MT_C_FAULT_ZIPPED
		 : state == MT_PAGE_SHARED ? MT_C_FAULT_SHARED
					   : MT_C_FAULT_ZERO,
		 1);
}

/* Has the start of a page's object on its way to the cache while the one before it is unpacked. */
static void fault_prefetch(struct mt_pager *pager, mt_gpn_t gpn)
{
	const uint8_t *data;

	if (mt_page_state(&pager->map, gpn) != MT_PAGE_ZIPPED)
		return;
	data = pager->zip_arena + mt_page_place(&pager->map, gpn) * 8;
	for (unsigned int i = 0; i < 16; i++)
		__builtin_prefetch(data + i * 64);
}

/* Unpacks pages from @gpn on, at most @max. Return: how many could be, from the first on. */
static uint32_t fault_unpack_run(struct mt_pager *pager, mt_gpn_t gpn, uint32_t max)
{
	uint32_t pages = fault_run(
		pager, gpn, max, 1U << MT_PAGE_ZIPPED | 1U << MT_PAGE_ZERO | 1U << MT_PAGE_SHARED);

	for (uint32_t i = 0; i < pages; i++) {
		if (i + 1 < pages)
			fault_prefetch(pager, MT_GPN(gpn.n + i + 1));
		if (!fault_unpack(pager, MT_GPN(gpn.n + i), pager->bounce + i * MT_PAGE_SIZE))
			return i;
	}
	return pages;
}

/* A ZIPPED or ZERO page, and those after it that are too when the guest walks forward. */
static enum mt_fault_outcome fault_unzip(struct mt_pager *pager, mt_gpn_t gpn)
{
	const struct mt_region *region = mt_region_of_gpn(&pager->regions, gpn);
	uint8_t *addr = mt_region_addr(region, gpn);
	enum mt_mem_outcome outcome;
	uint32_t pages;

	if (!mt_room_left_pages(pager))
		return MT_FAULT_WAITS_MEMORY;
	pages = mt_stream_window(&pager->streams, gpn, MT_AROUND_MAX);
	pages = (uint32_t)MT_MIN(pages, mt_room_around_pages(pager));
	pages = fault_unpack_run(pager, gpn, pages);
	if (!pages) {
		fault_lost(pager, gpn);
		return MT_FAULT_STUCK;
	}
	pages = fault_put(pager, addr, pager->bounce, pages, &outcome);
	if (!pages)
		return fault_unplaced(pager, addr, outcome);
	for (uint32_t i = 0; i < pages; i++)
		fault_unpacked(pager, MT_GPN(gpn.n + i), i > 0);
	mt_stream_brought(&pager->streams, gpn, pages);
	return MT_FAULT_SERVED;
}

/* A page whose mapped frame was touched. */
static enum mt_fault_outcome fault_mapped(struct mt_pager *pager, mt_gpn_t gpn, bool write)
{
	const struct mt_region *region = mt_region_of_gpn(&pager->regions, gpn);
	bool intact = mt_share_intact(pager, gpn);
	uint64_t most = 1;

	/* Usually two threads read it at the same time, and the first one's fault was served. */
	if (!write && intact && !pager->leaving) {
		pager->mem.wake(pager->mem.ctx, mt_region_addr(region, gpn), MT_PAGE_SIZE);
		mt_count(pager, MT_C_FAULT_PRESENT, 1);
		return MT_FAULT_SERVED;
	}
	if (!mt_room_left_pages(pager))
		return MT_FAULT_WAITS_MEMORY;
	/* While the guest walks forward, those after it along with it. */
	if (intact)
		most = MT_MIN(mt_stream_expected(&pager->streams, gpn, MT_AROUND_MAX),
			      mt_room_around_pages(pager));
	if (!mt_share_unmap(pager, gpn, (uint32_t)most))
		return MT_FAULT_WAITS_KERNEL;
	mt_count(pager, MT_C_SHARE_BROKEN, 1);
	return fault_unzip(pager, gpn);
}

static enum mt_fault_outcome fault_shared(struct mt_pager *pager, mt_gpn_t gpn, bool write)
{
	if (mt_page_mapped(&pager->map, gpn))
		return fault_mapped(pager, gpn, write);
	if (!write && mt_share_map(pager, gpn))
		return MT_FAULT_SERVED;
	return fault_unzip(pager, gpn);
}

static enum mt_fault_outcome fault_nominated(struct mt_pager *pager, mt_gpn_t gpn)
{
	bool copies = mt_page_in_use(&pager->map, gpn);
	bool sampled = mt_page_busy(&pager->map, gpn) == MT_TICKET_SAMPLE;
	enum mt_mem_outcome outcome;

	if (copies && !mt_room_for(pager, 1))
		return MT_FAULT_WAITS_MEMORY;
	outcome = mt_nominate_undo(pager, gpn, true);
	if (outcome == MT_MEM_ABSENT)
		return MT_FAULT_STUCK;
	if (outcome != MT_MEM_DONE)
		return fault_unplaced(pager,
				      mt_region_addr(mt_region_of_gpn(&pager->regions, gpn), gpn),
				      outcome);
	/* Who is watched waits for a touch much longer than others: that says little. */
	if (!sampled)
		mt_page_heat_set(&pager->map, gpn, mt_heat_touched(mt_page_heat(&pager->map, gpn)));
	mt_count(pager, MT_C_FAULT_NOMINATED, 1);
	return MT_FAULT_SERVED;
}

/* A page we believed to be in its place is not. */
static enum mt_fault_outcome fault_absent(struct mt_pager *pager, mt_gpn_t gpn)
{
	switch (mt_page_absent(pager, gpn)) {
	case MT_ABSENCE_SOON_KNOWN:
		return MT_FAULT_WAITS_KERNEL;
	case MT_ABSENCE_DROPPED:
		return fault_first_touch(pager, gpn);
	case MT_ABSENCE_LOST:
		break;
	}
	return MT_FAULT_STUCK;
}

/*
 * A page we believe to be in its place. Usually it is: two threads touched it, and the first
 * one's fault was served.
 */
static enum mt_fault_outcome fault_resident(struct mt_pager *pager, mt_gpn_t gpn, bool again)
{
	const struct mt_region *region = mt_region_of_gpn(&pager->regions, gpn);
	uint8_t *addr = mt_region_addr(region, gpn);
	bool present = true;

	if (!again && pager->mem.present(pager->mem.ctx, addr, 1, &present))
		return MT_FAULT_WAITS_KERNEL;
	if (!present)
		return fault_absent(pager, gpn);
	pager->mem.wake(pager->mem.ctx, addr, MT_PAGE_SIZE);
	if (!again)
		mt_count(pager, MT_C_FAULT_PRESENT, 1);
	return MT_FAULT_SERVED;
}

static enum mt_fault_outcome fault_swapped(struct mt_pager *pager, mt_gpn_t gpn, bool again)
{
	enum mt_fault_outcome outcome;
	uint32_t window;

	if (mt_page_busy(&pager->map, gpn))
		return MT_FAULT_WAITS_SWAP;
	if (!mt_room_for(pager, 1))
		return MT_FAULT_WAITS_MEMORY;
	window = mt_stream_window(&pager->streams, gpn, MT_SWAP_RUN);
	outcome = mt_swap_in_start(pager, gpn, window);
	if (outcome == MT_FAULT_WAITS_SWAP && !again)
		mt_count(pager, MT_C_FAULT_SWAPPED, 1);
	return outcome;
}

enum mt_fault_outcome mt_fault_serve(struct mt_pager *pager, const struct mt_fault *fault,
				     bool again)
{
	const struct mt_region *region = mt_region_of_addr(&pager->regions, fault->addr);
	mt_gpn_t gpn;

	if (!region) {
		/* A region that was just removed: what the thread finds there is not ours to say.
		 */
		pager->mem.wake(pager->mem.ctx,
				(void *)(uintptr_t)mt_align_down(fault->addr, MT_PAGE_SIZE),
				MT_PAGE_SIZE);
		return MT_FAULT_SERVED;
	}
	gpn = mt_region_gpn(region, fault->addr);
	if (!again)
		mt_sample_touch(pager, gpn, fault->write);
	switch (mt_page_state(&pager->map, gpn)) {
	case MT_PAGE_UNTOUCHED:
	case MT_PAGE_RELEASED:
		return fault_first_touch(pager, gpn);
	case MT_PAGE_RESIDENT:
		return fault_resident(pager, gpn, again);
	case MT_PAGE_NOMINATED:
		return fault_nominated(pager, gpn);
	case MT_PAGE_SHARED:
		return fault_shared(pager, gpn, fault->write);
	case MT_PAGE_ZERO:
	case MT_PAGE_ZIPPED:
		return fault_unzip(pager, gpn);
	case MT_PAGE_SWAPPED:
		return fault_swapped(pager, gpn, again);
	case MT_PAGE_FAILED:
		return MT_FAULT_STUCK;
	case MT_PAGE_STATES:
		break;
	}
	MT_UNREACHABLE("page in a state that does not exist");
}

static void fault_done(struct mt_pager *pager, uint64_t since_ns)
{
	mt_hist_add(&pager->fault_hist, mt_pager_now_ns() - since_ns);
}

/*
 * Does somebody wait for this page already? Who serves him wakes all. A thread that gets signals
 * faults anew after each: without this check, one thread could take every place there is.
 */
static bool fault_waits(const struct mt_pager *pager, const struct mt_fault *fault)
{
	for (uint32_t i = 0; i < pager->waiters; i++)
		if (pager->waiter[i].fault.addr >> MT_PAGE_SHIFT == fault->addr >> MT_PAGE_SHIFT)
			return true;
	return false;
}

void mt_fault_new(struct mt_pager *pager, const struct mt_fault *fault)
{
	uint64_t now_ns = mt_pager_now_ns();
	enum mt_fault_outcome outcome = mt_fault_serve(pager, fault, false);

	if (outcome == MT_FAULT_SERVED) {
		fault_done(pager, now_ns);
		return;
	}
	if (fault_waits(pager, fault))
		return;
	/* The pager reads no more faults than can wait. */
	MT_ASSERT(pager->waiters < MT_WAITERS_MAX);
	pager->waiter[pager->waiters++] =
		(struct mt_waiter){.fault = *fault, .since_ns = now_ns, .outcome = outcome};
	if (outcome == MT_FAULT_WAITS_MEMORY) {
		pager->waiters_for_memory++;
		mt_count(pager, MT_C_FAULT_WAITED, 1);
	}
}

uint32_t mt_fault_retry(struct mt_pager *pager)
{
	uint32_t kept = 0, for_kernel = 0, count = pager->waiters;

	pager->waiters_for_memory = 0;
	for (uint32_t i = 0; i < count; i++) {
		struct mt_waiter waiter = pager->waiter[i];

		waiter.outcome = mt_fault_serve(pager, &waiter.fault, true);
		if (waiter.outcome == MT_FAULT_SERVED) {
			fault_done(pager, waiter.since_ns);
			continue;
		}
		pager->waiters_for_memory += waiter.outcome == MT_FAULT_WAITS_MEMORY;
		for_kernel += waiter.outcome == MT_FAULT_WAITS_KERNEL;
		pager->waiter[kept++] = waiter;
	}
	pager->waiters = kept;
	return for_kernel;
}
