/* SPDX-License-Identifier: MIT */
/*
 * plain_walk.c - the rig's oracle: a walk of 64-bit tables that shares no code with src/mmu
 *
 * Recursive, with named booleans, in the words of the manual (SDM 3A, 4.5 to 4.7), to be compared
 * with it line by line. Only the types of the outcome are src/mmu's.
 */
#include "plain_walk.h"

#include <string.h>

struct plain {
	struct rig_copy *copy;
	const struct mt_regs *regs;
	uint64_t gva;
	bool write, user, fetch;
	bool all_writable, all_user, none_xd;
	struct plain_result *ret;
};

static uint64_t *plain_word(struct plain *plain, uint64_t gpa)
{
	uint64_t frame = gpa / 4096;

	if (frame >= RIG_FRAMES)
		return NULL;
	return &plain->copy
			->words[(plain->copy->rig->machine_of[frame] * 4096ULL + gpa % 4096) / 8];
}

static bool page_fault(struct plain *plain, bool present, bool reserved)
{
	bool shows_fetch = plain->regs->nxe || plain->regs->smep;

	plain->ret->end = MT_MMU_PAGE_FAULT;
	plain->ret->error_code = present * 1u + plain->write * 2u + plain->user * 4u +
				 reserved * 8u + (plain->fetch && shows_fetch) * 16u;
	return false;
}

static bool has_reserved_bit(const struct plain *plain, uint64_t entry, int level)
{
	bool large = entry >> 7 & 1;

	for (unsigned int bit = plain->regs->phys_bits; bit < 52; bit++)
		if (entry >> bit & 1)
			return true;
	if (entry >> 63 && !plain->regs->nxe)
		return true;
	if (level >= 4 && large)
		return true;
	if (level == 3 && large && (!plain->regs->pages_1g || (entry & 0x3fffe000)))
		return true;
	return level == 2 && large && (entry & 0x1fe000);
}

static bool permitted(const struct plain *plain)
{
	const struct mt_regs *regs = plain->regs;
	bool user_page = plain->all_user;

	if (plain->user) {
		if (!user_page)
			return false;
		if (plain->write)
			return plain->all_writable;
		return !plain->fetch || plain->none_xd;
	}
	if (plain->fetch)
		return plain->none_xd && !(user_page && regs->smep);
	if (user_page && regs->smap && !regs->ac)
		return false;
	return !plain->write || !regs->wp || plain->all_writable;
}

/* Return: is the access allowed? Accessed and dirty bits are set on the way back up, if so. */
static bool plain_level(struct plain *plain, uint64_t table, int level)
{
	uint64_t at = table + (plain->gva >> (12 + 9 * (level - 1)) & 511) * 8, entry;
	uint64_t *word = plain_word(plain, at);
	bool leaf;

	if (!word) {
		plain->ret->end = MT_MMU_NO_MEMORY;
		plain->ret->gpa = at;
		return false;
	}
	entry = *word;
	if (!(entry & 1))
		return page_fault(plain, false, false);
	if (has_reserved_bit(plain, entry, level))
		return page_fault(plain, true, true);
	plain->all_writable &= entry >> 1 & 1;
	plain->all_user &= entry >> 2 & 1;
	plain->none_xd &= !(entry >> 63);
	leaf = level == 1 || (entry >> 7 & 1);
	if (leaf) {
		uint64_t offset = (1ULL << (12 + 9 * (level - 1))) - 1;

		if (!permitted(plain))
			return page_fault(plain, true, false);
		plain->ret->gpa = (entry & 0xffffffffff000 & ~offset) + (plain->gva & offset);
	} else if (!plain_level(plain, entry & 0xffffffffff000, level - 1)) {
		return false;
	}
	*word |= 0x20;
	if (leaf && plain->write)
		*word |= 0x40;
	return true;
}

void plain_walk(struct rig_copy *copy, const struct mt_regs *regs, uint64_t gva,
		unsigned int access, struct plain_result *ret)
{
	struct plain plain = {.copy = copy,
			      .regs = regs,
			      .gva = gva,
			      .write = access & MT_PF_W,
			      .user = access & MT_PF_U,
			      .fetch = access & MT_PF_I,
			      .all_writable = true,
			      .all_user = true,
			      .none_xd = true,
			      .ret = ret};
	int levels = regs->paging == MT_PAGING_5LEVEL ? 5 : 4;
	uint64_t top = gva >> (levels * 9 + 11);

	memset(ret, 0, sizeof(*ret));
	if (top != 0 && top != UINT64_MAX >> (levels * 9 + 11)) {
		ret->end = MT_MMU_PROTECTION;
		return;
	}
	if (!plain_level(&plain, regs->cr3 & 0xffffffffff000, levels))
		return;
	if (ret->gpa / 4096 >= RIG_FRAMES) {
		ret->end = MT_MMU_NO_MEMORY;
		return;
	}
	ret->end = MT_MMU_OK;
	ret->mpa = copy->rig->machine_of[ret->gpa / 4096] * 4096ULL + ret->gpa % 4096;
}
