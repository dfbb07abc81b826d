/* SPDX-License-Identifier: MIT */
/*
 * admission.h - may a VM start, or have these settings?
 *
 * The OSDI'02 paper's section 6.2: what a VM is guaranteed, and what managing it costs, must fit
 * into memory that is promised to nobody yet; and there must be swap space for all the rest of its
 * memory. So a reservation can always be honoured and paging out can never run out of space. A
 * refusal names the numbers.
 */
#ifndef MT_POLICY_ADMISSION_H
#define MT_POLICY_ADMISSION_H

#include "base/err.h"
#include "base/types.h"

struct mt_admit_host {
	uint64_t pool_pages;
	uint64_t own_pages;       /* the daemon's own part of the pool */
	uint64_t minfree_pages;   /* never promised to anybody */
	uint64_t reserved_pages;  /* mt_admit_promise() of all *other* VMs */
	uint64_t swap_free_pages; /* that could still be set aside */
};

struct mt_admit_vm {
	uint64_t memsize_pages;
	uint64_t reservation_pages;
	uint64_t limit_pages; /* MT_POLICY_NO_LIMIT: none */
	uint64_t swap_pages;  /* it has already */
};

/** mt_overhead_pages() - most that managing a VM of this size takes: the monitor's own memory */
uint64_t mt_overhead_pages(uint64_t memsize_pages);

/** mt_admit_promise() - what the pool must be able to give @vm whatever the others do: its
 * reservation and overhead, and at least what it needs to run at all; never above its limit */
uint64_t mt_admit_promise(const struct mt_admit_vm *vm);

/** mt_admit_swap() - swap space @vm must have: all of its memory but the reservation */
uint64_t mt_admit_swap(const struct mt_admit_vm *vm);

/** mt_admit_unreserved() - what can still be promised */
uint64_t mt_admit_unreserved(const struct mt_admit_host *host);

/**
 * mt_admit_check() - let @vm in, or accept its new settings?
 * @name: of the VM, for the message
 *
 * Return: 0; -EINVAL: its settings contradict each other; -ENOMEM: not enough unreserved memory;
 * -ENOSPC: not enough swap space
 */
MT_MUST_CHECK int mt_admit_check(const struct mt_admit_host *host, const struct mt_admit_vm *vm,
				 const char *name, struct mt_err *err);

#endif
