/* SPDX-License-Identifier: MIT */
/*
 * qemu_name.h - what a VM is called when only QEMU's command line says so
 *
 * A manager of VMs like libvirt starts QEMU itself, and its configuration would have to repeat the
 * name that "-name guest=NAME" tells. So an empty MEMTIDE_VM means: that one.
 */
#ifndef MT_PRELOAD_QEMU_NAME_H
#define MT_PRELOAD_QEMU_NAME_H

#include <stddef.h>

/**
 * qemu_name_find() - the guest's name on a command line, made into a VM's name
 * @args: the arguments, each ended by a NUL; @bytes of them
 * @ret: what is no character for a name is "_", and what is too long is cut; empty without -name
 */
void qemu_name_find(const char *args, size_t bytes, char *ret, size_t room);

/** qemu_name_own() - the same for this process; "vm-PID" when its command line names none */
void qemu_name_own(char *ret, size_t room);

#endif
