/* SPDX-License-Identifier: MIT */
/*
 * mmu_miss.c - what happens on a TLB miss in each mode
 *
 * Each mode repeats "walk; if the host has something to fill in, fill it in" until the access is
 * through or its fault is the guest's own. Each turn fills one thing that was missing, so a few
 * are enough; ROUNDS_MAX catches a PMAP that takes away what it gave.
 */
#include "mmu/mmu.h"

#include <errno.h>

#define ROUNDS_MAX 256u

static uint32_t allowed_by(const struct mt_mmu *mmu, uint64_t rights)
{
	return mmu->allowed[(rights & MT_PTE_RW ? 1 : 0) | (rights & MT_PTE_US ? 2 : 0) |
			    (rights & MT_PTE_NX ? 4 : 0)];
}

/* A page of the guest and one of the host make a translation of the smaller size. */
static unsigned int tlb_shift(unsigned int guest_shift, unsigned int host_shift)
{
	unsigned int shift = MT_MIN(guest_shift ? guest_shift : host_shift, host_shift);

	if (shift >= MT_PAGE_1G_SHIFT)
		return MT_PAGE_1G_SHIFT;
	return shift >= MT_HUGE_SHIFT ? MT_HUGE_SHIFT : MT_PAGE_SHIFT;
}

static void remember(struct mt_mmu *mmu, mt_gva_t gva, mt_mpa_t mpa, const struct mt_walk *walk,
		     unsigned int host_shift, bool writable)
{
	uint32_t allowed = allowed_by(mmu, walk->rights);
	unsigned int shift;

	if (mmu->config.no_tlb)
		return;
	if (!writable || !walk->dirty)
		allowed &= ~MT_TLB_WRITES;
	shift = tlb_shift(walk->page_shift, host_shift);
	mmu->fractured |= shift < walk->page_shift || mmu->shadow.fractured;
	mt_tlb_add(&mmu->tlb, gva, mmu->asid, mpa, shift, allowed);
}

/* A walk of @regs' tables with the walk cache, if there is one. */
static void walk_cached(struct mt_mmu *mmu, const struct mt_regs *regs,
			const struct mt_memory *memory, mt_gva_t gva, unsigned int access,
			struct mt_walk *walk)
{
	unsigned int levels = mt_regs_levels(regs);
	struct mt_walk_start start;
	bool found = false, cached = mmu->config.walk_caches && levels >= 4;

	mmu->stats.walks++;
	if (cached && mt_regs_canonical(regs, gva))
		found = mt_pwc_find(&mmu->pwc, gva, mmu->asid, levels, &start);
	mt_walk(regs, memory, gva, access, found ? &start : NULL, walk);
	if (cached && walk->end == MT_WALK_OK)
		mt_pwc_learn(&mmu->pwc, gva, mmu->asid, found ? &start : NULL, walk);
}

/* An end of a walk that is not MT_WALK_OK, as the guest sees it. */
static enum mt_mmu_end guest_end(struct mt_mmu *mmu, const struct mt_walk *walk,
				 struct mt_translation *ret)
{
	switch (walk->end) {
	case MT_WALK_OK:
		break;
	case MT_WALK_PAGE_FAULT:
		mmu->stats.guest_faults++;
		ret->error_code = walk->error_code;
		return MT_MMU_PAGE_FAULT;
	case MT_WALK_NONCANONICAL:
		mmu->stats.guest_faults++;
		return MT_MMU_PROTECTION;
	case MT_WALK_NO_MEMORY:
		ret->gpa = walk->steps[walk->step_count - 1].at;
		return MT_MMU_NO_MEMORY;
	case MT_WALK_FAILED:
		ret->rc = walk->rc;
		return MT_MMU_FAILED;
	}
	MT_UNREACHABLE("only asked about ends that are not well");
}

static enum mt_mmu_end host_end(int rc, mt_gpa_t gpa, struct mt_translation *ret)
{
	ret->gpa = gpa;
	ret->rc = rc;
	return rc == -ENXIO ? MT_MMU_NO_MEMORY : MT_MMU_FAILED;
}

static enum mt_mmu_end miss_native(struct mt_mmu *mmu, mt_gva_t gva, unsigned int access,
				   struct mt_translation *ret)
{
	struct mt_backing backing;
	struct mt_walk walk;
	int rc;

	walk_cached(mmu, &mmu->regs, &mmu->config.guest, gva, access, &walk);
	mmu->stats.refs += walk.step_count;
	if (walk.end != MT_WALK_OK)
		return guest_end(mmu, &walk, ret);
	rc = mmu->config.pmap.find(mmu->config.pmap.ctx, mt_gfn_of(walk.gpa), access & MT_PF_W,
				   &backing);
	if (rc)
		return host_end(rc, walk.gpa, ret);
	ret->mpa.a = backing.start.a | (walk.gpa.a & (MT_PAGE_SIZE - 1));
	remember(mmu, gva, ret->mpa, &walk, backing.shift, backing.writable);
	return MT_MMU_OK;
}

/* An EPT violation: have the PMAP bring the frame in and map it. Return: 0 or -errno */
static int fill_ept(struct mt_mmu *mmu, mt_gpa_t gpa, bool write)
{
	struct mt_backing backing;
	unsigned int shift;
	uint64_t low;
	int rc = mmu->config.pmap.find(mmu->config.pmap.ctx, mt_gfn_of(gpa), write, &backing);

	if (rc)
		return rc;
	shift = tlb_shift(0, backing.shift);
	low = (1ULL << shift) - 1;
	mmu->stats.violations++;
	/* A page that was mapped read-only may have been cached so. */
	mt_tlb_flush_page(&mmu->cache, 0, MT_GVA(gpa.a));
	return mt_ept_map(&mmu->ept, gpa, MT_MPA(backing.start.a & ~low), shift, backing.writable);
}

