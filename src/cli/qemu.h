/* SPDX-License-Identifier: MIT */
/*
 * qemu.h - what a QEMU command line has, and what it lacks for ballooning
 *
 * Ballooning needs a virtio balloon in the guest and a QMP socket of ours. Whatever the user's
 * command line has stays as it is; what it lacks is added at its end, so that nothing of the user's
 * gets another place on a bus:
 *
 *   -device virtio-balloon-pci,...   unless there is a balloon; on microvm virtio-balloon-device
 *   -readconfig FILE                 FILE names the socket. An option -qmp or -mon would tell QEMU
 *                                    to leave out its default monitor, and change what was there.
 */
#ifndef MT_CLI_QEMU_H
#define MT_CLI_QEMU_H

#include "base/err.h"

#include <stdbool.h>

struct qemu_look {
	bool is_qemu;        /* by the name of the program */
	bool has_balloon;    /* the command line brings one */
	const char *balloon; /* device to add; NULL: none needed, or none possible */
	const char *why;     /* none can be added: the reason */
};

/** qemu_look() - read the command line of the VMM at @path */
void qemu_look(const char *path, char *const *argv, struct qemu_look *ret);

/**
 * qemu_extend() - @argv with @device (may be NULL) and the configuration @config (may be NULL)
 * Return: a new array whose strings are borrowed, but for those made here; NULL: no memory
 */
char **qemu_extend(char *const *argv, const char *device, const char *config);

/**
 * qemu_write_config() - a file beside @socket that makes QEMU serve QMP there
 * @ret_path: its path
 *
 * Return: 0 or -errno
 */
MT_MUST_CHECK int qemu_write_config(const char *socket, char *ret_path, size_t room,
				    struct mt_err *err);

#endif
