/* SPDX-License-Identifier: MIT */
/*
 * walk.c - the walk of 64-bit tables, and what all formats share
 *
 * The loop takes one entry for each level. "rights" collects what all entries allow: and-ing works
 * for RW and US as they are, and for NX turned around. Accessed and dirty bits are set after the
 * rights are known, bottom up; when another processor changed an entry meanwhile, the walk is made
 * again. walk_legacy.c has the formats of 32-bit guests.
 */
#include "mmu/walk_internal.h"
#include "base/compiler.h"

#include <errno.h>

#define WALK_RETRIES 16u /* of walks whose entries change under them */

unsigned int mt_regs_levels(const struct mt_regs *regs)
{
	switch (regs->paging) {
	case MT_PAGING_OFF:
		return 0;
	case MT_PAGING_32BIT:
		return 2;
	case MT_PAGING_PAE:
		return 3;
	case MT_PAGING_4LEVEL:
		return 4;
	case MT_PAGING_5LEVEL:
		return 5;
	}
	MT_UNREACHABLE("all modes are above");
}

bool mt_regs_canonical(const struct mt_regs *regs, mt_gva_t gva)
{
	unsigned int levels = mt_regs_levels(regs), top;

	if (levels < 4)
		return gva.a <= UINT32_MAX;
	top = mt_level_shift(levels + 1) - 1; /* bits above repeat this one */
	return (uint64_t)((int64_t)(gva.a << (63 - top)) >> (63 - top)) == gva.a;
}

uint64_t mt_regs_table(const struct mt_regs *regs)
{
	switch (regs->paging) {
	case MT_PAGING_OFF:
		return 0;
	case MT_PAGING_32BIT:
		return regs->cr3 & 0xfffff000u;
	case MT_PAGING_PAE:
		return regs->cr3 & 0xffffffe0u;
	case MT_PAGING_4LEVEL:
	case MT_PAGING_5LEVEL:
		return regs->cr3 & MT_PTE_ADDRESS;
	}
	MT_UNREACHABLE("all modes are above");
}

const char *mt_level_name(unsigned int level)
{
	static const char *const names[] = {"page", "PT", "PD", "PDPT", "PML4", "PML5"};

	MT_ASSERT(level < MT_ARRAY_SIZE(names));
	return names[level];
}

void mt_walk_fault(const struct mt_regs *regs, unsigned int access, uint32_t why,
		   struct mt_walk *walk)
{
	walk->end = MT_WALK_PAGE_FAULT;
	walk->error_code = mt_pf_code(regs, access, why);
}

bool mt_walk_load(const struct mt_memory *memory, uint64_t at, unsigned int level,
		  struct mt_walk *walk)
{
	struct mt_walk_step *step = &walk->steps[walk->step_count++];
	int rc;

	step->at = MT_GPA(at);
	step->level = level;
	rc = memory->load(memory->ctx, at & ~7ULL, &step->entry);
	if (MT_LIKELY(!rc))
		return true;
	walk->end = rc == -ENXIO ? MT_WALK_NO_MEMORY : MT_WALK_FAILED;
	walk->rc = rc;
	return false;
}

/* Bits of an entry that must be 0: SDM 4.5, tables 4-14 to 4-20. */
static uint64_t reserved_bits(const struct mt_regs *regs, unsigned int level, uint64_t entry)
{
	uint64_t reserved = MT_PTE_ADDRESS & ~((1ULL << regs->phys_bits) - 1);

	if (!regs->nxe)
		reserved |= MT_PTE_NX;
	if (level == 1 || !(entry & MT_PTE_PS))
		return reserved;
	if (level > 3 || (level == 3 && !regs->pages_1g))
		return reserved | MT_PTE_PS;
	return reserved | (((1ULL << mt_level_shift(level)) - 1) & ~0x1fffULL);
}

/* Down to the leaf. Return: true when there is one; otherwise the walk has its end. */
static bool descend(const struct mt_regs *regs, const struct mt_memory *memory, mt_gva_t gva,
		    unsigned int access, const struct mt_walk_start *start, struct mt_walk *walk)
{
	unsigned int level = start->level;
	uint64_t table = start->table;

	walk->rights = start->rights;
	for (;; level--) {
		uint64_t entry;

		if (!mt_walk_load(memory, table + 8 * mt_level_index(gva.a, level), level, walk))
			return false;
		entry = walk->steps[walk->step_count - 1].entry;
		if (!(entry & MT_PTE_P)) {
			mt_walk_fault(regs, access, 0, walk);
			return false;
		}
		if (MT_UNLIKELY(entry & reserved_bits(regs, level, entry))) {
			mt_walk_fault(regs, access, MT_PF_P | MT_PF_RSVD, walk);
			return false;
		}
		walk->rights &= entry ^ MT_PTE_NX;
		table = entry & MT_PTE_ADDRESS;
		if (level == 1 || (entry & MT_PTE_PS))
			break;
	}
	walk->page_shift = mt_level_shift(level);
	walk->gpa.a = (table & ~((1ULL << walk->page_shift) - 1)) |
		      (gva.a & ((1ULL << walk->page_shift) - 1));
	return true;
}

