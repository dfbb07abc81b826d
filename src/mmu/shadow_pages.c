/* SPDX-License-Identifier: MIT */
/*
 * shadow_pages.c - shadow pages, their entries and who points at whom
 *
 * Every entry with content is on exactly one list: that of the shadow page it points at, or that of
 * the guest frame (4 KiB) or large frame (2 MiB) it maps. So "who maps this frame" and "who points
 * at this table" are lists to walk, and taking away either costs no search. sp_set() is the one
 * function that changes an entry and its list.
 */
#include "mmu/shadow_pages.h"

#include <stdlib.h>

uint32_t *sp_head(const struct mt_shadow *shadow, uint32_t number)
{
	uint64_t entry = *sp_entry(shadow, number);
	unsigned int level = sp_page(shadow, sp_table_of(number))->level;
	uint32_t gfn = sp_link(shadow, number)->gfn;

	if (!sp_is_leaf(entry, level))
		return &sp_page(shadow, mt_table_at(&shadow->tables, entry))->parents;
	if (level == 1)
		return &shadow->frames[gfn].leaves;
	return &shadow->large[gfn / MT_HUGE_PAGES].leaves;
}

static void unlink_entry(struct mt_shadow *shadow, uint32_t number)
{
	struct mt_shadow_link *link = sp_link(shadow, number);

	if (link->prev == MT_SHADOW_NONE)
		*sp_head(shadow, number) = link->next;
	else
		sp_link(shadow, link->prev)->next = link->next;
	if (link->next != MT_SHADOW_NONE)
		sp_link(shadow, link->next)->prev = link->prev;
}

static void link_entry(struct mt_shadow *shadow, uint32_t number)
{
	struct mt_shadow_link *link = sp_link(shadow, number);
	uint32_t *head = sp_head(shadow, number);

	link->prev = MT_SHADOW_NONE;
	link->next = *head;
	if (link->next != MT_SHADOW_NONE)
		sp_link(shadow, link->next)->prev = number;
	*head = number;
}

void sp_set(struct mt_shadow *shadow, uint32_t number, uint64_t entry, mt_gfn_t gfn)
{
	uint64_t *place = sp_entry(shadow, number);

	if (*place) {
		unsigned int level = sp_page(shadow, sp_table_of(number))->level;

		/* Walk caches may begin below this entry. */
		shadow->tables_went |= *place != entry && !sp_is_leaf(*place, level);
		unlink_entry(shadow, number);
	}
	*place = entry;
	sp_link(shadow, number)->gfn = (uint32_t)gfn.n;
	if (entry)
		link_entry(shadow, number);
}

mt_table_t sp_find(const struct mt_shadow *shadow, mt_gfn_t gfn, unsigned int level, bool direct)
{
	uint32_t at = shadow->frames[gfn.n].pages;

	while (at != MT_SHADOW_NONE) {
		const struct mt_shadow_page *page = sp_page(shadow, MT_TABLE(at));

		if (page->level == level && page->direct == direct)
			return MT_TABLE(at);
		at = page->next;
	}
	return MT_TABLE_NONE;
}

bool mt_shadow_traced(const struct mt_shadow *shadow, mt_gfn_t gfn)
{
	uint32_t at = gfn.n < shadow->frame_count ? shadow->frames[gfn.n].pages : MT_SHADOW_NONE;

	while (at != MT_SHADOW_NONE && sp_page(shadow, MT_TABLE(at))->direct)
		at = sp_page(shadow, MT_TABLE(at))->next;
	return at != MT_SHADOW_NONE;
}

