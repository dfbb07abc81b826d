/* SPDX-License-Identifier: MIT */
/*
 * fault.c - the guest kernel's page faults: first touch, copy on write, swap
 *
 * A page absent gets a zeroed frame, or 512 where the mapping has room for a large page and one is
 * free. A store to a page that is shared after a fork gets a copy; the last sharer keeps the frame.
 */
#include "lab/kernel_internal.h"

#include <errno.h>

static int no_memory(struct lab_kernel *kernel)
{
	return mt_err_set(&kernel->err, -ENOMEM, "the guest has used up its memory and its swap");
}

static uint64_t rights_of(const struct lab_mapping *mapping)
{
	return MT_PTE_P | MT_PTE_US | (mapping->read_only ? 0 : MT_PTE_RW);
}

static void invalidate(struct lab_kernel *kernel, uint64_t page)
{
	mt_mmu_invlpg(&kernel->vm->mmu, MT_GVA(page << MT_PAGE_SHIFT));
}

/* Is there room in the mapping for the large page around @page? */
static bool room_for_large(struct lab_kernel *kernel, const struct lab_mapping *mapping,
			   uint64_t page)
{
	uint64_t first = mt_align_down(page, MT_HUGE_PAGES);

	return kernel->large && mapping->large && first >= mapping->first &&
	       first + MT_HUGE_PAGES <= mapping->first + mapping->count;
}

/* Return: 0; -EAGAIN: no large page to be had here */
static int demand_large(struct lab_kernel *kernel, const struct lab_mapping *mapping, uint64_t page)
{
	uint64_t first = mt_align_down(page, MT_HUGE_PAGES);
	uint32_t pid = kernel->current->pid, frame;
	uint64_t at = lab_entry_make(kernel, kernel->current->root, page, 2);

	if (!at || lab_load(kernel, at))
		return -EAGAIN;
	frame = lab_frame_take_large(kernel, lab_owner(pid, first));
	if (frame == LAB_NO_FRAME)
		return -EAGAIN;
	kernel->stats.large++;
	lab_store(kernel, at, lab_gpa(frame) | rights_of(mapping) | MT_PTE_PS);
	return 0;
}

static int demand(struct lab_kernel *kernel, const struct lab_mapping *mapping, uint64_t page)
{
	uint32_t frame;
	uint64_t at;

	kernel->stats.demand++;
	if (room_for_large(kernel, mapping, page) && !demand_large(kernel, mapping, page))
		return 0;
	at = lab_entry_make(kernel, kernel->current->root, page, 1);
	if (!at)
		return no_memory(kernel);
	frame = lab_frame_take(kernel, LAB_USE_DATA, lab_owner(kernel->current->pid, page));
	if (frame == LAB_NO_FRAME)
		return no_memory(kernel);
	lab_store(kernel, at, lab_gpa(frame) | rights_of(mapping));
	return 0;
}

/* A shared large page, with no free one for the copy: 512 copies of a page each. */
static int copy_in_pieces(struct lab_kernel *kernel, uint64_t at, uint64_t entry, uint64_t page)
{
	uint32_t pid = kernel->current->pid, from = lab_frame_of(entry);
	uint64_t first = mt_align_down(page, MT_HUGE_PAGES);
	uint32_t table = lab_frame_take(kernel, LAB_USE_TABLE, 0);

	for (uint32_t i = 0; table != LAB_NO_FRAME && i < MT_HUGE_PAGES; i++) {
		uint32_t frame = lab_frame_take(kernel, LAB_USE_DATA, lab_owner(pid, first + i));

		if (frame == LAB_NO_FRAME)
			return no_memory(kernel); /* the table is lost to a guest that dies of it */
		lab_copy_page(kernel, lab_gpa(frame), lab_gpa(from + i));
		lab_store(kernel, lab_gpa(table) + 8 * i,
			  lab_gpa(frame) | MT_PTE_P | MT_PTE_US | MT_PTE_RW);
	}
	if (table == LAB_NO_FRAME)
		return no_memory(kernel);
	lab_store(kernel, at, lab_gpa(table) | TABLE_FLAGS);
	lab_frame_put(kernel, from);
	return 0;
}

