/* SPDX-License-Identifier: MIT */
/*
 * bench_break.c - what a guest waits for at a shared page
 *
 *  read   a page in a frame is read for the first time: the frame is mapped
 *  again  the same page is read once more: no fault
 *  write  it is written to: the mapping is taken away, the page copied back ("break")
 *
 * The VM's memory has each page twice, so it shares with itself. Beside "write" stands the kernel's
 * own copy on write of a private mapping of a file, in the same turn.
 */
#include "bench.h"
#include "monitor/vm_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BREAK_VM      "bench"
#define BREAK_BYTES   (64ULL << 20)
#define BREAK_PAGES   (BREAK_BYTES >> MT_PAGE_SHIFT)
#define BREAK_TARGET  (12ULL << 20)
#define BREAK_TOUCHES 4096U
#define BREAK_GOAL_US 40
#define BREAK_SHARE_S 60
#define BREAK_STRIDE  2654435761U /* odd: visits each page of a power of two once */

struct break_times {
	uint32_t count;
	uint32_t ns[BREAK_TOUCHES];
};

static uint64_t break_counter(struct mt_vm *vm, enum mt_counter id)
{
	return atomic_load_explicit(&vm->pager.counter[id], memory_order_relaxed);
}

static uint32_t break_touch(volatile uint8_t *at, bool write)
{
	uint64_t start = bench_now_ns();

	if (write)
		*at = (uint8_t)(*at + 1);
	else
		(void)*at;
	return (uint32_t)MT_MIN(bench_now_ns() - start, UINT32_MAX);
}

/* Touches pages in an order that no one can foresee; only those in @shared if that is given. */
static void break_run(uint8_t *memory, const bool *shared, bool write, struct break_times *times)
{
	times->count = 0;
	for (uint64_t i = 0; i < BREAK_PAGES && times->count < BREAK_TOUCHES; i++) {
		uint64_t page = i * BREAK_STRIDE % BREAK_PAGES;

		if (!shared || shared[page])
			times->ns[times->count++] =
				break_touch(memory + (page << MT_PAGE_SHIFT), write);
	}
	bench_sort(times->ns, times->count);
}

static double break_us(const struct break_times *times, unsigned int percent)
{
	return times->count ? times->ns[(uint64_t)(times->count - 1) * percent / 100] / 1e3 : 0;
}

static void break_fill(uint8_t *memory)
{
	struct bench_mix mix = BENCH_GUEST_MIX;

	bench_fill(memory, BREAK_BYTES / 2, &mix, 7);
	/* The likes in another order: neighbours are not neighbours in the frames. */
	for (uint64_t i = 0; i < BREAK_PAGES / 2; i++)
		memcpy(memory + BREAK_BYTES / 2 + (i << MT_PAGE_SHIFT),
		       memory + ((i * BREAK_STRIDE % (BREAK_PAGES / 2)) << MT_PAGE_SHIFT),
		       MT_PAGE_SIZE);
}

struct break_look {
	uint8_t *memory;
	bool *shared;
};

static bool break_look(struct mt_pager *pager, void *arg)
{
	struct break_look *look = arg;

	for (uint64_t i = 0; i < BREAK_PAGES; i++) {
		uint64_t addr = (uintptr_t)look->memory + (i << MT_PAGE_SHIFT);
		mt_gpn_t gpn = mt_region_gpn(mt_region_of_addr(&pager->regions, addr), addr);

		look->shared[i] = mt_page_state(&pager->map, gpn) == MT_PAGE_SHARED;
	}
	return true;
}

static void break_share(struct bench_host *host, struct mt_vm *vm, struct break_look *look)
{
	uint64_t end = bench_now_ns() + BREAK_SHARE_S * 1000000000ULL;

	bench_squeeze(host, vm, BREAK_VM, BREAK_TARGET);
	while (break_counter(vm, MT_C_SHARED_FRAMES) < BREAK_TOUCHES) {
		if (bench_now_ns() > end)
			bench_die("only %" PRIu64 " pages are shared after %d s",
				  break_counter(vm, MT_C_SHARED_FRAMES), BREAK_SHARE_S);
		usleep(10000);
	}
	mt_command(&vm->pager, break_look, look);
}

static void break_kernel(struct break_times *times)
{
	int fd = memfd_create("bench", MFD_CLOEXEC);
	uint8_t *memory;
	struct break_times reads;

	if (fd < 0 || ftruncate(fd, BREAK_BYTES))
		bench_die("no memory file");
	memory = mmap(NULL, BREAK_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	MT_ASSERT(memory != MAP_FAILED);
	break_fill(memory);
	munmap(memory, BREAK_BYTES);
	memory = mmap(NULL, BREAK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	MT_ASSERT(memory != MAP_FAILED);
	break_run(memory, NULL, false, &reads);
	break_run(memory, NULL, true, times);
	munmap(memory, BREAK_BYTES);
	close(fd);
}

static void break_rows(struct mt_vm *vm, uint8_t *memory, const bool *shared)
{
	struct break_times read, again, write, kernel;
	uint64_t mapped, broken;

	break_run(memory, shared, false, &read);
	mapped = break_counter(vm, MT_C_SHARE_MAPPED);
	break_run(memory, shared, false, &again);
	broken = break_counter(vm, MT_C_SHARE_BROKEN);
	break_run(memory, shared, true, &write);
	broken = break_counter(vm, MT_C_SHARE_BROKEN) - broken;
	break_kernel(&kernel);
	if (mapped < read.count / 2 || broken < write.count / 2)
		bench_die("of %u pages %" PRIu64 " were mapped and %" PRIu64 " broken", read.count,
			  mapped, broken);
	bench_row("share-map", "shared page, first read, p50", "us", BENCH_NO_GOAL, 0,
		  break_us(&read, 50), "p99 %.1f; %" PRIu64 " of %u mapped", break_us(&read, 99),
		  mapped, read.count);
	bench_row("share-read", "shared page, read again, p50", "us", BENCH_AT_MOST, 1,
		  break_us(&again, 50), "p99 %.1f", break_us(&again, 99));
	bench_row("share-break", "shared page, write, p50", "us", BENCH_AT_MOST, BREAK_GOAL_US,
		  break_us(&write, 50), "p99 %.1f; kernel's copy on write %.1f, p99 %.1f",
		  break_us(&write, 99), break_us(&kernel, 50), break_us(&kernel, 99));
}

int main(void)
{
	static struct bench_host host;
	static bool shared[BREAK_PAGES];
	struct break_look look = {.shared = shared};
	struct mt_vm *vm;

	bench_host_start(&host, "4G");
	vm = bench_vm_start(&host, BREAK_VM);
	look.memory = bench_map(BREAK_BYTES, false);
	break_fill(look.memory);
	bench_vm_region(vm, look.memory, BREAK_BYTES);
	break_share(&host, vm, &look);
	bench_ease(&host, vm, BREAK_VM);
	break_rows(vm, look.memory, shared);
	mt_vm_leave(vm, NULL);
	bench_host_stop(&host);
	return 0;
}
