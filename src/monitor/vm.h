/* SPDX-License-Identifier: MIT */
/* vm.h - what the preload library needs of a VM beyond the public API */
#ifndef MT_MONITOR_VM_H
#define MT_MONITOR_VM_H

#include "memtide/memtide.h"

#include <stdbool.h>

/** mt_vm_holds() - does any managed region overlap the range? Any thread, no locks. */
bool mt_vm_holds(struct mt_vm *vm, const void *addr, size_t bytes);

/**
 * mt_vm_unmap() - the VMM is about to unmap a range, which may be larger than the regions in it
 *
 * Ends the management of regions that lie in it whole, gives up the pages of those that don't.
 */
void mt_vm_unmap(struct mt_vm *vm, void *addr, size_t bytes);

/**
 * mt_vm_drop() - madvise(MADV_DONTNEED) of a page-aligned range that may lie partly outside of
 * regions. Return: 0 or -errno.
 */
int mt_vm_drop(struct mt_vm *vm, void *addr, size_t bytes);

/** mt_vm_in_pager() - is this the thread that serves faults? It must never wait for others. */
bool mt_vm_in_pager(void);

/** mt_vm_tell_unmanaged() - tell the daemon of guest RAM that was refused with -EMEDIUMTYPE */
void mt_vm_tell_unmanaged(struct mt_vm *vm, const void *addr, size_t bytes);

/** mt_vm_tell() - leave a warning in the daemon's event log */
void mt_vm_tell(struct mt_vm *vm, const char *text);

#endif
