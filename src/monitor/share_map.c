/* SPDX-License-Identifier: MIT */
/*
 * share_map.c - frames mapped into the guest, for as long as it only reads
 *
 * A SHARED page that is read gets its frame mapped in its place, protected against writes: from
 * then on reading costs nothing, no memory and no fault. A write takes the mapping away again, and
 * the page is copied back like any SHARED page that is touched (fault.c). The mapping is no copy of
 * the page: the frame stays that, and is used until the page leaves SHARED.
 *
 * Between a mapping and its end the guest can't write, so the frame is what the page holds. While
 * the mapping is taken away there is nothing in its place, as for a page that was never mapped.
 * Both are one step for the guest (sys/remap.h).
 *
 * Mappings are limited by the kernel (vm.max_map_count), and one that stands alone costs two: its
 * own, and the guest memory's in two parts. Pages side by side whose frames lie side by side share
 * one. Half of all there may be is ours; beyond that a page that is read is copied back, and a
 * write takes the rest of a mapping along rather than to leave two of it. Pages that stand alone
 * are copied back when half of ours is taken.
 *
 * An empty place between mapped frames is an island: the first page that comes there has nothing to
 * be joined with, and the kernel never joins what has had pages apart. So what is taken away
 * reaches to the nearer end of the mapped pages around it. Only where both ends are far is an
 * island made, so there can't be many at a time.
 *
 * Where KVM runs the guest, faults of the guest come as writes even if it reads (the kernel gets
 * the page for it by a worker, for writing). There frames are mapped as soon as pages are shared.
 */
#include "monitor/pager.h"

#include <stdio.h>

/* Most pages mapped at once, before and from the page that was read on. */
#define MAP_AROUND 16U
/* An end is far if it is more than this part of the guest away, or that many pages if that is more.
 */
#define MAP_FAR_PART  2048U
#define MAP_FAR_PAGES 64U
/* Of all mappings there may be, pages that stand alone may take the first 1/this. */
#define MAP_ALONE_PART 2U
/* Mappings are counted when so many have been taken away since; and at most so often. */
#define MAP_COUNT_EVERY 1024U
/* Kernel memory for a mapping and the part of guest memory behind it. */
#define MAP_BYTES 450U
/* The kernel's own default, for when it does not say. */
#define MAP_COUNT_DEFAULT 65530U

void mt_share_map_init(struct mt_pager *pager)
{
	FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
	unsigned long most = MAP_COUNT_DEFAULT;

	if (file && fscanf(file, "%lu", &most) != 1)
		most = MAP_COUNT_DEFAULT;
	if (file)
		fclose(file);
	pager->share.maps_max = most / 4;
	pager->share.maps_real_max = most / 4 * 3;
}

/* Page @gpn by @offset, if it is in the same region; else none. */
static mt_gpn_t map_beside(struct mt_pager *pager, mt_gpn_t gpn, int offset)
{
	const struct mt_region *region = mt_region_of_gpn(&pager->regions, gpn);
	int64_t page = (int64_t)(gpn.n - region->first.n) + offset;

	if (page < 0 || page >= (int64_t)region->pages)
		return MT_GPN_NONE;
	return MT_GPN(region->first.n + (uint64_t)page);
}

/* Is page @gpn mapped to frame @place? */
static bool map_is(const struct mt_pager *pager, mt_gpn_t gpn, uint64_t place)
{
	return !mt_gpn_is_none(gpn) && mt_page_mapped(&pager->map, gpn) &&
	       mt_page_place(&pager->map, gpn) == place;
}

/* Mappings that page @gpn costs while it is mapped: -1 if it joins two others, 0 if one. */
static int map_cost(struct mt_pager *pager, mt_gpn_t gpn)
{
	uint64_t place = mt_page_place(&pager->map, gpn);

	return 1 - (place && map_is(pager, map_beside(pager, gpn, -1), place - 1)) -
	       map_is(pager, map_beside(pager, gpn, 1), place + 1);
}

static void map_mark(struct mt_pager *pager, mt_gpn_t gpn)
{
	pager->share.maps += (uint64_t)map_cost(pager, gpn);
	pager->share.mapped_pages++;
	mt_page_mapped_set(&pager->map, gpn, true);
}

static void map_unmark(struct mt_pager *pager, mt_gpn_t gpn)
{
	const struct mt_region *region = mt_region_of_gpn(&pager->regions, gpn);

	mt_page_mapped_set(&pager->map, gpn, false);
	pager->share.mapped_pages--;
	pager->share.maps -= (uint64_t)map_cost(pager, gpn);
	mt_discards_count_mapped(&pager->discards, mt_region_addr(region, gpn), -1);
}

