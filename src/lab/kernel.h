/* SPDX-License-Identifier: MIT */
/*
 * kernel.h - the guest kernel of a lab: processes, demand paging, copy on write, swap, balloon
 *
 * Small, but a kernel: it lives in guest physical memory and reaches it through its own virtual
 * addresses. Every load and store, the program's and the kernel's, goes through the VM's MMU, so
 * that a store to a page table is what it is on real hardware: plain memory traffic in native and
 * nested mode, a trapped store under shadow paging.
 *
 * In guest memory: x86-64 page tables with 4 levels; the *frame table*, 32 bytes for each frame,
 * with the free list, the list of allocated frames and the balloon's list in it; all data. Outside:
 * what a processor has in registers and stack, the mappings of processes, and the swap device.
 * The upper half of every address space maps all guest memory, with 2 MiB pages, for the kernel
 * alone.
 */
#ifndef MT_LAB_KERNEL_H
#define MT_LAB_KERNEL_H

#include "lab/host.h"

#define LAB_PROCESSES_MAX 4096u
#define LAB_USER_PAGES    (1ULL << 35) /* user addresses end at 2^47 */
#define LAB_NO_PID        0u

/* A range of pages a process may use. */
struct lab_mapping {
	uint64_t first, count;
	bool large; /* 2 MiB pages where they fit */
	bool read_only;
	uint32_t *version; /* of each page: what its marked word must hold; 0: zeros */
};

struct lab_process {
	uint32_t pid; /* LAB_NO_PID: none */
	mt_gpa_t root;
	struct lab_mapping *mappings;
	unsigned int count, room;
};

/* The guest's swap device. */
struct lab_disk {
	uint8_t *data;
	uint32_t slots, used, hand;
	uint16_t *refs; /* entries of page tables that name a slot */
};

/* Doubly linked through the frame table; ends are LAB_NO_FRAME. */
struct lab_list {
	uint32_t first, last, count;
};

struct lab_kernel_stats {
	uint64_t faults, demand, large, copies, swap_ins, swap_outs, forks, switches, tables,
		tables_peak;
};

struct lab_kernel {
	struct lab_vm *vm;
	struct lab_list free, free_large, used, balloon;
	bool large;           /* give out 2 MiB pages where a mapping has room */
	mt_gpa_t kernel_half; /* the PDPT of the upper half */
	struct lab_disk disk;
	struct lab_process *processes; /* LAB_PROCESSES_MAX; found by pid */
	struct lab_process *current;
	struct lab_kernel_stats stats;
	struct mt_err err;
};

struct lab_kernel_config {
	bool large;
	uint32_t swap_slots;
};

/** lab_kernel_boot() - on a VM with paging off: build tables and lists, switch paging on */
int lab_kernel_boot(struct lab_kernel *kernel, struct lab_vm *vm,
		    const struct lab_kernel_config *config, struct mt_err *err);
void lab_kernel_destroy(struct lab_kernel *kernel);

/*
 * System calls. Return: 0 or -errno; -ENOMEM when memory and swap are used up, -EINVAL for what no
 * process may ask, -ESRCH for no such process, -EEXIST for a pid in use. The reason is in .err.
 */
int lab_spawn(struct lab_kernel *kernel, uint32_t pid);
int lab_fork(struct lab_kernel *kernel, uint32_t pid);
int lab_switch(struct lab_kernel *kernel, uint32_t pid);
int lab_map(struct lab_kernel *kernel, uint64_t first, uint64_t count, bool read_only);
int lab_unmap(struct lab_kernel *kernel, uint64_t first, uint64_t count);
int lab_exec(struct lab_kernel *kernel);
int lab_exit(struct lab_kernel *kernel);

/** lab_inflate() - the balloon takes @frames more. Return: frames it got */
uint32_t lab_inflate(struct lab_kernel *kernel, uint32_t frames);
/** lab_deflate() - and gives @frames back to the guest. Return: frames it gave */
uint32_t lab_deflate(struct lab_kernel *kernel, uint32_t frames);

/**
 * lab_access() - the current process loads or stores the 8 bytes at @gva
 * @access: MT_PF_W, MT_PF_I; user mode is added
 *
 * Page faults are served by the kernel. Return: 0; -EFAULT: a segmentation fault; other -errno
 */
int lab_access(struct lab_kernel *kernel, mt_gva_t gva, unsigned int access, uint64_t *value);

/** lab_kernel_audit() - are lists, reference counts and page tables one another's mirror? */
const char *lab_kernel_audit(struct lab_kernel *kernel);

#endif
