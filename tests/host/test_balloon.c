/* SPDX-License-Identifier: MIT */
/* test_balloon.c - the daemon's side of ballooning, with QEMU's QMP and the monitor played */
#include "host/fake_qmp.h"
#include "host/rig.h"

#include "common/mt_test.h"

#include <errno.h>
#include <sys/stat.h>

#define CREATE_NEW "{\"cmd\":\"vm_create\",\"name\":\"web\",\"qmp_new\":true}"
#define SHOW       "{\"cmd\":\"show\",\"vm\":\"web\"}"

/* Takes the name "web". Return: the token; @ret_path: the QMP socket's path. Static buffer. */
static const char *create_new(int ctl, char ret_path[static 100])
{
	static char token[64];
	struct json_object *answer = ctl_ask(ctl, CREATE_NEW);
	const char *path = json_object_get_string(json_object_object_get(answer, "qmp"));

	MT_CHECK(path && strlen(path) < 100);
	snprintf(ret_path, 100, "%s", path);
	snprintf(token, sizeof(token), "%s",
		 json_object_get_string(json_object_object_get(answer, "token")));
	json_object_put(answer);
	return token;
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
	for (int i = 0; i < 200 && !access(path, F_OK); i++)
		usleep(20000);
	return access(path, F_OK) && errno == ENOENT;
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

MT_TEST_MAIN