/* May page @gpn be mapped together with another, to frame @place? */
static bool map_fits(struct mt_pager *pager, mt_gpn_t gpn, uint64_t place)
{
	return !mt_gpn_is_none(gpn) && mt_page_state(&pager->map, gpn) == MT_PAGE_SHARED &&
	       !mt_page_mapped(&pager->map, gpn) && mt_page_place(&pager->map, gpn) == place &&
	       !mt_sample_watches(pager, gpn) && mt_share_intact(pager, gpn);
}

/* Pages around @gpn that are neighbours in their frames, too. Return: how many. */
static uint32_t map_run(struct mt_pager *pager, mt_gpn_t gpn, mt_gpn_t *ret_first)
{
	uint64_t place = mt_page_place(&pager->map, gpn);
	uint32_t before = 0, pages = 1;

	while (before < MAP_AROUND && place > before &&
	       map_fits(pager, map_beside(pager, gpn, -1 - (int)before), place - before - 1))
		before++;
	while (pages < MAP_AROUND &&
	       map_fits(pager, map_beside(pager, gpn, (int)pages), place + pages))
		pages++;
	*ret_first = MT_GPN(gpn.n - before);
	return before + pages;
}

static bool map_may(const struct mt_pager *pager)
{
	return pager->mem.map_frames && !pager->leaving;
}

/*
 * Has the process as many mappings as it should, for @pages more in one? Pages that stand alone are
 * the first to be refused: what they would take keeps ten times as many that don't. Unlike ours,
 * all mappings of the process are seldom counted.
 */
static bool map_full(struct mt_pager *pager, uint32_t pages, int cost)
{
	struct mt_share *share = &pager->share;
	uint64_t most = share->maps_max;

	if (pages == 1 && cost > 0)
		most = most / MAP_ALONE_PART;
	if (share->maps < most &&
	    atomic_load_explicit(&share->maps_real, memory_order_relaxed) < share->maps_real_max)
		return false;
	mt_count(pager, MT_C_SHARE_OVER, 1);
	share->uncounted++;
	return true;
}

/* The frames were what they should be before they were mapped; are they still? */
static bool map_intact(struct mt_pager *pager, mt_gpn_t first, uint32_t pages)
{
	for (uint32_t i = 0; i < pages; i++)
		if (!mt_share_intact(pager, MT_GPN(first.n + i)))
			return false;
	return true;
}

bool mt_share_map(struct mt_pager *pager, mt_gpn_t gpn)
{
	struct mt_share *share = &pager->share;
	const struct mt_region *region = mt_region_of_gpn(&pager->regions, gpn);
	uint8_t *addr;
	uint32_t pages;
	mt_gpn_t first;

	/* One that is not intact is found out by who copies it back. */
	if (!map_may(pager) || !mt_share_intact(pager, gpn))
		return false;
	pages = map_run(pager, gpn, &first);
	if (map_full(pager, pages, map_cost(pager, gpn)))
		return false;
	addr = mt_region_addr(region, first);
	for (uint32_t i = 0; i < pages; i++)
		mt_discards_count_mapped(&pager->discards, addr + i * MT_PAGE_SIZE, 1);
	if (pager->mem.map_frames(pager->mem.ctx, addr, share->frames_fd,
				  MT_FRAME(mt_page_place(&pager->map, first)),
				  pages) != MT_MEM_DONE) {
		for (uint32_t i = 0; i < pages; i++)
			mt_discards_count_mapped(&pager->discards, addr + i * MT_PAGE_SIZE, -1);
		return false;
	}
	for (uint32_t i = 0; i < pages; i++)
		map_mark(pager, MT_GPN(first.n + i));
	if (!map_intact(pager, first, pages) && mt_share_unmap(pager, first, pages))
		return false;
	pager->mem.wake(pager->mem.ctx, addr, (uint64_t)pages << MT_PAGE_SHIFT);
	mt_count(pager, MT_C_FAULT_MAPPED, 1);
	return true;
}

/* Takes away all that is in the range, and with it the frames. */
static bool unmap_all(struct mt_pager *pager, mt_gpn_t first, uint32_t pages)
{
	const struct mt_region *region = mt_region_of_gpn(&pager->regions, first);

	if (pager->mem.unmap_frames(pager->mem.ctx, mt_region_addr(region, first), pages) !=
	    MT_MEM_DONE)
		return false;
	mt_share_forget_maps(pager, first, pages);
	pager->share.uncounted++;
	return true;
}

/* Pages from @gpn to the end of its mapping. */
static uint32_t map_rest(struct mt_pager *pager, mt_gpn_t gpn)
{
	uint64_t place = mt_page_place(&pager->map, gpn);
	uint32_t pages = 1;

	while (map_is(pager, map_beside(pager, gpn, (int)pages), place + pages))
		pages++;
	return pages;
}

