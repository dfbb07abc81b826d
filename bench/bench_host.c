/* SPDX-License-Identifier: MIT */
/*
 * bench_host.c - a daemon of our own and a VM under it; see bench.h
 *
 * The daemon is a child that gets a signal when we end, however that happens, so a benchmark that
 * dies leaves nothing behind but an empty directory.
 */
#include "bench.h"
#include "base/types.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define BENCH_START_MS  5000
#define BENCH_SQUEEZE_S 120

void bench_pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (cpu < 0 || i == cpu)
			CPU_SET(i, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		bench_die("cannot run on core %d", cpu);
}

static _Noreturn void bench_host_exec(const struct bench_host *host, const char *pool)
{
	const char *program = getenv("MEMTIDED");
	int fd = open(host->dir, O_TMPFILE | O_RDWR, 0600);

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (fd >= 0)
		dup2(fd, STDOUT_FILENO);
	execlp(program ? program : "memtided", "memtided", "--pool", pool, "--socket", host->socket,
	       "--swap-dir", host->dir, NULL);
	fprintf(stderr, "bench: cannot run %s\n", program ? program : "memtided");
	_exit(127);
}

static int bench_connect(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if (!connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return fd;
	close(fd);
	return -1;
}

/* Reads one line of the control protocol; true when it reports success. */
static bool bench_answer(struct bench_host *host, char *line, size_t size)
{
	size_t got = 0;
	ssize_t n;

	while (got + 1 < size && (n = read(host->control, line + got, size - got - 1)) > 0) {
		got += (size_t)n;
		if (line[got - 1] == '\n')
			break;
	}
	line[got] = '\0';
	return strstr(line, "\"ok\":true") || strstr(line, "\"ok\": true") ||
	       strstr(line, "\"memtide\"");
}

void bench_host_start(struct bench_host *host, const char *pool)
{
	const char *tmp = getenv("TMPDIR");
	char line[1024];

	snprintf(host->dir, sizeof(host->dir), "%s/memtide-bench.XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(host->dir))
		bench_die("cannot make a directory %s", host->dir);
	snprintf(host->socket, sizeof(host->socket), "%s/control.sock", host->dir);
	host->pid = fork();
	if (!host->pid)
		bench_host_exec(host, pool);
	for (int ms = 0; ms < BENCH_START_MS; ms += 10) {
		host->control = bench_connect(host->socket);
		if (host->control >= 0)
			break;
		usleep(10000);
	}
	if (host->control < 0 || !bench_answer(host, line, sizeof(line)))
		bench_die("the daemon does not answer; is $MEMTIDED right?");
}

void bench_host_stop(struct bench_host *host)
{
	char path[128];
	static const char *const left[] = {"control.sock", "control.sock.vm", "control.sock.lock"};

	close(host->control);
	kill(host->pid, SIGTERM);
	waitpid(host->pid, NULL, 0);
	for (size_t i = 0; i < MT_ARRAY_SIZE(left); i++) {
		snprintf(path, sizeof(path), "%s/%s", host->dir, left[i]);
		unlink(path);
	}
	rmdir(host->dir);
}

void bench_set(struct bench_host *host, const char *vm, const char *key, const char *value)
{
	static char line[1 << 16];
	bool number = !strcmp(key, "zip_max_pct");
	const char *quote = number ? "" : "\"";
	int length = snprintf(line, sizeof(line),
			      "{\"cmd\":\"set\",\"vm\":\"%s\",\"settings\":{\"%s\":%s%s%s}}\n", vm,
			      key, quote, value, quote);

	if (write(host->control, line, (size_t)length) != length ||
	    !bench_answer(host, line, sizeof(line)))
		bench_die("set %s=%s: %s", key, value, line);
}

struct mt_vm *bench_vm_start(struct bench_host *host, const char *name)
{
	struct mt_vm_options options = {
		.struct_size = sizeof(options), .name = name, .socket = host->socket};
	struct mt_vm_error err;
	struct mt_vm *vm;

	if (mt_vm_new(&options, &vm, &err))
		bench_die("%s", err.message);
	return vm;
}

void bench_vm_region(struct mt_vm *vm, uint8_t *memory, uint64_t bytes)
{
	struct mt_vm_error err;

	if (mt_vm_region_add(vm, memory, bytes, &err))
		bench_die("%s", err.message);
}

struct mt_vm_stats bench_stats(struct mt_vm *vm)
{
	struct mt_vm_stats stats = {.struct_size = sizeof(stats)};

	mt_vm_stats_read(vm, &stats);
	return stats;
}

uint64_t bench_zip_target(uint64_t bytes)
{
	return bytes / 100 * 53;
}

uint64_t bench_squeeze(struct bench_host *host, struct mt_vm *vm, const char *name,
		       uint64_t target_bytes)
{
	uint64_t start = bench_now_ns();
	struct mt_vm_stats stats;
	char size[32];

	snprintf(size, sizeof(size), "%" PRIu64 "K", target_bytes >> 10);
	bench_set(host, name, "target_max", size);
	do {
		usleep(1000);
		stats = bench_stats(vm);
		if (bench_now_ns() - start > BENCH_SQUEEZE_S * 1000000000ULL)
			bench_die("%" PRIu64 " MiB are still held after %d s",
				  stats.held_bytes >> 20, BENCH_SQUEEZE_S);
	} while (stats.held_bytes > target_bytes);
	return bench_now_ns() - start;
}

void bench_ease(struct bench_host *host, struct mt_vm *vm, const char *name)
{
	struct mt_vm_stats stats;
	int ms = 0;

	bench_set(host, name, "target_max", "none");
	do {
		if (ms++ > BENCH_START_MS)
			bench_die("the daemon does not grant memory");
		usleep(1000);
		stats = bench_stats(vm);
	} while (stats.grant_bytes < stats.memsize_bytes);
}
