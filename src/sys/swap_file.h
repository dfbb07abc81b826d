/* SPDX-License-Identifier: MIT */
/*
 * swap_file.h - swap files without a name, as large as they say
 *
 * A VM's swap file has no name and no permissions, so nobody else can open it and it goes with its
 * last descriptor. Its blocks are allocated when it grows, never later: a full disk must be met
 * when a VM starts, not when its memory has to go somewhere.
 */
#ifndef MT_SYS_SWAP_FILE_H
#define MT_SYS_SWAP_FILE_H

#include "base/err.h"

/** mt_swap_file_open() - an empty file in @dir. Return: descriptor or -errno. */
int mt_swap_file_open(const char *dir, struct mt_err *err);

/**
 * mt_swap_file_resize() - make @fd hold @bytes, all allocated
 * @from: its size now; when growing fails it is that size again
 *
 * Return: 0; -ENOSPC with what is needed and what there is in @err; another -errno.
 */
MT_MUST_CHECK int mt_swap_file_resize(int fd, uint64_t from, uint64_t bytes, struct mt_err *err);

/**
 * mt_swap_file_check() - is @fd a swap file that this daemon, or one before it, made in @dir?
 * @ret_bytes: its size
 *
 * The descriptor comes from somebody who is not trusted. Nobody else can make an unnamed file that
 * belongs to us and that nobody may open. Return: 0 or -errno.
 */
MT_MUST_CHECK int mt_swap_file_check(const char *dir, int fd, uint64_t *ret_bytes,
				     struct mt_err *err);

/** mt_swap_dir_check() - is @dir there, and can a swap file live in it? Creates its last two parts.
 * 0 or -errno. */
MT_MUST_CHECK int mt_swap_dir_check(const char *dir, struct mt_err *err);

/** mt_swap_dir_free_bytes() - room in the file system of @dir; 0 when that can't be told */
uint64_t mt_swap_dir_free_bytes(const char *dir);

#endif
