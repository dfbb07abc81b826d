/* SPDX-License-Identifier: MIT */
/* vm_internal.h - a VM as vm.c and vm_region.c see it */
#ifndef MT_MONITOR_VM_INTERNAL_H
#define MT_MONITOR_VM_INTERNAL_H

#include "monitor/link.h"
#include "monitor/pager.h"
#include "monitor/vm.h"
#include "sys/uffd.h"

/* A region as other threads see it; [0, 0) when the place is free. */
struct vm_range {
	_Atomic uintptr_t start;
	_Atomic uintptr_t end;
};

struct mt_vm {
	struct mt_pager pager;
	struct mt_uffd uffd;
	struct mt_link link;
	uint8_t *staging;
	int swap_fd;
	pthread_t thread;
	bool started;
	_Atomic bool stop;
	pthread_mutex_t lock; /* regions come and go one at a time */
	struct vm_range range[MT_REGIONS_MAX];
};

/* The public error is the internal one under a public name. */
static inline struct mt_err *mt_vm_err(struct mt_vm_error *err)
{
	return (struct mt_err *)err;
}

#endif
