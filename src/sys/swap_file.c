/* SPDX-License-Identifier: MIT */
/* swap_file.c - unnamed, preallocated files; see swap_file.h */
#include "sys/swap_file.h"
#include "base/cleanup.h"
#include "base/size.h"
#include "base/types.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

/* For file systems without O_TMPFILE: a named file that loses its name at once. */
static int swap_file_unlinked(const char *dir, struct mt_err *err)
{
	MT_AUTO_FREE char *path = NULL;
	int fd;

	if (asprintf(&path, "%s/memtide-XXXXXX", dir) < 0) {
		path = NULL;
		return mt_err_set(err, -ENOMEM, "no memory for a path");
	}
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return mt_err_set(err, -errno, "create a swap file in '%s': %s", dir,
				  strerror(errno));
	if (unlink(path) || fchmod(fd, 0)) {
		int rc = -errno;

		close(fd);
		return mt_err_set(err, rc, "unlink swap file '%s': %s", path, strerror(-rc));
	}
	return fd;
}

int mt_swap_file_open(const char *dir, struct mt_err *err)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0);

	if (fd >= 0)
		return fd;
	if (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)
		return swap_file_unlinked(dir, err);
	return mt_err_set(err, -errno, "create a swap file in '%s': %s", dir, strerror(errno));
}

static int swap_file_full(int fd, uint64_t more, struct mt_err *err)
{
	char want[MT_SIZE_TEXT_MAX], have[MT_SIZE_TEXT_MAX];
	struct statvfs fs;
	uint64_t room = 0;

	if (!fstatvfs(fd, &fs))
		room = (uint64_t)fs.f_bavail * fs.f_frsize;
	return mt_err_set(err, -ENOSPC,
			  "swap needs %s more and its file system has %s free; "
			  "make room or give the daemon another --swap-dir",
			  mt_size_text(more, want), mt_size_text(room, have));
}

int mt_swap_file_resize(int fd, uint64_t from, uint64_t bytes, struct mt_err *err)
{
	struct statvfs fs;
	int rc;

	if (bytes < from && ftruncate(fd, (off_t)bytes))
		return mt_err_set(err, -errno, "shrink swap file: %s", strerror(errno));
	if (bytes <= from)
		return 0;
	/* asked first, so that a hopeless wish does not fill the disk for a moment */
	if (!fstatvfs(fd, &fs) && (uint64_t)fs.f_bavail * fs.f_frsize < bytes - from)
		return swap_file_full(fd, bytes - from, err);
	do {
		rc = fallocate(fd, 0, (off_t)from, (off_t)(bytes - from)) ? -errno : 0;
	} while (rc == -EINTR);
	if (!rc)
		return 0;
	if (ftruncate(fd, (off_t)from)) {
		/* the blocks stay until the file goes; nothing more can be done */
	}
	if (rc == -ENOSPC || rc == -EDQUOT || rc == -EFBIG)
		return swap_file_full(fd, bytes - from, err);
	return mt_err_set(err, rc, "grow swap file to %llu bytes: %s", (unsigned long long)bytes,
			  strerror(-rc));
}

int mt_swap_file_check(const char *dir, int fd, uint64_t *ret_bytes, struct mt_err *err)
{
	struct statx file, directory;
	int flags = fcntl(fd, F_GETFL);

	/* What is known without asking: a file system of the peer's own would never answer. */
	if (flags < 0 ||
	    statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_BASIC_STATS, &file) ||
	    statx(AT_FDCWD, dir, 0, STATX_BASIC_STATS, &directory))
		return mt_err_set(err, -errno, "look at the file: %s", strerror(errno));
	if (file.stx_dev_major != directory.stx_dev_major ||
	    file.stx_dev_minor != directory.stx_dev_minor)
		return mt_err_set(err, -EXDEV, "it is not in the file system of '%s'", dir);
	if (!S_ISREG(file.stx_mode) || file.stx_nlink || file.stx_mode & 07777 ||
	    file.stx_uid != geteuid() || (flags & O_ACCMODE) != O_RDWR)
		return mt_err_set(err, -EPERM, "the file is not one that a daemon made");
	*ret_bytes = file.stx_size;
	return 0;
}

/* The default is two levels below what every host has. What fails here, mkdir(dir) tells about. */
static void swap_dir_make_parent(const char *dir)
{
	const char *slash = strrchr(dir, '/');
	char parent[PATH_MAX];

	if (!slash || slash == dir || slash - dir >= PATH_MAX)
		return;
	snprintf(parent, sizeof(parent), "%.*s", (int)(slash - dir), dir);
	mkdir(parent, 0755);
}

int mt_swap_dir_check(const char *dir, struct mt_err *err)
{
	MT_AUTO_CLOSE int fd = -1;
	struct stat st;
	int rc;

	swap_dir_make_parent(dir);
	if (mkdir(dir, 0700) && errno != EEXIST)
		return mt_err_set(
			err, -errno,
			"swap directory '%s': %s; create it or name another with --swap-dir", dir,
			strerror(errno));
	if (stat(dir, &st))
		return mt_err_set(err, -errno, "swap directory '%s': %s", dir, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return mt_err_set(
			err, -ENOTDIR,
			"swap directory '%s' is not a directory; name another with --swap-dir",
			dir);
	fd = mt_swap_file_open(dir, err);
	rc = fd < 0 ? fd : mt_swap_file_resize(fd, 0, MT_PAGE_SIZE, err);
	if (rc)
		mt_err_prefix(err, "swap directory '%s' can't be used", dir);
	return rc;
}

uint64_t mt_swap_dir_free_bytes(const char *dir)
{
	struct statvfs fs;

	return statvfs(dir, &fs) ? 0 : (uint64_t)fs.f_bavail * fs.f_frsize;
}
