/* SPDX-License-Identifier: MIT */
/* direct_io.c - file systems by their numbers, descriptors by /proc; see direct_io.h */
#include "sys/direct_io.h"
#include "base/compiler.h"
#include "base/own_fds.h"
#include "sys/linux_compat.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#define VHOST_SCSI "/dev/vhost-scsi"
/* Mounts remembered. */
#define DIRECT_MOUNTS 256U
#define DIRECT_FDS    "/proc/thread-self/fd"
#define DIRECT_LISTED (O_RDONLY | O_DIRECTORY | O_CLOEXEC)

/* A mount's number and, in the lowest bit, whether it takes; 0: free. */
static _Atomic uint64_t direct_mount[DIRECT_MOUNTS];

/* As getdents64() gives them. */
struct direct_entry {
	uint64_t inode;
	int64_t next;
	uint16_t bytes;
	uint8_t type;
	char name[];
};

bool mt_direct_io_takes(uint64_t fs_magic)
{
	static const uint32_t takes[] = {
		NFS_SUPER_MAGIC, CEPH_SUPER_MAGIC, 0x0bd00bd0, /* Lustre */
		0x47504653,                                    /* GPFS */
		0x19830326,                                    /* BeeGFS */
		0xaad7aaea,                                    /* PanFS */
		0xa501fcf5,                                    /* VxFS */
		0xbeefdead,                                    /* StorNext */
		0x61636673,                                    /* ACFS */
	};

	for (size_t i = 0; i < MT_ARRAY_SIZE(takes); i++)
		if ((uint32_t)fs_magic == takes[i])
			return true;
	return false;
}

void mt_direct_io_name(int fd, char *name, size_t room)
{
	char path[32];
	ssize_t got;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	got = readlink(path, name, room - 1);
	name[got < 0 ? 0 : got] = '\0';
}

static bool direct_type_takes(const char *type, size_t length)
{
	static const char *const takes[] = {"nfs",    "nfs4",  "ceph", "lustre", "gpfs",
					    "beegfs", "panfs", "vxfs", "cvfs",   "acfs"};

	for (size_t i = 0; i < MT_ARRAY_SIZE(takes); i++)
		if (strlen(takes[i]) == length && !strncmp(type, takes[i], length))
			return true;
	return false;
}

bool mt_direct_io_known(const char *filesystems)
{
	/* Lines of "nodev", or nothing, a tab, and a name. */
	for (const char *tab = filesystems; (tab = strchr(tab, '\t')); tab++)
		if (direct_type_takes(tab + 1, strcspn(tab + 1, "\n")))
			return true;
	return false;
}

/* Without an answer, any may be there. */
static bool direct_kernel_knows(void)
{
	char text[8192];
	int fd = open("/proc/filesystems", O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return true;
	got = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (got < 0)
		return true;
	text[got] = '\0';
	return got == sizeof(text) - 1 || mt_direct_io_known(text);
}

/* Is the link @name in directory @dir one to that device? */
static bool direct_is_vhost_scsi(int dir, const char *name)
{
	char target[sizeof(VHOST_SCSI) + 1];
	ssize_t got = readlinkat(dir, name, target, sizeof(target));

	return got == sizeof(VHOST_SCSI) - 1 && !memcmp(target, VHOST_SCSI, (size_t)got);
}

/* False when it is sure that this kernel has no such device. */
static bool direct_has_vhost_scsi(const struct mt_direct_lists *lists)
{
	return lists->misc < 0 || !faccessat(lists->misc, "vhost-scsi", F_OK, 0);
}

/* Is @fd open for direct I/O, and not ours? Of others it does not matter where they lie. */
static bool direct_is(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags >= 0 && flags & O_DIRECT && !(flags & O_PATH) && !mt_fd_is_own(fd);
}

static uint64_t direct_statx_mount(int fd)
{
	struct statx at;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MNT_ID_UNIQUE, &at) ||
	    !(at.stx_mask & STATX_MNT_ID_UNIQUE))
		return 0;
	return at.stx_mnt_id;
}

/* The number of @fd's mount; 0 without one. Its file system has no part in the first way. */
static uint64_t direct_mount_of(int fd)
{
	struct {
		struct file_handle head;
		unsigned char rest[MAX_HANDLE_SZ];
	} handle = {.head = {.handle_bytes = MAX_HANDLE_SZ}};
	uint64_t mount = 0;

	if (!syscall(SYS_name_to_handle_at, fd, "", &handle, &mount,
		     AT_EMPTY_PATH | AT_HANDLE_FID | AT_HANDLE_MNT_ID_UNIQUE))
		return mount;
	return direct_statx_mount(fd);
}

/* Return: true when it was asked before. */
static bool direct_remembered(uint64_t mount, bool *ret_takes)
{
	for (unsigned int i = 0; mount && i < DIRECT_MOUNTS; i++) {
		uint64_t entry = atomic_load_explicit(&direct_mount[i], memory_order_relaxed);

		*ret_takes = entry & 1;
		if (entry >> 1 == mount)
			return true;
	}
	return false;
}

