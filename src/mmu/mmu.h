/* SPDX-License-Identifier: MIT */
/*
 * mmu.h - the memory management unit of one virtual processor, in software
 *
 * Puts the parts together: TLB first, then a walk as the mode has it.
 *
 * native  walks the guest's tables alone, as without a hypervisor; the machine address comes from
 *	   the PMAP at no cost.
 * nested  walks the guest's tables through EPT; EPT is filled from the PMAP on violations.
 * shadow  walks the shadow; it is filled on hidden faults.
 *
 * Pure: no system calls, no clock, no threads, one caller at a time. Whoever changes guest memory
 * other than through translations with MT_PF_W calls mt_mmu_stored(); whoever moves a page of it
 * calls mt_mmu_host_changed() before it moves.
 *
 * Translations are cached as on hardware: after the guest changed its tables, mt_mmu_invlpg() or a
 * CR3 load must follow before the change is sure to be seen.
 */
#ifndef MT_MMU_MMU_H
#define MT_MMU_MMU_H

#include "base/err.h"
#include "mmu/ept.h"
#include "mmu/shadow.h"

enum mt_mmu_mode { MT_MMU_NATIVE, MT_MMU_SHADOW, MT_MMU_NESTED, MT_MMU_MODES };

struct mt_mmu_config {
	enum mt_mmu_mode mode;
	struct mt_memory guest;   /* by guest physical address */
	struct mt_memory machine; /* by machine address: nested mode */
	struct mt_pmap pmap;      /* at machine addresses below 2^51 */
	uint32_t frames;          /* 4 KiB frames of guest memory */
	uint32_t tables_max;      /* of the host's page-table pages; 0: 65536 */
	unsigned int ept_levels;  /* 4 (also for 0) or 5 */
	struct mt_tlb_config tlb; /* all zeros: MT_TLB_DEFAULT */
	bool no_tlb;              /* translate each access anew */
	bool walk_caches;         /* cache upper guest (or shadow) entries, and EPT translations */
	struct mt_tlb_config cache; /* of EPT translations; all zeros: a small one */
};

/* Counts since mt_mmu_init(). */
struct mt_mmu_stats {
	uint64_t accesses;   /* translations asked for */
	uint64_t tlb_misses; /* of these, not found in the TLB */
	uint64_t walks; /* by the "hardware"; more than misses, as faults make it begin again */
	uint64_t refs;  /* references to memory these made */
	uint64_t guest_faults;  /* #PF and #GP that are the guest's own */
	uint64_t hidden_faults; /* filled the shadow */
	uint64_t trace_faults;  /* stores to traced frames */
	uint64_t violations;    /* EPT's, filled from the PMAP */
	uint64_t cr3_loads;
	uint64_t invlpgs;
	uint64_t forced_flushes; /* of the TLB, because the shadow took rights away */
};

enum mt_mmu_end {
	MT_MMU_OK,
	MT_MMU_EMULATE,    /* a store to a traced frame: do it at .mpa, then mt_mmu_stored(.gpa) */
	MT_MMU_PAGE_FAULT, /* .error_code */
	MT_MMU_PROTECTION, /* #GP: a non-canonical address */
	MT_MMU_NO_MEMORY,  /* the guest's tables lead to .gpa, where it has no memory */
	MT_MMU_FAILED      /* the host failed us: .rc */
};

struct mt_translation {
	mt_mpa_t mpa;
	mt_gpa_t gpa; /* known after EMULATE and NO_MEMORY only */
	uint32_t error_code;
	int rc;
};

struct mt_mmu {
	struct mt_mmu_config config;
	struct mt_regs regs;
	struct mt_regs shadow_regs; /* the "hardware's", while the guest has regs */
	uint16_t asid;
	bool fractured;      /* the TLB may hold pieces of a guest's large page */
	uint16_t allowed[8]; /* MT_TLB_* kinds for each combination of RW, US, executable */
	struct mt_tlb tlb;
	struct mt_tlb cache;
	struct mt_pwc pwc;
	struct mt_tables tables; /* EPT's */
	struct mt_ept ept;
	struct mt_nested nested;
	struct mt_memory nested_memory;
	struct mt_shadow shadow;
	struct mt_memory shadow_memory;
	struct mt_mmu_stats stats;
};

/** mt_mmu_init() - paging off. Return: 0; -EINVAL for sizes that make no sense; -ENOMEM */
int mt_mmu_init(struct mt_mmu *mmu, const struct mt_mmu_config *config, struct mt_err *err);
void mt_mmu_destroy(struct mt_mmu *mmu);

/**
 * mt_mmu_set_regs() - load all registers, and forget all cached translations
 *
 * Return: 0; -EINVAL for what a processor refuses with #GP (CR3 beyond phys_bits), or when the
 * shadow is asked for 32-bit tables; -ENOMEM
 */
int mt_mmu_set_regs(struct mt_mmu *mmu, const struct mt_regs *regs, struct mt_err *err);

/**
 * mt_mmu_set_cr3() - switch address spaces
 * @keep: with PCIDs, do not forget what is cached for the new one (CR3 bit 63)
 *
 * Return: as mt_mmu_set_regs()
 */
int mt_mmu_set_cr3(struct mt_mmu *mmu, uint64_t cr3, bool keep, struct mt_err *err);

/** mt_mmu_set_ac() - EFLAGS.AC, which suspends SMAP; nothing is forgotten */
void mt_mmu_set_ac(struct mt_mmu *mmu, bool ac);

/** mt_mmu_invlpg() - the guest changed how @gva is mapped */
void mt_mmu_invlpg(struct mt_mmu *mmu, mt_gva_t gva);

/** mt_mmu_miss() - the way past the TLB; see mt_mmu_translate() */
enum mt_mmu_end mt_mmu_miss(struct mt_mmu *mmu, mt_gva_t gva, unsigned int access,
			    struct mt_translation *ret);

/**
 * mt_mmu_translate() - one access of up to 8 bytes that does not leave its page
 * @access: MT_PF_W, MT_PF_U, MT_PF_I
 */
static inline enum mt_mmu_end mt_mmu_translate(struct mt_mmu *mmu, mt_gva_t gva,
					       unsigned int access, struct mt_translation *ret)
{
	const struct mt_tlb_entry *entry;

	mmu->stats.accesses++;
	entry = mt_tlb_find(&mmu->tlb, gva, mmu->asid, mt_tlb_kind(access, mmu->regs.ac));
	if (MT_UNLIKELY(!entry))
		return mt_mmu_miss(mmu, gva, access, ret);
	ret->mpa = mt_tlb_address(entry, gva);
	return MT_MMU_OK;
}

/** mt_mmu_stored() - the 8 bytes around @gpa were written behind the MMU's back, or emulated */
void mt_mmu_stored(struct mt_mmu *mmu, mt_gpa_t gpa);

/** mt_mmu_host_changed() - the host is about to move @gfn or to write-protect it */
void mt_mmu_host_changed(struct mt_mmu *mmu, mt_gfn_t gfn);

/** mt_mmu_table_pages() - page-table pages the host holds for this processor now, and at most */
uint32_t mt_mmu_table_pages(const struct mt_mmu *mmu, uint32_t *ret_peak);

/** mt_mmu_mode_name() - "native", "shadow", "nested" */
const char *mt_mmu_mode_name(enum mt_mmu_mode mode);

/** mt_mmu_mode_parse() - the other way. Return: false: no such mode */
bool mt_mmu_mode_parse(const char *name, enum mt_mmu_mode *ret);

#endif
