/* SPDX-License-Identifier: MIT */
/*
 * walk_legacy.c - the page tables of 32-bit guests: two levels of 4-byte entries, and PAE
 *
 * 32-bit entries are reached through the 8 aligned bytes they lie in, since memory is an interface
 * of 8-byte words; a swap puts the neighbour back as it was. PAE's four top entries are special: no
 * rights, no accessed bit, and a processor loads them when CR3 is written, where reserved bits make
 * a #GP. Here they are read with each walk, and reserved bits are a page fault like any other – but
 * not to a mere look: the processor that translates by them has found them good, and what has been
 * written to them since (QEMU's emulation sets accessed bits there) does not matter to it.
 */
#include "mmu/walk_internal.h"
#include "base/compiler.h"

#include <errno.h>

#define PSE36_BITS          40u /* longest address of a 4 MiB page */
#define PAE_TOP_RESERVED    0x1e6ULL
#define PAE_ADDRESS_LIMIT   62 /* bits from phys_bits up to this one are reserved */
#define ALL_RIGHTS          (MT_PTE_RW | MT_PTE_US | MT_PTE_NX)
#define LEGACY_4M_SHIFT     22u
#define LEGACY_LEVEL_2_BITS 10u

static uint32_t half_of(uint64_t word, uint64_t at)
{
	return (uint32_t)(word >> (at & 4 ? 32 : 0));
}

static uint64_t with_half(uint64_t word, uint64_t at, uint32_t half)
{
	unsigned int shift = at & 4 ? 32 : 0;

	return (word & ~(0xffffffffULL << shift)) | (uint64_t)half << shift;
}

/* Sets @bits in a 4-byte entry. Return: 0 or -errno */
static int set_half(const struct mt_memory *memory, struct mt_walk_step *step, uint32_t bits)
{
	uint32_t want = (uint32_t)step->entry | bits;
	uint64_t word;
	int rc;

	if (want == step->entry)
		return 0;
	rc = memory->load(memory->ctx, step->at.a & ~7ULL, &word);
	if (rc)
		return rc;
	if (half_of(word, step->at.a) != step->entry)
		return -EAGAIN;
	rc = memory->swap(memory->ctx, step->at.a & ~7ULL, word, with_half(word, step->at.a, want));
	if (!rc)
		step->entry = want;
	return rc;
}

static int finish_32bit(const struct mt_regs *regs, const struct mt_memory *memory,
			unsigned int access, struct mt_walk *walk)
{
	struct mt_walk_step *leaf = &walk->steps[walk->step_count - 1];
	uint32_t bits = MT_PTE_A | (access & MT_PF_W ? MT_PTE_D : 0);
	int rc = 0;

	if (!(access & MT_ACCESS_LOOK)) {
		if (!mt_rights_allow(regs, walk->rights, access, regs->ac)) {
			mt_walk_fault(regs, access, MT_PF_P, walk);
			return 0;
		}
		if (memory->swap)
			rc = set_half(memory, leaf, bits);
		if (memory->swap && !rc && leaf != walk->steps)
			rc = set_half(memory, walk->steps, MT_PTE_A);
	}
	walk->dirty = leaf->entry & MT_PTE_D;
	walk->end = rc == -ENXIO ? MT_WALK_NO_MEMORY : rc ? MT_WALK_FAILED : MT_WALK_OK;
	walk->rc = rc;
	return rc;
}

/* Loads an entry, and looks whether it is there. Return: false: the walk has ended */
static bool step_32bit(const struct mt_regs *regs, const struct mt_memory *memory, uint64_t at,
		       unsigned int level, unsigned int access, struct mt_walk *walk)
{
	struct mt_walk_step *step = &walk->steps[walk->step_count];

	if (!mt_walk_load(memory, at, level, walk))
		return false;
	step->entry = half_of(step->entry, at);
	if (step->entry & MT_PTE_P) {
		walk->rights &= (step->entry & (MT_PTE_RW | MT_PTE_US)) | MT_PTE_NX;
		return true;
	}
	mt_walk_fault(regs, access, 0, walk);
	return false;
}