/* Return: 0; -EAGAIN when an entry changed meanwhile; -errno with the walk's end set */
static int set_bits(const struct mt_memory *memory, unsigned int access, struct mt_walk *walk)
{
	for (unsigned int i = walk->step_count; i-- > 0;) {
		struct mt_walk_step *step = &walk->steps[i];
		bool leaf = i + 1 == walk->step_count;
		uint64_t want =
			step->entry | MT_PTE_A | (leaf && (access & MT_PF_W) ? MT_PTE_D : 0);
		int rc;

		if (MT_LIKELY(want == step->entry))
			continue;
		rc = memory->swap(memory->ctx, step->at.a, step->entry, want);
		if (rc == -EAGAIN)
			return rc;
		if (rc) {
			walk->end = rc == -ENXIO ? MT_WALK_NO_MEMORY : MT_WALK_FAILED;
			walk->rc = rc;
			return rc;
		}
		step->entry = want;
	}
	return 0;
}

int mt_walk_finish(const struct mt_regs *regs, const struct mt_memory *memory, unsigned int access,
		   struct mt_walk *walk)
{
	if (!(access & MT_ACCESS_LOOK)) {
		int rc;

		if (!mt_rights_allow(regs, walk->rights, access, regs->ac)) {
			mt_walk_fault(regs, access, MT_PF_P, walk);
			return 0;
		}
		rc = memory->swap ? set_bits(memory, access, walk) : 0;
		if (rc)
			return rc;
	}
	walk->dirty = walk->steps[walk->step_count - 1].entry & MT_PTE_D;
	walk->end = MT_WALK_OK;
	return 0;
}

static int walk_64(const struct mt_regs *regs, const struct mt_memory *memory, mt_gva_t gva,
		   unsigned int access, const struct mt_walk_start *start, struct mt_walk *walk)
{
	struct mt_walk_start top = {.level = mt_regs_levels(regs),
				    .table = mt_regs_table(regs),
				    .rights = MT_PTE_RW | MT_PTE_US | MT_PTE_NX};

	if (!descend(regs, memory, gva, access, start ? start : &top, walk))
		return 0;
	return mt_walk_finish(regs, memory, access, walk);
}

static int walk_once(const struct mt_regs *regs, const struct mt_memory *memory, mt_gva_t gva,
		     unsigned int access, const struct mt_walk_start *start, struct mt_walk *walk)
{
	walk->end = MT_WALK_FAILED;
	walk->error_code = 0;
	walk->rc = 0;
	walk->gpa.a = 0;
	walk->page_shift = 0;
	walk->rights = 0;
	walk->dirty = false;
	walk->step_count = 0;
	if (!mt_regs_canonical(regs, gva)) {
		walk->end = MT_WALK_NONCANONICAL;
		return 0;
	}
	switch (regs->paging) {
	case MT_PAGING_OFF:
		walk->gpa.a = gva.a;
		walk->page_shift = 0;
		walk->rights = MT_PTE_RW | MT_PTE_US | MT_PTE_NX;
		walk->dirty = true;
		walk->end = MT_WALK_OK;
		return 0;
	case MT_PAGING_32BIT:
		return mt_walk_32bit(regs, memory, gva, access, walk);
	case MT_PAGING_PAE:
		return mt_walk_pae(regs, memory, gva, access, walk);
	case MT_PAGING_4LEVEL:
	case MT_PAGING_5LEVEL:
		return walk_64(regs, memory, gva, access, start, walk);
	}
	MT_UNREACHABLE("all modes are above");
}

void mt_walk(const struct mt_regs *regs, const struct mt_memory *memory, mt_gva_t gva,
	     unsigned int access, const struct mt_walk_start *start, struct mt_walk *walk)
{
	int rc = -EAGAIN;

	MT_ASSERT(regs->phys_bits >= 32 && regs->phys_bits <= 52);
	for (unsigned int i = 0; rc == -EAGAIN && i < WALK_RETRIES; i++)
		rc = walk_once(regs, memory, gva, access, start, walk);
	if (rc == -EAGAIN) {
		walk->end = MT_WALK_FAILED;
		walk->rc = rc;
	}
}
