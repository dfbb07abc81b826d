/* SPDX-License-Identifier: MIT */
/* kernel_internal.h - what the parts of the guest kernel share; see kernel.h */
#ifndef MT_LAB_KERNEL_INTERNAL_H
#define MT_LAB_KERNEL_INTERNAL_H

#include "lab/kernel.h"

#define KERNEL_BASE 0xffff888000000000ULL /* all guest memory, for the kernel */
#define TABLE_FLAGS (MT_PTE_P | MT_PTE_RW | MT_PTE_US)
#define SWAP_ENTRY  (1ULL << 1) /* with P clear: the slot is in the address field */
#define FRAME_WORDS 4u          /* of an entry of the frame table */
#define TABLE_AT    0x1000ULL   /* guest physical address of the frame table */

/* What a frame is used for. */
enum lab_use {
	LAB_USE_KERNEL, /* the frame table, the kernel's own page tables */
	LAB_USE_FREE,
	LAB_USE_FREE_LARGE, /* the first of 512 */
	LAB_USE_PART,       /* one of 512, not the first */
	LAB_USE_TABLE,
	LAB_USE_DATA,
	LAB_USE_DATA_LARGE, /* the first of 512 */
	LAB_USE_BALLOON
};

struct lab_frame {
	uint32_t next, prev; /* on its list */
	enum lab_use use;
	uint32_t refs;  /* entries that map it */
	uint64_t owner; /* page << 16 | pid of who mapped it first, for swapping */
	uint32_t free;  /* of the first of an aligned 512: how many of them are free singly */
};

/* cpu.c: the kernel's own loads and stores; they can't fault, or the kernel is wrong */
uint64_t lab_load(struct lab_kernel *kernel, uint64_t gpa);
void lab_store(struct lab_kernel *kernel, uint64_t gpa, uint64_t value);
void lab_zero_page(struct lab_kernel *kernel, uint64_t gpa);
void lab_copy_page(struct lab_kernel *kernel, uint64_t to, uint64_t from);
void *lab_page(struct lab_kernel *kernel, uint64_t gpa, bool write);

/* frames.c */
void lab_frames_init(struct lab_kernel *kernel, uint32_t first_free);
struct lab_frame lab_frame_read(struct lab_kernel *kernel, uint32_t frame);
/** lab_frame_split() - one of 512 becomes 512 with an entry each */
void lab_frame_split(struct lab_kernel *kernel, uint32_t first, uint64_t owner);
void lab_list_add(struct lab_kernel *kernel, struct lab_list *list, uint32_t frame);
void lab_list_remove(struct lab_kernel *kernel, struct lab_list *list, uint32_t frame);
/** lab_frame_take() - a frame, zeroed, swapping others out if need be; LAB_NO_FRAME */
uint32_t lab_frame_take(struct lab_kernel *kernel, enum lab_use use, uint64_t owner);
/** lab_frame_take_large() - 512 aligned ones, zeroed; LAB_NO_FRAME: take single ones */
uint32_t lab_frame_take_large(struct lab_kernel *kernel, uint64_t owner);
/** lab_frame_put() - one mapping less; the last one frees it */
void lab_frame_put(struct lab_kernel *kernel, uint32_t frame);
void lab_frame_get(struct lab_kernel *kernel, uint32_t frame);

/* tables.c */
/** lab_entry() - address of the entry that maps @page (PT, or PD of a large page); 0: none */
uint64_t lab_entry(struct lab_kernel *kernel, mt_gpa_t root, uint64_t page, bool *ret_large);
/** lab_entry_make() - the same, with tables made down to @level; 0: no memory */
uint64_t lab_entry_make(struct lab_kernel *kernel, mt_gpa_t root, uint64_t page,
			unsigned int level);
int lab_tables_copy(struct lab_kernel *kernel, mt_gpa_t from, mt_gpa_t to);
/** lab_tables_clear() - unmap @count pages from @first on; tables stay */
void lab_tables_clear(struct lab_kernel *kernel, mt_gpa_t root, uint64_t first, uint64_t count);
/** lab_tables_free() - unmap everything of user mode and give the tables back, @root stays */
void lab_tables_free(struct lab_kernel *kernel, mt_gpa_t root);

/* fault.c */
int lab_page_fault(struct lab_kernel *kernel, mt_gva_t gva, uint32_t code);
/** lab_split() - a large page of the current process that is to be unmapped in part */
int lab_split(struct lab_kernel *kernel, mt_gpa_t root, uint64_t page);

/* swap.c */
int lab_disk_init(struct lab_disk *disk, uint32_t slots);
/** lab_swap_out_one() - free a frame of data. Return: 0 or -ENOMEM */
int lab_swap_out_one(struct lab_kernel *kernel);
int lab_swap_in(struct lab_kernel *kernel, uint64_t page, uint64_t entry_at, bool writable);
void lab_slot_get(struct lab_kernel *kernel, uint64_t entry);
void lab_slot_put(struct lab_kernel *kernel, uint64_t entry);

/* process.c */
struct lab_process *lab_find(struct lab_kernel *kernel, uint32_t pid);
struct lab_mapping *lab_mapping_of(struct lab_process *process, uint64_t page);

static inline uint64_t lab_gpa(uint32_t frame)
{
	return (uint64_t)frame << MT_PAGE_SHIFT;
}

static inline uint32_t lab_frame_of(uint64_t entry)
{
	return (uint32_t)((entry & MT_PTE_ADDRESS) >> MT_PAGE_SHIFT);
}

static inline uint64_t lab_owner(uint32_t pid, uint64_t page)
{
	return page << 16 | pid;
}

#endif
