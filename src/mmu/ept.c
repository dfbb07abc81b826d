/* SPDX-License-Identifier: MIT */
/*
 * ept.c - EPT-format tables: mapping, walking, and guest memory on top of them; see ept.h
 *
 * An entry is there when any of its bits 0 to 2 is set. Tables are given back when a larger page
 * replaces what they mapped; an unmapped page leaves its table in place, to be used again soon.
 */
#include "mmu/ept.h"

#include <errno.h>
#include <string.h>

#define EPT_LINK_ZERO 0xf8ULL /* bits 3 to 7 of an entry that names a table */
#define EPT_LEAF      (MT_EPT_R | MT_EPT_X | MT_EPT_TYPE_WB)

int mt_ept_init(struct mt_ept *ept, struct mt_tables *tables, unsigned int levels)
{
	if (levels != 4 && levels != 5)
		return -EINVAL;
	*ept = (struct mt_ept){.tables = tables, .levels = levels, .phys_bits = 52};
	ept->root = mt_tables_take(tables);
	return ept->root.n == MT_TABLE_NONE.n ? -ENOMEM : 0;
}

/* Gives back a table and all below. */
static void drop_table(struct mt_ept *ept, mt_table_t table, unsigned int level)
{
	const uint64_t *entries = mt_table_entries(ept->tables, table);

	for (unsigned int i = 0; level > 1 && i < MT_ENTRIES_PER_TABLE; i++)
		if ((entries[i] & MT_EPT_RWX) && !(entries[i] & MT_EPT_LARGE))
			drop_table(ept, mt_table_at(ept->tables, entries[i]), level - 1);
	mt_tables_give(ept->tables, table);
}

void mt_ept_destroy(struct mt_ept *ept)
{
	drop_table(ept, ept->root, ept->levels);
	ept->root = MT_TABLE_NONE;
}

/* SDM 28.3.3.1: settings that are an "EPT misconfiguration". */
static bool misconfigured(const struct mt_ept *ept, uint64_t entry, unsigned int level)
{
	bool large = level == 2 || level == 3 ? entry & MT_EPT_LARGE : level == 1;
	uint64_t type = (entry & MT_EPT_TYPE) >> 3;

	if (!(entry & MT_EPT_R)) /* only writable or only executable */
		return true;
	if (entry & MT_PTE_ADDRESS & ~((1ULL << ept->phys_bits) - 1))
		return true;
	if (!large)
		return entry & EPT_LINK_ZERO & (level > 3 ? ~0ULL : ~MT_EPT_LARGE);
	if (level > 1 && (entry & ((1ULL << mt_level_shift(level)) - 1) & ~0xfffULL))
		return true;
	return type == 2 || type == 3 || type == 7;
}

void mt_ept_walk(const struct mt_ept *ept, mt_gpa_t gpa, bool write, struct mt_ept_walk *walk)
{
	uint64_t need = write ? MT_EPT_R | MT_EPT_W : MT_EPT_R;
	uint64_t rights = MT_EPT_RWX, entry = 0, low;
	const uint64_t *entries = mt_table_entries(ept->tables, ept->root);
	unsigned int level = ept->levels;

	walk->refs = 0;
	walk->end = MT_EPT_VIOLATION;
	MT_ASSERT(level > 0);
	if (MT_UNLIKELY(gpa.a >> mt_level_shift(level + 1)))
		return;
	for (;; level--) {
		entry = entries[mt_level_index(gpa.a, level)];
		walk->refs++;
		if (!(entry & MT_EPT_RWX))
			return;
		if (MT_UNLIKELY(misconfigured(ept, entry, level))) {
			walk->end = MT_EPT_MISCONFIGURED;
			return;
		}
		rights &= entry;
		if (level == 1 || (entry & MT_EPT_LARGE))
			break;
		entries = mt_table_entries(ept->tables, mt_table_at(ept->tables, entry));
	}
	if ((rights & need) != need)
		return;
	walk->page_shift = mt_level_shift(level);
	low = (1ULL << walk->page_shift) - 1;
	walk->mpa.a = (entry & MT_PTE_ADDRESS & ~low) | (gpa.a & low);
	walk->writable = rights & MT_EPT_W;
	walk->end = MT_EPT_OK;
}

