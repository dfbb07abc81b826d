/* SPDX-License-Identifier: MIT */
/*
 * test_local_path.c - paths through links, mounts, and a FUSE file system that never answers
 *
 * Mounts are made in a mount namespace of the test's own; without the right to that, those tests
 * are skipped. Nobody reads the FUSE device, so whoever asks that file system anything waits until
 * he is killed: that such a test ends is what it shows.
 */
#include "sys/local_path.h"
#include "sys/sock.h"

#include "common/mt_test.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

static char dir[64];

static char *in_dir(const char *name)
{
	static char path[4][200];
	static unsigned int next;

	next = (next + 1) % 4;
	snprintf(path[next], sizeof(path[next]), "%s/%s", dir, name);
	return path[next];
}

/* A directory with a socket that is listened on. */
static void make_dir(void)
{
	snprintf(dir, sizeof(dir), "/tmp/memtide-local-XXXXXX");
	MT_CHECK(mkdtemp(dir));
	MT_CHECK(!mkdir(in_dir("sub"), 0700));
	MT_CHECK(mt_sock_listen(in_dir("sub/socket"), SOCK_STREAM, NULL) >= 0);
}

static void remove_dir(void)
{
	char command[100];

	snprintf(command, sizeof(command), "rm -rf --one-file-system '%s'", dir);
	MT_CHECK(!system(command));
}

/* Connects, and hangs up. Return: 0 or -errno. */
static int reach(const char *path)
{
	struct mt_err err = {0};
	int fd = mt_local_connect(path, SOCK_STREAM, &err);

	MT_CHECK(fd >= 0 || strstr(err.msg, path));
	if (fd < 0)
		return fd;
	MT_CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
	close(fd);
	return 0;
}

MT_TEST("a socket is reached by plain paths, by dots, and by links of all kinds")
{
	make_dir();
	MT_CHECK_EQ(reach(in_dir("sub/socket")), 0);
	MT_CHECK_EQ(reach(in_dir("sub/../sub/./socket")), 0);
	MT_CHECK_EQ(reach(in_dir("/sub///socket")), 0);
	MT_CHECK(!symlink("sub", in_dir("relative")));
	MT_CHECK_EQ(reach(in_dir("relative/socket")), 0);
	MT_CHECK(!symlink(in_dir("relative/socket"), in_dir("absolute")));
	MT_CHECK_EQ(reach(in_dir("absolute")), 0);
	MT_CHECK(!symlink("../relative/../absolute", in_dir("sub/up")));
	MT_CHECK_EQ(reach(in_dir("sub/up")), 0);
	remove_dir();
}

MT_TEST("what leads nowhere is an error that names the path")
{
	char name[300];

	make_dir();
	MT_CHECK_EQ(reach(in_dir("sub/none")), -ENOENT);
	MT_CHECK_EQ(reach(in_dir("sub/socket/x")), -ENOTDIR);
	MT_CHECK(reach(in_dir("sub")) < 0);
	MT_CHECK(!symlink("loop", in_dir("loop")));
	MT_CHECK_EQ(reach(in_dir("loop")), -ELOOP);
	MT_CHECK_EQ(reach("sub/socket"), -EINVAL);
	MT_CHECK_EQ(reach(""), -EINVAL);
	memset(name, 'x', sizeof(name) - 1);
	name[0] = '/';
	name[sizeof(name) - 1] = '\0';
	MT_CHECK_EQ(reach(name), -ENAMETOOLONG);
	remove_dir();
}

static void own_mounts(void)
{
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		MT_SKIP("needs the right to mount");
}

MT_TEST("mounts of local kinds are entered and left, whatever they are called")
{
	own_mounts();
	make_dir();
	MT_CHECK(!mkdir(in_dir("a b\\c"), 0700));
	MT_CHECK(!mount("none", in_dir("a b\\c"), "tmpfs", 0, NULL));
	MT_CHECK(mt_sock_listen(in_dir("a b\\c/socket"), SOCK_STREAM, NULL) >= 0);
	MT_CHECK_EQ(reach(in_dir("a b\\c/socket")), 0);
	MT_CHECK_EQ(reach(in_dir("a b\\c/../sub/socket")), 0);
	MT_CHECK(!mkdir(in_dir("bound"), 0700));
	MT_CHECK(!mount(in_dir("sub"), in_dir("bound"), NULL, MS_BIND, NULL));
	MT_CHECK_EQ(reach(in_dir("bound/socket")), 0);
	umount2(in_dir("a b\\c"), MNT_DETACH);
	umount2(in_dir("bound"), MNT_DETACH);
	remove_dir();
}

/* Mounts a file system whose server never answers. Return: its device; closed, it is dead. */
static int mount_silence(const char *at)
{
	char options[100];
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		MT_SKIP("needs /dev/fuse");
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other",
		 fd);
	MT_CHECK(!mount("silence", at, "fuse", 0, options));
	return fd;
}

MT_TEST("a file system that could keep us waiting is not entered")
{
	int device, fd;

	own_mounts();
	make_dir();
	MT_CHECK(!mkdir(in_dir("silence"), 0700));
	MT_CHECK(!symlink("../silence/x", in_dir("sub/link")));
	device = mount_silence(in_dir("silence"));
	MT_CHECK_EQ(reach(in_dir("silence/socket")), -EREMOTE);
	MT_CHECK_EQ(reach(in_dir("silence/../sub/socket")), -EREMOTE);
	MT_CHECK_EQ(reach(in_dir("silence")), -EREMOTE);
	MT_CHECK_EQ(reach(in_dir("sub/link")), -EREMOTE);
	/* over a mount that was good, it is what counts */
	MT_CHECK(!mount("none", in_dir("sub"), "tmpfs", 0, NULL));
	MT_CHECK(!mount(in_dir("silence"), in_dir("sub"), NULL, MS_BIND, NULL));
	MT_CHECK_EQ(reach(in_dir("sub/socket")), -EREMOTE);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	MT_CHECK_EQ(mt_local_open_dir(fd, "silence"), -EXDEV);
	close(fd);
	umount2(in_dir("sub"), MNT_DETACH);
	umount2(in_dir("sub"), MNT_DETACH);
	umount2(in_dir("silence"), MNT_DETACH);
	close(device);
	remove_dir();
}

MT_TEST("a directory is opened by its own name and by no link")
{
	int fd, sub;

	make_dir();
	MT_CHECK(!symlink("sub", in_dir("link")));
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	sub = mt_local_open_dir(fd, "sub");
	MT_CHECK(sub >= 0);
	MT_CHECK_EQ(faccessat(sub, "socket", F_OK, 0), 0);
	MT_CHECK_EQ(mt_local_open_dir(fd, "link"), -ENOTDIR);
	MT_CHECK_EQ(mt_local_open_dir(fd, "none"), -ENOENT);
	remove_dir();
}

MT_TEST_MAIN
