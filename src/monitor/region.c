/* SPDX-License-Identifier: MIT */
/* region.c - table of guest RAM ranges; see region.h */
#include "monitor/region.h"

#include <errno.h>

static bool region_holds_addr(const struct mt_region *region, uint64_t addr)
{
	uint64_t base = (uint64_t)(uintptr_t)region->base;

	return addr >= base && addr - base < region->pages << MT_PAGE_SHIFT;
}

static bool region_holds_gpn(const struct mt_region *region, mt_gpn_t gpn)
{
	return gpn.n >= region->first.n && gpn.n - region->first.n < region->pages;
}

int mt_region_insert(struct mt_regions *regions, const struct mt_region *region)
{
	uint64_t start = (uint64_t)(uintptr_t)region->base;
	uint64_t end = start + (region->pages << MT_PAGE_SHIFT);

	if (regions->count == MT_REGIONS_MAX)
		return -ENOSPC;
	for (uint32_t i = 0; i < regions->count; i++) {
		uint64_t other = (uint64_t)(uintptr_t)regions->region[i].base;

		if (start < other + (regions->region[i].pages << MT_PAGE_SHIFT) && other < end)
			return -EEXIST;
	}
	regions->region[regions->count++] = *region;
	return 0;
}

void mt_region_delete(struct mt_regions *regions, const void *base)
{
	for (uint32_t i = 0; i < regions->count; i++) {
		if (regions->region[i].base != base)
			continue;
		regions->region[i] = regions->region[--regions->count];
		regions->hit = 0;
		return;
	}
	MT_UNREACHABLE("region was never inserted");
}

const struct mt_region *mt_region_of_addr(struct mt_regions *regions, uint64_t addr)
{
	if (regions->count && region_holds_addr(&regions->region[regions->hit], addr))
		return &regions->region[regions->hit];
	for (uint32_t i = 0; i < regions->count; i++) {
		if (region_holds_addr(&regions->region[i], addr)) {
			regions->hit = i;
			return &regions->region[i];
		}
	}
	return NULL;
}

const struct mt_region *mt_region_of_gpn(struct mt_regions *regions, mt_gpn_t gpn)
{
	if (regions->count && region_holds_gpn(&regions->region[regions->hit], gpn))
		return &regions->region[regions->hit];
	for (uint32_t i = 0; i < regions->count; i++) {
		if (region_holds_gpn(&regions->region[i], gpn)) {
			regions->hit = i;
			return &regions->region[i];
		}
	}
	return NULL;
}

uint64_t mt_regions_pages(const struct mt_regions *regions)
{
	uint64_t pages = 0;

	for (uint32_t i = 0; i < regions->count; i++)
		pages += regions->region[i].pages;
	return pages;
}

void mt_hand_advance(const struct mt_regions *regions, struct mt_region_hand *hand, uint64_t pages)
{
	hand->page += pages;
	if (hand->region < regions->count && hand->page < regions->region[hand->region].pages)
		return;
	hand->page = 0;
	hand->region++;
	if (hand->region >= regions->count)
		hand->region = 0;
}

mt_gpn_t mt_hand_gpn(const struct mt_regions *regions, const struct mt_region_hand *hand)
{
	return MT_GPN(regions->region[hand->region].first.n + hand->page);
}

bool mt_region_large(const struct mt_region *region, mt_gpn_t gpn, mt_gpn_t *ret_first)
{
	uint64_t base = (uint64_t)(uintptr_t)region->base;
	uint64_t start =
		mt_align_down((uint64_t)(uintptr_t)mt_region_addr(region, gpn), MT_HUGE_SIZE);

	if (start < base || start + MT_HUGE_SIZE > base + (region->pages << MT_PAGE_SHIFT))
		return false;
	*ret_first = mt_region_gpn(region, start);
	return true;
}
