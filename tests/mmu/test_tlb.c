/* SPDX-License-Identifier: MIT */
/* test_tlb.c - the TLB, walk caches and shadow roots by example */
#include "common/mt_test.h"
#include "mmu/mmu.h"

#include <errno.h>

#define FRAMES 1024u
#define ALL    (MT_PTE_P | MT_PTE_RW | MT_PTE_US)

static uint64_t words[FRAMES * MT_ENTRIES_PER_TABLE];

static int load(void *ctx, uint64_t address, uint64_t *ret)
{
	(void)ctx;
	if (address / 8 >= MT_ARRAY_SIZE(words))
		return -ENXIO;
	*ret = words[address / 8];
	return 0;
}

static int swap(void *ctx, uint64_t address, uint64_t old, uint64_t fresh)
{
	(void)ctx, (void)old;
	words[address / 8] = fresh;
	return 0;
}

static int find(void *ctx, mt_gfn_t gfn, bool write, struct mt_backing *ret)
{
	(void)ctx, (void)write;
	if (gfn.n >= FRAMES)
		return -ENXIO;
	*ret = (struct mt_backing){MT_MPA(gfn.n << MT_PAGE_SHIFT), MT_PAGE_SHIFT, true};
	return 0;
}

/* An MMU over tables at @root (and the three frames behind it) that map page i to frame 256 + i. */
static void tables_at(uint64_t root)
{
	for (unsigned int i = 0; i < 3; i++)
		words[(root + i * 0x1000) / 8] = (root + (i + 1) * 0x1000) | ALL;
	for (unsigned int i = 0; i < MT_ENTRIES_PER_TABLE; i++)
		words[(root + 0x3000) / 8 + i] = (uint64_t)(256 + i) << MT_PAGE_SHIFT | ALL;
}

static void start(struct mt_mmu *mmu, enum mt_mmu_mode mode, bool caches, bool pcide)
{
	struct mt_mmu_config config = {.mode = mode,
				       .guest = {NULL, load, swap},
				       .machine = {NULL, load, swap},
				       .pmap = {NULL, find},
				       .frames = FRAMES,
				       .walk_caches = caches};
	struct mt_regs regs = {.paging = MT_PAGING_4LEVEL,
			       .cr3 = 0x1000,
			       .phys_bits = 40,
			       .wp = true,
			       .pcide = pcide};

	tables_at(0x1000);
	tables_at(0x10000);
	MT_CHECK(!mt_mmu_init(mmu, &config, NULL));
	MT_CHECK(!mt_mmu_set_regs(mmu, &regs, NULL));
}

/* Return: TLB misses of an access that goes through */
static uint64_t misses(struct mt_mmu *mmu, uint64_t gva, unsigned int access)
{
	uint64_t before = mmu->stats.tlb_misses;
	struct mt_translation to;

	MT_CHECK_EQ(mt_mmu_translate(mmu, MT_GVA(gva), access, &to), MT_MMU_OK);
	MT_CHECK_EQ(to.mpa.a, gva + 0x100000);
	return mmu->stats.tlb_misses - before;
}

MT_TEST("a set keeps its most recently used entries and loses the oldest")
{
	static const struct mt_tlb_config config = {{{4, 2}, {1, 1}, {1, 1}}};
	struct mt_tlb tlb;

	MT_CHECK(!mt_tlb_init(&tlb, &config));
	for (unsigned int i = 0; i < 2; i++)
		mt_tlb_add(&tlb, MT_GVA(i * 0x4000), 0, MT_MPA(0x10000 * i), 12, MT_TLB_ALL);
	MT_CHECK(mt_tlb_find(&tlb, MT_GVA(0), 0, 0)); /* now the youngest */
	mt_tlb_add(&tlb, MT_GVA(0x8000), 0, MT_MPA(0), 12, MT_TLB_ALL);
	MT_CHECK(mt_tlb_find(&tlb, MT_GVA(0), 0, 0));
	MT_CHECK(!mt_tlb_find(&tlb, MT_GVA(0x4000), 0, 0));
	mt_tlb_add(&tlb, MT_GVA(0x5000), 0, MT_MPA(0), 12, MT_TLB_ALL); /* another set */
	MT_CHECK(mt_tlb_find(&tlb, MT_GVA(0x8000), 0, 0));
	mt_tlb_destroy(&tlb);
}

