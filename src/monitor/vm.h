/* SPDX-License-Identifier: MIT */
/* vm.h - what the preload library needs of a VM beyond the public API */
#ifndef MT_MONITOR_VM_H
#define MT_MONITOR_VM_H

#include "memtide/memtide.h"

#include <stdbool.h>

/** mt_vm_holds() - does any managed region overlap the range? Any thread, no locks. */
bool mt_vm_holds(struct mt_vm *vm, const void *addr, size_t bytes);

/**
 * mt_vm_replace() - a call of the VMM that unmaps a range of its address space, or maps another
 * thing there
 * @change: makes the system call; runs in the pager's thread. Return: 0 or -errno.
 *
 * Ends the management of regions that lie in the range whole, gives up the pages of those that
 * don't. When the call fails nothing has changed, and no page is lost. Return: what @change
 * returned.
 */
int mt_vm_replace(struct mt_vm *vm, void *addr, size_t bytes, int (*change)(void *ctx), void *ctx);

/**
 * mt_vm_let_go() - bring every page of the regions in a range back and end their management
 *
 * For a VMM that is about to move guest memory to another address: pages that are out would be
 * missing there, and read as zeros. Return: 0, or -EIO when a page is lost and nothing may move.
 */
int mt_vm_let_go(struct mt_vm *vm, void *addr, size_t bytes);

/**
 * mt_vm_drop() - madvise(MADV_DONTNEED) of a page-aligned range that may lie partly outside of
 * regions. Return: 0 or -errno.
 */
int mt_vm_drop(struct mt_vm *vm, void *addr, size_t bytes);

/**
 * mt_vm_advised() - memory has been marked with madvise(): look what is different now
 *
 * What replaces frames is marked alike, or the kernel could not join it with what is around it.
 * Waits for the pager.
 */
void mt_vm_advised(struct mt_vm *vm, const void *addr, size_t bytes);

/**
 * mt_vm_direct_io() - the VMM has just opened @fd for direct I/O
 *
 * When this returns no page is moved under I/O through it that the kernel does not report.
 */
void mt_vm_direct_io(struct mt_vm *vm, int fd);

/** mt_vm_tell_unmanaged() - tell the daemon of guest RAM that was refused with -EMEDIUMTYPE */
void mt_vm_tell_unmanaged(struct mt_vm *vm, const void *addr, size_t bytes);

/** mt_vm_tell() - leave a warning in the daemon's event log */
void mt_vm_tell(struct mt_vm *vm, const char *text);

#endif