int mt_ept_map(struct mt_ept *ept, mt_gpa_t gpa, mt_mpa_t mpa, unsigned int shift, bool writable)
{
	unsigned int leaf = (shift - MT_PAGE_SHIFT) / MT_INDEX_BITS + 1;
	mt_table_t table = ept->root;
	uint64_t *entry;

	MT_ASSERT(leaf >= 1 && leaf <= 3 && mt_level_shift(leaf) == shift);
	if (gpa.a >> mt_level_shift(ept->levels + 1))
		return -ENOMEM;
	for (unsigned int level = ept->levels;; level--) {
		entry = &mt_table_entries(ept->tables, table)[mt_level_index(gpa.a, level)];
		if (level == leaf)
			break;
		if (!(*entry & MT_EPT_RWX) || (*entry & MT_EPT_LARGE)) {
			mt_table_t below = mt_tables_take(ept->tables);

			if (below.n == MT_TABLE_NONE.n)
				return -ENOMEM;
			*entry = mt_table_address(below) | MT_EPT_RWX;
		}
		table = mt_table_at(ept->tables, *entry);
	}
	if (leaf > 1 && (*entry & MT_EPT_RWX) && !(*entry & MT_EPT_LARGE))
		drop_table(ept, mt_table_at(ept->tables, *entry), leaf - 1);
	*entry = (mpa.a & MT_PTE_ADDRESS) | EPT_LEAF | (writable ? MT_EPT_W : 0) |
		 (leaf > 1 ? MT_EPT_LARGE : 0);
	return 0;
}

bool mt_ept_unmap(struct mt_ept *ept, mt_gfn_t gfn)
{
	mt_gpa_t gpa = mt_gpa_of(gfn);
	mt_table_t table = ept->root;

	if (gpa.a >> mt_level_shift(ept->levels + 1))
		return false;
	for (unsigned int level = ept->levels;; level--) {
		uint64_t *entry =
			&mt_table_entries(ept->tables, table)[mt_level_index(gpa.a, level)];

		if (!(*entry & MT_EPT_RWX))
			return false;
		if (level == 1 || (*entry & MT_EPT_LARGE)) {
			*entry = 0;
			return true;
		}
		table = mt_table_at(ept->tables, *entry);
	}
}

int mt_nested_translate(struct mt_nested *nested, mt_gpa_t gpa, bool write, mt_mpa_t *ret,
			struct mt_ept_walk *walk)
{
	const struct mt_tlb_entry *hit =
		nested->cache ? mt_tlb_find(nested->cache, MT_GVA(gpa.a), 0, write) : NULL;

	if (hit) {
		*ret = mt_tlb_address(hit, MT_GVA(gpa.a));
		walk->page_shift = hit->page_shift;
		walk->writable = mt_tlb_allows(hit, MT_TLB_WRITE);
		return 0;
	}
	mt_ept_walk(nested->ept, gpa, write, walk);
	nested->refs += walk->refs;
	if (MT_UNLIKELY(walk->end != MT_EPT_OK)) {
		nested->violated = walk->end == MT_EPT_VIOLATION;
		nested->violation_gpa = gpa;
		nested->violation_write = write;
		return nested->violated ? -ENXIO : -EIO;
	}
	*ret = walk->mpa;
	if (nested->cache)
		mt_tlb_add(nested->cache, MT_GVA(gpa.a), 0, walk->mpa, walk->page_shift,
			   walk->writable ? MT_TLB_ALL : MT_TLB_ALL & ~MT_TLB_WRITES);
	return 0;
}

static int nested_load(void *ctx, uint64_t address, uint64_t *ret)
{
	struct mt_nested *nested = ctx;
	struct mt_ept_walk walk;
	mt_mpa_t mpa;
	int rc = mt_nested_translate(nested, MT_GPA(address), false, &mpa, &walk);

	if (MT_UNLIKELY(rc))
		return rc;
	nested->refs++;
	return nested->machine->load(nested->machine->ctx, mpa.a, ret);
}

static int nested_swap(void *ctx, uint64_t address, uint64_t old, uint64_t fresh)
{
	struct mt_nested *nested = ctx;
	unsigned int refs = nested->refs; /* a write of a line just read: not counted */
	struct mt_ept_walk walk;
	mt_mpa_t mpa;
	int rc = mt_nested_translate(nested, MT_GPA(address), true, &mpa, &walk);

	nested->refs = refs;
	if (rc)
		return rc;
	return nested->machine->swap(nested->machine->ctx, mpa.a, old, fresh);
}

struct mt_memory mt_nested_memory(struct mt_nested *nested)
{
	return (struct mt_memory){.ctx = nested, .load = nested_load, .swap = nested_swap};
}
