/* SPDX-License-Identifier: MIT */
/* plain_walk.h - the rig's oracle: a walk of 64-bit tables that shares no code with src/mmu */
#ifndef MT_TESTS_MMU_PLAIN_WALK_H
#define MT_TESTS_MMU_PLAIN_WALK_H

#include "rig.h"

struct plain_result {
	enum mt_mmu_end end;
	uint32_t error_code;
	uint64_t gpa, mpa;
};

/** plain_walk() - translate on @copy, setting accessed and dirty bits there */
void plain_walk(struct rig_copy *copy, const struct mt_regs *regs, uint64_t gva,
		unsigned int access, struct plain_result *ret);

#endif
