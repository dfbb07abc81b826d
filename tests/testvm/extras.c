/* SPDX-License-Identifier: MIT */
/*
 * extras.c - hot-plugged regions, forks, and the program's own size
 *
 * Regions come and go at changing places and sizes, hold checked pages of their own numbers, and
 * are verified after the monitor had time to take pages away. What is mapped at their place after
 * their removal must be ordinary memory again.
 */
#include "extras.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHURN_MAX_MB     24u
#define CHURN_NUMBERS    (1ull << 40) /* page numbers far from the guest's own */
#define FORK_USEC        300000
#define CHILD_USEC       50000
#define CHURN_ALONE_USEC 20000

uint64_t tv_anonymous_kib(void)
{
	FILE *file = fopen("/proc/self/smaps_rollup", "re");
	unsigned long long kib = 0;
	char line[256];

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "Anonymous: %llu", &kib) == 1)
			break;
	if (file)
		fclose(file);
	return kib;
}

static void churn_fill(struct tv_guest *guest, unsigned char *at, uint64_t pages, uint32_t version)
{
	for (uint64_t i = 0; i < pages; i++)
		tv_fill(guest, at + i * CP_PAGE_SIZE, CHURN_NUMBERS + i, version);
}

/* Pages below @zeroed must read as zeros. */
static void churn_verify(struct tv_guest *guest, const unsigned char *at, uint64_t pages,
			 uint64_t zeroed, uint32_t version)
{
	for (uint64_t i = 0; i < pages; i++) {
		struct tv_page page = {at + i * CP_PAGE_SIZE, CHURN_NUMBERS + i,
				       version | (i < zeroed ? TV_ZEROED : 0)};

		tv_expect(guest, &page, "in a hot-added region");
	}
}

static bool churn_failed(struct tv_guest *guest, const char *what, int rc, const char *message)
{
	if (!rc)
		return false;
	fprintf(stderr, "testvm %s: churn: %s: %d %s\n", guest->o->name, what, rc, message);
	atomic_fetch_add(&guest->counts.errors, 1);
	return true;
}

/* Without a daemon there is nobody to ask for more memory; that is no fault. */
static bool churn_alone(int rc)
{
	return rc == -ECONNRESET || rc == -EPIPE || rc == -ETIMEDOUT;
}

static void churn_use(struct tv_guest *guest, unsigned char *at, uint64_t pages, uint32_t version)
{
	uint64_t bytes = pages * CP_PAGE_SIZE;
	struct mt_vm_error err = {0};
	int rc;

	churn_fill(guest, at, pages / 2, version); /* before and after the monitor takes over */
	rc = mt_vm_region_add(guest->vm, at, bytes, &err);
	if (churn_alone(rc)) {
		usleep(CHURN_ALONE_USEC);
		return;
	}
	if (churn_failed(guest, "add", rc, err.message))
		return;
	churn_fill(guest, at, pages, version);
	for (int i = 0; i < 10 && !guest->stop; i++)
		usleep(30000);
	churn_verify(guest, at, pages, 0, version);
	churn_failed(guest, "discard",
		     mt_vm_region_discard(guest->vm, at, pages / 4 * CP_PAGE_SIZE), "");
	churn_verify(guest, at, pages, pages / 4, version);
	if (churn_failed(guest, "remove", mt_vm_region_remove(guest->vm, at, bytes), ""))
		return;
	/* Not ours any more: new memory at the old place behaves like any. */
	if (mmap(at, bytes, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != at)
		return;
	churn_verify(guest, at, pages, pages, version);
	atomic_fetch_add(&guest->counts.churned, 1);
}

void tv_churn_run(struct tv_guest *guest, unsigned int number)
{
	struct tv_walker walker;

	tv_walker_init(&walker, TV_UNIFORM, 0, guest->pages, 300 + number, 400, guest->o->seed);
	for (uint32_t version = 1; !guest->stop && guest->vm; version++) {
		uint64_t pages = 256 * (1 + tv_walker_random(&walker, CHURN_MAX_MB)) +
				 tv_walker_random(&walker, 200);
		unsigned char *at = mmap(NULL, pages * CP_PAGE_SIZE, PROT_READ | PROT_WRITE,
					 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (at == MAP_FAILED)
			return;
		churn_use(guest, at, pages, version);
		munmap(at, pages * CP_PAGE_SIZE);
	}
}

void tv_fork_run(struct tv_guest *guest, unsigned int number)
{
	(void)number;
	while (!guest->stop) {
		pid_t pid = fork();

		if (!pid) {
			usleep(CHILD_USEC);
			_exit(0);
		}
		if (pid > 0) {
			waitpid(pid, NULL, 0);
			atomic_fetch_add(&guest->counts.forked, 1);
		}
		usleep(FORK_USEC);
	}
}
