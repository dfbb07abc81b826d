/* SPDX-License-Identifier: MIT */
/* qemu_name.c - read /proc/self/cmdline, find -name; see qemu_name.h */
#include "preload/qemu_name.h"
#include "base/cleanup.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* libvirt's command lines are long, but it puts the name first. */
#define NAME_CMDLINE_MAX 65536

/* The part of an option's value that starts at @at, to its comma; two commas are one. */
static const char *name_part(const char *at, char *ret, size_t room)
{
	size_t used = 0;

	for (; *at && (*at != ',' || at[1] == ','); at++) {
		at += *at == ',';
		if (used + 1 < room)
			ret[used++] = *at;
	}
	ret[used] = '\0';
	return *at ? at + 1 : at;
}

/* "guest=NAME" anywhere in the value, or its first part when that is no "key=value". */
static bool name_in_value(const char *value, char *ret, size_t room)
{
	static const char key[] = "guest=";
	char part[512];

	for (bool first = true; *value; first = false) {
		value = name_part(value, part, sizeof(part));
		if (!strncmp(part, key, sizeof(key) - 1))
			snprintf(ret, room, "%s", part + sizeof(key) - 1);
		else if (first && !strchr(part, '='))
			snprintf(ret, room, "%s", part);
		else
			continue;
		return true;
	}
	return false;
}

static void name_make_valid(char *name)
{
	static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				   "0123456789._-";

	if (name[0] == '.' || name[0] == '-')
		name[0] = '_';
	for (; *name; name++)
		if (!strchr(good, *name))
			*name = '_';
}

void qemu_name_find(const char *args, size_t bytes, char *ret, size_t room)
{
	const char *end = args + bytes;

	ret[0] = '\0';
	/* a last argument that was cut off is none */
	while (bytes && end > args && end[-1])
		end--;
	while (args < end) {
		const char *option = args + (args[0] == '-' && args[1] == '-');
		const char *value = args + strlen(args) + 1;

		if (!strcmp(option, "-name") && value < end && name_in_value(value, ret, room))
			break;
		args = value;
	}
	name_make_valid(ret);
}

void qemu_name_own(char *ret, size_t room)
{
	MT_AUTO_CLOSE int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
	char *args = malloc(NAME_CMDLINE_MAX);
	ssize_t got = 0, more = 1;

	ret[0] = '\0';
	while (fd >= 0 && args && more > 0 && got < NAME_CMDLINE_MAX) {
		more = read(fd, args + got, (size_t)(NAME_CMDLINE_MAX - got));
		got += more > 0 ? more : 0;
	}
	if (args)
		qemu_name_find(args, (size_t)got, ret, room);
	free(args);
	if (!ret[0])
		snprintf(ret, room, "vm-%d", (int)getpid());
}
