/* SPDX-License-Identifier: MIT */
/* placement.c - follow a thread from core to core; see placement.h */
#include "sys/placement.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* "processor" is the 39th field of /proc/PID/task/TID/stat; the second one, the name, may hold
 * spaces. */
#define PLACEMENT_FIELDS_AFTER_NAME 37

void mt_placement_init(struct mt_placement *placement)
{
	placement->cpu = -1;
	placement->off =
		sched_getaffinity(0, sizeof(placement->allowed), &placement->allowed) != 0 ||
		CPU_COUNT(&placement->allowed) < 2;
}

/* Core where @tid ran last, or -1. */
static int placement_cpu_of(uint32_t tid)
{
	char path[48], text[512];
	const char *field;
	ssize_t got;
	int fd, cpu;

	snprintf(path, sizeof(path), "/proc/self/task/%u/stat", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	got = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (got <= 0)
		return -1;
	text[got] = '\0';
	field = strrchr(text, ')');
	for (int i = 0; field && i < PLACEMENT_FIELDS_AFTER_NAME; i++)
		field = strchr(field + 1, ' ');
	return field && sscanf(field + 1, "%d", &cpu) == 1 ? cpu : -1;
}

void mt_placement_near(struct mt_placement *placement, uint32_t tid)
{
	int cpu = placement->off ? -1 : placement_cpu_of(tid);

	if (cpu >= 0)
		mt_placement_at(placement, cpu);
}

void mt_placement_at(struct mt_placement *placement, int cpu)
{
	cpu_set_t one;

	if (placement->off || cpu == placement->cpu)
		return;
	if (cpu < 0) {
		mt_placement_free(placement);
		return;
	}
	if (!CPU_ISSET(cpu, &placement->allowed))
		return;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	if (sched_setaffinity(0, sizeof(one), &one))
		placement->off = true;
	else
		placement->cpu = cpu;
}

void mt_placement_free(struct mt_placement *placement)
{
	if (placement->cpu < 0)
		return;
	if (sched_setaffinity(0, sizeof(placement->allowed), &placement->allowed))
		placement->off = true;
	placement->cpu = -1;
}
