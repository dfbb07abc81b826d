/* SPDX-License-Identifier: MIT */
/*
 * rig.c - random edits, accesses, INVLPGs, CR3 loads and host moves on four copies; see rig.h
 *
 * Tables are 32 frames with a level each; addresses use few indices, so that walks meet. With
 * caches on, the guest keeps to the rules of the manual: after a change it flushes, or invalidates
 * each address before it uses it.
 */
#include "rig.h"
#include "plain_walk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TABLES       32u
#define FIRST_TABLE  16u
#define ROOTS        4u
#define SPARE_BIT    (1ULL << 51) /* reserved while phys_bits is less */
#define PHYS_BITS    46u
#define BEYOND_FRAME (RIG_FRAMES + 77)

static const unsigned int table_counts[] = {0, 12, 8, 6, 4, 2}; /* by level; together 32 */
static const unsigned int indices[] = {0, 1, 2, 255, 256, 511};

static uint32_t next_random(struct rig *rig)
{
	uint32_t value = 0;

	if (!rig->bytes) {
		rig->random = rig->random * 6364136223846793005ULL + 1442695040888963407ULL;
		return (uint32_t)(rig->random >> 33);
	}
	if (rig->left < 2) {
		rig->over = true;
		return 0;
	}
	memcpy(&value, rig->bytes, 2);
	rig->bytes += 2;
	rig->left -= 2;
	return value;
}

static unsigned int below(struct rig *rig, unsigned int limit)
{
	return next_random(rig) % limit;
}

static bool chance(struct rig *rig, unsigned int pct)
{
	return below(rig, 100) < pct;
}

static uint32_t table_frame(struct rig *rig, unsigned int level)
{
	uint32_t frame = FIRST_TABLE;

	for (unsigned int i = 5; i > level; i--)
		frame += table_counts[i];
	return frame + below(rig, table_counts[level]);
}

static unsigned int level_of(uint32_t frame)
{
	unsigned int level = 5;

	for (frame -= FIRST_TABLE; frame >= table_counts[level]; level--)
		frame -= table_counts[level];
	return level;
}

static uint64_t *word_at(struct rig_copy *copy, uint64_t gpa)
{
	uint64_t machine = copy->rig->machine_of[gpa >> MT_PAGE_SHIFT];

	return &copy->words[machine * MT_ENTRIES_PER_TABLE + gpa % MT_PAGE_SIZE / 8];
}

static int guest_load(void *ctx, uint64_t gpa, uint64_t *ret)
{
	if (gpa >> MT_PAGE_SHIFT >= RIG_FRAMES)
		return -ENXIO;
	*ret = *word_at(ctx, gpa);
	return 0;
}

static int guest_swap(void *ctx, uint64_t gpa, uint64_t old, uint64_t fresh)
{
	if (gpa >> MT_PAGE_SHIFT >= RIG_FRAMES)
		return -ENXIO;
	if (*word_at(ctx, gpa) != old)
		return -EAGAIN;
	*word_at(ctx, gpa) = fresh;
	return 0;
}

static int machine_load(void *ctx, uint64_t mpa, uint64_t *ret)
{
	struct rig_copy *copy = ctx;

	MT_ASSERT(mpa >> MT_PAGE_SHIFT < RIG_FRAMES);
	*ret = copy->words[mpa / 8];
	return 0;
}

static int machine_swap(void *ctx, uint64_t mpa, uint64_t old, uint64_t fresh)
{
	struct rig_copy *copy = ctx;

	MT_ASSERT(mpa >> MT_PAGE_SHIFT < RIG_FRAMES);
	if (copy->words[mpa / 8] != old)
		return -EAGAIN;
	copy->words[mpa / 8] = fresh;
	return 0;
}

