/* SPDX-License-Identifier: MIT */
/*
 * swap_io.h - page transfers to and from a swap file: io_uring, or a thread where that is refused
 *
 * Both implement monitor/swap_io.h. Containers and hardened hosts often forbid io_uring, and a
 * swap file must work there too; the thread is slower (one transfer at a time) but needs nothing
 * special.
 */
#ifndef MT_SYS_SWAP_IO_H
#define MT_SYS_SWAP_IO_H

#include "base/err.h"
#include "monitor/swap_io.h"

#define MT_SWAP_IO_DEPTH_MAX 4096

/**
 * mt_swap_io_new() - the best there is for the file @fd
 * @fd: borrowed, open for reading and writing; switched to direct I/O where its file system can
 * @depth: transfers that can be under way at a time, 1..MT_SWAP_IO_DEPTH_MAX
 * @event_fd: eventfd to signal (borrowed, the caller empties it before it reaps), or -1 to make
 *	      one, which reap() empties itself
 * @ret_io: result, to be given back with mt_swap_io_free(); untouched on failure
 *
 * Return: 0 or -errno.
 */
MT_MUST_CHECK int mt_swap_io_new(int fd, uint32_t depth, int event_fd, struct mt_swap_io *ret_io,
				 struct mt_err *err);

/** mt_swap_io_new_uring() - io_uring or failure; leaves the file's mode alone */
MT_MUST_CHECK int mt_swap_io_new_uring(int fd, uint32_t depth, int event_fd,
				       struct mt_swap_io *ret_io, struct mt_err *err);

/** mt_swap_io_new_thread() - a thread that reads and writes; leaves the file's mode alone */
MT_MUST_CHECK int mt_swap_io_new_thread(int fd, uint32_t depth, int event_fd,
					struct mt_swap_io *ret_io, struct mt_err *err);

/** mt_swap_io_set_direct() - switch @fd to direct I/O if that works. Return: does it? */
bool mt_swap_io_set_direct(int fd);

/** mt_swap_io_is_direct() - is @fd switched to direct I/O? */
bool mt_swap_io_is_direct(int fd);

#endif
