/* SPDX-License-Identifier: MIT */
/*
 * local_path.c - one component after the other; see local_path.h
 *
 * openat2() stops in front of a mount (RESOLVE_NO_XDEV) without asking what is mounted. Then
 * /proc/self/mountinfo says what that is; and after the mount was entered, which for a descriptor
 * that only names asks nobody either, whether it is still the same.
 */
#include "sys/local_path.h"
#include "base/cleanup.h"
#include "sys/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define LOCAL_LINKS_MAX 40

/* Kinds of file system that wait for nothing but this host's disks. */
static const char *const local_kinds[] = {
	"bcachefs", "btrfs",  "devtmpfs", "erofs",   "ext2",  "ext3",   "ext4",  "f2fs",
	"jfs",      "nilfs2", "ntfs3",    "overlay", "ramfs", "rootfs", "tmpfs", "vfat",
	"xfs",      "zfs",    "exfat",    "proc",    "sysfs", "iso9660"};

struct local_walk {
	int at;              /* where we are */
	char rest[PATH_MAX]; /* still to go */
	unsigned int links;
};

static int local_openat2(int dir, const char *name, uint64_t flags, uint64_t resolve)
{
	struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = resolve};
	long fd;

	do {
		fd = syscall(SYS_openat2, dir, name, &how, sizeof(how));
	} while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : (int)fd;
}

int mt_local_open_dir(int dir, const char *name)
{
	return local_openat2(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW,
			     RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS);
}

/* In mountinfo blanks and the like are written as \040. In place. */
static void local_unescape(char *text)
{
	char *to = text;
	unsigned int code;

	for (; *text; text++) {
		if (text[0] == '\\' && sscanf(text + 1, "%3o", &code) == 1) {
			*to++ = (char)code;
			text += 3;
		} else {
			*to++ = *text;
		}
	}
	*to = '\0';
}

/* What is mounted at @point, on top: its number and whether it is of a local kind. */
static int local_mount(const char *point, int *ret_id, bool *ret_local)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	char line[2 * PATH_MAX], at[PATH_MAX], kind[64];
	const char *behind;
	int id;

	if (!file)
		return -errno;
	*ret_id = -1;
	while (fgets(line, sizeof(line), file)) {
		behind = strstr(line, " - ");
		if (!behind || sscanf(line, "%d %*d %*s %*s %4095s", &id, at) != 2 ||
		    sscanf(behind, " - %63s", kind) != 1)
			continue;
		local_unescape(at);
		if (strcmp(at, point))
			continue;
		*ret_id = id;
		*ret_local = false;
		for (size_t i = 0; i < MT_ARRAY_SIZE(local_kinds); i++)
			*ret_local |= !strcmp(kind, local_kinds[i]);
	}
	fclose(file);
	return *ret_id < 0 ? -EREMOTE : 0;
}

/* The number of the mount in which @fd is; -1: unknown. */
static int local_mount_of(int fd)
{
	char path[48], line[128];
	int id = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "re");
	while (file && id < 0 && fgets(line, sizeof(line), file))
		if (sscanf(line, "mnt_id: %d", &id) != 1)
			id = -1;
	if (file)
		fclose(file);
	return id;
}

/* Something is mounted at @name: enter it if that can't make us wait. Return: descriptor, -errno */
static int local_enter(int dir, const char *name)
{
	char link[48], point[PATH_MAX + NAME_MAX + 2];
	bool local = false;
	ssize_t length;
	int fd, id, rc;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", dir);
	length = readlink(link, point, PATH_MAX);
	if (length <= 0 || length >= PATH_MAX)
		return -EREMOTE;
	/* the root is the one directory whose name ends in a slash */
	snprintf(point + length, sizeof(point) - (size_t)length, "%s%s", length > 1 ? "/" : "",
		 name);
	rc = local_mount(point, &id, &local);
	if (rc || !local)
		return rc ? rc : -EREMOTE;
	fd = local_openat2(dir, name, O_PATH | O_NOFOLLOW, RESOLVE_NO_SYMLINKS);
	if (fd < 0 || local_mount_of(fd) == id)
		return fd;
	close(fd);
	return -EREMOTE;
}

/* The next component of what is left to go, cut off; NULL: none. */
static char *local_next(struct local_walk *walk, char name[static NAME_MAX + 1])
{
	size_t skip = strspn(walk->rest, "/"), length = strcspn(walk->rest + skip, "/");

	if (!length || length > NAME_MAX)
		return NULL;
	memcpy(name, walk->rest + skip, length);
	name[length] = '\0';
	memmove(walk->rest, walk->rest + skip + length, strlen(walk->rest + skip + length) + 1);
	return name;
}

/* @fd is a link: what it says comes before what is left to go. */
static int local_link(struct local_walk *walk, int fd)
{
	char target[PATH_MAX], rest[PATH_MAX];
	ssize_t length = readlinkat(fd, "", target, sizeof(target) - 1);
	int root;

	if (length < 0)
		return -errno;
	target[length] = '\0';
	if (++walk->links > LOCAL_LINKS_MAX)
		return -ELOOP;
	memcpy(rest, walk->rest, sizeof(rest));
	if (snprintf(walk->rest, sizeof(walk->rest), "%s/%s", target, rest) >=
	    (int)sizeof(walk->rest))
		return -ENAMETOOLONG;
	if (target[0] != '/')
		return 0;
	root = local_openat2(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0);
	if (root < 0)
		return root;
	close(walk->at);
	walk->at = root;
	return 0;
}

static int local_step(struct local_walk *walk, const char *name)
{
	/* upwards only leads to where we came from */
	uint64_t resolve = strcmp(name, "..") ? RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS : 0;
	MT_AUTO_CLOSE int fd = local_openat2(walk->at, name, O_PATH | O_NOFOLLOW, resolve);
	struct stat st;

	if (fd == -EXDEV)
		fd = local_enter(walk->at, name);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st))
		return -errno;
	if (S_ISLNK(st.st_mode))
		return local_link(walk, fd);
	close(walk->at);
	walk->at = mt_steal_fd(&fd);
	return 0;
}

int mt_local_open(const char *path, struct mt_err *err)
{
	struct local_walk walk = {.at = -1};
	char name[NAME_MAX + 1];
	int rc = 0;

	if (path[0] != '/' || strlen(path) >= sizeof(walk.rest))
		return mt_err_set(err, -EINVAL, "'%.120s' is no absolute path", path);
	snprintf(walk.rest, sizeof(walk.rest), "%s", path);
	walk.at = local_openat2(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0);
	if (walk.at < 0)
		return mt_err_set(err, walk.at, "'/': %s", strerror(-walk.at));
	while (!rc && local_next(&walk, name))
		if (strcmp(name, "."))
			rc = local_step(&walk, name);
	if (!rc && walk.rest[strspn(walk.rest, "/")])
		rc = -ENAMETOOLONG;
	if (!rc)
		return walk.at;
	close(walk.at);
	if (rc == -EREMOTE)
		return mt_err_set(err, rc,
				  "'%s' is on a file system that could keep us waiting (FUSE, a "
				  "network's); use a local one",
				  path);
	return mt_err_set(err, rc, "'%s': %s", path, strerror(-rc));
}

int mt_local_connect(const char *path, int type, struct mt_err *err)
{
	MT_AUTO_CLOSE int fd = mt_local_open(path, err);
	char link[48];
	int rc;

	if (fd < 0)
		return fd;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	rc = mt_sock_connect(link, type | SOCK_NONBLOCK, NULL);
	return rc < 0 ? mt_err_set(err, rc, "'%s': %s", path, strerror(-rc)) : rc;
}
