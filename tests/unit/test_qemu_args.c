/* SPDX-License-Identifier: MIT */
/* test_qemu_args.c - what is seen in QEMU command lines, and what is added to them */
#include "cli/qemu.h"

#include "common/mt_test.h"

#include <errno.h>
#include <sys/stat.h>

#define QEMU "/usr/bin/qemu-system-x86_64"

/* Splits @line at blanks; the pieces live until the test ends. */
static char **words(const char *line)
{
	char *copy = strdup(line), **argv = calloc(64, sizeof(*argv));
	int count = 0;

	MT_CHECK(copy && argv);
	for (char *word = strtok(copy, " "); word; word = strtok(NULL, " "))
		argv[count++] = word;
	return argv;
}

static struct qemu_look look_at(const char *path, const char *line)
{
	struct qemu_look look;

	qemu_look(path, words(line), &look);
	return look;
}

MT_TEST("a balloon of the kind the machine takes is added where there is none")
{
	static const struct {
		const char *line, *driver;
	} lines[] = {
		{"q -m 512", "virtio-balloon-pci,"},
		{"q -M q35", "virtio-balloon-pci,"},
		{"q -machine pc,accel=kvm", "virtio-balloon-pci,"},
		{"q -machine accel=kvm -m 1G", "virtio-balloon-pci,"},
		{"q -M microvm", "virtio-balloon-device,"},
		{"q --machine microvm,acpi=on", "virtio-balloon-device,"},
		{"q -machine accel=kvm,type=microvm", "virtio-balloon-device,"},
		{"q -machine q35 -machine microvm", "virtio-balloon-device,"},
		{"q -machine microvm -machine accel=tcg", "virtio-balloon-device,"},
		{"q -nodefaults -device virtio-blk-pci,drive=x", "virtio-balloon-pci,"},
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct qemu_look look = look_at(QEMU, lines[i].line);

		if (!look.is_qemu || look.has_balloon || !look.balloon ||
		    strncmp(look.balloon, lines[i].driver, strlen(lines[i].driver)))
			MT_FAIL("%s: %s", lines[i].line, look.balloon ? look.balloon : "nothing");
		MT_CHECK(strstr(look.balloon, "free-page-reporting=on"));
		MT_CHECK(strstr(look.balloon, "deflate-on-oom=on"));
	}
}

MT_TEST("a balloon that is there is not doubled, however it is written")
{
	static const char *const lines[] = {
		"q -device virtio-balloon",
		"q -device virtio-balloon-pci,id=b",
		"q --device virtio-balloon-device",
		"q -device driver=virtio-balloon-pci,id=b",
		"q -device {\"driver\":\"virtio-balloon-pci\",\"id\":\"b\"}",
		"q -m 1G -device virtio-blk-pci,drive=x -device virtio-balloon-pci -smp 2",
		"q -balloon virtio",
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct qemu_look look = look_at(QEMU, lines[i]);

		if (!look.has_balloon || look.balloon)
			MT_FAIL("not seen: %s", lines[i]);
	}
}

MT_TEST("a balloon in a configuration file is seen, one in a comment is not")
{
	char path[] = "/tmp/memtide-qemu-XXXXXX", line[64];
	int fd = mkstemp(path);
	FILE *file = fdopen(fd, "w");

	MT_CHECK(file);
	fputs("# virtio-balloon-pci\n[machine]\n  type = \"q35\"\n", file);
	fflush(file);
	snprintf(line, sizeof(line), "q -readconfig %s", path);
	MT_CHECK(!look_at(QEMU, line).has_balloon);
	fputs("[device \"b\"]\n  driver = \"virtio-balloon-pci\"\n", file);
	fclose(file);
	MT_CHECK(look_at(QEMU, line).has_balloon);
	unlink(path);
	MT_CHECK(!look_at(QEMU, line).has_balloon);
}

MT_TEST("machines without a place for a balloon get none, and the reason is told")
{
	static const char *const lines[] = {"q -M none", "q -M isapc", "q -machine xenfv"};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct qemu_look look = look_at(QEMU, lines[i]);

		MT_CHECK(look.is_qemu && !look.has_balloon && !look.balloon && look.why);
	}
	MT_CHECK(!look_at("/usr/bin/qemu-system-aarch64", "q -M virt").balloon);
}

MT_TEST("a program is QEMU by its name or by the name it is called by")
{
	MT_CHECK(look_at("/usr/bin/qemu-system-i386", "x").is_qemu);
	MT_CHECK(look_at("/usr/libexec/qemu-kvm", "x").is_qemu);
	MT_CHECK(look_at("/opt/wrapper", "qemu-system-x86_64").is_qemu);
	MT_CHECK(!look_at("/bin/sh", "sh -c qemu-system-x86_64").is_qemu);
	MT_CHECK(!look_at("/usr/bin/qemu-img", "x").is_qemu);
}

MT_TEST("what is added comes last and nothing of the user's changes")
{
	char **argv = words("q -m 512 -append -device");
	char **longer = qemu_extend(argv, "virtio-balloon-pci", "/x/qemu.conf");
	static const char *const want[] = {"q",
					   "-m",
					   "512",
					   "-append",
					   "-device",
					   "-device",
					   "virtio-balloon-pci",
					   "-readconfig",
					   "/x/qemu.conf"};

	MT_CHECK(longer);
	for (size_t i = 0; i < 9; i++)
		MT_CHECK_STR(longer[i], want[i]);
	MT_CHECK(!longer[9]);
	longer = qemu_extend(argv, NULL, NULL);
	MT_CHECK(longer && !longer[5]);
}

MT_TEST("the configuration for the socket is private and never replaces a file")
{
	char dir[] = "/tmp/memtide-qemu-XXXXXX", socket[80], path[96], other[96];
	struct stat st;

	MT_CHECK(mkdtemp(dir));
	snprintf(socket, sizeof(socket), "%s/qmp", dir);
	MT_CHECK(!qemu_write_config(socket, path, sizeof(path), NULL));
	MT_CHECK(!stat(path, &st) && (st.st_mode & 0777) == 0600 && st.st_size > 0);
	MT_CHECK_EQ(qemu_write_config(socket, other, sizeof(other), NULL), -EEXIST);
	unlink(path);
	rmdir(dir);
	MT_CHECK_EQ(qemu_write_config("/a\"b/qmp", path, sizeof(path), NULL), -EINVAL);
}

MT_TEST_MAIN
