/* SPDX-License-Identifier: MIT */
/*
 * local_path.h - follow a path that somebody else chose, without waiting for his file system
 *
 * Whoever can mount a FUSE file system, or has one on a network, decides how long a look-up in it
 * takes. So mounts are not entered before it is known that they are of a kind that answers by
 * itself: disks, memory. Where "/" is, is the host's own business.
 */
#ifndef MT_SYS_LOCAL_PATH_H
#define MT_SYS_LOCAL_PATH_H

#include "base/err.h"

/**
 * mt_local_open() - find what is at the absolute path @path; links are followed
 * Return: a descriptor that only names it (O_PATH), or -errno: -EREMOTE for a path through another
 * kind of file system, -EINVAL for a relative one
 */
MT_MUST_CHECK int mt_local_open(const char *path, struct mt_err *err);

/** mt_local_connect() - mt_sock_connect() to a socket found like this, as a non-blocking socket */
MT_MUST_CHECK int mt_local_connect(const char *path, int type, struct mt_err *err);

/**
 * mt_local_open_dir() - the directory @name in @dir, to be read
 * Return: a descriptor or -errno: -EXDEV when something is mounted there, -ENOTDIR for a link
 */
MT_MUST_CHECK int mt_local_open_dir(int dir, const char *name);

#endif
