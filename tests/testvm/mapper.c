/* SPDX-License-Identifier: MIT */
/*
 * mapper.c - memtide-mapper: a VMM that changes the mappings under its guest memory
 *
 * Runs with the preload library, as QEMU does. Fills memory, waits until most of it has been taken
 * away, then unmaps, replaces or moves a part of it, or closes descriptors, and checks every page,
 * those that are still the guest's and those that are new. When all were right it waits for its
 * input to end, so that it can be looked at. Exit status: 0; 1 for a wrong page; 2 for anything
 * else.
 */
#include "closer.h"
#include "common/mt_test.h"
#include "unpinned.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE   4096UL
#define PAGES  16384UL /* 64 MiB */
#define THIRD  (PAGES / 3)
#define WAIT_S 120 /* far more than a slow machine needs */
/* Address space for more mappings than a process may have. */
#define TABLE_BYTES (4096UL << 20)
#define HEAP_PIECES 256

/* Every page has a place and a version; half of it does not shrink, so that both stores get some.
 */
static void fill(uint8_t *at, uint64_t number, uint64_t version)
{
	uint64_t *word = (uint64_t *)(void *)at;
	uint64_t x = number * 0x9e3779b97f4a7c15ULL + version;

	for (size_t i = 0; i < PAGE / 8; i++) {
		if (number % 2)
			x = (x ^ (x >> 29)) * 0xbf58476d1ce4e5b9ULL;
		word[i] = x;
	}
}

static int wrong(const uint8_t *at, uint64_t number, uint64_t version)
{
	static uint8_t should[PAGE] __attribute__((aligned(8)));

	fill(should, number, version);
	if (!memcmp(at, should, PAGE))
		return 0;
	printf("# page %lu is wrong; its first word is %lx\n", (unsigned long)number,
	       (unsigned long)*(const uint64_t *)(const void *)at);
	return 1;
}

static void fill_range(uint8_t *at, uint64_t first, uint64_t count, uint64_t version)
{
	for (uint64_t i = 0; i < count; i++)
		fill(at + i * PAGE, first + i, version);
}

static void check_range(const uint8_t *at, uint64_t first, uint64_t count, uint64_t version)
{
	for (uint64_t i = 0; i < count; i++)
		if (wrong(at + i * PAGE, first + i, version))
			exit(1);
}

static void die(const char *what)
{
	perror(what);
	exit(2);
}

static uint64_t entry[PAGES];

/* How many pages are in their place? @entry says which. */
static uint64_t present(const uint8_t *at)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t count = 0;

	if (fd < 0 || pread(fd, entry, sizeof(entry), (off_t)((uintptr_t)at / PAGE * 8)) !=
			      (ssize_t)sizeof(entry))
		die("pagemap");
	close(fd);
	for (size_t i = 0; i < PAGES; i++)
		count += entry[i] >> 62 != 0;
	return count;
}

/* Until a good part of the memory is out. */
static void wait_squeezed(const uint8_t *at)
{
	if (!MT_WAIT(WAIT_S, present(at) <= PAGES / 2))
		die("nobody takes memory away");
}

/* The hand goes round while the guest's pages are touched. */
static void churn(uint8_t *at, uint64_t first, uint64_t count, uint64_t version)
{
	for (int round = 0; round < 3; round++) {
		check_range(at, first, count, version + (uint64_t)round);
		fill_range(at, first, count, version + (uint64_t)round + 1);
		usleep(200000);
	}
}

/*
 * Uses up what mappings a process may have (vm.max_map_count): every other page of an area gets
 * rights of its own. Return: the area.
 */
