/* SPDX-License-Identifier: MIT */
/*
 * test_walk.c - guest walks by example: references, formats, rights, faults, bad tables
 *
 * Memory here is a flat array in which guest physical and machine addresses are 1 MiB apart, so
 * that one taken for the other is seen.
 */
#include "common/mt_test.h"
#include "mmu/mmu.h"

#include <errno.h>

#define FRAMES  2048u
#define WORDS   ((size_t)FRAMES * MT_ENTRIES_PER_TABLE)
#define MACHINE 0x40000000ULL /* machine address of guest physical 0 */
#define ALL     (MT_PTE_P | MT_PTE_RW | MT_PTE_US)

static uint64_t words[FRAMES * MT_ENTRIES_PER_TABLE];
static unsigned int host_shift = MT_PAGE_SHIFT;

static int load(void *ctx, uint64_t address, uint64_t *ret)
{
	uint64_t base = (uint64_t)(uintptr_t)ctx;

	if (address < base || (address - base) / 8 >= WORDS)
		return -ENXIO;
	*ret = words[(address - base) / 8];
	return 0;
}

static int swap(void *ctx, uint64_t address, uint64_t old, uint64_t fresh)
{
	uint64_t found;
	int rc = load(ctx, address, &found);

	if (rc || found != old)
		return rc ? rc : -EAGAIN;
	words[(address - (uint64_t)(uintptr_t)ctx) / 8] = fresh;
	return 0;
}

static const struct mt_memory guest = {NULL, load, swap};

static int find(void *ctx, mt_gfn_t gfn, bool write, struct mt_backing *ret)
{
	(void)ctx, (void)write;
	if (gfn.n >= FRAMES)
		return -ENXIO;
	*ret = (struct mt_backing){MT_MPA(MACHINE + (gfn.n << MT_PAGE_SHIFT)), host_shift, true};
	return 0;
}

static void put(uint64_t table, uint64_t index, uint64_t entry)
{
	words[table / 8 + index] = entry;
}

static struct mt_regs regs_of(enum mt_paging paging)
{
	return (struct mt_regs){.paging = paging,
				.cr3 = 0x1000,
				.phys_bits = 40,
				.wp = true,
				.nxe = true,
				.pages_1g = true};
}

/* Tables at 0x1000, 0x2000, … map address 0 and what follows to 0x200000 by a leaf of @leaf. */
static void chain(unsigned int levels, unsigned int leaf, uint64_t flags)
{
	uint64_t table = 0x1000;

	for (unsigned int level = levels; level > leaf; level--, table += 0x1000)
		put(table, 0, (table + 0x1000) | ALL);
	put(table, 0, (leaf < 3 ? 0x200000 : 0) | flags | (leaf > 1 ? MT_PTE_PS : 0));
}

static struct mt_walk walk_at(const struct mt_regs *regs, uint64_t gva, unsigned int access)
{
	struct mt_walk walk;

	mt_walk(regs, &guest, MT_GVA(gva), access, NULL, &walk);
	return walk;
}

/* References of one walk once everything is filled in. */
static uint64_t refs(enum mt_mmu_mode mode, unsigned int guest_levels, unsigned int leaf,
		     unsigned int ept_levels, unsigned int shift)
{
	struct mt_mmu_config config = {.mode = mode,
				       .guest = guest,
				       .machine = {(void *)MACHINE, load, swap},
				       .pmap = {NULL, find},
				       .frames = FRAMES,
				       .ept_levels = ept_levels,
				       .no_tlb = true};
	struct mt_regs regs = regs_of(guest_levels == 5 ? MT_PAGING_5LEVEL : MT_PAGING_4LEVEL);
	struct mt_translation to;
	struct mt_mmu mmu;
	uint64_t before;

	host_shift = shift;
	chain(guest_levels, leaf, ALL);
	MT_CHECK(!mt_mmu_init(&mmu, &config, NULL));
	MT_CHECK(!mt_mmu_set_regs(&mmu, &regs, NULL));
	MT_CHECK_EQ(mt_mmu_translate(&mmu, MT_GVA(0x123), 0, &to), MT_MMU_OK);
	MT_CHECK_EQ(to.mpa.a, MACHINE + 0x200123);
	before = mmu.stats.refs;
	MT_CHECK_EQ(mt_mmu_translate(&mmu, MT_GVA(0x456), 0, &to), MT_MMU_OK);
	MT_CHECK_EQ(to.mpa.a, MACHINE + 0x200456);
	before = mmu.stats.refs - before;
	mt_mmu_destroy(&mmu);
	return before;
}

