/* SPDX-License-Identifier: MIT */
/* test_run_qemu.c - what "memtide run" adds to QEMU's command line, with a script as QEMU */
#include "cli/cli_call.h"
#include "cli/fake_daemon.h"

#include <sys/stat.h>

/* A script by QEMU's name that prints its arguments; its path is static. */
static const char *fake_qemu(void)
{
	static char path[120];
	FILE *file;

	snprintf(path, sizeof(path), "%s/qemu-system-x86_64", fake_dir());
	file = fopen(path, "we");
	MT_CHECK(file);
	fputs("#!/bin/sh\necho \"$@\"\n", file);
	fclose(file);
	MT_CHECK(!chmod(path, 0755));
	return path;
}

static const char *config_path(void)
{
	static char path[120];

	snprintf(path, sizeof(path), "%s/qemu.conf", fake_dir());
	return path;
}

MT_TEST("run adds a balloon and a QMP socket to QEMU's command line and says so when asked to")
{
	char want[300], text[512] = "";
	FILE *file;

	fake_start(NULL);
	MT_CHECK_EQ(cli("run", "--name", "web", "--verbose", "--", fake_qemu(), "-m", "1G", NULL),
		    0);
	snprintf(want, sizeof(want),
		 "-m 1G -device virtio-balloon-pci,id=memtide-balloon,deflate-on-oom=on,"
		 "free-page-reporting=on -readconfig %s\n",
		 config_path());
	MT_CHECK_STR(cli_result.out, want);
	CLI_HAS(err, "added -device virtio-balloon-pci,");
	CLI_HAS(err, "added -readconfig ");
	MT_CHECK(fake_saw("\"qmp_new\":true"));
	file = fopen(config_path(), "re");
	MT_CHECK(file && fread(text, 1, sizeof(text) - 1, file) > 0);
	fclose(file);
	snprintf(want, sizeof(want), "path = \"%s/qmp\"", fake_dir());
	MT_CHECK(strstr(text, want));
}

MT_TEST("run adds silently without --verbose")
{
	fake_start(NULL);
	MT_CHECK_EQ(cli("run", "--", fake_qemu(), NULL), 0);
	MT_CHECK_STR(cli_result.err, "");
	CLI_HAS(out, "virtio-balloon-pci");
}

MT_TEST("run leaves the user's own balloon alone and still adds the QMP socket")
{
	fake_start(NULL);
	MT_CHECK_EQ(
		cli("run", "-v", "--", fake_qemu(), "-device", "virtio-balloon-pci,id=mine", NULL),
		0);
	MT_CHECK(!strstr(cli_result.out, "memtide-balloon"));
	CLI_HAS(out, "-readconfig");
	CLI_HAS(err, "no balloon added: there is one");
}

MT_TEST("run --qmp tells the daemon of the user's own socket, made absolute, and adds none")
{
	char want[300];

	fake_start(NULL);
	MT_CHECK(!chdir(fake_dir()));
	MT_CHECK_EQ(cli("run", "--qmp", "my.sock", "--", fake_qemu(), NULL), 0);
	MT_CHECK(!strstr(cli_result.out, "-readconfig"));
	CLI_HAS(out, "virtio-balloon-pci");
	/* JSON may write a slash with a backslash */
	snprintf(want, sizeof(want), "%s\\/my.sock\"", strrchr(fake_dir(), '/') + 1);
	MT_CHECK(fake_saw("\"qmp\":\"\\/") && fake_saw(want));
	MT_CHECK(!fake_saw("qmp_new"));
}

MT_TEST("run --no-balloon adds nothing and asks for nothing")
{
	fake_start(NULL);
	MT_CHECK_EQ(cli("run", "--no-balloon", "--", fake_qemu(), "-m", "1G", NULL), 0);
	MT_CHECK_STR(cli_result.out, "-m 1G\n");
	MT_CHECK(!fake_saw("qmp"));
	cli("run", "--no-balloon", "--qmp", "/x", "--", fake_qemu(), NULL);
	CLI_FAILS(2, "--qmp is for the balloon");
}

MT_TEST("run adds nothing to a VMM that is not QEMU")
{
	fake_start(NULL);
	MT_CHECK_EQ(cli("run", "--", "/bin/echo", "-m", "1G", NULL), 0);
	MT_CHECK_STR(cli_result.out, "-m 1G\n");
	MT_CHECK(!fake_saw("qmp"));
}

MT_TEST("run warns and goes on without QMP when its configuration can't be written")
{
	FILE *file;

	fake_start(NULL);
	file = fopen(config_path(), "we");
	MT_CHECK(file);
	fclose(file);
	MT_CHECK_EQ(cli("run", "--", fake_qemu(), NULL), 0);
	CLI_HAS(err, "warning: no QMP socket, so no ballooning");
	MT_CHECK(!strstr(cli_result.out, "-readconfig"));
}

MT_TEST_MAIN
