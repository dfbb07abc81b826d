/* SPDX-License-Identifier: MIT */
/*
 * walk.h - walk a guest's page tables as its processor would
 *
 * One function for all of x86's formats: 32-bit, PAE, 4-level and 5-level. It follows the SDM: at
 * each entry first "present", then reserved bits; rights only at the end, from all entries
 * together; accessed and dirty bits are set when the whole translation is allowed, and not
 * otherwise (hardware may set some accessed bits earlier; software can't tell why). The number of
 * steps is bounded by the format, so tables that point at themselves do no harm.
 */
#ifndef MT_MMU_WALK_H
#define MT_MMU_WALK_H

#include "mmu/entry.h"
#include "mmu/memory.h"

enum mt_paging {
	MT_PAGING_OFF, /* guest virtual is guest physical */
	MT_PAGING_32BIT,
	MT_PAGING_PAE,
	MT_PAGING_4LEVEL,
	MT_PAGING_5LEVEL
};

/* What of a processor's registers has a say in translation. */
struct mt_regs {
	uint64_t cr3;
	enum mt_paging paging;
	unsigned int phys_bits; /* MAXPHYADDR: 32 to 52 */
	bool wp;                /* CR0.WP: read-only binds the kernel, too */
	bool pse;               /* CR4.PSE: 4 MiB pages in 32-bit tables */
	bool smep, smap;        /* CR4: the kernel may not execute, access user pages */
	bool ac;                /* EFLAGS.AC: suspends SMAP */
	bool nxe;               /* EFER.NXE */
	bool pages_1g;          /* the processor has 1 GiB pages */
	bool pcide;             /* CR4.PCIDE: CR3 bits 0 to 11 name the address space */
};

/* An access: MT_PF_W, MT_PF_U and MT_PF_I or'ed; 0 is a read by the kernel. And: */
#define MT_ACCESS_LOOK (1u << 8) /* look only: no rights asked for, no bit set */
#define MT_ACCESS_BITS (MT_PF_W | MT_PF_U | MT_PF_I)

enum mt_walk_end {
	MT_WALK_OK,
	MT_WALK_PAGE_FAULT,   /* #PF with .error_code */
	MT_WALK_NONCANONICAL, /* #GP: the address is none */
	MT_WALK_NO_MEMORY,    /* the entry at .steps[last] lies where there is no memory */
	MT_WALK_FAILED        /* memory could not be read or written: .rc */
};

struct mt_walk_step {
	mt_gpa_t at;        /* of the entry */
	uint64_t entry;     /* as it is after the walk; not there when it could not be read */
	unsigned int level; /* 5: PML5 … 1: PT */
};

struct mt_walk {
	enum mt_walk_end end;
	uint32_t error_code;
	int rc;
	mt_gpa_t gpa;
	unsigned int page_shift; /* 12, 21, 22, 30; 0 without paging */
	uint64_t rights;         /* RW, US of all entries; MT_PTE_NX set: *is* executable */
	bool dirty;              /* the leaf's dirty bit, after the walk */
	unsigned int step_count; /* = references to memory made */
	struct mt_walk_step steps[MT_LEVELS_MAX];
};

/* Where a walk of 64-bit tables may begin below the root: what a page-walk cache keeps. */
struct mt_walk_start {
	unsigned int level; /* of the table to begin with */
	uint64_t table;     /* its address */
	uint64_t rights;    /* of the entries above */
};

/**
 * mt_walk() - translate @gva by the tables in @memory
 * @access: see above
 * @start: NULL to begin at CR3; 4- and 5-level tables only
 * @walk: filled whatever the end
 */
void mt_walk(const struct mt_regs *regs, const struct mt_memory *memory, mt_gva_t gva,
	     unsigned int access, const struct mt_walk_start *start, struct mt_walk *walk);

/** mt_regs_levels() - levels of tables: 0, 2, 3, 4 or 5 */
unsigned int mt_regs_levels(const struct mt_regs *regs);

/** mt_regs_canonical() - has @gva the form of an address in this mode? */
bool mt_regs_canonical(const struct mt_regs *regs, mt_gva_t gva);

/** mt_regs_table() - the address of the top table in CR3 */
uint64_t mt_regs_table(const struct mt_regs *regs);

/** mt_level_name() - "PML4", "PDPT", "PD", … of a table of @level */
const char *mt_level_name(unsigned int level);

/**
 * mt_rights_allow() - SDM 4.6.1: may an access of this kind use a page with these rights?
 * @rights: as in struct mt_walk
 * @ac: EFLAGS.AC
 */
static inline bool mt_rights_allow(const struct mt_regs *regs, uint64_t rights, unsigned int access,
				   bool ac)
{
	if ((access & MT_PF_I) && !(rights & MT_PTE_NX))
		return false;
	if (access & MT_PF_U)
		return (rights & MT_PTE_US) && (!(access & MT_PF_W) || (rights & MT_PTE_RW));
	if ((access & MT_PF_W) && regs->wp && !(rights & MT_PTE_RW))
		return false;
	if (!(rights & MT_PTE_US))
		return true;
	return access & MT_PF_I ? !regs->smep : !regs->smap || ac;
}

/** mt_pf_code() - the error code of a fault of this access; @why: 0, P, or P and RSVD */
static inline uint32_t mt_pf_code(const struct mt_regs *regs, unsigned int access, uint32_t why)
{
	uint32_t code = why | (access & (MT_PF_W | MT_PF_U));
	bool nx = regs->nxe && regs->paging != MT_PAGING_32BIT;

	return (access & MT_PF_I) && (nx || regs->smep) ? code | MT_PF_I : code;
}

#endif