static int find(void *ctx, mt_gfn_t gfn, bool write, struct mt_backing *ret)
{
	struct rig_copy *copy = ctx;

	if (gfn.n >= RIG_FRAMES)
		return -ENXIO;
	if (write)
		copy->read_only[gfn.n] = false;
	ret->start.a = (uint64_t)copy->rig->machine_of[gfn.n] << MT_PAGE_SHIFT;
	ret->shift = copy->rig->in_one_piece[gfn.n / MT_HUGE_PAGES] ? MT_HUGE_SHIFT : MT_PAGE_SHIFT;
	ret->writable = !copy->read_only[gfn.n];
	/* A large page is as writable as its least writable part. */
	for (uint32_t i = 0; ret->shift > MT_PAGE_SHIFT && i < MT_HUGE_PAGES; i++)
		if (copy->read_only[mt_align_down(gfn.n, MT_HUGE_PAGES) + i])
			ret->shift = MT_PAGE_SHIFT;
	return 0;
}

static void set_regs(struct rig *rig)
{
	struct mt_err err = {0};

	for (unsigned int i = 0; i < RIG_PLAIN; i++)
		if (mt_mmu_set_regs(&rig->copies[i].mmu, &rig->regs, &err))
			abort();
	memset(rig->stale, 0, sizeof(rig->stale));
}

static void write_all(struct rig *rig, uint64_t gpa, uint64_t value, bool tell)
{
	for (unsigned int i = 0; i < RIG_COPIES; i++) {
		*word_at(&rig->copies[i], gpa) = value;
		if (i != RIG_PLAIN && tell)
			mt_mmu_stored(&rig->copies[i].mmu, MT_GPA(gpa));
	}
	memset(rig->stale, 1, sizeof(rig->stale));
}

static uint64_t random_rights(struct rig *rig)
{
	uint64_t entry = 0;

	entry |= chance(rig, 90) ? MT_PTE_RW : 0;
	entry |= chance(rig, 88) ? MT_PTE_US : 0;
	entry |= chance(rig, 10) && rig->regs.nxe ? MT_PTE_NX : 0;
	entry |= chance(rig, 50) ? MT_PTE_A : 0;
	entry |= chance(rig, 40) ? MT_PTE_D : 0;
	return entry | (chance(rig, 96) ? MT_PTE_P : 0);
}

/* An entry for a table of @level, mostly one that makes sense. */
static uint64_t random_entry(struct rig *rig, unsigned int level)
{
	uint64_t entry = random_rights(rig);
	unsigned int kind = below(rig, 100);

	if (kind < 2)
		return entry | (uint64_t)BEYOND_FRAME << MT_PAGE_SHIFT;
	if (kind < 4)
		return entry | SPARE_BIT | (chance(rig, 50) ? MT_PTE_PS : 0);
	if (kind < 8) /* loops, and tables of the wrong level */
		return entry | (uint64_t)(FIRST_TABLE + below(rig, TABLES)) << MT_PAGE_SHIFT;
	if (level == 1)
		return entry | (uint64_t)below(rig, RIG_FRAMES) << MT_PAGE_SHIFT;
	if (level == 2 && kind < 35)
		return entry | MT_PTE_PS |
		       (uint64_t)below(rig, RIG_FRAMES / MT_HUGE_PAGES) << MT_HUGE_SHIFT;
	if (level == 3 && kind < 15)
		return entry | MT_PTE_PS;
	return entry | (uint64_t)table_frame(rig, level - 1) << MT_PAGE_SHIFT;
}

static void edit(struct rig *rig)
{
	uint32_t frame = FIRST_TABLE + below(rig, TABLES);
	unsigned int index = indices[below(rig, MT_ARRAY_SIZE(indices))];
	uint64_t gpa = ((uint64_t)frame << MT_PAGE_SHIFT) + 8 * index;
	uint64_t value = random_entry(rig, level_of(frame));

	if (chance(rig, 25)) /* only bits of what is there */
		value = *word_at(&rig->copies[RIG_PLAIN], gpa) ^
			(1ULL << (chance(rig, 50) ? 5 : below(rig, 7)));
	rig->edits++;
	write_all(rig, gpa, value, true);
}

static void switch_cr3(struct rig *rig)
{
	unsigned int level = mt_regs_levels(&rig->regs);
	uint32_t frame = table_frame(rig, level);
	unsigned int pcid = rig->regs.pcide ? frame : 0;
	bool keep = rig->regs.pcide && !rig->stale[pcid];
	struct mt_err err;

	rig->switches++;
	rig->regs.cr3 = ((uint64_t)frame << MT_PAGE_SHIFT) | pcid;
	for (unsigned int i = 0; i < RIG_PLAIN; i++)
		if (mt_mmu_set_cr3(&rig->copies[i].mmu, rig->regs.cr3, keep, &err))
			abort();
	rig->stale[pcid] = false;
}

