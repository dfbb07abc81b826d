/* SPDX-License-Identifier: MIT */
/*
 * frames.c - the guest kernel's frames: free list, allocated list, reference counts
 *
 * The frame table lies in guest memory, and so do the lists, which run through it. Free memory is
 * kept in two lists, of 2 MiB and of single frames; when all 512 frames of an aligned block are
 * free singly, they become one again. (Only if the kernel uses large pages: otherwise it is in
 * vain.)
 */
#include "lab/kernel_internal.h"

static uint64_t entry_at(uint32_t frame)
{
	return TABLE_AT + (uint64_t)frame * FRAME_WORDS * 8;
}

struct lab_frame lab_frame_read(struct lab_kernel *kernel, uint32_t frame)
{
	uint64_t links = lab_load(kernel, entry_at(frame));
	uint64_t use = lab_load(kernel, entry_at(frame) + 8);

	return (struct lab_frame){.next = (uint32_t)links,
				  .prev = (uint32_t)(links >> 32),
				  .use = (enum lab_use)(use & 0xff),
				  .refs = (uint32_t)(use >> 32),
				  .owner = lab_load(kernel, entry_at(frame) + 16),
				  .free = (uint32_t)lab_load(kernel, entry_at(frame) + 24)};
}

static void set_links(struct lab_kernel *kernel, uint32_t frame, uint32_t next, uint32_t prev)
{
	lab_store(kernel, entry_at(frame), next | (uint64_t)prev << 32);
}

void lab_list_add(struct lab_kernel *kernel, struct lab_list *list, uint32_t frame)
{
	set_links(kernel, frame, LAB_NO_FRAME, list->last);
	if (list->last == LAB_NO_FRAME)
		list->first = frame;
	else
		lab_store(kernel, entry_at(list->last),
			  (lab_load(kernel, entry_at(list->last)) & ~0xffffffffULL) | frame);
	list->last = frame;
	list->count++;
}

void lab_list_remove(struct lab_kernel *kernel, struct lab_list *list, uint32_t frame)
{
	uint64_t links = lab_load(kernel, entry_at(frame));
	uint32_t next = (uint32_t)links, prev = (uint32_t)(links >> 32);

	if (prev == LAB_NO_FRAME)
		list->first = next;
	else
		lab_store(kernel, entry_at(prev),
			  (lab_load(kernel, entry_at(prev)) & ~0xffffffffULL) | next);
	if (next == LAB_NO_FRAME)
		list->last = prev;
	else
		lab_store(kernel, entry_at(next),
			  (lab_load(kernel, entry_at(next)) & 0xffffffff) | (uint64_t)prev << 32);
	list->count--;
}

static void set_use(struct lab_kernel *kernel, uint32_t frame, enum lab_use use, uint32_t refs,
		    uint64_t owner)
{
	lab_store(kernel, entry_at(frame) + 8, use | (uint64_t)refs << 32);
	lab_store(kernel, entry_at(frame) + 16, owner);
}

/* Counts single free frames of the block around @frame. Return: the new count */
static uint32_t count_free(struct lab_kernel *kernel, uint32_t frame, uint32_t change)
{
	uint64_t at = entry_at((uint32_t)mt_align_down(frame, MT_HUGE_PAGES)) + 24;
	uint32_t count = (uint32_t)lab_load(kernel, at) + change;

	lab_store(kernel, at, count);
	return count;
}

static void add_free(struct lab_kernel *kernel, uint32_t frame)
{
	uint32_t first = (uint32_t)mt_align_down(frame, MT_HUGE_PAGES);

	set_use(kernel, frame, LAB_USE_FREE, 0, 0);
	lab_list_add(kernel, &kernel->free, frame);
	if (count_free(kernel, frame, 1) < MT_HUGE_PAGES || !kernel->large)
		return;
	for (uint32_t i = 0; i < MT_HUGE_PAGES; i++) {
		lab_list_remove(kernel, &kernel->free, first + i);
		set_use(kernel, first + i, i ? LAB_USE_PART : LAB_USE_FREE_LARGE, 0, 0);
	}
	count_free(kernel, first, -MT_HUGE_PAGES);
	lab_list_add(kernel, &kernel->free_large, first);
}

void lab_frames_init(struct lab_kernel *kernel, uint32_t first_free)
{
	const struct lab_list empty = {LAB_NO_FRAME, LAB_NO_FRAME, 0};
	uint32_t frames = kernel->vm->frames;

	kernel->free = kernel->free_large = kernel->used = kernel->balloon = empty;
	for (uint32_t i = 0; i < first_free; i++)
		set_use(kernel, i, LAB_USE_KERNEL, 1, 0);
	for (uint32_t i = first_free; i < frames; i++) {
		if (i % MT_HUGE_PAGES || i + MT_HUGE_PAGES > frames) {
			add_free(kernel, i);
			continue;
		}
		for (uint32_t k = 1; k < MT_HUGE_PAGES; k++)
			set_use(kernel, i + k, LAB_USE_PART, 0, 0);
		set_use(kernel, i, LAB_USE_FREE_LARGE, 0, 0);
		lab_list_add(kernel, &kernel->free_large, i);
		i += MT_HUGE_PAGES - 1;
	}
}

