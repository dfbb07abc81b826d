/* SPDX-License-Identifier: MIT */
/*
 * mmu.c - setting up an MMU, its registers, and forgetting what is cached; see mmu.h
 *
 * What must be forgotten when: a CR3 load forgets its address space (with "keep": nothing); INVLPG
 * forgets one address and, as on hardware, all walk caches (SDM 4.10.4.1: all pieces of a large
 * page, so once there were such pieces, the whole address space); the host moving a page forgets
 * all that EPT and shadow said about it, and the whole TLB, which is not indexed by guest frames.
 */
#include "mmu/mmu.h"

#include <errno.h>
#include <string.h>

#define TABLES_MAX_DEFAULT 65536u
#define PCID_BITS          0xfffu

static const struct mt_tlb_config cache_default = {{{16, 4}, {4, 4}, {1, 4}}};

static const char *const mode_names[MT_MMU_MODES] = {"native", "shadow", "nested"};

const char *mt_mmu_mode_name(enum mt_mmu_mode mode)
{
	MT_ASSERT(mode < MT_MMU_MODES);
	return mode_names[mode];
}

bool mt_mmu_mode_parse(const char *name, enum mt_mmu_mode *ret)
{
	for (unsigned int i = 0; i < MT_MMU_MODES; i++)
		if (!strcmp(name, mode_names[i])) {
			*ret = (enum mt_mmu_mode)i;
			return true;
		}
	return false;
}

static int init_mode(struct mt_mmu *mmu)
{
	const struct mt_mmu_config *config = &mmu->config;
	int rc;

	if (config->mode == MT_MMU_NATIVE)
		return 0;
	if (config->mode == MT_MMU_SHADOW) {
		rc = mt_shadow_init(&mmu->shadow, &config->guest, &config->pmap, config->frames,
				    config->tables_max);
		mmu->shadow_memory = mt_tables_memory(&mmu->shadow.tables);
		return rc;
	}
	mt_tables_init(&mmu->tables, config->tables_max);
	rc = mt_ept_init(&mmu->ept, &mmu->tables, config->ept_levels);
	mmu->nested.ept = &mmu->ept;
	mmu->nested.machine = &mmu->config.machine;
	mmu->nested.cache = config->walk_caches ? &mmu->cache : NULL;
	mmu->nested_memory = mt_nested_memory(&mmu->nested);
	return rc;
}

int mt_mmu_init(struct mt_mmu *mmu, const struct mt_mmu_config *config, struct mt_err *err)
{
	const struct mt_regs off = {.paging = MT_PAGING_OFF, .phys_bits = 52};
	int rc;

	memset(mmu, 0, sizeof(*mmu));
	mmu->config = *config;
	if (!mmu->config.tables_max)
		mmu->config.tables_max = TABLES_MAX_DEFAULT;
	if (!mmu->config.ept_levels)
		mmu->config.ept_levels = 4;
	if (!mmu->config.tlb.arrays[0].sets)
		mmu->config.tlb = MT_TLB_DEFAULT;
	if (!mmu->config.cache.arrays[0].sets)
		mmu->config.cache = cache_default;
	mt_pwc_flush(&mmu->pwc);
	rc = mt_tlb_init(&mmu->tlb, &mmu->config.tlb);
	if (!rc)
		rc = mt_tlb_init(&mmu->cache, &mmu->config.cache);
	if (!rc)
		rc = init_mode(mmu);
	if (rc) {
		mt_mmu_destroy(mmu);
		return mt_err_set(err, rc,
				  rc == -ENOMEM ? "no memory for the MMU's tables"
						: "sizes of TLB or EPT make no sense");
	}
	mmu->regs = off;
	return 0;
}

void mt_mmu_destroy(struct mt_mmu *mmu)
{
	mt_tlb_destroy(&mmu->tlb);
	mt_tlb_destroy(&mmu->cache);
	mt_tables_destroy(&mmu->tables);
	if (mmu->config.mode == MT_MMU_SHADOW)
		mt_shadow_destroy(&mmu->shadow);
	memset(mmu, 0, sizeof(*mmu));
}

/* For each combination of rights the kinds of access it lets through. */
static void learn_rights(struct mt_mmu *mmu)
{
	const struct mt_regs *regs =
		mmu->config.mode == MT_MMU_SHADOW ? &mmu->shadow_regs : &mmu->regs;

	for (unsigned int i = 0; i < MT_ARRAY_SIZE(mmu->allowed); i++) {
		uint64_t rights =
			(i & 1 ? MT_PTE_RW : 0) | (i & 2 ? MT_PTE_US : 0) | (i & 4 ? MT_PTE_NX : 0);

		mmu->allowed[i] = 0;
		for (unsigned int kind = 0; kind < 16; kind++) {
			unsigned int access = (kind & MT_TLB_WRITE ? MT_PF_W : 0) |
					      (kind & MT_TLB_USER ? MT_PF_U : 0) |
					      (kind & MT_TLB_FETCH ? MT_PF_I : 0);

			if (mt_rights_allow(regs, rights, access, kind & MT_TLB_AC))
				mmu->allowed[i] |= (uint16_t)(1u << kind);
		}
	}
}

/* The registers under which the "hardware" walks the shadow. */
static void derive_shadow_regs(struct mt_mmu *mmu)
{
	mmu->shadow_regs = mmu->regs;
	mmu->shadow_regs.wp = true; /* traced frames must not be written by the kernel either */
	mmu->shadow_regs.nxe = true;
	mmu->shadow_regs.phys_bits = 52;
	mmu->shadow_regs.cr3 =
		mmu->shadow.root.n == MT_TABLE_NONE.n ? 0 : mt_table_address(mmu->shadow.root);
}