/*
 * One walk through both levels. Return: 0; -EAGAIN after EPT was filled; 1 with *end set, when the
 * guest's tables end it
 */
static int nested_round(struct mt_mmu *mmu, mt_gva_t gva, unsigned int access,
			struct mt_translation *ret, enum mt_mmu_end *end)
{
	struct mt_nested *nested = &mmu->nested;
	struct mt_ept_walk host;
	struct mt_walk walk;
	int rc = 0;

	nested->refs = 0;
	nested->violated = false;
	walk_cached(mmu, &mmu->regs, &mmu->nested_memory, gva, access, &walk);
	if (walk.end == MT_WALK_OK)
		rc = mt_nested_translate(nested, walk.gpa, access & MT_PF_W, &ret->mpa, &host);
	mmu->stats.refs += nested->refs;
	if (nested->violated) {
		rc = fill_ept(mmu, nested->violation_gpa, nested->violation_write);
		*end = rc ? host_end(rc, nested->violation_gpa, ret) : MT_MMU_OK;
		return rc ? 1 : -EAGAIN;
	}
	if (walk.end != MT_WALK_OK) {
		*end = guest_end(mmu, &walk, ret);
		return 1;
	}
	if (rc) {
		*end = host_end(rc, walk.gpa, ret);
		return 1;
	}
	remember(mmu, gva, ret->mpa, &walk, host.page_shift, host.writable);
	*end = MT_MMU_OK;
	return 0;
}

static enum mt_mmu_end miss_nested(struct mt_mmu *mmu, mt_gva_t gva, unsigned int access,
				   struct mt_translation *ret)
{
	enum mt_mmu_end end = MT_MMU_FAILED;

	for (unsigned int i = 0; i < ROUNDS_MAX; i++)
		if (nested_round(mmu, gva, access, ret, &end) != -EAGAIN)
			return end;
	ret->rc = -ELOOP;
	return MT_MMU_FAILED;
}

/* The shadow has not let the access through. Return: try again? */
static bool fill_shadow(struct mt_mmu *mmu, mt_gva_t gva, unsigned int access,
			struct mt_translation *ret, enum mt_mmu_end *end)
{
	struct mt_shadow_fault fault;

	mt_shadow_fill(&mmu->shadow, &mmu->regs, gva, access, &fault);
	if (mmu->shadow.rights_went) {
		mt_tlb_flush(&mmu->tlb);
		mmu->stats.forced_flushes++;
	}
	if (mmu->shadow.rights_went || mmu->shadow.tables_went)
		mt_pwc_flush(&mmu->pwc);
	mmu->shadow.rights_went = false;
	mmu->shadow.tables_went = false;
	if (mmu->shadow.root.n != MT_TABLE_NONE.n)
		mmu->shadow_regs.cr3 = mt_table_address(mmu->shadow.root);
	switch (fault.end) {
	case MT_SHADOW_FILLED:
		mmu->stats.hidden_faults++;
		return true;
	case MT_SHADOW_EMULATE:
		mmu->stats.trace_faults++;
		ret->gpa = fault.gpa;
		ret->mpa = fault.mpa;
		*end = MT_MMU_EMULATE;
		return false;
	case MT_SHADOW_GUEST:
		*end = guest_end(mmu, &fault.walk, ret);
		return false;
	case MT_SHADOW_NO_MEMORY:
	case MT_SHADOW_FAILED:
		*end = host_end(fault.rc, fault.gpa, ret);
		return false;
	}
	MT_UNREACHABLE("all ends are above");
}

static enum mt_mmu_end miss_shadow(struct mt_mmu *mmu, mt_gva_t gva, unsigned int access,
				   struct mt_translation *ret)
{
	enum mt_mmu_end end = MT_MMU_FAILED;

	for (unsigned int i = 0; i < ROUNDS_MAX; i++) {
		struct mt_walk walk = {.end = MT_WALK_PAGE_FAULT};

		if (mmu->shadow.root.n != MT_TABLE_NONE.n)
			walk_cached(mmu, &mmu->shadow_regs, &mmu->shadow_memory, gva, access,
				    &walk);
		mmu->stats.refs += walk.step_count;
		if (walk.end == MT_WALK_OK) {
			ret->mpa.a = walk.gpa.a;
			remember(mmu, gva, ret->mpa, &walk, walk.page_shift, true);
			return MT_MMU_OK;
		}
		if (!fill_shadow(mmu, gva, access, ret, &end))
			return end;
	}
	ret->rc = -ELOOP;
	return MT_MMU_FAILED;
}

enum mt_mmu_end mt_mmu_miss(struct mt_mmu *mmu, mt_gva_t gva, unsigned int access,
			    struct mt_translation *ret)
{
	mmu->stats.tlb_misses++;
	if (MT_UNLIKELY(!mmu->config.no_tlb && mmu->regs.paging != MT_PAGING_OFF))
		mt_tlb_flush_page(&mmu->tlb, mmu->asid, gva); /* had one with too few rights */
	switch (mmu->config.mode) {
	case MT_MMU_NATIVE:
		return miss_native(mmu, gva, access, ret);
	case MT_MMU_NESTED:
		return miss_nested(mmu, gva, access, ret);
	case MT_MMU_SHADOW:
		if (mmu->regs.paging == MT_PAGING_OFF) /* nothing to shadow */
			return miss_native(mmu, gva, access, ret);
		return miss_shadow(mmu, gva, access, ret);
	case MT_MMU_MODES:
		break;
	}
	MT_UNREACHABLE("there is no such mode");
}
