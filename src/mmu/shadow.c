/* SPDX-License-Identifier: MIT */
/*
 * shadow.c - filling the shadow on hidden faults, and following what guest and host change
 *
 * mt_shadow_fill() walks the guest's tables as a processor would, with rights, accessed and dirty
 * bits and all. If the guest's tables allow the access, the way down is copied into the shadow,
 * level by level; otherwise the fault is the guest's own. When the pool of tables is used up, the
 * whole shadow is dropped and grows anew: rare, simple, and correct.
 */
#include "mmu/shadow_pages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TABLES_MIN 16u /* more than a single walk needs */

int mt_shadow_init(struct mt_shadow *shadow, const struct mt_memory *memory,
		   const struct mt_pmap *pmap, uint32_t frames, uint32_t tables_max)
{
	uint32_t large = frames / MT_HUGE_PAGES + 1;

	memset(shadow, 0, sizeof(*shadow));
	mt_tables_init(&shadow->tables, MT_MAX(tables_max, TABLES_MIN));
	shadow->memory = *memory;
	shadow->pmap = *pmap;
	shadow->root = MT_TABLE_NONE;
	shadow->frame_count = frames;
	shadow->frames = malloc((size_t)frames * sizeof(*shadow->frames));
	shadow->large = malloc((size_t)large * sizeof(*shadow->large));
	if (!shadow->frames || !shadow->large) {
		mt_shadow_destroy(shadow);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < frames; i++)
		shadow->frames[i] = (struct mt_shadow_frame){MT_SHADOW_NONE, MT_SHADOW_NONE};
	for (uint32_t i = 0; i < large; i++)
		shadow->large[i] = (struct mt_shadow_large){.leaves = MT_SHADOW_NONE};
	return 0;
}

void mt_shadow_destroy(struct mt_shadow *shadow)
{
	for (size_t i = 0; i < MT_ARRAY_SIZE(shadow->pages); i++) {
		free(shadow->pages[i]);
		free(shadow->links[i]);
	}
	mt_tables_destroy(&shadow->tables);
	free(shadow->frames);
	free(shadow->large);
	memset(shadow, 0, sizeof(*shadow));
}

/* The shadow page in use that has waited longest for its CR3, or none. */
static mt_table_t oldest_root(const struct mt_shadow *shadow)
{
	mt_table_t oldest = MT_TABLE_NONE;

	for (uint32_t i = 0; i < shadow->tables.made; i++) {
		const struct mt_shadow_page *page;

		if (!shadow->pages[i / MT_TABLES_CHUNK])
			break;
		page = sp_page(shadow, MT_TABLE(i));
		if (!page->used || !page->root || i == shadow->root.n)
			continue;
		if (oldest.n == MT_TABLE_NONE.n ||
		    page->last_use < sp_page(shadow, oldest)->last_use)
			oldest = MT_TABLE(i);
	}
	return oldest;
}

void mt_shadow_forget(struct mt_shadow *shadow)
{
	shadow->root = MT_TABLE_NONE;
	for (uint32_t i = 0; i < shadow->tables.made; i++)
		if (shadow->pages[i / MT_TABLES_CHUNK] && sp_page(shadow, MT_TABLE(i))->used)
			sp_free(shadow, MT_TABLE(i), false);
	shadow->rights_went = true;
}

int mt_shadow_switch(struct mt_shadow *shadow, const struct mt_regs *regs)
{
	mt_gfn_t gfn = mt_gfn_of(MT_GPA(mt_regs_table(regs)));
	unsigned int levels = mt_regs_levels(regs);
	struct mt_shadow_page *page;
	mt_table_t root;

	shadow->root = MT_TABLE_NONE;
	if (gfn.n >= shadow->frame_count)
		return 0; /* the first walk will say that there is no memory */
	if (shadow->root_count > MT_SHADOW_ROOTS_MAX)
		sp_free(shadow, oldest_root(shadow), true);
	root = sp_get(shadow, gfn, levels, false);
	if (root.n == MT_TABLE_NONE.n) {
		mt_shadow_forget(shadow);
		root = sp_get(shadow, gfn, levels, false);
		if (root.n == MT_TABLE_NONE.n)
			return -ENOMEM;
	}
	page = sp_page(shadow, root);
	shadow->roots_found += page->root;
	shadow->root_count += !page->root;
	page->root = true;
	page->last_use = ++shadow->clock;
	shadow->root = root;
	return 0;
}

