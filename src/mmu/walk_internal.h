/* SPDX-License-Identifier: MIT */
/* walk_internal.h - what the walks of the different formats share; see walk.c */
#ifndef MT_MMU_WALK_INTERNAL_H
#define MT_MMU_WALK_INTERNAL_H

#include "mmu/walk.h"

/** mt_walk_fault() - end the walk with a page fault; @why: 0, P, or P and RSVD */
void mt_walk_fault(const struct mt_regs *regs, unsigned int access, uint32_t why,
		   struct mt_walk *walk);

/** mt_walk_load() - make a step: load the 8 bytes around @at. Return: false: the walk has ended */
bool mt_walk_load(const struct mt_memory *memory, uint64_t at, unsigned int level,
		  struct mt_walk *walk);

/**
 * mt_walk_finish() - the leaf is found: rights, accessed and dirty bits of 8-byte entries
 *
 * Return: 0 or an -errno; -EAGAIN: walk again
 */
int mt_walk_finish(const struct mt_regs *regs, const struct mt_memory *memory, unsigned int access,
		   struct mt_walk *walk);

/** mt_walk_32bit() - two levels of 4-byte entries. Return: as mt_walk_finish() */
int mt_walk_32bit(const struct mt_regs *regs, const struct mt_memory *memory, mt_gva_t gva,
		  unsigned int access, struct mt_walk *walk);

/** mt_walk_pae() - three levels of 8-byte entries. Return: as mt_walk_finish() */
int mt_walk_pae(const struct mt_regs *regs, const struct mt_memory *memory, mt_gva_t gva,
		unsigned int access, struct mt_walk *walk);

#endif
