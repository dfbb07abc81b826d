/* SPDX-License-Identifier: MIT */
/*
 * memory.h - addresses of the three kinds, and memory as an interface
 *
 * Translation goes from guest virtual (GVA) by way of guest physical (GPA) to machine addresses
 * (MPA); mixing them up is the classic bug of this field, so each is a type of its own. The walkers
 * reach memory through two functions, so that the same code runs on the memory of a test VM, of a
 * live guest through its monitor, and of a unit test.
 */
#ifndef MT_MMU_MEMORY_H
#define MT_MMU_MEMORY_H

#include "base/types.h"

/* Guest virtual address. */
typedef struct mt_gva {
	uint64_t a;
} mt_gva_t;

/* Guest physical address. */
typedef struct mt_gpa {
	uint64_t a;
} mt_gpa_t;

/* Machine address: what the host's hardware would put on the bus. */
typedef struct mt_mpa {
	uint64_t a;
} mt_mpa_t;

/*
 * Guest frame number: a guest physical address in units of 4 KiB. Not the monitor's mt_gpn_t, which
 * counts the pages of regions: QEMU's guests have a hole below 4 GiB.
 */
typedef struct mt_gfn {
	uint64_t n;
} mt_gfn_t;

#define MT_GVA(v) ((mt_gva_t){(uint64_t)(v)})
#define MT_GPA(v) ((mt_gpa_t){(uint64_t)(v)})
#define MT_MPA(v) ((mt_mpa_t){(uint64_t)(v)})
#define MT_GFN(v) ((mt_gfn_t){(uint64_t)(v)})

#define MT_PAGE_1G_SHIFT 30

static inline mt_gfn_t mt_gfn_of(mt_gpa_t gpa)
{
	return MT_GFN(gpa.a >> MT_PAGE_SHIFT);
}

static inline mt_gpa_t mt_gpa_of(mt_gfn_t gfn)
{
	return MT_GPA(gfn.n << MT_PAGE_SHIFT);
}

/*
 * A space of physical addresses, guest's or machine's by its user. Addresses are multiples of 8.
 *
 * @load: 0; -ENXIO where there is no memory; another -errno when it can't be read now
 * @swap: replace @old by @fresh in one step; 0, -EAGAIN when it is not @old any more, or as @load.
 *	NULL for memory that is only looked at.
 */
struct mt_memory {
	void *ctx;
	int (*load)(void *ctx, uint64_t address, uint64_t *ret);
	int (*swap)(void *ctx, uint64_t address, uint64_t old, uint64_t fresh);
};

/* Where the machine has a guest frame. */
struct mt_backing {
	mt_mpa_t start; /* of the 4 KiB page */
	unsigned int
		shift; /* of the largest aligned page that is backed in one piece: 12, 21, 30 */
	bool writable;
};

/*
 * The host's map of a VM's memory (PMAP).
 *
 * @find: bring the frame in if need be and say where it is; with @write it must be writable. When
 *	that moves the page, the owner calls mt_mmu_host_changed() before it returns. 0; -ENXIO
 *where the VM has no memory; another -errno when the page can't be had.
 */
struct mt_pmap {
	void *ctx;
	int (*find)(void *ctx, mt_gfn_t gfn, bool write, struct mt_backing *ret);
};

#endif