int mt_walk_32bit(const struct mt_regs *regs, const struct mt_memory *memory, mt_gva_t gva,
		  unsigned int access, struct mt_walk *walk)
{
	uint64_t at = mt_regs_table(regs) + 4 * (gva.a >> LEGACY_4M_SHIFT), entry;
	unsigned int address_end = MT_MIN(regs->phys_bits, PSE36_BITS) - 19;

	walk->rights = ALL_RIGHTS;
	if (!step_32bit(regs, memory, at, 2, access, walk))
		return 0;
	entry = walk->steps[0].entry;
	if (regs->pse && (entry & MT_PTE_PS)) {
		/* PSE-36: bits 13 to 20 of the entry are bits 32 to 39 of the address. */
		if (entry & ((1u << LEGACY_4M_SHIFT) - (1u << address_end))) {
			mt_walk_fault(regs, access, MT_PF_P | MT_PF_RSVD, walk);
			return 0;
		}
		walk->page_shift = LEGACY_4M_SHIFT;
		walk->gpa.a =
			(entry & 0xffc00000u) | (entry & 0x1fe000u) << 19 | (gva.a & 0x3fffff);
		return finish_32bit(regs, memory, access, walk);
	}
	at = (entry & 0xfffff000u) +
	     4 * (gva.a >> MT_PAGE_SHIFT & ((1u << LEGACY_LEVEL_2_BITS) - 1));
	if (!step_32bit(regs, memory, at, 1, access, walk))
		return 0;
	walk->page_shift = MT_PAGE_SHIFT;
	walk->gpa.a = (walk->steps[1].entry & 0xfffff000u) | (gva.a & 0xfff);
	return finish_32bit(regs, memory, access, walk);
}

/* Loads an entry and checks it. Return: false: the walk has ended */
static bool step_pae(const struct mt_regs *regs, const struct mt_memory *memory, uint64_t at,
		     unsigned int level, unsigned int access, struct mt_walk *walk)
{
	struct mt_walk_step *step = &walk->steps[walk->step_count];
	uint64_t reserved =
		((1ULL << (PAE_ADDRESS_LIMIT + 1)) - 1) & ~((1ULL << regs->phys_bits) - 1);

	if (!mt_walk_load(memory, at, level, walk))
		return false;
	if (level == 3 || !regs->nxe)
		reserved |= MT_PTE_NX;
	if (level == 3)
		reserved = access & MT_ACCESS_LOOK ? 0 : reserved | PAE_TOP_RESERVED;
	if (level == 2 && (step->entry & MT_PTE_PS))
		reserved |= (MT_HUGE_SIZE - 1) & ~0x1fffULL;
	if (!(step->entry & MT_PTE_P)) {
		mt_walk_fault(regs, access, 0, walk);
		return false;
	}
	if (step->entry & reserved) {
		mt_walk_fault(regs, access, MT_PF_P | MT_PF_RSVD, walk);
		return false;
	}
	if (level < 3)
		walk->rights &= step->entry ^ MT_PTE_NX;
	return true;
}

/* The top entry has no accessed bit: the common end must not see it. */
static int finish_pae(const struct mt_regs *regs, const struct mt_memory *memory,
		      unsigned int access, struct mt_walk *walk)
{
	struct mt_walk lower = *walk;
	int rc;

	lower.step_count--;
	for (unsigned int i = 0; i < lower.step_count; i++)
		lower.steps[i] = walk->steps[i + 1];
	rc = mt_walk_finish(regs, memory, access, &lower);
	for (unsigned int i = 0; i < lower.step_count; i++)
		walk->steps[i + 1] = lower.steps[i];
	walk->end = lower.end;
	walk->error_code = lower.error_code;
	walk->rc = lower.rc;
	walk->dirty = lower.dirty;
	return rc;
}

int mt_walk_pae(const struct mt_regs *regs, const struct mt_memory *memory, mt_gva_t gva,
		unsigned int access, struct mt_walk *walk)
{
	uint64_t at = mt_regs_table(regs) + 8 * (gva.a >> MT_PAGE_1G_SHIFT);

	walk->rights = ALL_RIGHTS;
	for (unsigned int level = 3; level; level--) {
		uint64_t entry, low;

		if (!step_pae(regs, memory, at, level, access, walk))
			return 0;
		entry = walk->steps[walk->step_count - 1].entry;
		walk->page_shift = mt_level_shift(level);
		low = (1ULL << walk->page_shift) - 1;
		walk->gpa.a = (entry & MT_PTE_ADDRESS & ~low) | (gva.a & low);
		if (level == 2 && (entry & MT_PTE_PS))
			break;
		if (level > 1)
			at = (entry & MT_PTE_ADDRESS) + 8 * mt_level_index(gva.a, level - 1);
	}
	return finish_pae(regs, memory, access, walk);
}