static int check_cr3(const struct mt_regs *regs, uint64_t cr3, struct mt_err *err)
{
	uint64_t limit = regs->phys_bits < 64 ? 1ULL << regs->phys_bits : 0;

	if (mt_regs_levels(regs) < 4 || cr3 < limit)
		return 0;
	return mt_err_set(err, -EINVAL, "CR3 0x%llx has bits above the %u of physical addresses",
			  (unsigned long long)cr3, regs->phys_bits);
}

/* The shadow took rights away, or tables the caches may know. */
static void follow_shadow(struct mt_mmu *mmu)
{
	if (mmu->shadow.rights_went) {
		mt_tlb_flush(&mmu->tlb);
		mt_pwc_flush(&mmu->pwc);
		mmu->stats.forced_flushes++;
	}
	if (mmu->shadow.tables_went)
		mt_pwc_flush(&mmu->pwc);
	mmu->shadow.rights_went = false;
	mmu->shadow.tables_went = false;
}

static int switch_shadow(struct mt_mmu *mmu, struct mt_err *err)
{
	int rc = 0;

	if (mmu->config.mode != MT_MMU_SHADOW)
		return 0;
	if (mt_regs_levels(&mmu->regs) >= 4)
		rc = mt_shadow_switch(&mmu->shadow, &mmu->regs);
	follow_shadow(mmu);
	derive_shadow_regs(mmu);
	return rc ? mt_err_set(err, rc, "no memory for a shadow of CR3 0x%llx",
			       (unsigned long long)mmu->regs.cr3)
		  : 0;
}

static uint16_t asid_of(const struct mt_regs *regs)
{
	return regs->pcide ? (uint16_t)(regs->cr3 & PCID_BITS) : 0;
}

int mt_mmu_set_regs(struct mt_mmu *mmu, const struct mt_regs *regs, struct mt_err *err)
{
	unsigned int levels = mt_regs_levels(regs);
	int rc;

	if (regs->phys_bits < 32 || regs->phys_bits > 52)
		return mt_err_set(err, -EINVAL, "physical addresses have 32 to 52 bits, not %u",
				  regs->phys_bits);
	rc = check_cr3(regs, regs->cr3, err);
	if (rc)
		return rc;
	if (mmu->config.mode == MT_MMU_SHADOW && levels && levels < 4)
		return mt_err_set(err, -EINVAL, "only 64-bit page tables are shadowed");
	mmu->regs = *regs;
	mmu->asid = asid_of(regs);
	mt_tlb_flush(&mmu->tlb);
	mt_pwc_flush(&mmu->pwc);
	if (mmu->config.mode == MT_MMU_SHADOW)
		mt_shadow_forget(&mmu->shadow);
	rc = switch_shadow(mmu, err);
	learn_rights(mmu);
	return rc;
}

int mt_mmu_set_cr3(struct mt_mmu *mmu, uint64_t cr3, bool keep, struct mt_err *err)
{
	int rc = check_cr3(&mmu->regs, cr3, err);

	if (rc)
		return rc;
	mmu->stats.cr3_loads++;
	mmu->regs.cr3 = cr3;
	mmu->asid = asid_of(&mmu->regs);
	if (!keep || !mmu->regs.pcide) {
		mt_tlb_flush_asid(&mmu->tlb, mmu->asid);
		mt_pwc_flush(&mmu->pwc);
	}
	return switch_shadow(mmu, err);
}

void mt_mmu_set_ac(struct mt_mmu *mmu, bool ac)
{
	mmu->regs.ac = ac;
	mmu->shadow_regs.ac = ac;
}

void mt_mmu_invlpg(struct mt_mmu *mmu, mt_gva_t gva)
{
	mmu->stats.invlpgs++;
	if (mmu->fractured)
		mt_tlb_flush_asid(&mmu->tlb, mmu->asid);
	else
		mt_tlb_flush_page(&mmu->tlb, mmu->asid, gva);
	mt_pwc_flush(&mmu->pwc);
}

void mt_mmu_stored(struct mt_mmu *mmu, mt_gpa_t gpa)
{
	if (mmu->config.mode != MT_MMU_SHADOW)
		return;
	mt_shadow_written(&mmu->shadow, gpa);
	follow_shadow(mmu);
}

void mt_mmu_host_changed(struct mt_mmu *mmu, mt_gfn_t gfn)
{
	switch (mmu->config.mode) {
	case MT_MMU_NATIVE:
	case MT_MMU_MODES:
		break;
	case MT_MMU_SHADOW:
		mt_shadow_host_changed(&mmu->shadow, gfn);
		follow_shadow(mmu);
		return;
	case MT_MMU_NESTED:
		if (!mt_ept_unmap(&mmu->ept, gfn))
			return;
		mt_tlb_flush(&mmu->cache);
		break;
	}
	mt_tlb_flush(&mmu->tlb);
}

uint32_t mt_mmu_table_pages(const struct mt_mmu *mmu, uint32_t *ret_peak)
{
	const struct mt_tables *tables =
		mmu->config.mode == MT_MMU_SHADOW ? &mmu->shadow.tables : &mmu->tables;

	*ret_peak = tables->used_peak;
	return tables->used;
}
