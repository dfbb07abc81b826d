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
