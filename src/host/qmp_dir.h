/* SPDX-License-Identifier: MIT */
/*
 * qmp_dir.h - private directories for VMs' QMP sockets
 *
 * A VMM makes its QMP socket itself, under whatever user it runs, and whoever reaches that socket
 * rules the VM. So the daemon makes a directory for each VM, beside its own socket
 * (SOCKET.qmp/XXXXXXXX), that belongs to the user who starts the VM and lets nobody else in.
 * "memtide run" puts into it what QEMU is told about the socket. It goes when the VM goes; those of
 * VMs that ended while no daemon ran go when the next one starts.
 */
#ifndef MT_HOST_QMP_DIR_H
#define MT_HOST_QMP_DIR_H

#include "host/server.h"

/**
 * mt_qmp_dir_make() - a directory that belongs to @uid
 * @ret_path: where the VMM is to put its QMP socket
 *
 * Return: 0; -ENAMETOOLONG: the daemon's socket has too long a path; another -errno
 */
MT_MUST_CHECK int mt_qmp_dir_make(const struct mt_server *server, uid_t uid,
				  char ret_path[static MT_QMP_PATH_MAX], struct mt_err *err);

/** mt_qmp_dir_remove() - the directory of the socket @path and all in it, if we made it */
void mt_qmp_dir_remove(const struct mt_server *server, const char *path);

/** mt_qmp_dir_sweep() - all directories that no VM we know uses */
void mt_qmp_dir_sweep(const struct mt_server *server);

/**
 * mt_qmp_path_check() - may @path be used as somebody's QMP socket?
 * Return: 0; -EINVAL: not absolute, or with characters that are no text; -ENAMETOOLONG
 */
MT_MUST_CHECK int mt_qmp_path_check(const char *path, struct mt_err *err);

#endif
