/* SPDX-License-Identifier: MIT */
/* cpu.c - read /proc/cpuinfo; see cpu.h */
#include "sys/cpu.h"

#include <stdio.h>
#include <sys/sysinfo.h>

unsigned int mt_cpu_mhz(void)
{
	unsigned int count = 0, all = (unsigned int)get_nprocs();
	double sum = 0, mhz;
	char line[256];
	FILE *info = fopen("/proc/cpuinfo", "re");

	while (info && count < all && fgets(line, sizeof(line), info)) {
		if (sscanf(line, "cpu MHz : %lf", &mhz) != 1)
			continue;
		sum += mhz;
		count++;
	}
	if (info)
		fclose(info);
	return (unsigned int)sum + (all - count) * 1000;
}