MT_TEST("a walk makes as many references as published: 4, 24, 19, 15, 35")
{
	MT_CHECK_EQ(refs(MT_MMU_NATIVE, 4, 1, 4, 12), 4);
	MT_CHECK_EQ(refs(MT_MMU_NATIVE, 4, 2, 4, 12), 3);
	MT_CHECK_EQ(refs(MT_MMU_NATIVE, 5, 1, 4, 12), 5);
	MT_CHECK_EQ(refs(MT_MMU_SHADOW, 4, 1, 4, 12), 4);
	MT_CHECK_EQ(refs(MT_MMU_SHADOW, 4, 2, 4, 12), 4); /* in pieces */
	MT_CHECK_EQ(refs(MT_MMU_SHADOW, 4, 2, 4, 21), 3);
	MT_CHECK_EQ(refs(MT_MMU_NESTED, 4, 1, 4, 12), 24);
	MT_CHECK_EQ(refs(MT_MMU_NESTED, 4, 1, 4, 21), 19);
	MT_CHECK_EQ(refs(MT_MMU_NESTED, 4, 2, 4, 12), 19);
	MT_CHECK_EQ(refs(MT_MMU_NESTED, 4, 2, 4, 21), 15);
	MT_CHECK_EQ(refs(MT_MMU_NESTED, 5, 1, 5, 12), 35);
	MT_CHECK_EQ(refs(MT_MMU_NESTED, 5, 1, 4, 12), 29);
}

MT_TEST("4 KiB, 2 MiB and 1 GiB pages translate in 4 and 5 levels")
{
	for (unsigned int levels = 4; levels <= 5; levels++)
		for (unsigned int leaf = 1; leaf <= 3; leaf++) {
			struct mt_regs regs =
				regs_of(levels == 4 ? MT_PAGING_4LEVEL : MT_PAGING_5LEVEL);
			struct mt_walk walk;

			chain(levels, leaf, ALL);
			walk = walk_at(&regs, 0xabc, 0);
			MT_CHECK_EQ(walk.end, MT_WALK_OK);
			MT_CHECK_EQ(walk.page_shift, 12 + 9 * (leaf - 1));
			MT_CHECK_EQ(walk.gpa.a, (leaf < 3 ? 0x200000 : 0) + 0xabc);
			MT_CHECK_EQ(walk.step_count, levels - leaf + 1);
			MT_CHECK_EQ(walk.steps[0].at.a, 0x1000);
			MT_CHECK_EQ(walk.steps[walk.step_count - 1].level, leaf);
		}
}

MT_TEST("addresses that are none are told apart in 4 and 5 levels")
{
	struct mt_regs four = regs_of(MT_PAGING_4LEVEL), five = regs_of(MT_PAGING_5LEVEL);
	static const uint64_t good4[] = {0, 0x7fffffffffff, 0xffff800000000000, UINT64_MAX};
	static const uint64_t bad4[] = {0x800000000000, 0xffff7fffffffffff, 1ULL << 63, 1ULL << 56};

	for (size_t i = 0; i < 4; i++) {
		MT_CHECK(mt_regs_canonical(&four, MT_GVA(good4[i])));
		MT_CHECK(!mt_regs_canonical(&four, MT_GVA(bad4[i])));
		MT_CHECK_EQ(walk_at(&four, bad4[i], 0).end, MT_WALK_NONCANONICAL);
	}
	MT_CHECK(mt_regs_canonical(&five, MT_GVA(0x800000000000)));
	MT_CHECK(!mt_regs_canonical(&five, MT_GVA(1ULL << 56)));
}

/* The code of an access to a page with @flags; UINT32_MAX when it goes through. */
static uint32_t code_of(const struct mt_regs *regs, uint64_t flags, unsigned int access)
{
	struct mt_walk walk;

	chain(4, 1, flags);
	walk = walk_at(regs, 0, access);
	MT_CHECK(walk.end == MT_WALK_OK || walk.end == MT_WALK_PAGE_FAULT);
	return walk.end == MT_WALK_OK ? UINT32_MAX : walk.error_code;
}

