/* SPDX-License-Identifier: MIT */
/*
 * region.h - ranges of the VMM's address space that hold guest RAM, and their page numbers
 *
 * A VM has few regions (one or two, more with hot-added memory), so a small table with the last
 * hit remembered is the fastest thing there is. Owned by the pager thread.
 */
#ifndef MT_MONITOR_REGION_H
#define MT_MONITOR_REGION_H

#include "base/compiler.h"
#include "base/types.h"

#define MT_REGIONS_MAX 64

struct mt_region {
	uint8_t *base;
	uint64_t pages;
	mt_gpn_t first;
};

struct mt_regions {
	struct mt_region region[MT_REGIONS_MAX];
	uint32_t count;
	uint32_t hit; /* index of the last region found */
};

/** mt_region_insert() - add a region. Return: 0; -ENOSPC when full; -EEXIST when it overlaps one.
 */
MT_MUST_CHECK int mt_region_insert(struct mt_regions *regions, const struct mt_region *region);

/** mt_region_delete() - take the region that starts at @base out of the table */
void mt_region_delete(struct mt_regions *regions, const void *base);

/** mt_region_of_addr() - region that holds @addr, or NULL */
const struct mt_region *mt_region_of_addr(struct mt_regions *regions, uint64_t addr);

/** mt_region_of_gpn() - region that holds page @gpn, or NULL */
const struct mt_region *mt_region_of_gpn(struct mt_regions *regions, mt_gpn_t gpn);

/** mt_regions_pages() - pages of all regions */
uint64_t mt_regions_pages(const struct mt_regions *regions);

/* A place in the regions, one behind the other, that goes round for ever. */
struct mt_region_hand {
	uint32_t region;
	uint64_t page;
};

/**
 * mt_hand_advance() - move on by @pages, which lie in the region the hand is in; there must be one
 *
 * By 0: back to a page that exists, if the region under the hand has gone.
 */
void mt_hand_advance(const struct mt_regions *regions, struct mt_region_hand *hand, uint64_t pages);

/** mt_hand_gpn() - the page the hand is at */
mt_gpn_t mt_hand_gpn(const struct mt_regions *regions, const struct mt_region_hand *hand);

/**
 * mt_region_large() - where the large page (2 MiB) around @gpn begins
 * @ret_first: its first small page
 *
 * False when not all of it lies in the region.
 */
bool mt_region_large(const struct mt_region *region, mt_gpn_t gpn, mt_gpn_t *ret_first);

static inline mt_gpn_t mt_region_gpn(const struct mt_region *region, uint64_t addr)
{
	return MT_GPN(region->first.n +
		      ((addr - (uint64_t)(uintptr_t)region->base) >> MT_PAGE_SHIFT));
}

static inline uint8_t *mt_region_addr(const struct mt_region *region, mt_gpn_t gpn)
{
	return region->base + ((uint64_t)(gpn.n - region->first.n) << MT_PAGE_SHIFT);
}

/* Pages from @gpn to the end of its region, @gpn included. */
static inline uint64_t mt_region_pages_from(const struct mt_region *region, mt_gpn_t gpn)
{
	return region->pages - (gpn.n - region->first.n);
}

#endif
