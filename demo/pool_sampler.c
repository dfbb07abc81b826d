/* SPDX-License-Identifier: MIT */
/*
 * pool_sampler.c - measure from outside what VMs take of the pool
 *
 * Why: Memtide promises that its VMs never hold more than the pool, and its own counters say so.
 * This program does not believe them: ten times a second it asks the kernel, and nobody else, how
 * many pages the VMMs have mapped.
 *
 * How: a VM is announced on standard input, as a line "NAME PID ADDR BYTES" (its guest RAM; once
 * for each region). Counted are all private anonymous mappings of the process that have VmFlag "dc"
 * (MADV_DONTFORK) in /proc/PID/smaps: guest RAM, and the monitor's staging area, zip store,
 * nursery, page map and buffers, which carry that mark too. QEMU marks its small blocks (firmware,
 * option ROMs, video) the same way, and these MADV_MERGEABLE ("mg") as well, which nothing of
 * Memtide's is: they are not the pool's and are shown in a column of their own. Where the mappings
 * are is read anew every second; pages are counted with the PAGEMAP_SCAN ioctl, as those present (a
 * huge page is all its 4 KiB pages) without the shared zero page, which takes no memory. The
 * daemon's anonymous memory is added, as it has its part of the pool. Not seen: the C library's
 * heap and the stacks of the monitor's threads, page tables, kernel memory.
 *
 * A sample takes some milliseconds, and a page that moves meanwhile can be counted twice or not
 * at all; so it runs at real-time priority where it may. The CSV file has a line for each sample;
 * --summary is rewritten with the peak.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/types.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* <linux/fs.h> has these from Linux 6.7 on; Debian 12's headers are older. */
#define SCAN_IS_PRESENT ((uint64_t)1 << 3)
#define SCAN_IS_PFNZERO ((uint64_t)1 << 5)

struct scan_region {
	uint64_t start, end, categories;
};

struct scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};

#define SCAN_IOCTL   _IOWR('f', 16, struct scan_arg)
#define SCAN_VECTOR  16384
#define VMS_MAX      64
#define REGIONS_MAX  16
#define MAPPINGS_MAX 512
#define PAGE_KIB     4
#define PAGE_BYTES   4096

enum part { PART_GUEST, PART_MONITOR, PART_VMM, PART_COUNT };

struct mapping {
	uint64_t start, end;
	enum part part;
};

struct region {
	uint64_t start, end;
};

struct vm {
	char name[64];
	int pid;
	int pagemap; /* -1 when the process is gone */
	struct region region[REGIONS_MAX];
	unsigned int regions;
	struct mapping mapping[MAPPINGS_MAX];
	unsigned int mappings;
	uint64_t kib[PART_COUNT];
};

static struct vm vms[VMS_MAX];
static unsigned int vm_count;
static struct scan_region vector[SCAN_VECTOR];
static volatile sig_atomic_t stop;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what, const char *detail)
{
	fprintf(stderr, "pool_sampler: %s: %s\n", what, detail);
	exit(2);
}

static void on_signal(int number)
{
	(void)number;
	stop = 1;
}

/* Pages of [start, end) that take memory. */
static uint64_t count_pages(int pagemap, uint64_t start, uint64_t end)
{
	uint64_t pages = 0;

	while (start < end) {
		struct scan_arg arg = {
			.size = sizeof(arg),
			.start = start,
			.end = end,
			.vec = (uint64_t)(uintptr_t)vector,
			.vec_len = SCAN_VECTOR,
			.category_mask = SCAN_IS_PRESENT | SCAN_IS_PFNZERO,
			.category_inverted = SCAN_IS_PFNZERO,
			.return_mask = SCAN_IS_PRESENT,
		};
		int count = ioctl(pagemap, SCAN_IOCTL, &arg);

		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0 && errno != ESRCH)
			die("PAGEMAP_SCAN (Linux 6.7 or newer is needed)", strerror(errno));
		if (count < 0)
			break;
		for (int i = 0; i < count; i++)
			pages += (vector[i].end - vector[i].start) / PAGE_BYTES;
		/* arg.walk_end is of no use: after a long walk, Linux 6.18 leaves an older place
		 * there. */
		if (count < SCAN_VECTOR)
			break;
		start = vector[count - 1].end;
	}
	return pages;
}

