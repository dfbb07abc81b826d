/* SPDX-License-Identifier: MIT */
/*
 * tables.c - the guest kernel's page tables: finding, making, copying, clearing entries
 *
 * All stores go through the kernel's own addresses. Whoever changes an entry of the address space
 * that is loaded invalidates its page, as a kernel must; other spaces are flushed when they are
 * loaded, for there are no PCIDs here.
 */
#include "lab/kernel_internal.h"

#include <errno.h>

#define USER_SLOTS 256u /* of the root; the upper half is the kernel's */

static uint64_t slot_at(uint64_t table, uint64_t page, unsigned int level)
{
	return (table & MT_PTE_ADDRESS) + 8 * mt_level_index(page << MT_PAGE_SHIFT, level);
}

uint64_t lab_entry(struct lab_kernel *kernel, mt_gpa_t root, uint64_t page, bool *ret_large)
{
	uint64_t table = root.a;

	*ret_large = false;
	for (unsigned int level = 4;; level--) {
		uint64_t at = slot_at(table, page, level);
		uint64_t entry;

		if (level == 1)
			return at;
		entry = lab_load(kernel, at);
		if (!(entry & MT_PTE_P))
			return 0;
		if (entry & MT_PTE_PS) {
			*ret_large = true;
			return at;
		}
		table = entry;
	}
}

uint64_t lab_entry_make(struct lab_kernel *kernel, mt_gpa_t root, uint64_t page, unsigned int level)
{
	uint64_t table = root.a;

	for (unsigned int at_level = 4;; at_level--) {
		uint64_t at = slot_at(table, page, at_level);
		uint64_t entry;

		if (at_level == level)
			return at;
		entry = lab_load(kernel, at);
		if (!(entry & MT_PTE_P)) {
			uint32_t frame = lab_frame_take(kernel, LAB_USE_TABLE, 0);

			if (frame == LAB_NO_FRAME)
				return 0;
			entry = lab_gpa(frame) | TABLE_FLAGS;
			lab_store(kernel, at, entry);
		}
		table = entry;
	}
}

/* A forked child's entry: shared, and read-only in both until one of them writes. */
static uint64_t share_entry(struct lab_kernel *kernel, uint64_t at, uint64_t entry)
{
	if (!(entry & MT_PTE_P)) {
		lab_slot_get(kernel, entry);
		return entry;
	}
	if (entry & MT_PTE_RW) {
		entry &= ~MT_PTE_RW;
		lab_store(kernel, at, entry);
	}
	lab_frame_get(kernel, lab_frame_of(entry));
	return entry & ~(MT_PTE_A | MT_PTE_D);
}

static int copy_level(struct lab_kernel *kernel, uint64_t from, uint64_t to, unsigned int level)
{
	unsigned int slots = level == 4 ? USER_SLOTS : MT_ENTRIES_PER_TABLE;

	for (unsigned int i = 0; i < slots; i++) {
		uint64_t entry = lab_load(kernel, from + 8 * i);
		uint32_t frame;
		int rc;

		if (!entry)
			continue;
		if (level == 1 || (entry & MT_PTE_PS)) {
			lab_store(kernel, to + 8 * i, share_entry(kernel, from + 8 * i, entry));
			continue;
		}
		frame = lab_frame_take(kernel, LAB_USE_TABLE, 0);
		if (frame == LAB_NO_FRAME)
			return -ENOMEM;
		lab_store(kernel, to + 8 * i, lab_gpa(frame) | TABLE_FLAGS);
		rc = copy_level(kernel, entry & MT_PTE_ADDRESS, lab_gpa(frame), level - 1);
		if (rc)
			return rc;
	}
	return 0;
}

int lab_tables_copy(struct lab_kernel *kernel, mt_gpa_t from, mt_gpa_t to)
{
	return copy_level(kernel, from.a, to.a, 4);
}

static void drop_entry(struct lab_kernel *kernel, uint64_t at, uint64_t entry)
{
	lab_store(kernel, at, 0);
	if (entry & MT_PTE_P)
		lab_frame_put(kernel, lab_frame_of(entry));
	else
		lab_slot_put(kernel, entry);
}

static void free_level(struct lab_kernel *kernel, uint64_t table, unsigned int level)
{
	unsigned int slots = level == 4 ? USER_SLOTS : MT_ENTRIES_PER_TABLE;

	for (unsigned int i = 0; i < slots; i++) {
		uint64_t entry = lab_load(kernel, table + 8 * i);

		if (!entry)
			continue;
		if (level > 1 && !(entry & MT_PTE_PS))
			free_level(kernel, entry & MT_PTE_ADDRESS, level - 1);
		drop_entry(kernel, table + 8 * i, entry);
	}
}

void lab_tables_free(struct lab_kernel *kernel, mt_gpa_t root)
{
	free_level(kernel, root.a, 4);
}

void lab_tables_clear(struct lab_kernel *kernel, mt_gpa_t root, uint64_t first, uint64_t count)
{
	bool loaded = kernel->current && kernel->current->root.a == root.a;

	for (uint64_t page = first, end = first + count; page < end; page++) {
		bool large;
		uint64_t at = lab_entry(kernel, root, page, &large), entry;

		if (!at) {
			page = mt_align_down(page, MT_HUGE_PAGES) + MT_HUGE_PAGES - 1;
			continue;
		}
		entry = lab_load(kernel, at);
		if (!entry)
			continue;
		drop_entry(kernel, at, entry);
		if (loaded)
			mt_mmu_invlpg(&kernel->vm->mmu, MT_GVA(page << MT_PAGE_SHIFT));
		if (large)
			page += MT_HUGE_PAGES - 1;
	}
}
