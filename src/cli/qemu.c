/* SPDX-License-Identifier: MIT */
/* qemu.c - look for balloons and machine types, write what is added; see qemu.h */
#include "cli/qemu.h"
#include "base/compiler.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define QEMU_BALLOON "virtio-balloon"
/* A guest that runs out of memory takes pages back from the balloon before it kills anything, and
 * pages that it frees come back without being asked for. */
#define QEMU_BALLOON_OPTIONS ",id=memtide-balloon,deflate-on-oom=on,free-page-reporting=on"
#define QEMU_CONFIG_MAX      4096

static const char *qemu_base(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* The processor a QEMU emulates, by its name; NULL: no QEMU. */
static const char *qemu_target(const char *path)
{
	static const char prefix[] = "qemu-system-";
	const char *name = qemu_base(path);

	if (!strncmp(name, prefix, sizeof(prefix) - 1))
		return name + sizeof(prefix) - 1;
	return !strcmp(name, "qemu-kvm") || !strcmp(name, "kvm") ? "x86_64" : NULL;
}

/* QEMU takes its options with one dash or two. */
static bool qemu_option(const char *arg, const char *name)
{
	if (*arg++ != '-')
		return false;
	return !strcmp(arg + (*arg == '-'), name);
}

/* The machine's type within the value of -machine: the first word without "=", or type=. */
static bool qemu_machine_type(const char *value, char *ret, size_t room)
{
	size_t length = strcspn(value, ",");
	const char *type = strstr(value, "type=");

	if (type && (type == value || type[-1] == ','))
		value = type + 5;
	else if (memchr(value, '=', length))
		return false;
	snprintf(ret, room, "%.*s", (int)strcspn(value, ","), value);
	return true;
}

/* A file for -readconfig may bring a balloon too. One that can't be read QEMU will complain of. */
static bool qemu_config_has_balloon(const char *path)
{
	char line[1024];
	bool found = false;
	FILE *file = fopen(path, "re");

	if (!file)
		return false;
	while (!found && fgets(line, sizeof(line), file))
		found = line[strspn(line, " \t")] != '#' && strstr(line, QEMU_BALLOON);
	fclose(file);
	return found;
}

/* Which device this machine takes; NULL with the reason in @look. */
static const char *qemu_balloon(const char *target, const char *machine, struct qemu_look *look)
{
	if (strcmp(target, "x86_64") && strcmp(target, "i386"))
		look->why = "only x86 machines are known well enough";
	else if (!strcmp(machine, "none") || !strcmp(machine, "isapc"))
		look->why = "this machine has no place for one";
	else if (!strncmp(machine, "xen", 3))
		look->why = "Xen brings its own";
	else if (!strcmp(machine, "microvm"))
		return QEMU_BALLOON "-device" QEMU_BALLOON_OPTIONS;
	else
		return QEMU_BALLOON "-pci" QEMU_BALLOON_OPTIONS;
	return NULL;
}

void qemu_look(const char *path, char *const *argv, struct qemu_look *ret)
{
	const char *target = qemu_target(path);
	char machine[64] = "";

	*ret = (struct qemu_look){.is_qemu = target != NULL};
	if (!target)
		target = qemu_target(argv[0]);
	ret->is_qemu = target != NULL;
	if (!target)
		return;
	for (int i = 1; argv[i] && argv[i + 1]; i++) {
		const char *value = argv[i + 1];

		if (qemu_option(argv[i], "device"))
			ret->has_balloon |= strstr(value, QEMU_BALLOON) != NULL;
		else if (qemu_option(argv[i], "balloon")) /* before QEMU 4 */
			ret->has_balloon |= strcmp(value, "none") != 0;
		else if (qemu_option(argv[i], "readconfig"))
			ret->has_balloon |= qemu_config_has_balloon(value);
		else if (qemu_option(argv[i], "machine") || qemu_option(argv[i], "M"))
			qemu_machine_type(value, machine, sizeof(machine));
		else
			continue;
		i++;
	}
	if (!ret->has_balloon)
		ret->balloon = qemu_balloon(target, machine, ret);
}

char **qemu_extend(char *const *argv, const char *device, const char *config)
{
	size_t count = 0;
	char **longer;

	while (argv[count])
		count++;
	longer = calloc(count + 5, sizeof(*longer));
	if (!longer)
		return NULL;
	memcpy(longer, argv, count * sizeof(*longer));
	if (device) {
		longer[count++] = (char *)"-device";
		longer[count++] = (char *)device;
	}
	if (config) {
		longer[count++] = (char *)"-readconfig";
		longer[count++] = (char *)config;
	}
	return longer;
}

int qemu_write_config(const char *socket, char *ret_path, size_t room, struct mt_err *err)
{
	char text[QEMU_CONFIG_MAX];
	int fd, length, rc = 0;

	/* QEMU's configuration files have no way to write a quotation mark */
	if (strchr(socket, '"'))
		return mt_err_set(err, -EINVAL, "'%s' holds a quotation mark", socket);
	length = snprintf(text, sizeof(text),
			  "[chardev \"memtide-qmp\"]\n"
			  "  backend = \"socket\"\n"
			  "  path = \"%s\"\n"
			  "  server = \"on\"\n"
			  "  wait = \"off\"\n"
			  "[mon \"memtide-qmp\"]\n"
			  "  chardev = \"memtide-qmp\"\n"
			  "  mode = \"control\"\n",
			  socket);
	snprintf(ret_path, room, "%.*s/qemu.conf", (int)(qemu_base(socket) - socket - 1), socket);
	fd = open(ret_path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return mt_err_set(err, -errno, "'%s': %s", ret_path, strerror(errno));
	if (write(fd, text, (size_t)length) != length)
		rc = mt_err_set(err, -EIO, "'%s' can't be written", ret_path);
	close(fd);
	return rc;
}