/* Make an entry point at the shadow page below. Return: 0 or -ENOMEM */
static int point_at(struct mt_shadow *shadow, uint32_t number, mt_table_t below, uint64_t rights)
{
	uint64_t want;

	if (below.n == MT_TABLE_NONE.n)
		return -ENOMEM;
	want = mt_table_address(below) | MT_PTE_P | MT_PTE_A | rights;
	if (*sp_entry(shadow, number) != want)
		sp_set(shadow, number, want, MT_GFN(0));
	return 0;
}

/* Rights of a guest's leaf as its shadow may give them now: rule S1. */
static uint64_t leaf_rights(const struct mt_walk_step *step)
{
	uint64_t rights = step->entry & (MT_PTE_RW | MT_PTE_US | MT_PTE_NX);

	return step->entry & MT_PTE_D ? rights : rights & ~MT_PTE_RW;
}

static bool fits_large(const struct mt_shadow *shadow, mt_gfn_t gfn,
		       const struct mt_backing *backing)
{
	uint64_t first = mt_align_down(gfn.n, MT_HUGE_PAGES);

	return backing->shift >= MT_HUGE_SHIFT && !shadow->large[gfn.n / MT_HUGE_PAGES].traced &&
	       first + MT_HUGE_PAGES <= shadow->frame_count;
}

/*
 * Fill in the leaf below @table at @level, which is the guest's own or, below a guest's large page,
 * a direct one: the entry above has the rights then.
 */
static int fill_leaf(struct mt_shadow *shadow, mt_table_t table, unsigned int level,
		     uint64_t rights, mt_gva_t gva, const struct mt_backing *backing, mt_gfn_t gfn)
{
	const uint64_t all = MT_PTE_RW | MT_PTE_US;

	for (;; level--) {
		uint32_t number = sp_entry_number(table, mt_level_index(gva.a, level));
		uint64_t start = backing->start.a, large = 0;
		uint64_t span = 1ULL << (mt_level_shift(level) - MT_PAGE_SHIFT);
		mt_table_t below;

		if (level == 1 || (level == 2 && fits_large(shadow, gfn, backing))) {
			if (level == 2) {
				start = mt_align_down(start, MT_HUGE_SIZE);
				large = MT_PTE_PS;
			}
			if (!backing->writable || mt_shadow_traced(shadow, gfn))
				rights &= ~MT_PTE_RW;
			sp_set(shadow, number,
			       start | large | MT_PTE_P | MT_PTE_A | MT_PTE_D | rights, gfn);
			return 0;
		}
		shadow->fractured = true;
		below = sp_get(shadow, MT_GFN(mt_align_down(gfn.n, span)), level - 1, true);
		if (point_at(shadow, number, below, rights))
			return -ENOMEM;
		table = below;
		rights = all;
	}
}

/* Copy a walk that went well into the shadow, but for the leaf. Return: 0 or -ENOMEM */
static int fill_path(struct mt_shadow *shadow, const struct mt_walk *walk, mt_gva_t gva,
		     mt_table_t *ret_table)
{
	mt_table_t table = shadow->root;

	sp_page(shadow, table)->writes = 0;
	for (unsigned int i = 0; i + 1 < walk->step_count; i++) {
		const struct mt_walk_step *step = &walk->steps[i];
		mt_gfn_t gfn = mt_gfn_of(MT_GPA(step->entry & MT_PTE_ADDRESS));
		mt_table_t below = sp_get(shadow, gfn, step->level - 1, false);

		if (point_at(shadow, sp_entry_number(table, mt_level_index(gva.a, step->level)),
			     below, step->entry & (MT_PTE_RW | MT_PTE_US | MT_PTE_NX)))
			return -ENOMEM;
		table = below;
	}
	*ret_table = table;
	return 0;
}

