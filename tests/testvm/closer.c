/* SPDX-License-Identifier: MIT */
/* closer.c - a VMM that closes descriptors it did not open; see closer.h */
#include "closer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIRST 3
#define LAST  1023

/* Descriptors from FIRST on; -1 when it can't be told. */
static int count_open(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	if (!dir)
		return -1;
	for (struct dirent *entry; (entry = readdir(dir));)
		count += entry->d_name[0] != '.' && strtol(entry->d_name, NULL, 10) >= FIRST &&
			 strtol(entry->d_name, NULL, 10) != dirfd(dir);
	closedir(dir);
	return count;
}

/* A child has descriptors of its own, and can close them all. Return: could it? */
static int child_closes(void)
{
	int status = -1;
	pid_t pid = fork();

	if (pid < 0)
		return 0;
	if (!pid) {
		if (dup2(STDIN_FILENO, LAST) != LAST)
			_exit(1);
		closefrom(FIRST);
		_exit(count_open() != 0);
	}
	return waitpid(pid, &status, 0) == pid && status == 0;
}

/* Of those that are open, which ones are not to be replaced? */
static int count_busy(void)
{
	int busy = 0;

	for (int fd = FIRST; fd <= LAST; fd++) {
		if (dup2(STDIN_FILENO, fd) == fd)
			continue;
		if (errno != EBUSY || dup3(STDIN_FILENO, fd, O_CLOEXEC) != -1 || errno != EBUSY ||
		    dup2(LAST + 1, fd) != -1 || errno != EBADF)
			return -1;
		busy++;
	}
	return busy;
}

int closer_library(void)
{
	int open_before, closed = 0;

	if (close_range(FIRST, UINT_MAX, 0))
		return 0;
	open_before = count_open();
	printf("# %d descriptors are not the VMM's\n", open_before);
	for (int fd = FIRST; fd <= LAST; fd++)
		closed += close(fd) == 0 || errno != EBADF;
	closefrom(FIRST);
	if (open_before < 8 || closed || count_busy() != open_before)
		return 0;
	/* What was put between ours goes, with a table of its own, too. */
	if (close_range(FIRST, UINT_MAX, CLOSE_RANGE_CLOEXEC) ||
	    close_range(FIRST, UINT_MAX, CLOSE_RANGE_UNSHARE) || count_open() != open_before)
		return 0;
	if (close_range(FIRST + 1, FIRST, 0) != -1 || errno != EINVAL ||
	    close_range(FIRST, UINT_MAX, 1 << 20) != -1 || errno != EINVAL)
		return 0;
	return child_closes() && count_open() == open_before;
}

int closer_raw(void)
{
	return syscall(SYS_close_range, FIRST, UINT_MAX, 0) == 0;
}