MT_TEST("rights and error codes are those of the manual")
{
	const uint64_t p = MT_PTE_P, rw = MT_PTE_RW, us = MT_PTE_US, nx = MT_PTE_NX;
	struct mt_regs regs = regs_of(MT_PAGING_4LEVEL);

	MT_CHECK_EQ(code_of(&regs, 0, 0), 0);
	MT_CHECK_EQ(code_of(&regs, 0, MT_PF_W | MT_PF_U), 6);
	MT_CHECK_EQ(code_of(&regs, p | rw, MT_PF_U), 5);
	MT_CHECK_EQ(code_of(&regs, p | us, MT_PF_W | MT_PF_U), 7);
	MT_CHECK_EQ(code_of(&regs, p | us, MT_PF_W), 3);
	MT_CHECK_EQ(code_of(&regs, p | us | nx, MT_PF_I | MT_PF_U), 0x15);
	MT_CHECK_EQ(code_of(&regs, p | us | rw | nx, MT_PF_W | MT_PF_U), UINT32_MAX);
	regs.wp = false;
	MT_CHECK_EQ(code_of(&regs, p | us, MT_PF_W), UINT32_MAX);
	MT_CHECK_EQ(code_of(&regs, p | us, MT_PF_W | MT_PF_U), 7);
	regs.nxe = false; /* the bit is reserved then, and the code does not tell fetches */
	MT_CHECK_EQ(code_of(&regs, p | us | nx, MT_PF_U), 0xd);
	MT_CHECK_EQ(code_of(&regs, p, MT_PF_I | MT_PF_U), 5);
	regs.smep = true;
	MT_CHECK_EQ(code_of(&regs, p | us, MT_PF_I), 0x11);
	MT_CHECK_EQ(code_of(&regs, p, MT_PF_I), UINT32_MAX);
	regs.smap = true;
	MT_CHECK_EQ(code_of(&regs, p | us | rw, MT_PF_W), 3);
	regs.ac = true;
	MT_CHECK_EQ(code_of(&regs, p | us | rw, MT_PF_W), UINT32_MAX);
}

MT_TEST("accessed and dirty bits are set by accesses that go through, and only by them")
{
	struct mt_regs regs = regs_of(MT_PAGING_4LEVEL);

	chain(4, 1, MT_PTE_P | MT_PTE_US);
	MT_CHECK_EQ(walk_at(&regs, 0, MT_ACCESS_LOOK | MT_PF_W).end, MT_WALK_OK);
	MT_CHECK_EQ(walk_at(&regs, 0, MT_PF_W).end, MT_WALK_PAGE_FAULT);
	for (uint64_t table = 0x1000; table <= 0x4000; table += 0x1000)
		MT_CHECK(!(words[table / 8] & (MT_PTE_A | MT_PTE_D)));
	MT_CHECK_EQ(walk_at(&regs, 0, 0).dirty, false);
	for (uint64_t table = 0x1000; table <= 0x4000; table += 0x1000)
		MT_CHECK_EQ(words[table / 8] & (MT_PTE_A | MT_PTE_D), MT_PTE_A);
	chain(4, 1, ALL);
	MT_CHECK_EQ(walk_at(&regs, 0, MT_PF_W).dirty, true);
	MT_CHECK(words[0x4000 / 8] & MT_PTE_D);
	MT_CHECK(!(words[0x3000 / 8] & MT_PTE_D));
}

MT_TEST("reserved bits fault with their own code at each level")
{
	struct mt_regs regs = regs_of(MT_PAGING_4LEVEL);

	for (unsigned int level = 1; level <= 4; level++) {
		chain(4, 1, ALL);
		words[(5 - level) * 0x1000 / 8] |= 1ULL << 40;
		MT_CHECK_EQ(walk_at(&regs, 0, MT_PF_U).error_code, 0xd);
	}
	chain(4, 2, ALL | 1 << 13);
	MT_CHECK_EQ(walk_at(&regs, 0, 0).error_code, 9);
	chain(4, 2, ALL | MT_PTE_PAT);
	MT_CHECK_EQ(walk_at(&regs, 0, 0).end, MT_WALK_OK);
	chain(4, 3, ALL);
	regs.pages_1g = false;
	MT_CHECK_EQ(walk_at(&regs, 0, MT_PF_W).error_code, 0xb);
	chain(4, 4, ALL); /* bit 7 in a PML4 entry */
	MT_CHECK_EQ(walk_at(&regs, 0, 0).error_code, 9);
}