static enum part part_of(const struct vm *vm, const struct mapping *m, bool mergeable)
{
	for (unsigned int i = 0; i < vm->regions; i++)
		if (m->start < vm->region[i].end && m->end > vm->region[i].start)
			return PART_GUEST;
	return mergeable ? PART_VMM : PART_MONITOR;
}

/* Find the mappings to count; those of a process that is gone are none. */
static void read_mappings(struct vm *vm)
{
	char path[64], line[512], perms[5];
	struct mapping m = {0};
	unsigned long inode = 1;
	FILE *smaps;

	snprintf(path, sizeof(path), "/proc/%d/smaps", vm->pid);
	smaps = fopen(path, "re");
	vm->mappings = 0;
	if (!smaps)
		return;
	while (fgets(line, sizeof(line), smaps)) {
		unsigned long from, to, number;

		if (sscanf(line, "%lx-%lx %4s %*s %*s %lu", &from, &to, perms, &number) == 4) {
			m.start = from;
			m.end = to;
			inode = number;
		} else if (!strncmp(line, "VmFlags:", 8) && !inode && perms[3] == 'p' &&
			   strstr(line, " dc")) {
			if (vm->mappings == MAPPINGS_MAX)
				die("too many mappings in VM", vm->name);
			m.part = part_of(vm, &m, strstr(line, " mg") != NULL);
			vm->mapping[vm->mappings++] = m;
		}
	}
	fclose(smaps);
}

static void measure(struct vm *vm)
{
	memset(vm->kib, 0, sizeof(vm->kib));
	for (unsigned int i = 0; i < vm->mappings; i++) {
		const struct mapping *m = &vm->mapping[i];

		vm->kib[m->part] += count_pages(vm->pagemap, m->start, m->end) * PAGE_KIB;
	}
}

static uint64_t daemon_kib(int pid)
{
	char path[64], line[256];
	uint64_t kib = 0;
	FILE *status;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	status = pid ? fopen(path, "re") : NULL;
	if (!status)
		return 0;
	while (fgets(line, sizeof(line), status))
		if (sscanf(line, "RssAnon: %" SCNu64, &kib) == 1)
			break;
	fclose(status);
	return kib;
}

/* "NAME PID ADDR BYTES" */
static void announce(const char *line)
{
	struct vm *vm = NULL;
	char name[64], path[64];
	uint64_t addr, bytes;
	int pid;

	if (sscanf(line, "%63s %d %" SCNu64 " %" SCNu64, name, &pid, &addr, &bytes) != 4)
		die("not a line 'NAME PID ADDR BYTES'", line);
	for (unsigned int i = 0; i < vm_count; i++)
		if (vms[i].pid == pid)
			vm = &vms[i];
	if (!vm) {
		if (vm_count == VMS_MAX)
			die("too many VMs", name);
		vm = &vms[vm_count];
		snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
		vm->pagemap = open(path, O_RDONLY | O_CLOEXEC);
		if (vm->pagemap < 0) {
			if (errno == ENOENT)
				return;
			die(path, strerror(errno));
		}
		vm->pid = pid;
		snprintf(vm->name, sizeof(vm->name), "%s", name);
		vm_count++;
	}
	if (vm->regions == REGIONS_MAX)
		die("too many regions in VM", name);
	vm->region[vm->regions++] = (struct region){addr, addr + bytes};
	read_mappings(vm);
}

/* Take what standard input has. Return: false at its end. */
static bool read_input(void)
{
	static char buffer[4096];
	static size_t used;
	ssize_t got = read(STDIN_FILENO, buffer + used, sizeof(buffer) - 1 - used);
	char *line = buffer, *end;

	if (got <= 0)
		return got < 0 && errno == EINTR;
	used += (size_t)got;
	buffer[used] = '\0';
	while ((end = strchr(line, '\n'))) {
		*end = '\0';
		announce(line);
		line = end + 1;
	}
	used = strlen(line);
	memmove(buffer, line, used);
	return true;
}

struct sums {
	uint64_t kib[PART_COUNT];
	uint64_t daemon, pool, peak, samples;
	double slowest, peak_time;
};

