/* SPDX-License-Identifier: MIT */
/*
 * doctor_host.c - checks of the kernel's features and of the host's memory settings
 *
 * Features come from the probes of sys/kcaps.h. The settings are those that make Memtide slow or
 * its accounts wrong when they are off: somebody else swapping, merging or refusing large pages.
 */
#include "cli/doctor.h"
#include "base/size.h"
#include "sys/kcaps.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define MAP_COUNT_LEAST  65530 /* the kernel's own default */
#define MEMLOCK_LEAST_MB 8

static void doctor_cap(struct doctor *doctor, const char *name, const struct mt_kcap *cap,
		       enum doctor_level bad, const char *fix)
{
	if (cap->state == MT_KCAP_OK)
		doctor_report(doctor, DOCTOR_OK, name, NULL, "%s", cap->reason);
	else
		doctor_report(doctor, bad, name, fix, "%s (%s)", cap->reason,
			      mt_kcap_state_name(cap->state));
}

/* What only root may use says nothing against the host when somebody else asks: memtided opens it.
 */
static enum doctor_level doctor_unless_root(const struct mt_kcap *cap)
{
	return cap->state == MT_KCAP_FORBIDDEN && geteuid() ? DOCTOR_WARN : DOCTOR_FAIL;
}

void doctor_kernel(struct doctor *doctor)
{
	struct mt_kcaps caps;

	mt_kcaps_probe(&caps);
	doctor_cap(doctor, "userfaultfd", &caps.uffd, DOCTOR_FAIL,
		   "needs a kernel with CONFIG_USERFAULTFD, and no seccomp filter against it");
	doctor_cap(doctor, "uffd-device", &caps.uffd_dev, doctor_unless_root(&caps.uffd_dev),
		   caps.uffd_dev.state == MT_KCAP_ABSENT
			   ? "needs kernel 6.1 or newer; in a container pass /dev/userfaultfd in"
			   : "memtided opens it for all VMs: run it as root, or give its group the "
			     "device with a udev rule: KERNEL==\"userfaultfd\", GROUP=\"memtide\", "
			     "MODE=\"0660\"");
	doctor_cap(doctor, "uffd-move", &caps.uffd_move, DOCTOR_FAIL, "needs kernel 6.8 or newer");
	doctor_cap(doctor, "uffd-kernel", &caps.uffd_kernel, doctor_unless_root(&caps.uffd_kernel),
		   "KVM needs this: let memtided open /dev/userfaultfd (see uffd-device)");
	doctor_cap(doctor, "uffd-pinned", &caps.uffd_pinned,
		   caps.uffd_pinned.state == MT_KCAP_BROKEN ? DOCTOR_FAIL : DOCTOR_WARN,
		   "pages under DMA must not be taken away; where it can't be tried, avoid "
		   "device passthrough");
	doctor_cap(doctor, "uffd-frames", &caps.uffd_frames, DOCTOR_WARN,
		   "without it a shared page that is read gets a copy again; needs kernel 5.19 or "
		   "newer, and /dev/userfaultfd");
	doctor_cap(doctor, "io-uring", &caps.io_uring, DOCTOR_WARN,
		   "swapping is slower without; allow it: sysctl kernel.io_uring_disabled=0");
}