MT_TEST("tables that loop end, tables beyond memory are named")
{
	struct mt_regs regs = regs_of(MT_PAGING_5LEVEL);
	struct mt_walk walk;

	put(0x1000, 0, 0x1000 | ALL);
	walk = walk_at(&regs, 0x18, MT_PF_W);
	MT_CHECK_EQ(walk.end, MT_WALK_OK);
	MT_CHECK_EQ(walk.gpa.a, 0x1018);
	MT_CHECK_EQ(walk.step_count, 5);
	put(0x1000, 0, (uint64_t)FRAMES << 12 | ALL);
	walk = walk_at(&regs, 0, 0);
	MT_CHECK_EQ(walk.end, MT_WALK_NO_MEMORY);
	MT_CHECK_EQ(walk.step_count, 2);
	MT_CHECK_EQ(walk.steps[1].at.a, (uint64_t)FRAMES << 12);
	regs.cr3 = 0xff00000000ULL;
	MT_CHECK_EQ(walk_at(&regs, 0, 0).end, MT_WALK_NO_MEMORY);
}

MT_TEST("PAE tables translate, with 2 MiB pages, NX, and top entries without rights")
{
	struct mt_regs regs = regs_of(MT_PAGING_PAE);
	struct mt_walk walk;

	regs.cr3 = 0x1020; /* 32-byte aligned */
	put(0x1020, 3, 0x2000 | MT_PTE_P);
	put(0x2000, 1, 0x3000 | ALL);
	put(0x3000, 5, 0x7000 | ALL | MT_PTE_NX);
	put(0x2000, 2, 0x400000 | ALL | MT_PTE_PS);
	walk = walk_at(&regs, 0xc0205678, MT_PF_U | MT_PF_W);
	MT_CHECK_EQ(walk.end, MT_WALK_OK);
	MT_CHECK_EQ(walk.gpa.a, 0x7678);
	MT_CHECK_EQ(walk.step_count, 3);
	MT_CHECK(words[0x3000 / 8 + 5] & MT_PTE_D);
	MT_CHECK(!(words[0x1020 / 8 + 3] & MT_PTE_A));
	MT_CHECK_EQ(walk_at(&regs, 0xc0205678, MT_PF_I).error_code, 0x11);
	walk = walk_at(&regs, 0xc0412345, 0);
	MT_CHECK_EQ(walk.gpa.a, 0x412345);
	MT_CHECK_EQ(walk.page_shift, 21);
	MT_CHECK_EQ(walk_at(&regs, 0x1000, MT_PF_W).error_code, 2);
	put(0x1020, 3, 0x2000 | MT_PTE_P | MT_PTE_RW); /* reserved there */
	MT_CHECK_EQ(walk_at(&regs, 0xc0205678, 0).error_code, 9);
	MT_CHECK_EQ(walk_at(&regs, 0x100000000, 0).end, MT_WALK_NONCANONICAL);
	/* who only looks sees what the processor does, which has loaded the entry before */
	walk = walk_at(&regs, 0xc0205678, MT_ACCESS_LOOK);
	MT_CHECK_EQ(walk.end, MT_WALK_OK);
	MT_CHECK_EQ(walk.gpa.a, 0x7678);
}

MT_TEST("32-bit tables translate, with 4 MiB pages above 4 GiB, and keep their neighbours")
{
	struct mt_regs regs = regs_of(MT_PAGING_32BIT);
	uint32_t *half = (uint32_t *)words;
	struct mt_walk walk;

	half[0x1000 / 4 + 3] = 0x2000 | ALL;
	half[0x1000 / 4 + 2] = 0xdead0000;
	half[0x2000 / 4 + 7] = 0x5000 | ALL;
	half[0x2000 / 4 + 6] = 0xbeef0000;
	walk = walk_at(&regs, 0xc07123, MT_PF_W | MT_PF_U);
	MT_CHECK_EQ(walk.end, MT_WALK_OK);
	MT_CHECK_EQ(walk.gpa.a, 0x5123);
	MT_CHECK_EQ(half[0x2000 / 4 + 7], 0x5000 | ALL | MT_PTE_A | MT_PTE_D);
	MT_CHECK_EQ(half[0x1000 / 4 + 3], 0x2000 | ALL | MT_PTE_A);
	MT_CHECK_EQ(half[0x2000 / 4 + 6], 0xbeef0000);
	MT_CHECK_EQ(half[0x1000 / 4 + 2], 0xdead0000);
	half[0x1000 / 4 + 4] = 0x800000 | 3 << 13 | ALL | MT_PTE_PS;
	regs.pse = true;
	walk = walk_at(&regs, 0x1012345, 0);
	MT_CHECK_EQ(walk.end, MT_WALK_OK);
	MT_CHECK_EQ(walk.gpa.a, 0x300812345);
	MT_CHECK_EQ(walk.page_shift, 22);
	regs.phys_bits = 33; /* bit 33 of the address can't be */
	MT_CHECK_EQ(walk_at(&regs, 0x1012345, 0).error_code, 9);
	MT_CHECK_EQ(walk_at(&regs, 0x1c00000, 0).error_code, 0);
	regs.cr3 = (FRAMES - 1) << 12;
	MT_CHECK_EQ(walk_at(&regs, 0, MT_PF_I).error_code, 0);
}

