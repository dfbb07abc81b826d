/* SPDX-License-Identifier: MIT */
/*
 * swap_io.c - choosing how to talk to a swap file
 *
 * Direct I/O is wanted because a page that went to the swap file should not stay behind in the
 * host's page cache: that would spend the very memory swapping was to win. File systems that
 * can't do it either refuse the flag or, worse, take the flag and refuse the first transfer, so
 * one is tried.
 */
#include "sys/swap_io.h"

#include <fcntl.h>
#include <unistd.h>

bool mt_swap_io_is_direct(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags >= 0 && (flags & O_DIRECT);
}

bool mt_swap_io_set_direct(int fd)
{
	_Alignas(MT_PAGE_SIZE) uint8_t page[MT_PAGE_SIZE];
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return false;
	if (fcntl(fd, F_SETFL, flags | O_DIRECT))
		return false;
	if (pread(fd, page, sizeof(page), 0) >= 0)
		return true;
	fcntl(fd, F_SETFL, flags & ~O_DIRECT);
	return false;
}

int mt_swap_io_new(int fd, uint32_t depth, int event_fd, struct mt_swap_io *ret_io,
		   struct mt_err *err)
{
	mt_swap_io_set_direct(fd);
	/* Where io_uring is forbidden, or has no locked memory left, a thread will do. */
	if (mt_swap_io_new_uring(fd, depth, event_fd, ret_io, NULL) == 0)
		return 0;
	return mt_swap_io_new_thread(fd, depth, event_fd, ret_io, err);
}
