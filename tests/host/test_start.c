/* SPDX-License-Identifier: MIT */
/* test_start.c - a daemon that can't start says why */
#include "host/rig.h"

#include <errno.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

/* The daemon with one bad option must end with @status and say @text. */
static void check_start(const struct rig *rig, const char *option, const char *value, int status,
			const char *text)
{
	const char *args[] = {"memtided", "--socket", rig->socket, "--swap-dir", rig->swap,
			      "--pool",   "128M",     option,      value,        NULL};
	char out[1024];
	int rc = rig_run(args, out, sizeof(out));

	if (rc != status || !strstr(out, text) || !strchr(out, '\n') ||
	    (status && strchr(out, '\n')[1]))
		MT_FAIL("%s %s: status %d, said: %s", option, value, rc, out);
}

static void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "we");

	MT_CHECK(file && fputs(text, file) >= 0 && !fclose(file));
}

MT_TEST("a daemon that can't start says in one line what and what to do")
{
	struct rig rig;

	rig_make(&rig);
	check_start(&rig, "--help", NULL, 0, "Usage");
	check_start(&rig, "--version", NULL, 0, "memtided 0");
	check_start(&rig, "--pool", "12Q", 2, "pool: '12Q' is not a size");
	check_start(&rig, "--pool", "100T", 1, "more than this host's memory");
	check_start(&rig, "--pool", "8M", 1, "at least");
	check_start(&rig, "--zip-max-pct", "101", 2, "0 to 100");
	check_start(&rig, "--nothing", NULL, 2, "--nothing");
	check_start(&rig, "--pool", NULL, 2, "--pool");
	check_start(&rig, "extra", NULL, 2, "extra");
	check_start(&rig, "--swap-dir", "/nonexistent/a/b", 1, "--swap-dir");
	check_start(&rig, "--swap-dir", "/etc/passwd", 1, "not a directory");
	check_start(&rig, "--socket", "/nonexistent/a/b", 1, "--socket");
	check_start(&rig, "--config", "/nonexistent", 1, "/nonexistent");
	write_file(rig.config, "# fine\npool = 64M\n\nwhat is this\n");
	check_start(&rig, "--config", rig.config, 1, "config:4: 'what is this'");
	write_file(rig.config, "colour = blue\n");
	check_start(&rig, "--config", rig.config, 1, "config:1: 'colour'");
	rig_start(&rig, "64M", NULL);
	check_start(&rig, "--foreground", NULL, 1, "listens on");
	rig_stop(&rig);
}

MT_TEST("a swap directory on a read-only file system is refused at the start")
{
	struct rig rig;

	rig_make(&rig);
	MT_CHECK_EQ(mkdir(rig.swap, 0700), 0);
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", rig.swap, "tmpfs", MS_RDONLY, NULL))
		MT_SKIP("can't mount: %s", strerror(errno));
	check_start(&rig, "--foreground", NULL, 1, "Read-only file system");
}

MT_TEST_MAIN