static int fill_walk(struct mt_shadow *shadow, mt_gva_t gva, unsigned int access,
		     const struct mt_backing *backing, struct mt_shadow_fault *fault)
{
	const struct mt_walk *walk = &fault->walk;
	const struct mt_walk_step *leaf = &walk->steps[walk->step_count - 1];
	mt_gfn_t gfn = mt_gfn_of(walk->gpa);
	mt_table_t table;
	int rc = fill_path(shadow, walk, gva, &table);

	if (rc)
		return rc;
	/* Read-only and yet allowed: CR0.WP is clear, which the shadow's user does not show. */
	if ((access & MT_PF_W) && (mt_shadow_traced(shadow, gfn) || !(walk->rights & MT_PTE_RW))) {
		fault->end = MT_SHADOW_EMULATE;
		return 0;
	}
	fault->end = MT_SHADOW_FILLED;
	return fill_leaf(shadow, table, leaf->level, leaf_rights(leaf), gva, backing, gfn);
}

void mt_shadow_fill(struct mt_shadow *shadow, const struct mt_regs *regs, mt_gva_t gva,
		    unsigned int access, struct mt_shadow_fault *fault)
{
	struct mt_walk *walk = &fault->walk;
	struct mt_backing backing;
	int rc;

	mt_walk(regs, &shadow->memory, gva, access, NULL, walk);
	fault->end = MT_SHADOW_GUEST;
	if (walk->end != MT_WALK_OK)
		return;
	fault->gpa = walk->gpa;
	rc = shadow->pmap.find(shadow->pmap.ctx, mt_gfn_of(walk->gpa), access & MT_PF_W, &backing);
	if (!rc && mt_gfn_of(walk->gpa).n >= shadow->frame_count)
		rc = -ENXIO;
	if (rc) {
		fault->end = rc == -ENXIO ? MT_SHADOW_NO_MEMORY : MT_SHADOW_FAILED;
		fault->rc = rc;
		return;
	}
	fault->mpa.a = backing.start.a | (walk->gpa.a & (MT_PAGE_SIZE - 1));
	rc = fill_walk(shadow, gva, access, &backing, fault);
	if (rc) { /* out of tables */
		mt_shadow_forget(shadow);
		rc = mt_shadow_switch(shadow, regs);
		if (!rc)
			rc = fill_walk(shadow, gva, access, &backing, fault);
	}
	if (rc) {
		fault->end = MT_SHADOW_FAILED;
		fault->rc = rc;
	}
}

bool mt_shadow_written(struct mt_shadow *shadow, mt_gpa_t gpa)
{
	mt_gfn_t gfn = mt_gfn_of(gpa);
	unsigned int index = (unsigned int)(gpa.a % MT_PAGE_SIZE / sizeof(uint64_t));
	bool traced = mt_shadow_traced(shadow, gfn);
	uint32_t next = traced ? shadow->frames[gfn.n].pages : MT_SHADOW_NONE;

	while (next != MT_SHADOW_NONE) {
		mt_table_t table = MT_TABLE(next);
		struct mt_shadow_page *page = sp_page(shadow, table);

		next = page->next;
		if (page->direct)
			continue;
		if (*sp_entry(shadow, sp_entry_number(table, index)))
			sp_set(shadow, sp_entry_number(table, index), 0, MT_GFN(0));
		if (++page->writes < MT_SHADOW_FLOOD &&
		    (page->parents != MT_SHADOW_NONE || page->root))
			continue;
		shadow->flooded++;
		page->writes = 0;
		if (table.n == shadow->root.n)
			sp_empty(shadow, table, false);
		else
			sp_free(shadow, table, false);
	}
	return traced;
}

void mt_shadow_host_changed(struct mt_shadow *shadow, mt_gfn_t gfn)
{
	uint32_t *small, *large;

	if (gfn.n >= shadow->frame_count)
		return;
	small = &shadow->frames[gfn.n].leaves;
	large = &shadow->large[gfn.n / MT_HUGE_PAGES].leaves;
	shadow->rights_went |= *small != MT_SHADOW_NONE || *large != MT_SHADOW_NONE;
	while (*small != MT_SHADOW_NONE)
		sp_set(shadow, *small, 0, MT_GFN(0));
	while (*large != MT_SHADOW_NONE)
		sp_set(shadow, *large, 0, MT_GFN(0));
}