static void change_mode(struct rig *rig)
{
	rig->regs.wp = chance(rig, 70);
	rig->regs.smep = chance(rig, 40);
	rig->regs.smap = chance(rig, 25);
	rig->regs.nxe = chance(rig, 85);
	rig->regs.pages_1g = chance(rig, 80);
	rig->regs.pcide = chance(rig, 50);
	rig->regs.paging = chance(rig, 65) ? MT_PAGING_4LEVEL : MT_PAGING_5LEVEL;
	rig->regs.cr3 = (uint64_t)table_frame(rig, mt_regs_levels(&rig->regs)) << MT_PAGE_SHIFT;
	set_regs(rig);
}

static void host_changed(struct rig *rig, uint32_t frame)
{
	for (unsigned int i = 0; i < RIG_PLAIN; i++)
		mt_mmu_host_changed(&rig->copies[i].mmu, MT_GFN(frame));
}

/* Two frames change places, content and all; or one is made read-only by the host. */
static void host_move(struct rig *rig)
{
	uint32_t a = below(rig, RIG_FRAMES), b = below(rig, RIG_FRAMES);
	uint32_t machine = rig->machine_of[a];

	rig->moves++;
	host_changed(rig, a);
	if (chance(rig, 50)) {
		for (unsigned int i = 0; i < RIG_PLAIN; i++)
			rig->copies[i].read_only[a] = true;
		return;
	}
	/* Large pieces stay whole: they come and go by parts being read-only. */
	if (rig->in_one_piece[a / MT_HUGE_PAGES] || rig->in_one_piece[b / MT_HUGE_PAGES])
		return;
	host_changed(rig, b);
	for (unsigned int i = 0; i < RIG_COPIES; i++) {
		uint64_t *x = word_at(&rig->copies[i], (uint64_t)a << MT_PAGE_SHIFT);
		uint64_t *y = word_at(&rig->copies[i], (uint64_t)b << MT_PAGE_SHIFT);

		for (unsigned int k = 0; a != b && k < MT_ENTRIES_PER_TABLE; k++) {
			uint64_t word = x[k];

			x[k] = y[k];
			y[k] = word;
		}
	}
	rig->machine_of[a] = rig->machine_of[b];
	rig->machine_of[b] = machine;
}

static uint64_t random_address(struct rig *rig)
{
	uint64_t gva = below(rig, 512) * 8;
	unsigned int slot = below(rig, MT_ARRAY_SIZE(rig->recent));
	unsigned int levels = mt_regs_levels(&rig->regs), top = mt_level_shift(levels + 1) - 1;

	if (chance(rig, 90))
		return rig->recent[slot] | gva;
	for (unsigned int level = 1; level <= levels; level++)
		gva |= (uint64_t)indices[below(rig, MT_ARRAY_SIZE(indices))]
		       << mt_level_shift(level);
	gva = (uint64_t)((int64_t)(gva << (63 - top)) >> (63 - top));
	rig->recent[slot] = mt_align_down(chance(rig, 1) ? gva ^ 1ULL << 62 : gva, MT_PAGE_SIZE);
	return gva;
}

static void invalidate(struct rig *rig, uint64_t gva)
{
	rig->invlpgs++;
	for (unsigned int i = 0; i < RIG_PLAIN; i++)
		mt_mmu_invlpg(&rig->copies[i].mmu, MT_GVA(gva));
}

/* With caches on, a guest that changed its tables has to say so before it relies on them. */
static void obey(struct rig *rig, uint64_t gva)
{
	unsigned int pcid = rig->regs.pcide ? rig->regs.cr3 & 63 : 0;
	struct mt_err err;

	if (!rig->cached || !rig->stale[pcid])
		return;
	if (chance(rig, 50)) {
		invalidate(rig, gva);
		return;
	}
	for (unsigned int i = 0; i < RIG_PLAIN; i++)
		if (mt_mmu_set_cr3(&rig->copies[i].mmu, rig->regs.cr3, false, &err))
			abort();
	rig->stale[pcid] = false;
}