MT_TEST("EPT entries no processor takes are refused, and what they hide is not read")
{
	static struct mt_tables tables;
	struct mt_ept_walk walk;
	struct mt_ept ept;
	uint64_t *leaf;

	mt_tables_init(&tables, 100);
	MT_CHECK_EQ(mt_ept_init(&ept, &tables, 3), -EINVAL);
	MT_CHECK(!mt_ept_init(&ept, &tables, 4));
	MT_CHECK(!mt_ept_map(&ept, MT_GPA(0x5000), MT_MPA(0x7000), 12, false));
	mt_ept_walk(&ept, MT_GPA(0x5008), false, &walk);
	MT_CHECK(walk.end == MT_EPT_OK && walk.mpa.a == 0x7008 && walk.refs == 4);
	mt_ept_walk(&ept, MT_GPA(0x5008), true, &walk);
	MT_CHECK_EQ(walk.end, MT_EPT_VIOLATION);
	mt_ept_walk(&ept, MT_GPA(0x6000), false, &walk);
	MT_CHECK_EQ(walk.end, MT_EPT_VIOLATION);
	mt_ept_walk(&ept, MT_GPA(1ULL << 48), false, &walk);
	MT_CHECK_EQ(walk.end, MT_EPT_VIOLATION);
	leaf = &mt_table_entries(&tables, MT_TABLE(3))[5];
	MT_CHECK_EQ(*leaf & MT_PTE_ADDRESS, 0x7000);
	*leaf = 0x7000 | MT_EPT_W | MT_EPT_TYPE_WB;
	mt_ept_walk(&ept, MT_GPA(0x5000), false, &walk);
	MT_CHECK_EQ(walk.end, MT_EPT_MISCONFIGURED);
	*leaf = 0x7000 | MT_EPT_RWX | 2 << 3; /* memory type 2 is none */
	mt_ept_walk(&ept, MT_GPA(0x5000), false, &walk);
	MT_CHECK_EQ(walk.end, MT_EPT_MISCONFIGURED);
	MT_CHECK_EQ(tables.used, 4);
	MT_CHECK(!mt_ept_map(&ept, MT_GPA(0), MT_MPA(0x600000), 21, true));
	MT_CHECK_EQ(tables.used, 3);
	mt_ept_walk(&ept, MT_GPA(0x12345), true, &walk);
	MT_CHECK(walk.end == MT_EPT_OK && walk.mpa.a == 0x612345 && walk.page_shift == 21);
	MT_CHECK(mt_ept_unmap(&ept, MT_GFN(7)) && !mt_ept_unmap(&ept, MT_GFN(7)));
	mt_ept_destroy(&ept);
	MT_CHECK_EQ(tables.used, 0);
}

MT_TEST("registers a processor refuses are refused")
{
	struct mt_mmu_config config = {
		.mode = MT_MMU_SHADOW, .guest = guest, .pmap = {NULL, find}, .frames = FRAMES};
	struct mt_regs regs = regs_of(MT_PAGING_4LEVEL);
	struct mt_err err = {0};
	struct mt_mmu mmu;

	MT_CHECK(!mt_mmu_init(&mmu, &config, NULL));
	regs.cr3 = 1ULL << 40;
	MT_CHECK_EQ(mt_mmu_set_regs(&mmu, &regs, &err), -EINVAL);
	MT_CHECK(strstr(err.msg, "CR3 0x10000000000"));
	regs = regs_of(MT_PAGING_PAE);
	MT_CHECK_EQ(mt_mmu_set_regs(&mmu, &regs, &err), -EINVAL);
	regs = regs_of(MT_PAGING_4LEVEL);
	regs.phys_bits = 60;
	MT_CHECK_EQ(mt_mmu_set_regs(&mmu, &regs, &err), -EINVAL);
	regs.phys_bits = 40;
	MT_CHECK(!mt_mmu_set_regs(&mmu, &regs, &err));
	MT_CHECK_EQ(mt_mmu_set_cr3(&mmu, 1ULL << 41, false, &err), -EINVAL);
	config.tlb.arrays[0].sets = 3;
	MT_CHECK_EQ(mt_mmu_init(&mmu, &config, &err), -EINVAL);
}

MT_TEST_MAIN