MT_TEST("page sizes have arrays of their own, and a large entry covers its page")
{
	struct mt_tlb tlb;

	MT_CHECK(!mt_tlb_init(&tlb, &MT_TLB_DEFAULT));
	mt_tlb_add(&tlb, MT_GVA(0x200123), 5, MT_MPA(0x600123), 21, MT_TLB_ALL);
	MT_CHECK_EQ(mt_tlb_address(mt_tlb_find(&tlb, MT_GVA(0x3fffff), 5, 0), MT_GVA(0x3fffff)).a,
		    0x7fffff);
	MT_CHECK(!mt_tlb_find(&tlb, MT_GVA(0x400000), 5, 0));
	MT_CHECK(!mt_tlb_find(&tlb, MT_GVA(0x200000), 6, 0));
	mt_tlb_flush_page(&tlb, 5, MT_GVA(0x2ff000));
	MT_CHECK(!mt_tlb_find(&tlb, MT_GVA(0x200000), 5, 0));
	mt_tlb_add(&tlb, MT_GVA(0x40000000), 1, MT_MPA(0), 30, MT_TLB_ALL);
	mt_tlb_flush_asid(&tlb, 2);
	MT_CHECK(mt_tlb_find(&tlb, MT_GVA(0x7fffffff), 1, 0));
	mt_tlb_flush_asid(&tlb, 1);
	MT_CHECK(!mt_tlb_find(&tlb, MT_GVA(0x7fffffff), 1, 0));
	mt_tlb_destroy(&tlb);
}

MT_TEST("an empty TLB lets nothing through, whatever the address")
{
	static const uint64_t odd[] = {0, UINT64_MAX, 1ULL << 63, ~0xfffULL};
	struct mt_tlb tlb;

	MT_CHECK(!mt_tlb_init(&tlb, &MT_TLB_DEFAULT));
	mt_tlb_add(&tlb, MT_GVA(0x5000), 0, MT_MPA(0), 12, MT_TLB_ALL);
	mt_tlb_flush_page(&tlb, 0, MT_GVA(0x5000));
	for (size_t i = 0; i < MT_ARRAY_SIZE(odd); i++)
		for (uint16_t asid = 0; asid < MT_TLB_ASIDS; asid++)
			MT_CHECK(!mt_tlb_find(&tlb, MT_GVA(odd[i]), asid, 0));
	mt_tlb_destroy(&tlb);
}

MT_TEST("the first write to a clean page walks again, to set the dirty bit")
{
	for (unsigned int mode = 0; mode < MT_MMU_MODES; mode++) {
		struct mt_mmu mmu;

		memset(words, 0, sizeof(words));
		start(&mmu, (enum mt_mmu_mode)mode, false, false);
		MT_CHECK_EQ(misses(&mmu, 0x5000, 0), 1);
		MT_CHECK_EQ(misses(&mmu, 0x5008, MT_PF_U), 0);
		MT_CHECK(!(words[0x4000 / 8 + 5] & MT_PTE_D));
		MT_CHECK_EQ(misses(&mmu, 0x5000, MT_PF_W), 1);
		MT_CHECK(words[0x4000 / 8 + 5] & MT_PTE_D);
		MT_CHECK_EQ(misses(&mmu, 0x5000, MT_PF_W), 0);
		mt_mmu_destroy(&mmu);
	}
}

MT_TEST("a CR3 load forgets, unless the address space has a number and is kept")
{
	for (unsigned int mode = 0; mode < MT_MMU_MODES; mode++) {
		struct mt_mmu mmu;

		start(&mmu, (enum mt_mmu_mode)mode, false, true);
		MT_CHECK(!mt_mmu_set_cr3(&mmu, 0x1001, false, NULL));
		MT_CHECK_EQ(misses(&mmu, 0x5000, 0), 1);
		MT_CHECK(!mt_mmu_set_cr3(&mmu, 0x10002, false, NULL));
		MT_CHECK_EQ(misses(&mmu, 0x5000, 0), 1);
		MT_CHECK(!mt_mmu_set_cr3(&mmu, 0x1001, true, NULL));
		MT_CHECK_EQ(misses(&mmu, 0x5000, 0), 0);
		MT_CHECK(!mt_mmu_set_cr3(&mmu, 0x10002, false, NULL));
		MT_CHECK_EQ(misses(&mmu, 0x5000, 0), 1);
		mt_mmu_destroy(&mmu);
	}
}

MT_TEST("walk caches spare references, and INVLPG empties them")
{
	static const unsigned int cold[] = {4, 4, 24}, warm[] = {1, 1, 2};

	for (unsigned int mode = 0; mode < MT_MMU_MODES; mode++) {
		struct mt_mmu mmu;
		uint64_t before;

		start(&mmu, (enum mt_mmu_mode)mode, true, false);
		for (uint64_t page = 1; page < 4; page++) /* fill shadow, EPT, and the caches */
			misses(&mmu, page << 12, 0);
		mt_mmu_invlpg(&mmu, MT_GVA(0x1000));
		if (mode == MT_MMU_NESTED)
			mt_tlb_flush(&mmu.cache);
		before = mmu.stats.refs;
		MT_CHECK_EQ(misses(&mmu, 0x1000, 0), 1);
		MT_CHECK_EQ(mmu.stats.refs - before, cold[mode]);
		mt_tlb_flush(&mmu.tlb);
		before = mmu.stats.refs;
		MT_CHECK_EQ(misses(&mmu, 0x1000, 0), 1);
		/* nested: the table's and the page's own frame are in the cache of EPT */
		MT_CHECK_EQ(mmu.stats.refs - before, mode == MT_MMU_NESTED ? 1 : warm[mode]);
		mt_mmu_destroy(&mmu);
	}
}

