/* SPDX-License-Identifier: MIT */
/*
 * shadow_audit.c - does the shadow keep to its rules?
 *
 * Looks at every entry of every shadow page: is it on its list, does it map a traced frame
 * writable? Lists are counted against entries, so that neither can have what the other lacks.
 */
#include "mmu/shadow_pages.h"

/* How many entries a list has, or UINT64_MAX when its links do not fit together. */
static uint64_t list_length(const struct mt_shadow *shadow, const uint32_t *head)
{
	uint64_t length = 0;
	uint32_t before = MT_SHADOW_NONE;

	for (uint32_t at = *head; at != MT_SHADOW_NONE; at = sp_link(shadow, at)->next) {
		if (sp_link(shadow, at)->prev != before || sp_head(shadow, at) != head)
			return UINT64_MAX;
		before = at;
		length++;
	}
	return length;
}

static const char *audit_entry(const struct mt_shadow *shadow, uint32_t number, unsigned int level)
{
	uint64_t entry = *sp_entry(shadow, number);
	uint32_t gfn = sp_link(shadow, number)->gfn;

	if (!(entry & MT_PTE_P))
		return "an entry with content is not present";
	if (!sp_is_leaf(entry, level)) {
		const struct mt_shadow_page *below =
			sp_page(shadow, mt_table_at(&shadow->tables, entry));

		return below->used && below->level + 1u == level ? NULL
								 : "an entry points at no table of "
								   "the next level";
	}
	if (level == 1 && (entry & MT_PTE_RW) && mt_shadow_traced(shadow, MT_GFN(gfn)))
		return "a traced frame is mapped writable";
	if (level == 2 && shadow->large[gfn / MT_HUGE_PAGES].traced)
		return "a large page holds a traced frame";
	return NULL;
}

static const char *audit_lists(const struct mt_shadow *shadow, uint64_t entries)
{
	uint64_t listed = 0;

	for (uint32_t i = 0; i < shadow->tables.made && shadow->pages[i / MT_TABLES_CHUNK]; i++) {
		uint64_t length = 0;

		if (sp_page(shadow, MT_TABLE(i))->used)
			length = list_length(shadow, &sp_page(shadow, MT_TABLE(i))->parents);
		if (length == UINT64_MAX)
			return "a list of parents is broken";
		listed += length;
	}
	for (uint32_t i = 0; i < shadow->frame_count; i++) {
		uint64_t length = list_length(shadow, &shadow->frames[i].leaves);

		if (length == UINT64_MAX)
			return "a list of leaves is broken";
		listed += length;
		if (i % MT_HUGE_PAGES)
			continue;
		length = list_length(shadow, &shadow->large[i / MT_HUGE_PAGES].leaves);
		if (length == UINT64_MAX)
			return "a list of large leaves is broken";
		listed += length;
	}
	return listed == entries ? NULL : "entries and lists do not agree";
}

const char *mt_shadow_audit(const struct mt_shadow *shadow)
{
	uint64_t entries = 0;
	uint32_t used = 0;

	for (uint32_t i = 0; i < shadow->tables.made && shadow->pages[i / MT_TABLES_CHUNK]; i++) {
		const struct mt_shadow_page *page = sp_page(shadow, MT_TABLE(i));

		used += page->used;
		for (unsigned int k = 0; page->used && k < MT_ENTRIES_PER_TABLE; k++) {
			uint32_t number = sp_entry_number(MT_TABLE(i), k);
			const char *wrong;

			if (!*sp_entry(shadow, number))
				continue;
			entries++;
			wrong = audit_entry(shadow, number, page->level);
			if (wrong)
				return wrong;
		}
	}
	if (used != shadow->tables.used)
		return "a table is in use that stands for nothing";
	return audit_lists(shadow, entries);
}
