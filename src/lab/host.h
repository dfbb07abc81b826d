/* SPDX-License-Identifier: MIT */
/*
 * host.h - the host of a lab: machine memory, and VMs that get it frame by frame
 *
 * A lab is a whole machine in one program: processes, a guest kernel, an MMU, a host. Machine
 * memory is one block handed in by the user (in the test VM: memory that Memtide manages). A VM
 * starts with none of it; the first touch of a guest frame gives it a machine frame, or an aligned
 * piece of 2 MiB, at a scattered place. What the guest's balloon gives back goes back to the block.
 * Each machine frame belongs to one VM or none, and the host remembers which.
 */
#ifndef MT_LAB_HOST_H
#define MT_LAB_HOST_H

#include "mmu/mmu.h"

#define LAB_NO_FRAME UINT32_MAX
#define LAB_NO_VM    0

struct lab_host {
	uint8_t *memory; /* borrowed, 2 MiB-aligned if there are to be large pages */
	uint32_t frames; /* 4 KiB */
	uint16_t *owner; /* of each machine frame: number of a VM, or LAB_NO_VM */
	uint32_t hand;   /* where the search for a free frame goes on */
	void *ctx;
	/* called when a machine frame is free again: 0 or -errno; may be NULL */
	int (*release)(void *ctx, void *at, size_t bytes);
};

struct lab_vm {
	struct lab_host *host;
	uint16_t number;   /* above 0 */
	bool large;        /* back it in pieces of 2 MiB */
	uint32_t frames;   /* of guest memory */
	uint32_t *pmap;    /* guest frame to machine frame or LAB_NO_FRAME */
	bool *whole;       /* of each 2 MiB of guest memory: backed in one piece */
	struct mt_mmu mmu; /* of its one virtual processor */
};

struct lab_vm_config {
	uint16_t number;
	uint32_t frames;
	bool large;
	enum mt_mmu_mode mode;
	bool walk_caches;
};

/** lab_host_init() - @memory is borrowed. Return: 0 or -ENOMEM */
int lab_host_init(struct lab_host *host, void *memory, uint64_t bytes);
void lab_host_destroy(struct lab_host *host);

/** lab_vm_init() - a VM without any memory yet, paging off. Return: 0 or -errno */
int lab_vm_init(struct lab_vm *vm, struct lab_host *host, const struct lab_vm_config *config,
		struct mt_err *err);
void lab_vm_destroy(struct lab_vm *vm);

/** lab_vm_give_back() - the guest does not need this frame: its content is lost */
void lab_vm_give_back(struct lab_vm *vm, mt_gfn_t gfn);

/** lab_vm_at() - the host's pointer to a machine address; it must belong to @vm */
void *lab_vm_at(const struct lab_vm *vm, mt_mpa_t mpa);

#endif
