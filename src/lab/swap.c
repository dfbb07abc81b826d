/* SPDX-License-Identifier: MIT */
/*
 * swap.c - the guest's own paging: a clock over its frames, and a swap device
 *
 * This is the paging a hypervisor does not see, beside its own below. The hand goes over the list
 * of allocated frames: a page whose accessed bit is set gets another round; large pages and those
 * with very many sharers are left alone. A slot is counted by the entries that name it, since a
 * fork copies those too.
 */
#include "lab/kernel_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SHARERS_MAX 64u

int lab_disk_init(struct lab_disk *disk, uint32_t slots)
{
	disk->slots = slots;
	disk->data = malloc((size_t)MT_MAX(slots, 1) << MT_PAGE_SHIFT);
	disk->refs = calloc(MT_MAX(slots, 1), sizeof(*disk->refs));
	return disk->data && disk->refs ? 0 : -ENOMEM;
}

static uint32_t slot_of(uint64_t entry)
{
	return lab_frame_of(entry);
}

static uint8_t *slot_data(struct lab_kernel *kernel, uint32_t slot)
{
	return kernel->disk.data + ((size_t)slot << MT_PAGE_SHIFT);
}

void lab_slot_get(struct lab_kernel *kernel, uint64_t entry)
{
	kernel->disk.refs[slot_of(entry)]++;
}

void lab_slot_put(struct lab_kernel *kernel, uint64_t entry)
{
	MT_ASSERT(kernel->disk.refs[slot_of(entry)]);
	if (!--kernel->disk.refs[slot_of(entry)])
		kernel->disk.used--;
}

static uint32_t slot_take(struct lab_disk *disk)
{
	if (disk->used == disk->slots)
		return LAB_NO_FRAME;
	while (disk->refs[disk->hand])
		disk->hand = (disk->hand + 1) % disk->slots;
	disk->refs[disk->hand] = 1;
	disk->used++;
	return disk->hand;
}

/* The entries that map a frame: forks share pages, and at the same address. */
struct sharers {
	uint64_t page;
	unsigned int count;
	bool accessed;
	struct {
		uint32_t pid;
		uint64_t at, entry;
	} each[SHARERS_MAX];
};

static void find_sharers(struct lab_kernel *kernel, uint32_t frame, uint64_t page,
			 struct sharers *found)
{
	found->page = page;
	found->count = 0;
	found->accessed = false;
	for (uint32_t pid = 1; pid < LAB_PROCESSES_MAX && found->count < SHARERS_MAX; pid++) {
		bool large;
		uint64_t at, entry;

		if (!kernel->processes[pid].pid)
			continue;
		at = lab_entry(kernel, kernel->processes[pid].root, page, &large);
		entry = at && !large ? lab_load(kernel, at) : 0;
		if (!(entry & MT_PTE_P) || lab_frame_of(entry) != frame)
			continue;
		found->accessed |= entry & MT_PTE_A;
		found->each[found->count].pid = pid;
		found->each[found->count].at = at;
		found->each[found->count++].entry = entry;
	}
}

/* Give all the sharers' entries a new content: another round, or a slot. */
static void set_sharers(struct lab_kernel *kernel, const struct sharers *found, uint64_t slot_entry)
{
	for (unsigned int i = 0; i < found->count; i++) {
		uint64_t entry = slot_entry ? slot_entry : found->each[i].entry & ~MT_PTE_A;

		lab_store(kernel, found->each[i].at, entry);
		if (kernel->current && kernel->current->pid == found->each[i].pid)
			mt_mmu_invlpg(&kernel->vm->mmu, MT_GVA(found->page << MT_PAGE_SHIFT));
	}
}

/* Return: 0; -EAGAIN: not this one; -ENOMEM: no slot is free */
static int swap_out(struct lab_kernel *kernel, uint32_t frame)
{
	struct lab_frame content = lab_frame_read(kernel, frame);
	struct sharers found;
	uint32_t slot;

	find_sharers(kernel, frame, content.owner >> 16, &found);
	if (!found.count || found.count != content.refs)
		return -EAGAIN;
	if (found.accessed) {
		set_sharers(kernel, &found, 0);
		return -EAGAIN;
	}
	slot = slot_take(&kernel->disk);
	if (slot == LAB_NO_FRAME)
		return -ENOMEM;
	kernel->disk.refs[slot] = (uint16_t)found.count;
	set_sharers(kernel, &found, lab_gpa(slot) | SWAP_ENTRY);
	memcpy(slot_data(kernel, slot), lab_page(kernel, lab_gpa(frame), false), MT_PAGE_SIZE);
	for (unsigned int i = 0; i < found.count; i++)
		lab_frame_put(kernel, frame);
	kernel->stats.swap_outs++;
	return 0;
}

int lab_swap_out_one(struct lab_kernel *kernel)
{
	int rc = -EAGAIN;

	for (uint64_t tries = 2ULL * kernel->used.count + 1; rc == -EAGAIN && tries; tries--) {
		uint32_t frame = kernel->used.first;

		if (frame == LAB_NO_FRAME)
			break;
		lab_list_remove(kernel, &kernel->used, frame);
		lab_list_add(kernel, &kernel->used, frame);
		rc = swap_out(kernel, frame);
	}
	return rc ? -ENOMEM : 0;
}

int lab_swap_in(struct lab_kernel *kernel, uint64_t page, uint64_t entry_at, bool writable)
{
	uint64_t owner = lab_owner(kernel->current->pid, page);
	uint32_t frame = lab_frame_take(kernel, LAB_USE_DATA, owner);
	uint64_t entry = lab_load(kernel, entry_at);

	if (frame == LAB_NO_FRAME)
		return mt_err_set(&kernel->err, -ENOMEM,
				  "the guest has no frame to bring a page in from its swap");
	memcpy(lab_page(kernel, lab_gpa(frame), true), slot_data(kernel, slot_of(entry)),
	       MT_PAGE_SIZE);
	lab_slot_put(kernel, entry);
	lab_store(kernel, entry_at,
		  lab_gpa(frame) | MT_PTE_P | MT_PTE_US | (writable ? MT_PTE_RW : 0));
	kernel->stats.swap_ins++;
	return 0;
}