static uint8_t *fill_table(void)
{
	uint8_t *area = mmap(NULL, TABLE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (area == MAP_FAILED)
		die("mmap");
	for (size_t i = 0; i + PAGE < TABLE_BYTES; i += 2 * PAGE)
		if (mprotect(area + i, PAGE, PROT_READ))
			break;
	/* Those that are left, one by one. */
	while (mmap(NULL, PAGE, PROT_EXEC, MAP_SHARED | MAP_ANONYMOUS, -1, 0) != MAP_FAILED)
		;
	printf("# no mapping is left: %s\n", strerror(errno));
	fflush(stdout);
	if (errno != ENOMEM)
		exit(2);
	return area;
}

/* Free memory in the heap, which can't grow any more later; its last piece keeps it there. */
static void heap_reserve(void)
{
	void *piece[HEAP_PIECES];

	for (size_t i = 0; i < HEAP_PIECES; i++)
		piece[i] = malloc(PAGE);
	for (size_t i = 0; i + 1 < HEAP_PIECES; i++)
		free(piece[i]);
}

/* @full: with no mapping left when it is to be managed, so that it can't be. */
static uint8_t *guest_memory(int full)
{
	uint8_t *at = mmap(NULL, (PAGES + 2) * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	/* Between pages of other rights, so that it stays a mapping by itself. */
	if (at == MAP_FAILED || mprotect(at + PAGE, PAGES * PAGE, PROT_READ | PROT_WRITE))
		die("guest memory");
	at += PAGE;
	if (full) {
		heap_reserve();
		fill_table();
	}
	if (madvise(at, PAGES * PAGE, MADV_DONTFORK))
		die("madvise");
	fill_range(at, 0, PAGES, 1);
	printf("# the VMM has filled its memory\n");
	fflush(stdout);
	if (!full)
		wait_squeezed(at);
	return at;
}

/* The middle third becomes other memory: by one call, or by two. */
static void replace_middle(uint8_t *at, int unmap_first)
{
	uint8_t *middle = at + THIRD * PAGE;

	if (unmap_first && munmap(middle, THIRD * PAGE))
		die("munmap");
	if (mmap(middle, THIRD * PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != middle)
		die("mmap");
	fill_range(middle, THIRD, THIRD, 100);
	churn(at, 0, THIRD, 1);
	churn(at + 2 * THIRD * PAGE, 2 * THIRD, THIRD, 1);
	check_range(middle, THIRD, THIRD, 100);
}

static void replace_all(uint8_t *at)
{
	if (mmap(at, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		 -1, 0) != at)
		die("mmap");
	churn(at, 0, 0, 1);
	for (size_t i = 0; i < PAGES * PAGE; i += PAGE)
		if (at[i])
			exit(1);
	fill_range(at, 0, PAGES, 100);
	usleep(500000);
	check_range(at, 0, PAGES, 100);
}

static void move_all(uint8_t *at)
{
	uint8_t *to = mmap(NULL, PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (to == MAP_FAILED ||
	    mremap(at, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to)
		die("mremap");
	check_range(to, 0, PAGES, 1);
	fill_range(to, 0, PAGES, 2);
	usleep(300000);
	check_range(to, 0, PAGES, 2);
}

/* A call that the kernel refuses changes nothing. */
static void refused(uint8_t *at)
{
	if (mmap(at + THIRD * PAGE, THIRD * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, -1, 0) !=
	    MAP_FAILED)
		exit(2);
	check_range(at, 0, PAGES, 1);
}

/* With no mapping left pages come and go as ever, and a hole that can't be made costs none. */
static void full(uint8_t *at)
{
	uint8_t *area = fill_table();

	churn(at, 0, PAGES, 1);
	if (!munmap(at + THIRD * PAGE, THIRD * PAGE) || errno != ENOMEM)
		die("a hole was made");
	wait_squeezed(at);
	check_range(at, 0, PAGES, 4);
	if (munmap(area, TABLE_BYTES))
		die("munmap");
	fill_range(at, 0, PAGES, 1);
	replace_middle(at, 1);
}

static void close_library(uint8_t *at)
{
	if (!closer_library())
		exit(2);
	churn(at, 0, PAGES, 1);
	wait_squeezed(at);
	check_range(at, 0, PAGES, 4);
}

#define READERS 16

struct reader {
	const uint8_t *at;
	uint64_t first; /* a page that is out */
};

static _Atomic int reader_saw; /* 1: a page that is wrong; 2: one that was out and has come back */

/* Reads a page that nobody can bring back. */
static void *reader_main(void *arg)
{
	const struct reader *reader = arg;

	if (reader->first < PAGES)
		atomic_store(&reader_saw,
			     wrong(reader->at + reader->first * PAGE, reader->first, 1) ? 1 : 2);
	return NULL;
}

/*
 * Closes everything by a raw call; then pages that are out are read. They can't come back, and must
 * not come as anything else. The readers wait when the test ends, which is told by its input.
 */
static int close_raw(uint8_t *at)
{
	static struct reader reader[READERS];
	pthread_t thread;
	char end;

	if (!closer_raw())
		exit(2);
	present(at);
	for (uint64_t i = 0; i < READERS; i++) {
		reader[i] = (struct reader){at, i * (PAGES / READERS)};
		while (reader[i].first < PAGES && entry[reader[i].first] >> 62)
			reader[i].first++;
		if (pthread_create(&thread, NULL, reader_main, &reader[i]))
			die("pthread_create");
	}
	if (read(STDIN_FILENO, &end, 1))
		return 2;
	printf("# readers saw %d\n", atomic_load(&reader_saw));
	fflush(stdout);
	return atomic_load(&reader_saw) != 0;
}

/* Until the test says so. */
static void wait_told(void)
{
	char go;

	if (read(STDIN_FILENO, &go, 1) != 1)
		exit(2);
}

/* While a file is open for direct I/O that the kernel does not report, no page leaves its place. */
static void direct(uint8_t *at, const char *how)
{
	static bool was[PAGES];
	uint64_t count;
	int fd;

	/* When all is quiet: what goes out from here on goes out while the file is open. */
	if (!strcmp(how, "raw"))
		wait_told();
	fd = unpinned_open(how);
	if (fd < 0)
		die("a file for direct I/O");
	/* One that is opened unseen is found some time. */
	if (!strcmp(how, "raw"))
		wait_told();
	count = present(at);
	for (size_t i = 0; i < PAGES; i++)
		was[i] = entry[i] >> 62;
	printf("# %lu pages are in their place\n", (unsigned long)count);
	fflush(stdout);
	if (strcmp(how, "raw") != 0)
		wait_told();
	wait_told();
	present(at);
	for (size_t i = 0; i < PAGES; i++)
		if (was[i] && !(entry[i] >> 62))
			exit(1);
	close(fd);
	if (!MT_WAIT(WAIT_S, present(at) < count))
		die("nobody takes memory away any more");
	check_range(at, 0, PAGES, 1);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	uint8_t *at = guest_memory(!strcmp(what, "full-first"));
	char end;

	if (!strcmp(what, "mmap"))
		replace_middle(at, 0);
	else if (!strcmp(what, "munmap"))
		replace_middle(at, 1);
	else if (!strcmp(what, "mmap-all"))
		replace_all(at);
	else if (!strcmp(what, "mremap"))
		move_all(at);
	else if (!strcmp(what, "refused"))
		refused(at);
	else if (!strcmp(what, "full"))
		full(at);
	else if (!strcmp(what, "close"))
		close_library(at);
	else if (!strcmp(what, "close-raw"))
		return close_raw(at);
	else if (!strncmp(what, "direct-", 7))
		direct(at, what + 7);
	else if (!strcmp(what, "full-first"))
		check_range(at, 0, PAGES, 1);
	else
		return 2;
	return read(STDIN_FILENO, &end, 1) != 0;
}