MT_TEST("roots of the shadow outlive CR3 switches, and a second visit has no hidden faults")
{
	struct mt_mmu mmu;
	uint64_t hidden;

	start(&mmu, MT_MMU_SHADOW, false, false);
	misses(&mmu, 0x5000, 0);
	MT_CHECK(!mt_mmu_set_cr3(&mmu, 0x10000, false, NULL));
	misses(&mmu, 0x5000, 0);
	hidden = mmu.stats.hidden_faults;
	MT_CHECK(!mt_mmu_set_cr3(&mmu, 0x1000, false, NULL));
	MT_CHECK_EQ(misses(&mmu, 0x5000, 0), 1);
	MT_CHECK_EQ(mmu.stats.hidden_faults, hidden);
	MT_CHECK_EQ(mmu.shadow.roots_found, 1);
	mt_mmu_destroy(&mmu);
}

MT_TEST("a table that is written again and again loses its trace, and gets it back by use")
{
	struct mt_translation to;
	struct mt_mmu mmu;

	start(&mmu, MT_MMU_SHADOW, false, false);
	words[0x4000 / 8 + 1] = 0x4000 | ALL; /* page 1 is the page table itself */
	for (unsigned int i = 0; i < MT_SHADOW_FLOOD; i++) {
		MT_CHECK_EQ(mt_mmu_translate(&mmu, MT_GVA(0x1800), MT_PF_W, &to), MT_MMU_EMULATE);
		MT_CHECK_EQ(to.gpa.a, 0x4800);
		words[to.mpa.a / 8] = 0;
		mt_mmu_stored(&mmu, to.gpa);
		if (i == 0)
			MT_CHECK(mt_shadow_traced(&mmu.shadow, MT_GFN(4)));
	}
	/* Filling resets the count: only writes without use flood. */
	MT_CHECK(mt_shadow_traced(&mmu.shadow, MT_GFN(4)));
	for (unsigned int i = 0; i < MT_SHADOW_FLOOD; i++)
		mt_mmu_stored(&mmu, MT_GPA(0x4800));
	MT_CHECK(!mt_shadow_traced(&mmu.shadow, MT_GFN(4)));
	misses(&mmu, 0x5000, 0);
	MT_CHECK(mt_shadow_traced(&mmu.shadow, MT_GFN(4)));
	MT_CHECK(!mt_shadow_audit(&mmu.shadow));
	mt_mmu_destroy(&mmu);
}

MT_TEST("a page that becomes a page table can't be written past its trace by a cached translation")
{
	struct mt_translation to;
	struct mt_mmu mmu;

	start(&mmu, MT_MMU_SHADOW, false, false);
	MT_CHECK_EQ(misses(&mmu, 0x5000, MT_PF_W), 1);
	MT_CHECK_EQ(misses(&mmu, 0x5000, MT_PF_W), 0);
	words[0x3000 / 8 + 1] = 0x105000 | ALL; /* its frame as the table of the second 2 MiB */
	mt_mmu_stored(&mmu, MT_GPA(0x3008));
	words[0x105000 / 8] = 0x200000 | ALL;
	MT_CHECK_EQ(mt_mmu_translate(&mmu, MT_GVA(0x200000), 0, &to), MT_MMU_OK);
	MT_CHECK_EQ(mt_mmu_translate(&mmu, MT_GVA(0x5000), MT_PF_W, &to), MT_MMU_EMULATE);
	MT_CHECK_EQ(to.gpa.a, 0x105000);
	words[to.mpa.a / 8] = 0x201000 | ALL;
	mt_mmu_stored(&mmu, to.gpa);
	mt_mmu_invlpg(&mmu, MT_GVA(0x200000));
	MT_CHECK_EQ(mt_mmu_translate(&mmu, MT_GVA(0x200000), 0, &to), MT_MMU_OK);
	MT_CHECK_EQ(to.mpa.a, 0x201000);
	mt_mmu_destroy(&mmu);
}

MT_TEST("INVLPG of one address forgets a large page of the guest, in however many pieces it is")
{
	for (unsigned int mode = 0; mode < MT_MMU_MODES; mode++) {
		struct mt_translation to;
		struct mt_mmu mmu;

		start(&mmu, (enum mt_mmu_mode)mode, true, false);
		words[0x3000 / 8 + 1] = 0x200000 | ALL | MT_PTE_PS;
		for (uint64_t gva = 0x200000; gva < 0x204000; gva += 0x1000) {
			MT_CHECK_EQ(mt_mmu_translate(&mmu, MT_GVA(gva), 0, &to), MT_MMU_OK);
			MT_CHECK_EQ(to.mpa.a, gva);
		}
		words[0x3000 / 8 + 1] = ALL | MT_PTE_PS;
		mt_mmu_stored(&mmu, MT_GPA(0x3008));
		mt_mmu_invlpg(&mmu, MT_GVA(0x200000));
		MT_CHECK_EQ(mt_mmu_translate(&mmu, MT_GVA(0x203000), 0, &to), MT_MMU_OK);
		MT_CHECK_EQ(to.mpa.a, 0x3000);
		mt_mmu_destroy(&mmu);
	}
}

MT_TEST_MAIN