static void count(struct rig *rig, const struct plain_result *want, bool emulated)
{
	rig->accesses++;
	rig->through += want->end == MT_MMU_OK;
	rig->no_memory += want->end == MT_MMU_NO_MEMORY;
	rig->faults += want->end == MT_MMU_PAGE_FAULT;
	rig->emulated += emulated;
	if (want->end == MT_MMU_PAGE_FAULT)
		rig->codes[want->error_code & 31]++;
}

static const char *differs(const struct rig *rig, unsigned int copy, uint64_t gva,
			   unsigned int access, const struct plain_result *want,
			   enum mt_mmu_end end, const struct mt_translation *got)
{
	static char text[320];

	snprintf(text, sizeof(text),
		 "%s: gva %llx access %x cr3 %llx paging %d: end %d code %x mpa %llx gpa %llx, but "
		 "the plain walk says end %d code %x mpa %llx gpa %llx",
		 mt_mmu_mode_name(rig->copies[copy].mmu.config.mode), (unsigned long long)gva,
		 access, (unsigned long long)rig->regs.cr3, (int)rig->regs.paging, (int)end,
		 got->error_code, (unsigned long long)got->mpa.a, (unsigned long long)got->gpa.a,
		 (int)want->end, want->error_code, (unsigned long long)want->mpa,
		 (unsigned long long)want->gpa);
	return text;
}

static bool equal(const struct plain_result *want, enum mt_mmu_end end,
		  const struct mt_translation *got)
{
	if (end != want->end)
		return false;
	if (end == MT_MMU_OK)
		return got->mpa.a == want->mpa;
	if (end == MT_MMU_PAGE_FAULT)
		return got->error_code == want->error_code;
	return end != MT_MMU_NO_MEMORY || got->gpa.a == want->gpa;
}

static const char *access_all(struct rig *rig)
{
	uint64_t gva = random_address(rig);
	unsigned int access = (chance(rig, 40) ? MT_PF_W : 0) | (chance(rig, 50) ? MT_PF_U : 0);
	bool store = false, told = false;
	struct plain_result want;

	if (!(access & MT_PF_W) && chance(rig, 20))
		access |= MT_PF_I;
	obey(rig, gva);
	plain_walk(&rig->copies[RIG_PLAIN], &rig->regs, gva, access, &want);
	for (unsigned int i = 0; i < RIG_PLAIN; i++) {
		struct mt_translation got = {0};
		enum mt_mmu_end end =
			mt_mmu_translate(&rig->copies[i].mmu, MT_GVA(gva), access, &got);

		if (end == MT_MMU_EMULATE) {
			told = true;
			end = MT_MMU_OK;
		}
		if (!equal(&want, end, &got))
			return differs(rig, i, gva, access, &want, end, &got);
	}
	count(rig, &want, told);
	/* What is stored to a table through the guest's own addresses is an edit, too. */
	store = want.end == MT_MMU_OK && (access & MT_PF_W);
	if (store && want.gpa >> MT_PAGE_SHIFT >= FIRST_TABLE &&
	    want.gpa >> MT_PAGE_SHIFT < FIRST_TABLE + TABLES)
		write_all(rig, want.gpa,
			  random_entry(rig, level_of((uint32_t)(want.gpa >> MT_PAGE_SHIFT))), told);
	else if (store && chance(rig, 5)) /* any frame may be a table, by a wrong entry */
		write_all(rig, want.gpa, next_random(rig) & ~1ULL, told);
	return NULL;
}

static void toggle_ac(struct rig *rig)
{
	rig->regs.ac = !rig->regs.ac;
	for (unsigned int i = 0; i < RIG_PLAIN; i++)
		mt_mmu_set_ac(&rig->copies[i].mmu, rig->regs.ac);
}

static void invalidate_any(struct rig *rig)
{
	invalidate(rig, random_address(rig));
}