static void sample(struct sums *s, int daemon_pid, FILE *csv, double time)
{
	double start = now();
	uint64_t total;

	memset(s->kib, 0, sizeof(s->kib));
	for (unsigned int i = 0; i < vm_count; i++) {
		measure(&vms[i]);
		for (unsigned int part = 0; part < PART_COUNT; part++)
			s->kib[part] += vms[i].kib[part];
	}
	s->daemon = daemon_kib(daemon_pid);
	total = s->kib[PART_GUEST] + s->kib[PART_MONITOR] + s->daemon;
	if (total > s->peak) {
		s->peak = total;
		s->peak_time = time;
	}
	s->samples++;
	if (now() - start > s->slowest)
		s->slowest = now() - start;
	fprintf(csv,
		"%.1f,%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 "\n",
		time, total, s->kib[PART_GUEST], s->kib[PART_MONITOR], s->daemon, s->kib[PART_VMM],
		s->pool);
	fflush(csv);
}

/* Written aside and renamed: readers see a whole one. */
static void write_summary(const char *path, const struct sums *s)
{
	char aside[4096];
	FILE *out;

	snprintf(aside, sizeof(aside), "%s.new", path);
	out = fopen(aside, "we");
	if (!out)
		die(aside, strerror(errno));
	fprintf(out,
		"samples %" PRIu64 "\npool %" PRIu64 "\npeak %" PRIu64 "\npeak_time %.1f\n"
		"now %" PRIu64 "\nvmm_own %" PRIu64 "\nslowest_ms %.1f\n",
		s->samples, s->pool, s->peak, s->peak_time,
		s->kib[PART_GUEST] + s->kib[PART_MONITOR] + s->daemon, s->kib[PART_VMM],
		s->slowest * 1000);
	if (fclose(out) || rename(aside, path))
		die(path, strerror(errno));
}

static void usage(FILE *to)
{
	fputs("usage: pool_sampler --csv FILE --summary FILE [--pool KIB] [--daemon PID] [--hz N]\n"
	      "Samples what VMs hold, until SIGTERM or the end of standard input, which has\n"
	      "a line 'NAME PID ADDR BYTES' for each region of guest RAM.\n",
	      to);
}

/* Wait for input until the next sample is due. Return: false at the end of the input. */
static bool wait_until(double due)
{
	double left;

	while (!stop && (left = due - now()) > 0) {
		struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};

		if (poll(&input, 1, (int)(left * 1000) + 1) > 0 && !read_input())
			return false;
	}
	return true;
}

static void run(struct sums *s, int daemon_pid, double period, FILE *csv, const char *summary)
{
	double start = now(), due = start, mapped = 0;

	fprintf(csv, "seconds,total_kib,guest_kib,monitor_kib,daemon_kib,vmm_own_kib,pool_kib\n");
	while (!stop && wait_until(due)) {
		if (now() - mapped >= 1) {
			mapped = now();
			for (unsigned int i = 0; i < vm_count; i++)
				read_mappings(&vms[i]);
		}
		sample(s, daemon_pid, csv, now() - start);
		write_summary(summary, s);
		due += period;
		if (due < now())
			due = now(); /* too slow: no bursts to catch up */
	}
	write_summary(summary, s);
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {{"csv", 1, NULL, 'c'},  {"summary", 1, NULL, 's'},
					      {"pool", 1, NULL, 'p'}, {"daemon", 1, NULL, 'd'},
					      {"hz", 1, NULL, 'z'},   {"help", 0, NULL, 'h'},
					      {NULL, 0, NULL, 0}};
	const char *csv_path = NULL, *summary = NULL;
	struct sums s = {0};
	int letter, daemon_pid = 0;
	double hz = 10;
	FILE *csv;

	while ((letter = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (letter) {
		case 'c':
			csv_path = optarg;
			break;
		case 's':
			summary = optarg;
			break;
		case 'p':
			s.pool = strtoull(optarg, NULL, 10);
			break;
		case 'd':
			daemon_pid = (int)strtol(optarg, NULL, 10);
			break;
		case 'z':
			hz = strtod(optarg, NULL);
			break;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	}
	if (!csv_path || !summary || optind != argc || !(hz >= 0.1 && hz <= 1000)) {
		usage(stderr);
		return 2;
	}
	/* Before the guests, if we may: a sample that is interrupted mixes two moments. */
	(void)sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = 1});
	signal(SIGTERM, on_signal);
	signal(SIGINT, SIG_IGN); /* Ctrl-C is for who started us */
	csv = fopen(csv_path, "we");
	if (!csv)
		die(csv_path, strerror(errno));
	run(&s, daemon_pid, 1 / hz, csv, summary);
	fclose(csv);
	return 0;
}