static void direct_remember(uint64_t mount, bool takes)
{
	uint64_t entry = mount << 1 | takes;

	for (unsigned int i = 0; i < DIRECT_MOUNTS; i++) {
		uint64_t other = atomic_load_explicit(&direct_mount[i], memory_order_relaxed);

		if ((!other || other >> 1 == mount) &&
		    atomic_compare_exchange_strong(&direct_mount[i], &other, entry))
			return;
	}
	/* Most of them are long gone. Who still is there is asked once more. */
	for (unsigned int i = 1; i < DIRECT_MOUNTS; i++)
		atomic_store(&direct_mount[i], 0);
	atomic_store(&direct_mount[0], entry);
}

/* Not of a copy of @fd: to close one would take the VMM's locks on the file away. */
static bool direct_ask(int fd)
{
	uint64_t mount = direct_mount_of(fd);
	struct statfs fs;
	bool takes;

	/* What can't be asked or remembered would never be known to be none. */
	if (fstatfs(fd, &fs))
		return errno != EBADF;
	/* The VMM may have closed it, and opened another. */
	if (!mount || direct_mount_of(fd) != mount)
		return true;
	takes = (uint32_t)fs.f_type == OVERLAYFS_SUPER_MAGIC
			? direct_kernel_knows()
			: mt_direct_io_takes((uint64_t)fs.f_type);
	direct_remember(mount, takes);
	return takes;
}

bool mt_direct_io_risky(int fd)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return direct_is_vhost_scsi(AT_FDCWD, path) || (direct_is(fd) && direct_ask(fd));
}

/* The same, with each mount asked once. */
static bool direct_asks(const struct mt_direct_lists *lists, int fd, const char *number)
{
	bool takes;

	if (direct_is_vhost_scsi(lists->fds, number))
		return true;
	if (!direct_is(fd))
		return false;
	return direct_remembered(direct_mount_of(fd), &takes) ? takes : direct_ask(fd);
}

/* The same, of what is remembered alone. */
static bool direct_remembers(const struct mt_direct_lists *lists, int fd, const char *number)
{
	bool takes;

	(void)lists;
	(void)number;
	return direct_is(fd) && (!direct_remembered(direct_mount_of(fd), &takes) || takes);
}

static bool direct_remembers_scsi(const struct mt_direct_lists *lists, int fd, const char *number)
{
	return direct_is_vhost_scsi(lists->fds, number) || direct_remembers(lists, fd, number);
}

typedef bool (*direct_risky_fn)(const struct mt_direct_lists *lists, int fd, const char *number);

/*
 * Calls @risky for each descriptor that is listed until it says so. Return: its number, -1 for
 * none, -2 when the list could not be read.
 */
static int direct_each(const struct mt_direct_lists *lists, direct_risky_fn risky)
{
	char text[2048] __attribute__((aligned(8)));
	bool complete = false;
	long got;

	if (lseek(lists->fds, 0, SEEK_SET))
		return -2;
	while ((got = syscall(SYS_getdents64, lists->fds, text, sizeof(text))) > 0) {
		const struct direct_entry *entry;

		for (long at = 0; at < got; at += entry->bytes) {
			char *end;
			int fd;

			entry = (const void *)(text + at);
			fd = (int)strtol(entry->name, &end, 10);
			if (end == entry->name || *end)
				continue;
			/* The list of a thread that has ended is empty. */
			complete |= fd == lists->fds;
			if (fd != lists->fds && risky(lists, fd, entry->name))
				return fd;
		}
	}
	return complete && !got ? -1 : -2;
}

/* The same; if need be with the list as this thread has it. */
static int direct_look(const struct mt_direct_lists *lists, direct_risky_fn risky)
{
	struct mt_direct_lists anew = *lists;
	int found = direct_each(lists, risky);

	if (found != -2)
		return found;
	anew.fds = open(DIRECT_FDS, DIRECT_LISTED);
	if (anew.fds < 0)
		return -2;
	found = direct_each(&anew, risky);
	close(anew.fds);
	return found;
}

int mt_direct_io_open(struct mt_direct_lists *lists)
{
	lists->misc = -1;
	lists->fds = mt_fd_own(open("/proc/self/fd", DIRECT_LISTED));
	if (lists->fds < 0)
		return -errno;
	lists->misc = mt_fd_own(open("/sys/class/misc", DIRECT_LISTED));
	return 0;
}

void mt_direct_io_close(struct mt_direct_lists *lists)
{
	mt_fd_close(lists->fds);
	mt_fd_close(lists->misc);
	lists->fds = lists->misc = -1;
}

int mt_direct_io_find(const struct mt_direct_lists *lists, char *name, size_t room)
{
	int fd = direct_look(lists, direct_asks);

	if (fd >= 0)
		mt_direct_io_name(fd, name, room);
	return fd == -2 ? -EIO : fd >= 0;
}

bool mt_direct_io_none(const struct mt_direct_lists *lists)
{
	bool scsi = direct_has_vhost_scsi(lists);

	return direct_look(lists, scsi ? direct_remembers_scsi : direct_remembers) == -1;
}