/* Mapped pages before @gpn (@step -1) or behind it (1), whatever their frames; @most at most. */
static uint32_t map_reach(struct mt_pager *pager, mt_gpn_t gpn, int step, uint32_t most)
{
	uint32_t pages = 0;

	while (pages < most) {
		mt_gpn_t next = map_beside(pager, gpn, step * (int)(pages + 1));

		if (mt_gpn_is_none(next) || !mt_page_mapped(&pager->map, next))
			break;
		pages++;
	}
	return pages;
}

static uint32_t map_far(struct mt_pager *pager)
{
	uint64_t pages = mt_regions_pages(&pager->regions) / MAP_FAR_PART;

	return (uint32_t)MT_MAX(pages, MAP_FAR_PAGES);
}

bool mt_share_unmap(struct mt_pager *pager, mt_gpn_t gpn, uint32_t most)
{
	uint32_t far = map_far(pager), before, behind, pages = 1;

	pages += map_reach(pager, gpn, 1, MT_MAX(most, 1U) - 1);
	if (pager->share.maps >= pager->share.maps_max)
		pages = MT_MAX(pages, map_rest(pager, gpn));
	before = map_reach(pager, gpn, -1, far + 1);
	behind = map_reach(pager, MT_GPN(gpn.n + pages - 1), 1, far + 1);
	if (!before || !behind || MT_MIN(before, behind) > far)
		return unmap_all(pager, gpn, pages);
	if (behind <= before)
		return unmap_all(pager, gpn, pages + behind);
	return unmap_all(pager, MT_GPN(gpn.n - before), before + pages);
}

/* First mapped page of the range, or its end. */
static uint64_t map_seek(const struct mt_pager *pager, mt_gpn_t first, uint64_t from,
			 uint64_t pages)
{
	while (from < pages && !mt_page_mapped(&pager->map, MT_GPN(first.n + from)))
		from++;
	return from;
}

void mt_share_unmap_range(struct mt_pager *pager, mt_gpn_t first, uint64_t pages)
{
	uint64_t done, run;

	if (!pager->share.mapped_pages)
		return;
	for (done = map_seek(pager, first, 0, pages); done < pages;
	     done = map_seek(pager, first, done + run, pages)) {
		mt_gpn_t gpn = MT_GPN(first.n + done);

		run = 1 + map_reach(pager, gpn, 1, (uint32_t)MT_MIN(pages - done, UINT32_MAX) - 1);
		/* Those that stay for now are looked at once, not again and again. */
		if (!mt_share_unmap(pager, gpn, (uint32_t)run))
			continue;
	}
}

void mt_share_forget_maps(struct mt_pager *pager, mt_gpn_t first, uint64_t pages)
{
	for (uint64_t i = 0; pager->share.mapped_pages && i < pages; i++)
		if (mt_page_mapped(&pager->map, MT_GPN(first.n + i)))
			map_unmark(pager, MT_GPN(first.n + i));
}

/* Taking a mapping away may make two of it, and must not wait for room: that is made up for here.
 */
void mt_share_count_maps(struct mt_pager *pager)
{
	struct mt_share *share = &pager->share;
	uint64_t pages = mt_pages_of_bytes(share->maps * MAP_BYTES);

	if (pages > share->maps_held_pages)
		pages = MT_MIN(pages, share->maps_held_pages + mt_room_left_pages(pager));
	share->maps_held_pages = pages;
	if (share->uncounted < MAP_COUNT_EVERY)
		return;
	share->uncounted = 0;
	atomic_store_explicit(&share->count_wanted, true, memory_order_relaxed);
	mt_helper_wake(&pager->helper);
}

void mt_share_audit_maps(struct mt_pager *pager, uint64_t *ret_pages, uint64_t *ret_maps)
{
	*ret_pages = *ret_maps = 0;
	for (uint32_t i = 0; i < pager->regions.count; i++) {
		const struct mt_region *region = &pager->regions.region[i];

		for (uint64_t page = 0; page < region->pages; page++) {
			mt_gpn_t gpn = MT_GPN(region->first.n + page);
			uint64_t place = mt_page_place(&pager->map, gpn);

			if (!mt_page_mapped(&pager->map, gpn))
				continue;
			++*ret_pages;
			*ret_maps +=
				!place || !map_is(pager, map_beside(pager, gpn, -1), place - 1);
		}
	}
}

bool mt_share_map_idle(struct mt_pager *pager)
{
	struct mt_share *share = &pager->share;

	if (!atomic_exchange_explicit(&share->count_wanted, false, memory_order_relaxed) ||
	    !pager->mem.count_maps)
		return false;
	atomic_store_explicit(&share->maps_real, pager->mem.count_maps(pager->mem.ctx),
			      memory_order_relaxed);
	return true;
}