/* Rule S2, for a frame that becomes traced: no leaf maps it writable from here on. */
static void write_protect(struct mt_shadow *shadow, mt_gfn_t gfn)
{
	struct mt_shadow_large *large = &shadow->large[gfn.n / MT_HUGE_PAGES];

	for (uint32_t at = shadow->frames[gfn.n].leaves; at != MT_SHADOW_NONE;
	     at = sp_link(shadow, at)->next) {
		uint64_t *entry = sp_entry(shadow, at);

		shadow->rights_went |= *entry & MT_PTE_RW;
		*entry &= ~MT_PTE_RW;
	}
	while (large->leaves != MT_SHADOW_NONE) {
		sp_set(shadow, large->leaves, 0, MT_GFN(0));
		shadow->rights_went = true;
	}
}

/* The chunk of descriptions that goes with a chunk of tables. Return: false without memory */
static bool describe_chunk(struct mt_shadow *shadow, uint32_t chunk)
{
	if (!shadow->pages[chunk])
		shadow->pages[chunk] = calloc(MT_TABLES_CHUNK, sizeof(**shadow->pages));
	if (!shadow->links[chunk])
		shadow->links[chunk] =
			calloc(MT_TABLES_CHUNK * MT_ENTRIES_PER_TABLE, sizeof(**shadow->links));
	return shadow->pages[chunk] && shadow->links[chunk];
}

mt_table_t sp_get(struct mt_shadow *shadow, mt_gfn_t gfn, unsigned int level, bool direct)
{
	mt_table_t table = sp_find(shadow, gfn, level, direct);
	struct mt_shadow_page *page;

	if (table.n != MT_TABLE_NONE.n) {
		sp_page(shadow, table)->writes = 0;
		return table;
	}
	table = mt_tables_take(&shadow->tables);
	if (table.n == MT_TABLE_NONE.n)
		return table;
	if (!describe_chunk(shadow, table.n / MT_TABLES_CHUNK)) {
		mt_tables_give(&shadow->tables, table);
		return MT_TABLE_NONE;
	}
	if (!direct && !mt_shadow_traced(shadow, gfn)) {
		write_protect(shadow, gfn);
		shadow->large[gfn.n / MT_HUGE_PAGES].traced++;
	}
	page = sp_page(shadow, table);
	*page = (struct mt_shadow_page){.gfn = (uint32_t)gfn.n,
					.parents = MT_SHADOW_NONE,
					.next = shadow->frames[gfn.n].pages,
					.level = (uint8_t)level,
					.used = true,
					.direct = direct};
	shadow->frames[gfn.n].pages = table.n;
	return table;
}

void sp_empty(struct mt_shadow *shadow, mt_table_t table, bool prune)
{
	unsigned int level = sp_page(shadow, table)->level;

	for (unsigned int i = 0; i < MT_ENTRIES_PER_TABLE; i++) {
		uint32_t number = sp_entry_number(table, i);
		uint64_t entry = *sp_entry(shadow, number);
		struct mt_shadow_page *below;
		mt_table_t child;

		if (!entry)
			continue;
		sp_set(shadow, number, 0, MT_GFN(0));
		if (!prune || sp_is_leaf(entry, level))
			continue;
		child = mt_table_at(&shadow->tables, entry);
		below = sp_page(shadow, child);
		if (below->parents == MT_SHADOW_NONE && !below->root)
			sp_free(shadow, child, true);
	}
}

void sp_free(struct mt_shadow *shadow, mt_table_t table, bool prune)
{
	struct mt_shadow_page *page = sp_page(shadow, table);
	uint32_t *at = &shadow->frames[page->gfn].pages;

	MT_ASSERT(page->used && table.n != shadow->root.n);
	while (page->parents != MT_SHADOW_NONE)
		sp_set(shadow, page->parents, 0, MT_GFN(0));
	sp_empty(shadow, table, prune);
	while (*at != table.n)
		at = &sp_page(shadow, MT_TABLE(*at))->next;
	*at = page->next;
	if (!page->direct && !mt_shadow_traced(shadow, MT_GFN(page->gfn)))
		shadow->large[page->gfn / MT_HUGE_PAGES].traced--;
	shadow->root_count -= page->root;
	shadow->tables_went = true;
	page->used = false;
	mt_tables_give(&shadow->tables, table);
}
