/* SPDX-License-Identifier: MIT */
/* test_qmp_dir.c - where a VM's QMP socket is: private directories, and paths that users chose */
#include "host/rig.h"

#include "common/mt_test.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define CREATE_AS  "{\"cmd\":\"vm_create\",\"name\":\"%s\",\"qmp_new\":true}"
#define CREATE_NEW "{\"cmd\":\"vm_create\",\"name\":\"web\",\"qmp_new\":true}"
#define SHOW       "{\"cmd\":\"show\",\"vm\":\"web\"}"
#define FAST       "qmp_retry_ms = 2\nballoon_poll_ms = 50\n"

/* Takes the name. Return: the token; @ret_path: the QMP socket's path. Static buffer. */
static const char *create_new_as(int ctl, const char *name, char ret_path[static 100])
{
	static char token[64];
	struct json_object *answer;
	char line[100];
	const char *path;

	snprintf(line, sizeof(line), CREATE_AS, name);
	answer = ctl_ask(ctl, line);
	path = json_object_get_string(json_object_object_get(answer, "qmp"));
	MT_CHECK(path && strlen(path) < 100);
	snprintf(ret_path, 100, "%s", path);
	snprintf(token, sizeof(token), "%s",
		 json_object_get_string(json_object_object_get(answer, "token")));
	json_object_put(answer);
	return token;
}

static const char *create_new(int ctl, char ret_path[static 100])
{
	return create_new_as(ctl, "web", ret_path);
}

/* The directory of a socket. */
static const char *dir_of(const char *path)
{
	static char dir[100];

	snprintf(dir, sizeof(dir), "%.*s", (int)(strrchr(path, '/') - path), path);
	return dir;
}

static bool gone_soon(const char *path)
{
	return RIG_WAIT(access(path, F_OK) && errno == ENOENT);
}

MT_TEST("a VM's QMP socket has a private directory, and it goes with the VM")
{
	char path[100], file[120];
	struct rig rig;
	struct stat st;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	create_new(ctl, path);
	MT_CHECK(!strncmp(path, rig.socket, strlen(rig.socket)));
	MT_CHECK(!stat(dir_of(path), &st) && S_ISDIR(st.st_mode));
	MT_CHECK_EQ(st.st_mode & 0777, 0700);
	MT_CHECK_EQ(st.st_uid, geteuid());
	/* what "memtide run" and QEMU leave there */
	snprintf(file, sizeof(file), "%s/qemu.conf", dir_of(path));
	fclose(fopen(file, "we"));
	fclose(fopen(path, "we"));
	close(ctl);
	MT_CHECK(gone_soon(dir_of(path)));
	rig_stop(&rig);
}

MT_TEST("paths that can't be a QMP socket's are refused, and the name stays free")
{
	static const char *const bad[] = {"relative", "/with\\u0001control", "/with\\nnewline"};
	char line[400], text[200];
	struct rig rig;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	for (size_t i = 0; i < 3; i++) {
		snprintf(line, sizeof(line),
			 "{\"cmd\":\"vm_create\",\"name\":\"web\",\"qmp\":\"%s\"}", bad[i]);
		MT_CHECK_STR(ctl_code(ctl, line), "EINVAL");
	}
	memset(text, 'x', sizeof(text));
	text[0] = '/';
	text[150] = '\0';
	snprintf(line, sizeof(line), "{\"cmd\":\"vm_create\",\"name\":\"web\",\"qmp\":\"%s\"}",
		 text);
	MT_CHECK_STR(ctl_code(ctl, line), "ENAMETOOLONG");
	MT_CHECK_STR(ctl_code(ctl, "{\"cmd\":\"vm_create\",\"name\":\"web\",\"qmp\":\"/a b/c\"}"),
		     "");
	rig_stop(&rig);
}

