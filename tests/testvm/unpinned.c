/* SPDX-License-Identifier: MIT */
/*
 * unpinned.c - a file as on a file system that does not pin pages; see unpinned.h
 *
 * This program's fstatfs() is found before the C library's, by the preload library, too.
 */
#include "unpinned.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

static struct stat unpinned;

__attribute__((visibility("default"))) int fstatfs64(int fd, struct statfs64 *fs);
__attribute__((visibility("default"))) int fstatfs64(int fd, struct statfs64 *fs)
{
	struct stat st;

	if (syscall(SYS_fstatfs, fd, fs))
		return -1;
	if (!fstat(fd, &st) && st.st_dev == unpinned.st_dev && st.st_ino == unpinned.st_ino)
		fs->f_type = NFS_SUPER_MAGIC;
	return 0;
}

int unpinned_open(const char *how)
{
	int flags = O_TMPFILE | O_RDWR | O_CLOEXEC;
	int fd = open(".", flags, 0600);
	char path[32];

	if (fd < 0 || fstat(fd, &unpinned))
		return -1;
	if (!strcmp(how, "fcntl"))
		return fcntl(fd, F_SETFL, O_RDWR | O_DIRECT) ? -1 : fd;
	/* Once more, by its number. */
	memcpy(path, "/proc/self/fd/", 15);
	path[14] = (char)('0' + fd % 10);
	path[15] = '\0';
	if (fd > 9)
		return -1;
	if (!strcmp(how, "open"))
		return open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	return (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_DIRECT | O_CLOEXEC);
}
