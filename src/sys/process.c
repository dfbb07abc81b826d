/* SPDX-License-Identifier: MIT */
/* process.c - process descriptors; see process.h */
#include "sys/process.h"
#include "base/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* Linux 6.5; missing in Debian 12's headers. */
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

/* Fields of /proc/PID/stat after the command's closing parenthesis, up to starttime (the 22nd of
 * all). */
#define STAT_FIELDS_TO_START 20

bool mt_process_has_kvm(void)
{
	DIR *dir = opendir("/proc/self/fd");
	const struct dirent *entry;
	char target[64];
	bool found = false;
	ssize_t length;

	while (dir && !found && (entry = readdir(dir))) {
		length = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);
		target[MT_MAX(length, 0)] = '\0';
		found = !strcmp(target, "anon_inode:kvm-vm");
	}
	if (dir)
		closedir(dir);
	return found;
}

int mt_pidfd_open(pid_t pid)
{
	int fd = pidfd_open(pid, 0);

	return fd < 0 ? -errno : fd;
}

int mt_pidfd_of_peer(int sock)
{
	struct ucred cred;
	socklen_t length = sizeof(cred);
	int fd = -1;
	socklen_t fd_length = sizeof(fd);

	if (!getsockopt(sock, SOL_SOCKET, SO_PEERPIDFD, &fd, &fd_length))
		return fd;
	if (errno != ENOPROTOOPT)
		return -errno;
	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &length))
		return -errno;
	return mt_pidfd_open(cred.pid);
}

bool mt_pidfd_ended(int pidfd)
{
	struct pollfd wait = {.fd = pidfd, .events = POLLIN};

	return poll(&wait, 1, 0) > 0;
}

int mt_pid_start_time(pid_t pid, uint64_t *ret_ticks)
{
	char path[32], text[1024];
	MT_AUTO_CLOSE int fd = -1;
	const char *p;
	ssize_t got;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	got = read(fd, text, sizeof(text) - 1);
	if (got <= 0)
		return got < 0 ? -errno : -ESRCH;
	text[got] = '\0';
	/* the command may hold blanks and parentheses: count from its end */
	p = strrchr(text, ')');
	for (unsigned int i = 0; p && i < STAT_FIELDS_TO_START; i++) {
		p = strchr(p, ' ');
		if (p)
			p++;
	}
	if (!p)
		return -EPROTO;
	*ret_ticks = strtoull(p, NULL, 10);
	return 0;
}
