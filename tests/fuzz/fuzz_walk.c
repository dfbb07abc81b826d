/* SPDX-License-Identifier: MIT */
/*
 * fuzz_walk.c - page tables of a guest that holds anything at all
 *
 * The input is registers, an address, and memory; the tables are wherever CR3 says. A walk ends
 * after as many steps as the format has levels; what is only looked at does not change; and what
 * was allowed once is allowed again, and leads to the same place.
 */
#include "fuzz/fuzz_input.h"
#include "mmu/walk.h"

#include <errno.h>

#define WALK_WORDS 8192U /* 64 KiB of guest memory, from address 0 */

struct walk_ram {
	uint64_t word[WALK_WORDS];
	uint64_t swaps;
};

struct walk_input {
	uint64_t cr3, gva;
	uint8_t paging, phys_bits, flags, access;
};

static int ram_load(void *ctx, uint64_t address, uint64_t *ret)
{
	const struct walk_ram *ram = ctx;

	MT_ASSERT(address % sizeof(uint64_t) == 0);
	if (address / sizeof(uint64_t) >= WALK_WORDS)
		return -ENXIO;
	*ret = ram->word[address / sizeof(uint64_t)];
	return 0;
}

static int ram_swap(void *ctx, uint64_t address, uint64_t old, uint64_t fresh)
{
	struct walk_ram *ram = ctx;
	uint64_t was;
	int rc = ram_load(ctx, address, &was);

	if (rc)
		return rc;
	if (was != old)
		return -EAGAIN;
	ram->word[address / sizeof(uint64_t)] = fresh;
	ram->swaps++;
	return 0;
}

static struct mt_regs regs_of(const struct walk_input *in)
{
	return (struct mt_regs){.cr3 = in->cr3,
				.paging = (enum mt_paging)(in->paging % (MT_PAGING_5LEVEL + 1)),
				.phys_bits = 32 + in->phys_bits % 21,
				.wp = in->flags & 1,
				.pse = in->flags & 2,
				.smep = in->flags & 4,
				.smap = in->flags & 8,
				.ac = in->flags & 16,
				.nxe = in->flags & 32,
				.pages_1g = in->flags & 64,
				.pcide = in->flags & 128};
}

/* A walk, which must fill all of its result: there is rubbish in it before. */
static void walk_to(const struct mt_regs *regs, const struct mt_memory *memory, uint64_t gva,
		    unsigned int access, struct mt_walk *walk)
{
	uint8_t dirty;

	memset(walk, 0xa5, sizeof(*walk));
	mt_walk(regs, memory, MT_GVA(gva), access, NULL, walk);
	memcpy(&dirty, &walk->dirty, sizeof(dirty));
	MT_ASSERT(dirty <= 1 && walk->page_shift <= MT_PAGE_1G_SHIFT);
	MT_ASSERT((unsigned int)walk->end <= MT_WALK_FAILED);
	MT_ASSERT(walk->step_count <= MT_LEVELS_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static struct walk_ram ram;
	struct mt_memory memory = {&ram, ram_load, ram_swap};
	struct walk_input in;
	struct mt_walk look, first, again;
	struct mt_regs regs;

	if (bytes < sizeof(in))
		return 0;
	memcpy(&in, data, sizeof(in));
	memset(&ram, 0, sizeof(ram));
	memcpy(ram.word, data + sizeof(in), MT_MIN(bytes - sizeof(in), sizeof(ram.word)));
	regs = regs_of(&in);
	walk_to(&regs, &memory, in.gva, MT_ACCESS_LOOK, &look);
	MT_ASSERT(!ram.swaps);
	walk_to(&regs, &memory, in.gva, in.access & MT_ACCESS_BITS, &first);
	MT_ASSERT(first.step_count <= look.step_count);
	if (first.end != MT_WALK_OK)
		return 0;
	MT_ASSERT(look.end == MT_WALK_OK && look.gpa.a == first.gpa.a);
	ram.swaps = 0;
	walk_to(&regs, &memory, in.gva, in.access & MT_ACCESS_BITS, &again);
	/* A step's entry may be a table's own: then the first walk has set bits in what it read. */
	if (again.end == MT_WALK_OK && !ram.swaps)
		MT_ASSERT(again.gpa.a == first.gpa.a && again.rights == first.rights);
	return 0;
}