MT_TEST("a name that is taken leaves no directory behind")
{
	char path[100], base[120];
	struct rig rig;
	struct stat st;
	int ctl, other;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	other = ctl_open(&rig);
	create_new(ctl, path);
	snprintf(base, sizeof(base), "%s.qmp", rig.socket);
	MT_CHECK_STR(ctl_code(other, CREATE_NEW), "EEXIST");
	MT_CHECK(!stat(base, &st));
	MT_CHECK_EQ(st.st_nlink, 3);
	rig_stop(&rig);
}

MT_TEST("directories of VMs that ended while no daemon ran are cleaned up, those of others stay")
{
	char path[100], stale[120];
	union mt_wire_msg hello;
	struct peer peer;
	struct rig rig;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	mt_wire_init(&hello, MT_WIRE_HELLO, 1);
	snprintf(hello.hello.token, sizeof(hello.hello.token), "%s", create_new(ctl, path));
	snprintf(hello.hello.name, sizeof(hello.hello.name), "web");
	peer_connect(&rig, &peer);
	MT_CHECK_EQ(peer_hello_msg(&peer, &hello), 0);
	MT_CHECK_EQ(peer_region(&peer, 64 * MIB), 0);
	close(ctl);
	rig_stop(&rig);
	MT_CHECK(!access(dir_of(path), F_OK));
	snprintf(stale, sizeof(stale), "%s.qmp/0123abcd", rig.socket);
	MT_CHECK(!mkdir(stale, 0700));
	rig_start(&rig, "256M", NULL);
	MT_CHECK(gone_soon(stale));
	MT_CHECK(!access(dir_of(path), F_OK));
	rig_stop(&rig);
}

/* A file system whose server never answers, in mounts of the test's own. Return: its device */
static int mount_silence(const char *at)
{
	char options[100];
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other",
		 fd);
	if (fd < 0 || mount("silence", at, "fuse", 0, options))
		MT_SKIP("needs FUSE");
	return fd;
}

MT_TEST("a QMP socket, or directory, on a file system that never answers keeps nobody waiting")
{
	struct json_object *answer;
	union mt_wire_msg hello;
	struct peer peer, other;
	char line[200], path[100];
	struct rig rig;
	int ctl, device;

	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		MT_SKIP("needs the right to mount");
	rig_make(&rig);
	snprintf(path, sizeof(path), "%s/silence", rig.dir);
	MT_CHECK(!mkdir(path, 0755));
	device = mount_silence(path);
	rig_start(&rig, "256M", FAST);
	ctl = ctl_open(&rig);
	snprintf(line, sizeof(line), "{\"cmd\":\"vm_create\",\"name\":\"web\",\"qmp\":\"%s/qmp\"}",
		 path);
	answer = ctl_ask(ctl, line);
	mt_wire_init(&hello, MT_WIRE_HELLO, 1);
	snprintf(hello.hello.token, sizeof(hello.hello.token), "%s",
		 json_object_get_string(json_object_object_get(answer, "token")));
	json_object_put(answer);
	snprintf(hello.hello.name, sizeof(hello.hello.name), "web");
	peer_connect(&rig, &peer);
	MT_CHECK_EQ(peer_hello_msg(&peer, &hello), 0);
	MT_CHECK_EQ(peer_region(&peer, 64 * MIB), 0);
	MT_CHECK(ctl_event_seen(ctl, "web", "could keep us waiting"));
	MT_CHECK_STR(ctl_string(ctl, SHOW, "vm", "balloon"), "unreachable");
	peer_join(&rig, &other, "other");
	MT_CHECK_EQ(peer_region(&other, 64 * MIB), 0);
	/* a user mounts it over the directory that he was given */
	create_new_as(ctl, "db", path);
	MT_CHECK(!mount("none", dir_of(path), "tmpfs", 0, NULL));
	close(device);
	device = mount_silence(dir_of(path));
	close(ctl);
	ctl = ctl_open(&rig);
	MT_CHECK(ctl_event_seen(ctl, "db", "is free again"));
	umount2(dir_of(path), MNT_DETACH);
	umount2(dir_of(path), MNT_DETACH);
	close(device);
	rig_stop(&rig);
}

MT_TEST_MAIN
