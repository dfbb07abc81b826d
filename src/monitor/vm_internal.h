/* SPDX-License-Identifier: MIT */
/* vm_internal.h - a VM as vm.c, vm_region.c and vm_mapping.c see it */
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
	/* vm_direct.c */
	pthread_mutex_t direct_lock;
	bool direct_in_place;                /* [direct_lock] no page leaves its place */
	bool direct_told_unsettled;          /* [direct_lock] */
	struct mt_direct_lists direct_lists; /* [direct_lock] */
	unsigned int direct_clean_looks;     /* [direct_lock] looks since a reason was found */
};

/* vm_direct.c */

/** mt_vm_direct_first() - is a file open already for direct I/O that the kernel does not report? */
void mt_vm_direct_first(struct mt_vm *vm);

/** mt_vm_direct_look() - the same now and then (@due), or sooner; @vm: struct mt_vm */
void mt_vm_direct_look(void *vm, bool due);

/* vm_region.c, for vm_mapping.c */

/** mt_vm_region_forget() - end a region's record and free every copy of its pages; pager thread */
void mt_vm_region_forget(struct mt_pager *pager, const struct mt_region *region);

/** mt_vm_unpublish() - the region that starts at @start is not one for other threads any more */
void mt_vm_unpublish(struct mt_vm *vm, uintptr_t start);

/** mt_vm_tell_gone() - tell the daemon that a region has gone */
void mt_vm_tell_gone(struct mt_vm *vm, uintptr_t start, uint64_t bytes);

/* The public error is the internal one under a public name. */
static inline struct mt_err *mt_vm_err(struct mt_vm_error *err)
{
	return (struct mt_err *)err;
}

#endif