static uint32_t take_block(struct lab_kernel *kernel)
{
	uint32_t first = kernel->free_large.first;

	if (first != LAB_NO_FRAME)
		lab_list_remove(kernel, &kernel->free_large, first);
	return first;
}

/* Break a block into single frames. Return: false: there is none */
static bool break_block(struct lab_kernel *kernel)
{
	uint32_t first = take_block(kernel);

	for (uint32_t i = 0; first != LAB_NO_FRAME && i < MT_HUGE_PAGES; i++) {
		set_use(kernel, first + i, LAB_USE_FREE, 0, 0);
		lab_list_add(kernel, &kernel->free, first + i);
	}
	if (first != LAB_NO_FRAME)
		count_free(kernel, first, MT_HUGE_PAGES);
	return first != LAB_NO_FRAME;
}

uint32_t lab_frame_take(struct lab_kernel *kernel, enum lab_use use, uint64_t owner)
{
	uint32_t frame;

	while (!kernel->free.count)
		if (!break_block(kernel) && lab_swap_out_one(kernel))
			return LAB_NO_FRAME;
	frame = kernel->free.first;
	lab_list_remove(kernel, &kernel->free, frame);
	count_free(kernel, frame, -1u);
	set_use(kernel, frame, use, 1, owner);
	if (use == LAB_USE_DATA)
		lab_list_add(kernel, &kernel->used, frame);
	if (use == LAB_USE_TABLE) {
		kernel->stats.tables++;
		kernel->stats.tables_peak = MT_MAX(kernel->stats.tables_peak, kernel->stats.tables);
	}
	lab_zero_page(kernel, lab_gpa(frame));
	return frame;
}

uint32_t lab_frame_take_large(struct lab_kernel *kernel, uint64_t owner)
{
	uint32_t first = take_block(kernel);

	if (first == LAB_NO_FRAME)
		return first;
	set_use(kernel, first, LAB_USE_DATA_LARGE, 1, owner);
	for (uint32_t i = 0; i < MT_HUGE_PAGES; i++)
		lab_zero_page(kernel, lab_gpa(first + i));
	return first;
}

void lab_frame_split(struct lab_kernel *kernel, uint32_t first, uint64_t owner)
{
	for (uint32_t i = 0; i < MT_HUGE_PAGES; i++) {
		set_use(kernel, first + i, LAB_USE_DATA, 1, owner + ((uint64_t)i << 16));
		lab_list_add(kernel, &kernel->used, first + i);
	}
}

void lab_frame_get(struct lab_kernel *kernel, uint32_t frame)
{
	uint64_t at = entry_at(frame) + 8;

	lab_store(kernel, at, lab_load(kernel, at) + (1ULL << 32));
}

void lab_frame_put(struct lab_kernel *kernel, uint32_t frame)
{
	struct lab_frame was = lab_frame_read(kernel, frame);

	MT_ASSERT(was.refs);
	if (was.refs > 1) {
		lab_store(kernel, entry_at(frame) + 8, was.use | (uint64_t)(was.refs - 1) << 32);
		return;
	}
	if (was.use == LAB_USE_DATA_LARGE) {
		set_use(kernel, frame, LAB_USE_FREE_LARGE, 0, 0);
		lab_list_add(kernel, &kernel->free_large, frame);
		return;
	}
	if (was.use == LAB_USE_DATA)
		lab_list_remove(kernel, &kernel->used, frame);
	if (was.use == LAB_USE_TABLE)
		kernel->stats.tables--;
	add_free(kernel, frame);
}

uint32_t lab_inflate(struct lab_kernel *kernel, uint32_t frames)
{
	uint32_t got = 0;

	for (; got < frames; got++) {
		uint32_t frame = lab_frame_take(kernel, LAB_USE_BALLOON, 0);

		if (frame == LAB_NO_FRAME)
			break;
		lab_list_add(kernel, &kernel->balloon, frame);
		lab_vm_give_back(kernel->vm, MT_GFN(frame));
	}
	return got;
}

uint32_t lab_deflate(struct lab_kernel *kernel, uint32_t frames)
{
	uint32_t given = 0;

	for (; given < frames && kernel->balloon.count; given++) {
		uint32_t frame = kernel->balloon.first;

		lab_list_remove(kernel, &kernel->balloon, frame);
		lab_frame_put(kernel, frame);
	}
	return given;
}
