/* SPDX-License-Identifier: MIT */
/*
 * bench_mem.c - memory with a content, and where the kernel has it; see bench.h
 *
 * /proc/self/pagemap tells, without touching, whether a page is in memory (bit 63) or in the
 * kernel's swap (bit 62). It is the witness that MADV_PAGEOUT did what was asked: that call
 * returns success whatever it left in place.
 */
#include "bench.h"
#include "base/types.h"
#include "common/checked_page.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21 /* Linux 5.4 */
#endif
#define BENCH_PRESENT (1ULL << 63)
#define BENCH_SWAPPED (1ULL << 62)

uint8_t *bench_map(uint64_t bytes, bool huge)
{
	uint8_t *area = mmap(NULL, bytes + MT_HUGE_SIZE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t skip;

	if (area == MAP_FAILED)
		bench_die("no address space for %" PRIu64 " MiB", bytes >> 20);
	skip = mt_align_up((uint64_t)(uintptr_t)area, MT_HUGE_SIZE) - (uint64_t)(uintptr_t)area;
	if (skip)
		munmap(area, skip);
	if (MT_HUGE_SIZE - skip)
		munmap(area + skip + bytes, MT_HUGE_SIZE - skip);
	madvise(area + skip, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	/* As QEMU does. A page that was shared with a child is refused by UFFDIO_MOVE. */
	madvise(area + skip, bytes, MADV_DONTFORK);
	return area + skip;
}

void bench_fill(uint8_t *memory, uint64_t bytes, const struct bench_mix *mix, uint64_t seed)
{
	struct cp_mix shares = {.zero = mix->zero, .text = mix->text, .half = mix->half};

	for (uint64_t i = 0; i < bytes >> MT_PAGE_SHIFT; i++)
		cp_fill(memory + (i << MT_PAGE_SHIFT), seed, i, 1, cp_kind_for(seed, i, &shares));
}

/* Pages of the range whose pagemap entry has @bits. */
static uint64_t bench_count(const uint8_t *memory, uint64_t bytes, uint64_t bits)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t page = (uint64_t)(uintptr_t)memory >> MT_PAGE_SHIFT;
	uint64_t left = bytes >> MT_PAGE_SHIFT, found = 0;
	uint64_t entry[512];

	while (left) {
		uint64_t count = left < 512 ? left : 512;
		ssize_t want = (ssize_t)(count * sizeof(*entry));

		if (pread(fd, entry, (size_t)want, (off_t)(page * sizeof(*entry))) != want)
			bench_die("cannot read /proc/self/pagemap");
		for (uint64_t i = 0; i < count; i++)
			found += (entry[i] & bits) != 0;
		page += count;
		left -= count;
	}
	close(fd);
	return found;
}

uint64_t bench_present(const uint8_t *memory, uint64_t bytes)
{
	return bench_count(memory, bytes, BENCH_PRESENT);
}

uint64_t bench_page_out(uint8_t *memory, uint64_t bytes)
{
	if (madvise(memory, bytes, MADV_PAGEOUT))
		bench_die("this kernel has no MADV_PAGEOUT");
	return bench_count(memory, bytes, BENCH_SWAPPED);
}

bool bench_zram(void)
{
	FILE *file = fopen("/proc/swaps", "re");
	char line[256];
	bool found = false;

	while (file && fgets(line, sizeof(line), file))
		found = found || strstr(line, "/zram");
	if (file)
		fclose(file);
	return found;
}

uint64_t bench_rss_bytes(const uint8_t *memory)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	uint64_t total_kib = 0, kib;
	uintptr_t start, end;
	bool counts = false;
	char line[512];

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &start, &end) == 2)
			counts = !memory || ((uintptr_t)memory >= start && (uintptr_t)memory < end);
		else if (counts && sscanf(line, "Anonymous: %" SCNu64, &kib) == 1)
			total_kib += kib;
	}
	if (file)
		fclose(file);
	return total_kib << 10;
}
