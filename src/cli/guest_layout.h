/* SPDX-License-Identifier: MIT */
/*
 * guest_layout.h - where in the VMM a guest's physical memory lies
 *
 * A VM has regions: ranges of the VMM's address space, known to the daemon. Where the guest has
 * them is known to QEMU alone: the hole below 4 GiB, hot-added memory, memory of several NUMA
 * nodes. Its monitor tells all of it. Without it, the one thing that can be said is where a PC has
 * its first block of RAM: from 0 to a hole below 4 GiB, the rest above.
 */
#ifndef MT_CLI_GUEST_LAYOUT_H
#define MT_CLI_GUEST_LAYOUT_H

#include "cli/qmp.h"

#include <json-c/json.h>

#define GUEST_REGIONS_MAX 64u
#define GUEST_RANGES_MAX  128u
#define GUEST_4G          (4ULL << 30)

struct guest_region {
	uint64_t addr, bytes; /* in the VMM */
	uint64_t first_page;  /* pages of all regions are numbered, one region after the other */
};

/* A piece of guest physical memory. */
struct guest_range {
	uint64_t gpa, bytes;
	uint64_t addr; /* in the VMM */
};

struct guest_layout {
	struct guest_region regions[GUEST_REGIONS_MAX];
	unsigned int region_count;
	uint64_t pages; /* of all regions */
	struct guest_range ranges[GUEST_RANGES_MAX];
	unsigned int range_count; /* 0: not known */
};

/** guest_layout_regions() - the regions in @vm, the daemon's object. Return: 0; -ENXIO: none */
MT_MUST_CHECK int guest_layout_regions(struct guest_layout *layout, struct json_object *vm,
				       struct mt_err *err);

/**
 * guest_layout_pc() - the first region is RAM of a PC, @below_4g_bytes of it below 4 GiB
 * @below_4g_bytes: 0: all, which is right if there is little
 *
 * Return: 0; -EINVAL: it can't be known
 */
MT_MUST_CHECK int guest_layout_pc(struct guest_layout *layout, uint64_t below_4g_bytes,
				  struct mt_err *err);

/** guest_layout_qemu() - all that QEMU has of the regions. Return: 0; -EINVAL: nothing; -errno */
MT_MUST_CHECK int guest_layout_qemu(struct guest_layout *layout, struct qmp *qmp,
				    struct mt_err *err);

/** guest_layout_address() - where the VMM has this byte. Return: 0; -ENXIO: no memory there */
int guest_layout_address(const struct guest_layout *layout, mt_gpa_t gpa, uint64_t *ret);

/** guest_layout_gpa() - where the guest has this byte of the VMM; false: nowhere that is known */
bool guest_layout_gpa(const struct guest_layout *layout, uint64_t addr, mt_gpa_t *ret);

/** guest_layout_page() - number of the page at @addr, which is in a region */
uint64_t guest_layout_page(const struct guest_layout *layout, uint64_t addr);

#endif
