/* SPDX-License-Identifier: MIT */
/*
 * ept.h - the host's level of nested paging: EPT-format tables, and walks through both levels
 *
 * Tables map guest physical to machine addresses in the format of the SDM (volume 3C, "EPT"), 4 or
 * 5 levels, pages of 4 KiB, 2 MiB and 1 GiB. mt_nested_memory() makes a guest's memory of them:
 * each load of a guest entry goes through EPT first, so that walking the guest's tables in it is
 * the two-dimensional walk of the hardware, with (g + 1)(h + 1) - 1 references for g guest and h
 * host levels: 24 for 4 and 4. EPT's own accessed and dirty bits are off, as EPTP bit 6 allows.
 */
#ifndef MT_MMU_EPT_H
#define MT_MMU_EPT_H

#include "mmu/tables.h"
#include "mmu/tlb.h"

enum mt_ept_end {
	MT_EPT_OK,
	MT_EPT_VIOLATION,    /* no mapping, or not for this access */
	MT_EPT_MISCONFIGURED /* an entry no processor takes: reserved bits, writable but not
				readable */
};

struct mt_ept {
	struct mt_tables *tables; /* borrowed */
	mt_table_t root;
	unsigned int levels; /* 4 or 5 */
	unsigned int phys_bits;
};

struct mt_ept_walk {
	enum mt_ept_end end;
	mt_mpa_t mpa;
	unsigned int page_shift;
	bool writable;
	unsigned int refs; /* references to memory made */
};

/** mt_ept_init() - an empty map. Return: 0; -EINVAL for @levels; -ENOMEM */
int mt_ept_init(struct mt_ept *ept, struct mt_tables *tables, unsigned int levels);
void mt_ept_destroy(struct mt_ept *ept);

/** mt_ept_walk() - translate @gpa for a read, or with @write for a write */
void mt_ept_walk(const struct mt_ept *ept, mt_gpa_t gpa, bool write, struct mt_ept_walk *walk);

/**
 * mt_ept_map() - map the page of 1 << @shift bytes around @gpa to the one that starts at @mpa
 *
 * Smaller pages mapped there are forgotten. Return: 0 or -ENOMEM (also: no address @gpa)
 */
int mt_ept_map(struct mt_ept *ept, mt_gpa_t gpa, mt_mpa_t mpa, unsigned int shift, bool writable);

/** mt_ept_unmap() - forget the page that maps @gfn, of whatever size. Return: was there one? */
bool mt_ept_unmap(struct mt_ept *ept, mt_gfn_t gfn);

/* A guest's memory as a processor reaches it: EPT for each address, then the machine's memory. */
struct mt_nested {
	const struct mt_ept *ept;
	const struct mt_memory *machine;
	struct mt_tlb *cache;   /* of translations of guest physical addresses; NULL: none */
	unsigned int refs;      /* references to memory made, guest's and EPT's */
	bool violated;          /* a load ended because EPT has no mapping: */
	mt_gpa_t violation_gpa; /* for this address */
	bool violation_write;
};

/**
 * mt_nested_translate() - a guest physical address, through the cache and EPT
 *
 * Return: 0; -ENXIO with .violated set; -EIO for a misconfigured entry
 */
int mt_nested_translate(struct mt_nested *nested, mt_gpa_t gpa, bool write, mt_mpa_t *ret,
			struct mt_ept_walk *walk);

/** mt_nested_memory() - memory for mt_walk() */
struct mt_memory mt_nested_memory(struct mt_nested *nested);

#endif
