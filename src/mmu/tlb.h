/* SPDX-License-Identifier: MIT */
/*
 * tlb.h - a translation look-aside buffer, and the caches of page walks
 *
 * The TLB has a set-associative array for each page size. Entries are tagged with the number of
 * their address space (ASID), so that a switch need not throw them away. What an entry lets do is
 * worked out when it is filled: one bit for each kind of access, so that a hit is one comparison
 * and one test. Within a set the entries stand in the order of their last use (LRU).
 *
 * A page-walk cache keeps entries of the upper levels: a walk begins at the lowest one known.
 */
#ifndef MT_MMU_TLB_H
#define MT_MMU_TLB_H

#include "base/compiler.h"
#include "mmu/memory.h"
#include "mmu/walk.h"

/*
 * Kinds of access, as numbers of bits of "allowed": write 1, user 2, fetch 4, and 8 while
 * EFLAGS.AC is set.
 */
#define MT_TLB_WRITE  1u
#define MT_TLB_USER   2u
#define MT_TLB_FETCH  4u
#define MT_TLB_AC     8u
#define MT_TLB_ALL    0xffffu
#define MT_TLB_WRITES 0xaaaau /* all kinds with the write bit */

#define MT_TLB_SIZES 3 /* 4 KiB, 2 MiB, 1 GiB */
/* Of no canonical address; should one ask for it all the same: an empty entry allows nothing. */
#define MT_TLB_EMPTY (1ULL << 63)
#define MT_TLB_ASIDS 4096u

struct mt_tlb_entry {
	uint64_t tag; /* page number << 12 | ASID, or MT_TLB_EMPTY */
	uint64_t start;
	uint32_t allowed;
	uint32_t page_shift;
};

struct mt_tlb_array {
	unsigned int sets; /* power of two */
	unsigned int ways;
	bool used; /* holds anything since the last flush of all */
	struct mt_tlb_entry *entries;
};

struct mt_tlb {
	struct mt_tlb_array arrays[MT_TLB_SIZES];
};

struct mt_tlb_config {
	struct {
		unsigned int sets, ways;
	} arrays[MT_TLB_SIZES];
};

/*
 * 512 entries of 4 KiB in 4 ways, 32 of 2 MiB in 4, 4 of 1 GiB: the sizes of the first processors
 * with nested paging from Intel (second-level TLB for 4 KiB, first-level for the others).
 */
#define MT_TLB_DEFAULT ((struct mt_tlb_config){{{128, 4}, {8, 4}, {1, 4}}})

/** mt_tlb_init() - empty. Return: 0; -EINVAL for sets that are no power of two; -ENOMEM */
int mt_tlb_init(struct mt_tlb *tlb, const struct mt_tlb_config *config);
void mt_tlb_destroy(struct mt_tlb *tlb);

/** mt_tlb_add() - remember a translation; @asid below 4096, @mpa: of @gva, not of its page's start
 */
void mt_tlb_add(struct mt_tlb *tlb, mt_gva_t gva, uint16_t asid, mt_mpa_t mpa,
		unsigned int page_shift, uint32_t allowed);

/** mt_tlb_flush() - forget everything */
void mt_tlb_flush(struct mt_tlb *tlb);
/** mt_tlb_flush_asid() - forget an address space */
void mt_tlb_flush_asid(struct mt_tlb *tlb, uint16_t asid);
/** mt_tlb_flush_page() - forget the translation of an address, whatever its page size */
void mt_tlb_flush_page(struct mt_tlb *tlb, uint16_t asid, mt_gva_t gva);

/** mt_tlb_kind() - an access as a kind */
static inline unsigned int mt_tlb_kind(unsigned int access, bool ac)
{
	return (access >> 1 & 3) | (access >> 2 & MT_TLB_FETCH) | (ac ? MT_TLB_AC : 0);
}

static inline bool mt_tlb_allows(const struct mt_tlb_entry *entry, unsigned int kind)
{
	return entry->allowed >> kind & 1;
}

static inline mt_mpa_t mt_tlb_address(const struct mt_tlb_entry *entry, mt_gva_t gva)
{
	return MT_MPA(entry->start | (gva.a & ((1ULL << entry->page_shift) - 1)));
}

static inline uint64_t mt_tlb_tag(mt_gva_t gva, uint16_t asid, unsigned int page_shift)
{
	return (gva.a >> page_shift) << 12 | asid;
}

/* The set of an address in an array; sets are picked by the page number's low bits. */
static inline struct mt_tlb_entry *mt_tlb_set(const struct mt_tlb_array *array, mt_gva_t gva,
					      unsigned int page_shift)
{
	return array->entries + (gva.a >> page_shift & (array->sets - 1)) * array->ways;
}

/** mt_tlb_find() - the entry that lets an access of @kind to @gva through, or NULL */
static inline const struct mt_tlb_entry *mt_tlb_find(struct mt_tlb *tlb, mt_gva_t gva,
						     uint16_t asid, unsigned int kind)
{
	unsigned int page_shift = MT_PAGE_SHIFT;

	for (unsigned int size = 0; size < MT_TLB_SIZES; size++, page_shift += 9) {
		const struct mt_tlb_array *array = &tlb->arrays[size];
		struct mt_tlb_entry *set;
		uint64_t tag;

		if (!array->used)
			continue;
		set = mt_tlb_set(array, gva, page_shift);
		tag = mt_tlb_tag(gva, asid, page_shift);
		for (unsigned int way = 0; way < array->ways; way++) {
			struct mt_tlb_entry found = set[way];

			if (found.tag != tag)
				continue;
			if (!mt_tlb_allows(&found, kind))
				return NULL;
			for (; way; way--)
				set[way] = set[way - 1];
			set[0] = found;
			return set;
		}
	}
	return NULL;
}

#define MT_PWC_LEVELS 4  /* entries of levels 2 to 5 */
#define MT_PWC_SLOTS  32 /* of level 2; upper levels have fewer */

/* Direct-mapped: for a stretch of addresses, the table that translates it further. */
struct mt_pwc {
	struct {
		uint64_t tag; /* address >> shift of the level << 16 | ASID */
		uint64_t table;
		uint64_t rights;
	} slots[MT_PWC_LEVELS][MT_PWC_SLOTS];
};

void mt_pwc_flush(struct mt_pwc *pwc);

/** mt_pwc_find() - the lowest table known for @gva. Return: false: begin at the root */
bool mt_pwc_find(const struct mt_pwc *pwc, mt_gva_t gva, uint16_t asid, unsigned int levels,
		 struct mt_walk_start *ret);

/** mt_pwc_learn() - remember the upper entries of a walk that went well, begun at @start or NULL */
void mt_pwc_learn(struct mt_pwc *pwc, mt_gva_t gva, uint16_t asid,
		  const struct mt_walk_start *start, const struct mt_walk *walk);

#endif
