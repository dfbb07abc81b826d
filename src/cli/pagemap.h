/* SPDX-License-Identifier: MIT */
/* pagemap.h - parts of "memtide pagemap": its classes of pages, its picture, its processes */
#ifndef MT_CLI_PAGEMAP_H
#define MT_CLI_PAGEMAP_H

#include "cli/guest_mem.h"

/* What a page is shown as: its state, and whether it was used lately. */
enum pagemap_class {
	PAGEMAP_ACTIVE, /* in place, used since it was last looked at */
	PAGEMAP_IDLE,   /* in place, or waiting in staging, and not */
	PAGEMAP_SHARED,
	PAGEMAP_ZERO,
	PAGEMAP_ZIPPED,
	PAGEMAP_SWAPPED,
	PAGEMAP_RELEASED,
	PAGEMAP_UNTOUCHED,
	PAGEMAP_LOST,
	PAGEMAP_CLASSES
};

struct pagemap_kind {
	const char *name; /* also the key in JSON */
	char letter;
	const char *colour;
	const char *meaning;
};

extern const struct pagemap_kind pagemap_kinds[PAGEMAP_CLASSES];

struct pagemap {
	const char *vm;
	const struct guest_layout *layout; /* borrowed */
	uint8_t *classes; /* of each page of all regions, one after the other: enum pagemap_class */
	uint64_t pages;
	uint64_t counts[PAGEMAP_CLASSES];
};

/** pagemap_of_cell() - the class most pages from @first on have. Return: it */
enum pagemap_class pagemap_of_cell(const struct pagemap *map, uint64_t first, uint64_t count);

/** pagemap_svg() - the map as a picture. Return: 0 or -errno */
int pagemap_svg(const struct pagemap *map, const char *path, struct mt_err *err);

/* What one set of page tables maps in user space. */
struct pagemap_process {
	uint64_t cr3;
	uint64_t user_cr3; /* its other root, in use in user space (page-table isolation); or 0 */
	uint64_t tables;   /* page-table pages below the root, and roots */
	uint64_t unread;   /* of these, could not be read: what they map is missing */
	uint64_t counts[PAGEMAP_CLASSES]; /* of the pages mapped; shared ones count for each */
};

/**
 * pagemap_processes() - find all processes' page tables and what they map
 * @regs: of a processor of the guest, 4 or 5 levels
 *
 * Kernels give every address space the same upper half. So each page whose upper half is that of
 * the root in CR3 is a root, too. Return: how many in *ret, to be freed; -errno
 */
int pagemap_processes(struct guest_mem *mem, const struct pagemap *map, const struct mt_regs *regs,
		      struct pagemap_process **ret, struct mt_err *err);

#endif
