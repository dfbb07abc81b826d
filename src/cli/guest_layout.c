/* SPDX-License-Identifier: MIT */
/* guest_layout.c - where in the VMM a guest's physical memory lies; see guest_layout.h */
#include "cli/guest_layout.h"
#include "cli/fields.h"

#include <errno.h>

/* RAM up to this size lies below 4 GiB in every machine of QEMU. */
#define SMALL_RAM 0xb0000000ULL

int guest_layout_regions(struct guest_layout *layout, struct json_object *vm, struct mt_err *err)
{
	struct json_object *regions = json_object_object_get(vm, "regions");
	size_t count = json_object_is_type(regions, json_type_array)
			       ? json_object_array_length(regions)
			       : 0;

	*layout = (struct guest_layout){0};
	for (size_t i = 0; i < MT_MIN(count, GUEST_REGIONS_MAX); i++) {
		struct json_object *from = json_object_array_get_idx(regions, i);
		struct guest_region *region = &layout->regions[layout->region_count];

		region->addr = field_u64(from, "addr");
		region->bytes = mt_align_down(field_u64(from, "bytes"), MT_PAGE_SIZE);
		region->first_page = layout->pages;
		if (!region->bytes)
			continue;
		layout->pages += region->bytes >> MT_PAGE_SHIFT;
		layout->region_count++;
	}
	return layout->region_count ? 0 : mt_err_set(err, -ENXIO, "the VM has no managed memory");
}

int guest_layout_pc(struct guest_layout *layout, uint64_t below_4g_bytes, struct mt_err *err)
{
	const struct guest_region *ram = &layout->regions[0];
	uint64_t below = below_4g_bytes ? MT_MIN(below_4g_bytes, ram->bytes) : ram->bytes;

	if (!below_4g_bytes && ram->bytes >= SMALL_RAM)
		return mt_err_set(err, -EINVAL,
				  "where this much RAM lies depends on the machine; give --qmp, or "
				  "--below-4g (3G for pc, 2G for q35)");
	layout->ranges[0] = (struct guest_range){0, below, ram->addr};
	layout->range_count = 1;
	if (below < ram->bytes)
		layout->ranges[layout->range_count++] =
			(struct guest_range){GUEST_4G, ram->bytes - below, ram->addr + below};
	return 0;
}

static const struct guest_region *region_of(const struct guest_layout *layout, uint64_t addr)
{
	for (unsigned int i = 0; i < layout->region_count; i++)
		if (addr - layout->regions[i].addr < layout->regions[i].bytes)
			return &layout->regions[i];
	return NULL;
}

/* Ranges come in the order of guest addresses. */
static void add_range(struct guest_layout *layout, const struct guest_range *range)
{
	struct guest_range *last =
		layout->range_count ? &layout->ranges[layout->range_count - 1] : NULL;

	if (last && last->gpa + last->bytes == range->gpa &&
	    last->addr + last->bytes == range->addr)
		last->bytes += range->bytes;
	else
		layout->ranges[layout->range_count++] = *range;
}

int guest_layout_qemu(struct guest_layout *layout, struct qmp *qmp, struct mt_err *err)
{
	struct qmp_range found[QMP_RANGES_MAX];
	unsigned int count;
	int rc = qmp_memory(qmp, found, &count, err);

	layout->range_count = 0;
	for (unsigned int i = 0; !rc && i < count; i++) {
		struct guest_range range = {found[i].gpa, found[i].bytes, 0};
		const struct guest_region *region;

		rc = qmp_host_address(qmp, MT_GPA(range.gpa), &range.addr, err);
		if (rc == -ENXIO) {
			rc = 0;
			continue;
		}
		region = rc ? NULL : region_of(layout, range.addr);
		if (!region)
			continue; /* firmware, video memory */
		range.bytes = MT_MIN(range.bytes, region->addr + region->bytes - range.addr);
		if (layout->range_count == GUEST_RANGES_MAX)
			return mt_err_set(err, -E2BIG, "QEMU has the memory in too many pieces");
		add_range(layout, &range);
	}
	if (!rc && !layout->range_count)
		rc = mt_err_set(err, -EINVAL,
				"QEMU has none of the VM's memory; is this the VM's QMP socket?");
	return rc;
}

int guest_layout_address(const struct guest_layout *layout, mt_gpa_t gpa, uint64_t *ret)
{
	for (unsigned int i = 0; i < layout->range_count; i++) {
		const struct guest_range *range = &layout->ranges[i];

		if (gpa.a - range->gpa >= range->bytes)
			continue;
		*ret = range->addr + (gpa.a - range->gpa);
		return 0;
	}
	return -ENXIO;
}

bool guest_layout_gpa(const struct guest_layout *layout, uint64_t addr, mt_gpa_t *ret)
{
	for (unsigned int i = 0; i < layout->range_count; i++) {
		const struct guest_range *range = &layout->ranges[i];

		if (addr - range->addr >= range->bytes)
			continue;
		*ret = MT_GPA(range->gpa + (addr - range->addr));
		return true;
	}
	return false;
}

uint64_t guest_layout_page(const struct guest_layout *layout, uint64_t addr)
{
	const struct guest_region *region = region_of(layout, addr);

	MT_ASSERT(region);
	return region->first_page + ((addr - region->addr) >> MT_PAGE_SHIFT);
}
