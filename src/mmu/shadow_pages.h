/* SPDX-License-Identifier: MIT */
/* shadow_pages.h - shadow pages, their entries and who points at whom; see shadow_pages.c */
#ifndef MT_MMU_SHADOW_PAGES_H
#define MT_MMU_SHADOW_PAGES_H

#include "mmu/shadow.h"

static inline struct mt_shadow_page *sp_page(const struct mt_shadow *shadow, mt_table_t table)
{
	return &shadow->pages[table.n / MT_TABLES_CHUNK][table.n % MT_TABLES_CHUNK];
}

static inline uint32_t sp_entry_number(mt_table_t table, unsigned int index)
{
	return table.n * MT_ENTRIES_PER_TABLE + index;
}

static inline mt_table_t sp_table_of(uint32_t number)
{
	return MT_TABLE(number / MT_ENTRIES_PER_TABLE);
}

static inline uint64_t *sp_entry(const struct mt_shadow *shadow, uint32_t number)
{
	return &mt_table_entries(&shadow->tables,
				 sp_table_of(number))[number % MT_ENTRIES_PER_TABLE];
}

static inline struct mt_shadow_link *sp_link(const struct mt_shadow *shadow, uint32_t number)
{
	uint32_t per_chunk = MT_TABLES_CHUNK * MT_ENTRIES_PER_TABLE;

	return &shadow->links[number / per_chunk][number % per_chunk];
}

/** sp_is_leaf() - does an entry of a shadow page of @level map memory? */
static inline bool sp_is_leaf(uint64_t entry, unsigned int level)
{
	return level == 1 || (entry & MT_PTE_PS);
}

/** sp_head() - the list that an entry with content belongs to */
uint32_t *sp_head(const struct mt_shadow *shadow, uint32_t number);

/** sp_find() - the shadow page for a guest table (or a direct one), or MT_TABLE_NONE */
mt_table_t sp_find(const struct mt_shadow *shadow, mt_gfn_t gfn, unsigned int level, bool direct);

/** sp_get() - the same, made if it is not there; the frame of a table is traced from then on */
mt_table_t sp_get(struct mt_shadow *shadow, mt_gfn_t gfn, unsigned int level, bool direct);

/** sp_set() - give an entry a content: @gfn is what a leaf maps. No content: 0 */
void sp_set(struct mt_shadow *shadow, uint32_t number, uint64_t entry, mt_gfn_t gfn);

/** sp_empty() - drop all entries of a shadow page; with @prune also pages only they held */
void sp_empty(struct mt_shadow *shadow, mt_table_t table, bool prune);

/** sp_free() - drop a shadow page and what points at it */
void sp_free(struct mt_shadow *shadow, mt_table_t table, bool prune);

#endif
