/* SPDX-License-Identifier: MIT */
/*
 * files.c - the monitor's descriptors in an unmodified VMM stay open
 *
 * Pages that are out come back through a userfaultfd, from a swap file. A program that closes all
 * descriptors it did not open itself would take them along, so this library stands in front of the
 * calls that do. To the VMM ours look as if they were not there: close() finds nothing, ranges go
 * around them. dup2() can't be answered that way, as it may put a file in place of nothing; it
 * fails as it does when another thread is about to take the number.
 *
 * In a child of the VMM these calls do what they always do.
 */
#include "base/compiler.h"
#include "base/own_fds.h"
#include "preload/preload.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FILES_UNSHARE 2U /* CLOSE_RANGE_UNSHARE, Linux 5.9 */
#define FILES_CLOEXEC 4U /* CLOSE_RANGE_CLOEXEC, Linux 5.11 */

static bool files_keep(int fd)
{
	return mt_fd_is_own(fd) && !preload_is_inside();
}

MT_PUBLIC int close(int fd);
MT_PUBLIC int close(int fd)
{
	if (files_keep(fd)) {
		errno = EBADF;
		return -1;
	}
	return (int)syscall(SYS_close, fd);
}

/* The number of our next descriptor in the range; -1 when there is none, or none is to be kept. */
static int files_next_kept(unsigned int first, unsigned int last)
{
	int own = first > INT_MAX || preload_is_inside() ? -1 : mt_fd_next_own((int)first);

	return own >= 0 && (unsigned int)own <= last ? own : -1;
}

static int files_close_range(unsigned int first, unsigned int last, unsigned int flags)
{
	return (int)syscall(SYS_close_range, first, last, flags);
}

MT_PUBLIC int close_range(unsigned int first, unsigned int last, int flags);
MT_PUBLIC int close_range(unsigned int first, unsigned int last, int flags)
{
	unsigned int how = (unsigned int)flags;
	int own = first > last ? -1 : files_next_kept(first, last);

	/* Ours are closed in children anyway; to mark them changes nothing. */
	if (own < 0 || how & FILES_CLOEXEC)
		return files_close_range(first, last, how);
	/* Nothing is closed by this, but who asked for a table of his own gets it. */
	if (how & FILES_UNSHARE &&
	    files_close_range((unsigned int)own, (unsigned int)own, how | FILES_CLOEXEC))
		return -1;
	while (own >= 0) {
		if ((unsigned int)own > first &&
		    files_close_range(first, (unsigned int)own - 1, how))
			return -1;
		first = (unsigned int)own + 1;
		own = first > last ? -1 : files_next_kept(first, last);
	}
	return first > last ? 0 : files_close_range(first, last, how);
}

MT_PUBLIC void closefrom(int first);
MT_PUBLIC void closefrom(int first)
{
	int saved_errno = errno;

	first = first < 0 ? 0 : first;
	/* A sandbox may know nothing of the call. */
	if (close_range((unsigned int)first, UINT_MAX, 0))
		for (long fd = first; fd < sysconf(_SC_OPEN_MAX); fd++)
			close((int)fd);
	errno = saved_errno;
}

/* Would it put @from in the place of one of ours? Then errno says what the call fails with. */
static bool files_deny_dup(int from, int to)
{
	if (from == to || !files_keep(to))
		return false;
	/* One that is not there is the first thing that the kernel complains of. */
	if (fcntl(from, F_GETFD) >= 0)
		errno = EBUSY;
	return true;
}

MT_PUBLIC int dup2(int from, int to);
MT_PUBLIC int dup2(int from, int to)
{
	if (files_deny_dup(from, to))
		return -1;
	if (from == to)
		return fcntl(from, F_GETFD) < 0 ? -1 : to;
	return (int)syscall(SYS_dup3, from, to, 0);
}

MT_PUBLIC int dup3(int from, int to, int flags);
MT_PUBLIC int dup3(int from, int to, int flags)
{
	if (files_deny_dup(from, to))
		return -1;
	return (int)syscall(SYS_dup3, from, to, flags);
}