static void doctor_thp(struct doctor *doctor)
{
	char text[128];

	if (!doctor_read_text("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof(text)))
		doctor_report(doctor, DOCTOR_WARN, "large-pages",
			      "use a kernel with CONFIG_TRANSPARENT_HUGEPAGE for speed",
			      "the kernel has no transparent huge pages");
	else if (strstr(text, "[never]"))
		doctor_report(doctor, DOCTOR_WARN, "large-pages",
			      "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
			      "transparent huge pages are off (never): guests are slower");
	else
		doctor_report(doctor, DOCTOR_OK, "large-pages", NULL, "transparent huge pages: %s",
			      text);
}

static void doctor_map_count(struct doctor *doctor)
{
	char text[64];
	long count;

	if (!doctor_read_text("/proc/sys/vm/max_map_count", text, sizeof(text)))
		return;
	count = strtol(text, NULL, 10);
	doctor_report(doctor, count < MAP_COUNT_LEAST ? DOCTOR_WARN : DOCTOR_OK, "max-map-count",
		      count < MAP_COUNT_LEAST ? "sysctl vm.max_map_count=262144" : NULL,
		      "vm.max_map_count is %ld: %ld mappings of shared pages for each VM", count,
		      count / 4);
}

/* Memory taken by host swap is out of our sight: pages would be swapped twice, by two policies. */
static void doctor_host_swap(struct doctor *doctor)
{
	FILE *file = fopen("/proc/swaps", "re");
	char line[512], first[128] = "";
	unsigned int areas = 0;

	while (file && fgets(line, sizeof(line), file)) {
		if (!strncmp(line, "Filename", 8))
			continue;
		if (!areas++)
			snprintf(first, sizeof(first), "%.*s", (int)strcspn(line, " \t"), line);
	}
	if (file)
		fclose(file);
	if (areas)
		doctor_report(
			doctor, DOCTOR_WARN, "host-swap",
			strstr(first, "zram") ? "swapoff it and give its memory to the pool"
					      : "swapoff -a, or at least sysctl vm.swappiness=0",
			"the host swaps by itself (%s): guest pages may be swapped twice", first);
	else
		doctor_report(doctor, DOCTOR_OK, "host-swap", NULL,
			      "the host has no swap of its own");
}

static void doctor_zram(struct doctor *doctor)
{
	unsigned int in_use = 0;
	glob_t found = {0};

	glob("/sys/block/zram*/disksize", 0, NULL, &found);
	for (size_t i = 0; i < found.gl_pathc; i++) {
		char text[64];

		if (doctor_read_text(found.gl_pathv[i], text, sizeof(text)) &&
		    strtoull(text, NULL, 10))
			in_use++;
	}
	globfree(&found);
	if (in_use)
		doctor_report(
			doctor, DOCTOR_WARN, "zram", "zramctl --reset it, unless it is needed",
			"%u zram devices are set up and take memory outside the pool", in_use);
	else
		doctor_report(doctor, DOCTOR_OK, "zram", NULL, "no zram device in use");
}

static void doctor_ksm(struct doctor *doctor)
{
	char text[16];

	if (doctor_read_text("/sys/kernel/mm/ksm/run", text, sizeof(text)) && text[0] == '1')
		doctor_report(
			doctor, DOCTOR_WARN, "ksm",
			"echo 2 > /sys/kernel/mm/ksm/run; with QEMU also -machine mem-merge=off",
			"KSM is running: pages it merges can't be moved out, and it makes accounts "
			"wrong");
	else
		doctor_report(doctor, DOCTOR_OK, "ksm", NULL, "KSM is not running");
}

static void doctor_memlock(struct doctor *doctor)
{
	struct rlimit limit;
	bool low;

	if (getrlimit(RLIMIT_MEMLOCK, &limit))
		return;
	low = limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < (MEMLOCK_LEAST_MB << 20) &&
	      geteuid();
	if (limit.rlim_cur == RLIM_INFINITY)
		doctor_report(doctor, DOCTOR_OK, "memlock", NULL, "locked memory is not limited");
	else
		doctor_report(doctor, low ? DOCTOR_WARN : DOCTOR_OK, "memlock",
			      low ? "raise it: ulimit -l 65536, or LimitMEMLOCK= of the service"
				  : NULL,
			      "locked memory is limited to %llu KiB%s",
			      (unsigned long long)limit.rlim_cur >> 10,
			      low ? ": little for the swap file's buffers" : "");
}

static void doctor_cores(struct doctor *doctor)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	doctor_report(doctor, cores < 2 ? DOCTOR_WARN : DOCTOR_OK, "cores",
		      cores < 2 ? "give the host a second core: faults are served beside the guest"
				: NULL,
		      "%ld core%s", cores, cores == 1 ? "" : "s");
}

static uint64_t doctor_mem_total(void)
{
	FILE *file = fopen("/proc/meminfo", "re");
	unsigned long long kib = 0;
	char line[128];

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "MemTotal: %llu", &kib) == 1)
			break;
	if (file)
		fclose(file);
	return (uint64_t)kib << 10;
}

static void doctor_pool(struct doctor *doctor)
{
	char pool[MT_SIZE_TEXT_MAX], total_text[MT_SIZE_TEXT_MAX];
	uint64_t total = doctor_mem_total();

	mt_size_text(total, total_text);
	if (!doctor->pool_bytes) {
		doctor_report(doctor, DOCTOR_OK, "pool", NULL,
			      "the host has %s; no pool to compare with (give --pool)", total_text);
		return;
	}
	mt_size_text(doctor->pool_bytes, pool);
	if (doctor->pool_bytes > total)
		doctor_report(doctor, DOCTOR_FAIL, "pool",
			      "memtided --pool with less, or --pool auto",
			      "a pool of %s is more than the host's %s", pool, total_text);
	else if (doctor->pool_bytes > total / 10 * 9)
		doctor_report(doctor, DOCTOR_WARN, "pool", "leave a tenth to the host",
			      "a pool of %s leaves the host little of its %s", pool, total_text);
	else
		doctor_report(doctor, DOCTOR_OK, "pool", NULL, "a pool of %s of the host's %s",
			      pool, total_text);
}

void doctor_host(struct doctor *doctor)
{
	doctor_cores(doctor);
	doctor_pool(doctor);
	doctor_thp(doctor);
	doctor_map_count(doctor);
	doctor_memlock(doctor);
	doctor_host_swap(doctor);
	doctor_zram(doctor);
	doctor_ksm(doctor);
}
