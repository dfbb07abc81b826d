/* SPDX-License-Identifier: MIT */
/*
 * test_direct_io.c - which descriptors may bring direct I/O that the kernel does not report
 *
 * NFS can't be had in a test: what fstatfs() answers is ours to say.
 */
#include "sys/direct_io.h"
#include "base/own_fds.h"
#include "common/mt_test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>

static struct {
	dev_t dev; /* what lies there is */
	unsigned long magic;
	unsigned int asked;
} fake;

static struct mt_direct_lists lists = {-1, -1};

int __real_fstatfs64(int fd, struct statfs *fs);
int __wrap_fstatfs64(int fd, struct statfs *fs);

int __wrap_fstatfs64(int fd, struct statfs *fs)
{
	struct stat st;
	int rc = __real_fstatfs64(fd, fs);

	if (!rc && !fstat(fd, &st) && st.st_dev == fake.dev) {
		fs->f_type = (__fsword_t)fake.magic;
		fake.asked++;
	}
	return rc;
}

/* A file that can be open for direct I/O, on what is @magic from here on. */
static int open_file(unsigned long magic, int flags)
{
	int fd = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC | flags, 0600);
	struct stat st;

	if (fd < 0)
		MT_SKIP("no direct I/O in this directory");
	MT_CHECK(!fstat(fd, &st));
	fake.dev = st.st_dev;
	fake.magic = magic;
	fake.asked = 0;
	return fd;
}

MT_TEST("file systems that only take a reference to pages are known by their numbers")
{
	static const unsigned long pin[] = {EXT4_SUPER_MAGIC,
					    XFS_SUPER_MAGIC,
					    BTRFS_SUPER_MAGIC,
					    TMPFS_MAGIC,
					    F2FS_SUPER_MAGIC,
					    OVERLAYFS_SUPER_MAGIC,
					    V9FS_MAGIC,
					    0x65735546 /* FUSE */,
					    0x2fc12fc1 /* ZFS */,
					    0xff534d42 /* cifs */,
					    0};

	MT_CHECK(mt_direct_io_takes(NFS_SUPER_MAGIC));
	MT_CHECK(mt_direct_io_takes(CEPH_SUPER_MAGIC));
	MT_CHECK(mt_direct_io_takes(0x0bd00bd0));
	/* As statfs(2) says it where its number is a signed one. */
	MT_CHECK(mt_direct_io_takes((uint64_t)(int64_t)(int32_t)0xaad7aaea));
	for (size_t i = 0; i < sizeof(pin) / sizeof(pin[0]); i++)
		MT_CHECK(!mt_direct_io_takes(pin[i]));
}

MT_TEST("a file is risky if it is open for direct I/O on such a file system, and only then")
{
	int fd = open_file(NFS_SUPER_MAGIC, O_DIRECT), flags = fcntl(fd, F_GETFL);

	MT_CHECK(mt_direct_io_risky(fd));
	MT_CHECK(!fcntl(fd, F_SETFL, flags & ~O_DIRECT));
	MT_CHECK(!mt_direct_io_risky(fd));
	MT_CHECK(!fcntl(fd, F_SETFL, flags));
	MT_CHECK(mt_direct_io_risky(fd));
	fake.magic = EXT4_SUPER_MAGIC;
	MT_CHECK(!mt_direct_io_risky(fd));
	MT_CHECK(!mt_direct_io_risky(-1));
}

MT_TEST("such a file is found among all that are open, by its name, until it is closed")
{
	char name[200] = "";
	int fd;

	MT_CHECK(!mt_direct_io_open(&lists));
	MT_CHECK_EQ(mt_direct_io_find(&lists, name, sizeof(name)), 0);
	fd = open_file(NFS_SUPER_MAGIC, O_DIRECT);
	MT_CHECK_EQ(mt_direct_io_find(&lists, name, sizeof(name)), 1);
	MT_CHECK(strchr(name, '/') && strstr(name, "(deleted)"));
	MT_CHECK(mt_direct_io_find(&lists, name, 4));
	MT_CHECK_EQ(strlen(name), 3);
	close(fd);
	MT_CHECK_EQ(mt_direct_io_find(&lists, name, sizeof(name)), 0);
}

MT_TEST("a file system that may not answer one day is asked once")
{
	char name[200];
	int fd = open_file(NFS_SUPER_MAGIC, O_DIRECT);

	MT_CHECK(!mt_direct_io_open(&lists));
	for (int i = 0; i < 10; i++)
		MT_CHECK_EQ(mt_direct_io_find(&lists, name, sizeof(name)), 1);
	MT_CHECK_EQ(fake.asked, 1);
	close(fd);
}