const char *rig_step(struct rig *rig)
{
	/* Of 1000 steps, without and with caches; the others are accesses. */
	static const struct {
		void (*step)(struct rig *rig);
		unsigned int plain, cached;
	} steps[] = {{edit, 250, 10},   {switch_cr3, 15, 4}, {host_move, 5, 1},
		     {toggle_ac, 5, 4}, {change_mode, 2, 1}, {invalidate_any, 13, 8}};
	unsigned int kind = below(rig, 1000);

	for (size_t i = 0; i < MT_ARRAY_SIZE(steps); i++) {
		unsigned int weight = rig->cached ? steps[i].cached : steps[i].plain;

		if (kind < weight) {
			steps[i].step(rig);
			return NULL;
		}
		kind -= weight;
	}
	return access_all(rig);
}

const char *rig_compare(struct rig *rig)
{
	static char text[160];
	const char *wrong = mt_shadow_audit(&rig->copies[MT_MMU_SHADOW].mmu.shadow);
	size_t words = (size_t)RIG_FRAMES * MT_ENTRIES_PER_TABLE;

	if (wrong)
		return wrong;
	for (unsigned int i = 0; i < RIG_PLAIN; i++) {
		if (!memcmp(rig->copies[i].words, rig->copies[RIG_PLAIN].words,
			    words * sizeof(uint64_t)))
			continue;
		for (size_t k = 0; k < words; k++) {
			uint64_t got = rig->copies[i].words[k];
			uint64_t want = rig->copies[RIG_PLAIN].words[k];

			if (got == want)
				continue;
			snprintf(text, sizeof(text),
				 "%s: the word at machine address %zx is %llx, not %llx",
				 mt_mmu_mode_name((enum mt_mmu_mode)i), k * 8,
				 (unsigned long long)got, (unsigned long long)want);
			return text;
		}
	}
	return NULL;
}

static void init_copy(struct rig *rig, unsigned int number)
{
	struct rig_copy *copy = &rig->copies[number];
	struct mt_mmu_config config = {
		.mode = (enum mt_mmu_mode)number,
		.guest = {copy, guest_load, guest_swap},
		.machine = {copy, machine_load, machine_swap},
		.pmap = {copy, find},
		.frames = RIG_FRAMES,
		.tables_max = 100, /* few enough to run out */
		.tlb = {{{8, 4}, {2, 2}, {1, 2}}},
		.no_tlb = !rig->cached,
		.walk_caches = rig->cached,
	};
	struct mt_err err;

	copy->rig = rig;
	copy->words = calloc((size_t)RIG_FRAMES * MT_ENTRIES_PER_TABLE, sizeof(uint64_t));
	if (!copy->words || (number != RIG_PLAIN && mt_mmu_init(&copy->mmu, &config, &err)))
		abort();
}

void rig_init(struct rig *rig, bool cached, uint64_t seed)
{
	memset(rig, 0, sizeof(*rig));
	rig->cached = cached;
	rig->random = seed * 0x9e3779b97f4a7c15ULL + 1;
	for (uint32_t i = 0; i < RIG_FRAMES; i++)
		rig->machine_of[i] = i;
	/* The lower half is scattered, the upper half keeps large pages in one piece. */
	for (uint32_t i = RIG_FRAMES / 2 - 1; i; i--) {
		uint32_t other = below(rig, i + 1), machine = rig->machine_of[i];

		rig->machine_of[i] = rig->machine_of[other];
		rig->machine_of[other] = machine;
	}
	for (uint32_t i = 0; i < RIG_FRAMES / MT_HUGE_PAGES; i++)
		rig->in_one_piece[i] = i >= RIG_FRAMES / MT_HUGE_PAGES / 2;
	for (unsigned int i = 0; i < RIG_COPIES; i++)
		init_copy(rig, i);
	rig->regs = (struct mt_regs){.phys_bits = PHYS_BITS, .nxe = true, .ac = false};
	change_mode(rig);
	for (unsigned int i = 0; i < 600; i++)
		edit(rig);
}

void rig_free(struct rig *rig)
{
	for (unsigned int i = 0; i < RIG_COPIES; i++) {
		if (i != RIG_PLAIN)
			mt_mmu_destroy(&rig->copies[i].mmu);
		free(rig->copies[i].words);
	}
}