static int copy_large(struct lab_kernel *kernel, uint64_t at, uint64_t entry, uint64_t page)
{
	uint64_t first = mt_align_down(page, MT_HUGE_PAGES);
	uint32_t from = lab_frame_of(entry);
	uint32_t to = lab_frame_take_large(kernel, lab_owner(kernel->current->pid, first));

	if (to == LAB_NO_FRAME)
		return copy_in_pieces(kernel, at, entry, page);
	for (uint32_t i = 0; i < MT_HUGE_PAGES; i++)
		lab_copy_page(kernel, lab_gpa(to + i), lab_gpa(from + i));
	lab_store(kernel, at,
		  lab_gpa(to) | MT_PTE_P | MT_PTE_US | MT_PTE_RW | MT_PTE_PS | MT_PTE_A);
	lab_frame_put(kernel, from);
	return 0;
}

/* A store to a page that may be shared. */
static int copy_on_write(struct lab_kernel *kernel, uint64_t at, uint64_t page, bool large)
{
	uint64_t entry = lab_load(kernel, at);
	uint32_t from = lab_frame_of(entry), to;
	int rc = 0;

	kernel->stats.copies++;
	if (lab_frame_read(kernel, from).refs == 1) {
		lab_store(kernel, at, entry | MT_PTE_RW);
	} else if (large) {
		rc = copy_large(kernel, at, entry, page);
	} else {
		to = lab_frame_take(kernel, LAB_USE_DATA, lab_owner(kernel->current->pid, page));
		if (to == LAB_NO_FRAME)
			return no_memory(kernel);
		lab_copy_page(kernel, lab_gpa(to), lab_gpa(from));
		lab_store(kernel, at, lab_gpa(to) | MT_PTE_P | MT_PTE_US | MT_PTE_RW | MT_PTE_A);
		lab_frame_put(kernel, from);
	}
	invalidate(kernel, page);
	return rc;
}

int lab_split(struct lab_kernel *kernel, mt_gpa_t root, uint64_t page)
{
	uint64_t first = mt_align_down(page, MT_HUGE_PAGES), at, entry;
	uint32_t frame, table;
	bool large;
	int rc;

	at = lab_entry(kernel, root, page, &large);
	if (!at || !large)
		return 0;
	if (lab_frame_read(kernel, lab_frame_of(lab_load(kernel, at))).refs > 1) {
		rc = copy_on_write(kernel, at, page, true);
		if (rc)
			return rc;
	}
	entry = lab_load(kernel, at);
	if (!(entry & MT_PTE_PS)) /* copied in pieces already */
		return 0;
	table = lab_frame_take(kernel, LAB_USE_TABLE, 0);
	if (table == LAB_NO_FRAME)
		return no_memory(kernel);
	frame = lab_frame_of(entry);
	lab_frame_split(kernel, frame, lab_owner(kernel->current->pid, first));
	for (uint32_t i = 0; i < MT_HUGE_PAGES; i++)
		lab_store(kernel, lab_gpa(table) + 8 * i,
			  lab_gpa(frame + i) |
				  (entry & (MT_PTE_P | MT_PTE_US | MT_PTE_RW | MT_PTE_D)));
	lab_store(kernel, at, lab_gpa(table) | TABLE_FLAGS);
	invalidate(kernel, page);
	return 0;
}

int lab_page_fault(struct lab_kernel *kernel, mt_gva_t gva, uint32_t code)
{
	uint64_t page = gva.a >> MT_PAGE_SHIFT, at, entry;
	struct lab_mapping *mapping =
		kernel->current ? lab_mapping_of(kernel->current, page) : NULL;
	bool large;

	if (!mapping || ((code & MT_PF_W) && mapping->read_only))
		return mt_err_set(&kernel->err, -EFAULT, "process %u must not %s 0x%llx",
				  kernel->current ? kernel->current->pid : 0,
				  code & MT_PF_W ? "write" : "use", (unsigned long long)gva.a);
	kernel->stats.faults++;
	at = lab_entry(kernel, kernel->current->root, page, &large);
	entry = at ? lab_load(kernel, at) : 0;
	if (!entry)
		return demand(kernel, mapping, page);
	if (!(entry & MT_PTE_P))
		return lab_swap_in(kernel, page, at, !mapping->read_only);
	if ((code & MT_PF_W) && !(entry & MT_PTE_RW))
		return copy_on_write(kernel, at, page, large);
	invalidate(kernel, page);
	return 0;
}