MT_TEST("a kernel that knows such a file system is told by its list of file systems")
{
	MT_CHECK(!mt_direct_io_known(""));
	MT_CHECK(!mt_direct_io_known("nodev\tsysfs\nnodev\ttmpfs\n\text4\n\tfuseblk\n"));
	MT_CHECK(!mt_direct_io_known("nodev\tnfsd\nnodev\toverlay\n"));
	MT_CHECK(mt_direct_io_known("nodev\toverlay\nnodev\tnfs\n\text4\n"));
	MT_CHECK(mt_direct_io_known("nodev\tnfs4"));
	MT_CHECK(mt_direct_io_known("nodev\tceph\n"));
	MT_CHECK(!mt_direct_io_known("ceph"));
}

/* What this machine's kernel knows. */
static bool known_here(void)
{
	char text[8192] = "";
	int fd = open("/proc/filesystems", O_RDONLY | O_CLOEXEC);

	MT_CHECK(read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	return mt_direct_io_known(text);
}

MT_TEST("an overlay may lie over any file system that the kernel knows")
{
	int fd = open_file(OVERLAYFS_SUPER_MAGIC, O_DIRECT);

	MT_CHECK_EQ(mt_direct_io_risky(fd), known_here());
	close(fd);
}

MT_TEST("who does not wait knows of no such file only when all were asked before")
{
	char name[200];
	int fd;

	MT_CHECK(!mt_direct_io_open(&lists));
	MT_CHECK(mt_direct_io_none(&lists));
	fd = open_file(EXT4_SUPER_MAGIC, O_DIRECT);
	MT_CHECK(!mt_direct_io_none(&lists));
	MT_CHECK_EQ(fake.asked, 0);
	MT_CHECK_EQ(mt_direct_io_find(&lists, name, sizeof(name)), 0);
	MT_CHECK_EQ(fake.asked, 1);
	MT_CHECK(mt_direct_io_none(&lists));
	close(fd);
	MT_CHECK(mt_direct_io_none(&lists));
}

MT_TEST("who does not wait sees such a file among hundreds, until it is closed")
{
	char name[200];
	int fd, last = -1;

	MT_CHECK(!mt_direct_io_open(&lists));
	fd = open_file(NFS_SUPER_MAGIC, O_DIRECT);
	MT_CHECK_EQ(mt_direct_io_find(&lists, name, sizeof(name)), 1);
	for (int i = 0; i < 300; i++)
		last = dup(STDOUT_FILENO);
	MT_CHECK(last > 300);
	MT_CHECK_EQ(dup2(fd, last), last);
	close(fd);
	for (int i = 0; i < 3; i++)
		MT_CHECK(!mt_direct_io_none(&lists));
	close(last);
	MT_CHECK(mt_direct_io_none(&lists));
}

/* The list of a process that has ended. */
static int ended_list(void)
{
	char path[64];
	pid_t pid = fork();
	int fds;

	MT_CHECK(pid >= 0);
	if (!pid)
		pause();
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	fds = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	MT_CHECK(fds >= 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return fds;
}

MT_TEST("the list of who has ended is not taken for one of no files")
{
	char name[200];

	lists.fds = ended_list();
	MT_CHECK(mt_direct_io_none(&lists));
	open_file(NFS_SUPER_MAGIC, O_DIRECT);
	MT_CHECK(!mt_direct_io_none(&lists));
	MT_CHECK_EQ(mt_direct_io_find(&lists, name, sizeof(name)), 1);
}

MT_TEST("where no list can be read nothing is said of what is in it")
{
	struct rlimit none = {0, 0};
	char name[200];

	lists.fds = ended_list();
	MT_CHECK(!setrlimit(RLIMIT_NOFILE, &none));
	MT_CHECK(!mt_direct_io_none(&lists));
	MT_CHECK_EQ(mt_direct_io_find(&lists, name, sizeof(name)), -EIO);
}

MT_TEST("more mounts than are remembered are asked anew, and none is taken for another")
{
	char name[200];
	int fd;

	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
		MT_SKIP("no right to mount file systems");
	MT_CHECK(!mt_direct_io_open(&lists));
	for (int i = 0; i < 300; i++) {
		MT_CHECK(!mount("none", "/mnt", "tmpfs", 0, "size=64k"));
		fd = open("/mnt", O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
		if (fd < 0)
			MT_SKIP("no direct I/O on tmpfs");
		MT_CHECK(!mt_direct_io_none(&lists));
		MT_CHECK_EQ(mt_direct_io_find(&lists, name, sizeof(name)), 0);
		MT_CHECK(mt_direct_io_none(&lists));
		close(fd);
		MT_CHECK(!umount("/mnt"));
	}
}

MT_TEST("our own files don't count: they see no guest memory")
{
	char name[200];
	int fd = mt_fd_own(open_file(NFS_SUPER_MAGIC, O_DIRECT));

	MT_CHECK(!mt_direct_io_open(&lists));
	MT_CHECK_EQ(mt_direct_io_find(&lists, name, sizeof(name)), 0);
	MT_CHECK(mt_direct_io_none(&lists));
	mt_fd_close(fd);
}

MT_TEST_MAIN
