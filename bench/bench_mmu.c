/* SPDX-License-Identifier: MIT */
/*
 * bench_mmu.c - how fast the MMU in software is: TLB hits, and walks in each mode
 *
 * A guest of 64 MiB whose tables map all of it. Hits: a few pages again and again. Walks: pages far
 * enough apart that each access misses the TLB, without walk caches, so that a nested walk makes
 * its 24 references. Needs no daemon and no privileges.
 */
#include "bench.h"
#include "mmu/mmu.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define FRAMES 16384u
#define HITS   40000000u
#define WALKS  4000000u
#define ALL    (MT_PTE_P | MT_PTE_RW | MT_PTE_US | MT_PTE_A | MT_PTE_D)
#define MODES  MT_MMU_MODES
#define STRIDE 7919u /* pages; a prime, so that all are visited */
#define TABLES 0x1000u
#define DATA   64u /* the first frame behind the tables: those can not be written in every mode */
#define ROUNDS 5u

static uint64_t *words;

static int load(void *ctx, uint64_t address, uint64_t *ret)
{
	(void)ctx;
	if (address >= (uint64_t)FRAMES << MT_PAGE_SHIFT)
		return -ENXIO;
	*ret = words[address / 8];
	return 0;
}

static int swap(void *ctx, uint64_t address, uint64_t old, uint64_t fresh)
{
	(void)ctx;
	if (words[address / 8] != old)
		return -EAGAIN;
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

/* 4-level tables from frame 1 on; page i is frame i. */
static void make_tables(void)
{
	words = calloc(FRAMES, MT_PAGE_SIZE);
	if (!words)
		bench_die("no memory");
	words[0x1000 / 8] = 0x2000 | ALL;
	words[0x2000 / 8] = 0x3000 | ALL;
	for (uint64_t i = 0; i < FRAMES / MT_ENTRIES_PER_TABLE; i++)
		words[0x3000 / 8 + i] = (0x4000 + (i << MT_PAGE_SHIFT)) | ALL;
	for (uint64_t i = 0; i < FRAMES; i++)
		words[0x4000 / 8 + i] = i << MT_PAGE_SHIFT | ALL;
}

static void start(struct mt_mmu *mmu, enum mt_mmu_mode mode)
{
	const struct mt_mmu_config config = {.mode = mode,
					     .guest = {NULL, load, swap},
					     .machine = {NULL, load, swap},
					     .pmap = {NULL, find},
					     .frames = FRAMES};
	const struct mt_regs regs = {.paging = MT_PAGING_4LEVEL,
				     .cr3 = TABLES,
				     .phys_bits = 40,
				     .wp = true,
				     .nxe = true};
	struct mt_err err;

	if (mt_mmu_init(mmu, &config, &err) || mt_mmu_set_regs(mmu, &regs, &err))
		bench_die("%s", err.msg);
}

/* Million translated accesses a second, of processor time: @pages apart, over @span pages. */
static double rate(struct mt_mmu *mmu, uint32_t count, uint32_t pages, uint32_t span)
{
	uint64_t before = bench_cpu_ns(), wrong = 0;
	uint32_t page = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint64_t gva = ((uint64_t)(DATA + page) << MT_PAGE_SHIFT) + (i & 511) * 8;
		struct mt_translation to;

		wrong |= mt_mmu_translate(mmu, MT_GVA(gva), i & 1 ? MT_PF_W : 0, &to);
		wrong |= to.mpa.a ^ gva;
		page = (page + pages) % span;
	}
	if (wrong)
		bench_die("a translation is wrong");
	return (double)count * 1000.0 / (double)(bench_cpu_ns() - before);
}

static double measure(enum mt_mmu_mode mode, uint32_t count, uint32_t pages, uint32_t span,
		      double *ret_refs)
{
	double rates[ROUNDS];
	struct mt_mmu mmu;

	start(&mmu, mode);
	rate(&mmu, 2 * FRAMES, 1, FRAMES - DATA - 1); /* fills EPT and shadow */
	for (unsigned int i = 0; i < ROUNDS; i++) {
		struct mt_mmu_stats before = mmu.stats;

		rates[i] = rate(&mmu, count / ROUNDS, pages, span);
		*ret_refs = (double)(mmu.stats.refs - before.refs) / (count / ROUNDS);
	}
	mt_mmu_destroy(&mmu);
	return bench_median(rates, ROUNDS);
}

int main(void)
{
	static const double goals[MODES] = {[MT_MMU_NESTED] = 3};
	double refs = 0, hits;

	make_tables();
	hits = measure(MT_MMU_NESTED, HITS, 1, 64, &refs);
	bench_row("mmu-hits", "translated accesses that hit the TLB", "M/s", BENCH_AT_LEAST, 30,
		  hits, "%.2f references each", refs);
	for (unsigned int mode = 0; mode < MODES; mode++) {
		char id[32], what[64];
		double got = measure((enum mt_mmu_mode)mode, WALKS, STRIDE, FRAMES - DATA, &refs);

		snprintf(id, sizeof(id), "mmu-%s", mt_mmu_mode_name((enum mt_mmu_mode)mode));
		snprintf(what, sizeof(what), "walks on TLB misses, %s",
			 mt_mmu_mode_name((enum mt_mmu_mode)mode));
		bench_row(id, what, "M/s", goals[mode] > 0 ? BENCH_AT_LEAST : BENCH_NO_GOAL,
			  goals[mode], got, "%.2f references each", refs);
	}
	free(words);
	return 0;
}
