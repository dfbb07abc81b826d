/* SPDX-License-Identifier: MIT */
/*
 * entry.h - the bits of page-table entries, as processors read them
 *
 * Sources: Intel SDM volume 3A, chapter "Paging" (tables of the entries' formats and of the
 * page-fault error code), and volume 3C, chapter "VMX support for address translation" (EPT).
 * Entries are handled as 64-bit numbers: bit fields of C have no layout one can rely on.
 */
#ifndef MT_MMU_ENTRY_H
#define MT_MMU_ENTRY_H

#include <stdint.h>

#define MT_PTE_P   (1ULL << 0)  /* present */
#define MT_PTE_RW  (1ULL << 1)  /* writable */
#define MT_PTE_US  (1ULL << 2)  /* for user mode */
#define MT_PTE_A   (1ULL << 5)  /* accessed */
#define MT_PTE_D   (1ULL << 6)  /* dirty; leaves only */
#define MT_PTE_PS  (1ULL << 7)  /* large page; levels 2 and 3 */
#define MT_PTE_G   (1ULL << 8)  /* global; ignored, as hardware may */
#define MT_PTE_PAT (1ULL << 12) /* of a large page; ignored here */
#define MT_PTE_NX  (1ULL << 63) /* not executable */

/* Bits 51 to 12: the address field of the longest entries. */
#define MT_PTE_ADDRESS 0x000ffffffffff000ULL

#define MT_EPT_R       (1ULL << 0)
#define MT_EPT_W       (1ULL << 1)
#define MT_EPT_X       (1ULL << 2)
#define MT_EPT_RWX     (MT_EPT_R | MT_EPT_W | MT_EPT_X)
#define MT_EPT_TYPE_WB (6ULL << 3) /* memory type of a leaf: write back */
#define MT_EPT_TYPE    (7ULL << 3)
#define MT_EPT_LARGE   (1ULL << 7)

/* The page-fault error code. An access is described by the same bits: W, U and I. */
#define MT_PF_P    (1u << 0) /* the entry was present: rights or reserved bits */
#define MT_PF_W    (1u << 1) /* a write */
#define MT_PF_U    (1u << 2) /* from user mode */
#define MT_PF_RSVD (1u << 3) /* a reserved bit was set */
#define MT_PF_I    (1u << 4) /* an instruction fetch */

#define MT_ENTRIES_PER_TABLE 512u
#define MT_INDEX_BITS        9u
#define MT_LEVELS_MAX        5u

/* Lowest address bit that an entry of @level (1: PT) decides on, in tables of 512 entries. */
static inline unsigned int mt_level_shift(unsigned int level)
{
	return 12 + MT_INDEX_BITS * (level - 1);
}

static inline unsigned int mt_level_index(uint64_t address, unsigned int level)
{
	return (unsigned int)(address >> mt_level_shift(level)) & (MT_ENTRIES_PER_TABLE - 1);
}

#endif
