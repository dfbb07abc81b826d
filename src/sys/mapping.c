/* SPDX-License-Identifier: MIT */
/* mapping.c - read /proc/self/smaps for one range; see mapping.h */
#include "sys/mapping.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* From the header line of a mapping: "start-end perms offset dev inode path". */
static enum mt_mapping mapping_of_header(const char *perms, unsigned long inode)
{
	if (perms[3] == 's')
		return MT_MAPPING_SHARED;
	if (inode)
		return MT_MAPPING_FILE;
	if (perms[0] != 'r' || perms[1] != 'w')
		return MT_MAPPING_OTHER;
	return MT_MAPPING_ANON;
}

/* From its VmFlags line: two-letter flags separated by spaces. */
static enum mt_mapping mapping_of_flags(const char *flags)
{
	if (strstr(flags, " ht"))
		return MT_MAPPING_HUGETLB;
	if (strstr(flags, " lo"))
		return MT_MAPPING_LOCKED;
	return MT_MAPPING_ANON;
}

static struct mt_mapping_flags mapping_flags_of(const char *flags)
{
	return (struct mt_mapping_flags){.huge = strstr(flags, " hg"),
					 .no_huge = strstr(flags, " nh"),
					 .no_dump = strstr(flags, " dd"),
					 .no_reserve = strstr(flags, " nr")};
}

enum mt_mapping mt_mapping_kind(const void *addr, size_t bytes)
{
	unsigned long start = (unsigned long)addr, end = start + bytes, covered = start;
	enum mt_mapping worst = MT_MAPPING_ANON;
	char *line = NULL;
	size_t room = 0;
	unsigned long from = 0, to = 0;
	FILE *maps = fopen("/proc/self/smaps", "re");

	if (!maps)
		return MT_MAPPING_OTHER;
	while (worst == MT_MAPPING_ANON && getline(&line, &room, maps) > 0) {
		unsigned long inode = 0, next_from, next_to;
		char perms[5];

		if (sscanf(line, "%lx-%lx %4s %*s %*s %lu", &next_from, &next_to, perms, &inode) ==
		    4) {
			from = next_from;
			to = next_to;
			if (from >= end)
				break;
			if (to <= start)
				continue;
			worst = mapping_of_header(perms, inode);
			if (from <= covered)
				covered = to;
		} else if (from < end && to > start && !strncmp(line, "VmFlags:", 8)) {
			worst = mapping_of_flags(line);
		}
	}
	free(line);
	fclose(maps);
	if (worst == MT_MAPPING_ANON && covered < end)
		return MT_MAPPING_OTHER;
	return worst;
}

struct mt_mapping_flags mt_mapping_flags(const void *addr)
{
	struct mt_mapping_flags flags = {false};
	unsigned long from = 0, to = 0, next_from, next_to, at = (unsigned long)addr;
	char *line = NULL, perms[5];
	size_t room = 0;
	FILE *maps = fopen("/proc/self/smaps", "re");

	while (maps && from <= at && getline(&line, &room, maps) > 0) {
		if (sscanf(line, "%lx-%lx %4s", &next_from, &next_to, perms) == 3) {
			from = next_from;
			to = next_to;
		} else if (at >= from && at < to && !strncmp(line, "VmFlags:", 8)) {
			flags = mapping_flags_of(line);
			break;
		}
	}
	free(line);
	if (maps)
		fclose(maps);
	return flags;
}

uint64_t mt_mapping_count(void)
{
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	uint64_t lines = 0;
	char text[4096];
	ssize_t got;

	while (fd >= 0 && (got = read(fd, text, sizeof(text))) > 0)
		for (ssize_t i = 0; i < got; i++)
			lines += text[i] == '\n';
	if (fd >= 0)
		close(fd);
	return lines;
}
