/* SPDX-License-Identifier: MIT */
/* own_fds.c - a short list of descriptors; see own_fds.h */
#include "base/own_fds.h"
#include "base/compiler.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <unistd.h>

/* A VM has some twenty; what a process with many VMs has beyond that is not protected. */
#define OWN_FDS_MAX 64
/* Ours are from here on where the limit is the usual one, and this far below a lower one. */
#define OWN_FDS_FIRST 960
#define OWN_FDS_BELOW 64

static _Atomic int own_fd[OWN_FDS_MAX]; /* number + 1; 0: free */
static _Atomic pid_t own_pid;

/* Some lists of descriptors, and select(), end at 1024. */
static int own_first(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur < 4 * OWN_FDS_BELOW)
		return 0;
	return (int)MT_MIN(limit.rlim_cur - OWN_FDS_BELOW, (rlim_t)OWN_FDS_FIRST);
}

static void own_note(int fd)
{
	atomic_store_explicit(&own_pid, getpid(), memory_order_relaxed);
	for (int i = 0; i < OWN_FDS_MAX; i++) {
		int none = 0;

		if (atomic_compare_exchange_strong(&own_fd[i], &none, fd + 1))
			return;
	}
}

static bool own_listed(int fd)
{
	for (int i = 0; i < OWN_FDS_MAX; i++)
		if (atomic_load_explicit(&own_fd[i], memory_order_relaxed) == fd + 1)
			return true;
	return false;
}

/*
 * @fd once more, at a number of ours; -1 without one. A number that is on the list and free was
 * closed behind our back: whoever still uses it must find nothing there.
 */
static int own_move(int fd)
{
	int moved = fcntl(fd, F_DUPFD_CLOEXEC, own_first());

	while (moved >= 0 && own_listed(moved)) {
		int taken = moved;

		moved = fcntl(fd, F_DUPFD_CLOEXEC, taken + 1);
		close(taken);
	}
	return moved;
}

int mt_fd_own(int fd)
{
	int saved_errno = errno;
	int moved = fd < 0 ? -1 : own_move(fd);

	if (moved >= 0) {
		close(fd);
		fd = moved;
	}
	errno = saved_errno;
	if (fd >= 0)
		own_note(fd);
	return fd;
}

void mt_fd_disown(int fd)
{
	for (int i = 0; i < OWN_FDS_MAX; i++) {
		int is = fd + 1;

		if (fd >= 0 && atomic_compare_exchange_strong(&own_fd[i], &is, 0))
			return;
	}
}

void mt_fd_close(int fd)
{
	if (fd < 0)
		return;
	/* First, or it might be taken off for whoever has got the number since. */
	mt_fd_disown(fd);
	close(fd);
}

/* Children share the list, after vfork() even the memory it is in, but not the descriptors. */
static bool own_here(void)
{
	return atomic_load_explicit(&own_pid, memory_order_relaxed) == getpid();
}

bool mt_fd_is_own(int fd)
{
	return fd >= 0 && own_listed(fd) && own_here();
}

int mt_fd_next_own(int from)
{
	int next = -1;

	for (int i = 0; i < OWN_FDS_MAX; i++) {
		int fd = atomic_load_explicit(&own_fd[i], memory_order_relaxed) - 1;

		if (fd >= 0 && fd >= from && (next < 0 || fd < next))
			next = fd;
	}
	return next >= 0 && own_here() ? next : -1;
}

void mt_fds_forget(void)
{
	for (int i = 0; i < OWN_FDS_MAX; i++)
		atomic_store_explicit(&own_fd[i], 0, memory_order_relaxed);
}
