/* SPDX-License-Identifier: MIT */
/*
 * audit.c - are the guest kernel's lists, counts and page tables one another's mirror?
 *
 * Counts what the page tables of all processes name, and holds it against the frame table, the
 * lists and the swap device. For tests; reads through the MMU like everything else.
 */
#include "lab/kernel_internal.h"

#include <stdlib.h>

struct tally {
	struct lab_kernel *kernel;
	uint32_t *refs;  /* of frames */
	uint16_t *slots; /* of the swap device */
	bool bad;
};

static void tally_level(struct tally *tally, uint64_t table, unsigned int level)
{
	unsigned int slots = level == 4 ? MT_ENTRIES_PER_TABLE / 2 : MT_ENTRIES_PER_TABLE;

	tally->refs[table >> MT_PAGE_SHIFT]++;
	for (unsigned int i = 0; i < slots; i++) {
		uint64_t entry = lab_load(tally->kernel, table + 8 * i);

		if (!entry)
			continue;
		if (lab_frame_of(entry) >=
		    MT_MAX(tally->kernel->vm->frames, tally->kernel->disk.slots)) {
			tally->bad = true;
		} else if (!(entry & MT_PTE_P)) {
			tally->slots[lab_frame_of(entry)]++;
		} else if (level == 1 || (entry & MT_PTE_PS)) {
			tally->refs[lab_frame_of(entry)]++;
		} else {
			tally_level(tally, entry & MT_PTE_ADDRESS, level - 1);
		}
	}
}

static const char *compare_frames(struct tally *tally)
{
	struct lab_kernel *kernel = tally->kernel;
	uint32_t listed[LAB_USE_BALLOON + 1] = {0};

	for (uint32_t i = 0; i < kernel->vm->frames; i++) {
		struct lab_frame frame = lab_frame_read(kernel, i);

		if (frame.use > LAB_USE_BALLOON)
			return "a frame is used for nothing known";
		listed[frame.use]++;
		if ((frame.use == LAB_USE_DATA || frame.use == LAB_USE_DATA_LARGE ||
		     frame.use == LAB_USE_TABLE) &&
		    frame.refs != tally->refs[i])
			return "a frame's count differs from the entries that name it";
		if ((frame.use == LAB_USE_FREE || frame.use == LAB_USE_FREE_LARGE ||
		     frame.use == LAB_USE_BALLOON) &&
		    tally->refs[i])
			return "a frame is free or in the balloon, and mapped";
	}
	if (listed[LAB_USE_FREE] != kernel->free.count ||
	    listed[LAB_USE_FREE_LARGE] != kernel->free_large.count ||
	    listed[LAB_USE_DATA] != kernel->used.count ||
	    listed[LAB_USE_BALLOON] != kernel->balloon.count)
		return "a list is longer or shorter than the frames of its kind";
	for (uint32_t i = 0; i < kernel->disk.slots; i++)
		if (tally->slots[i] != kernel->disk.refs[i])
			return "a slot's count differs from the entries that name it";
	return NULL;
}

const char *lab_kernel_audit(struct lab_kernel *kernel)
{
	uint32_t most = MT_MAX(kernel->vm->frames, kernel->disk.slots);
	struct tally tally = {.kernel = kernel,
			      .refs = calloc(most, sizeof(uint32_t)),
			      .slots = calloc(most, sizeof(uint16_t))};
	const char *wrong = NULL;

	for (uint32_t i = 0; tally.refs && tally.slots && i < LAB_PROCESSES_MAX; i++)
		if (kernel->processes[i].pid)
			tally_level(&tally, kernel->processes[i].root.a, 4);
	if (!tally.refs || !tally.slots)
		wrong = "no memory for the audit";
	else if (tally.bad)
		wrong = "an entry names a frame or slot there is not";
	else
		wrong = compare_frames(&tally);
	free(tally.refs);
	free(tally.slots);
	return wrong;
}
