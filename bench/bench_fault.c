/* SPDX-License-Identifier: MIT */
/*
 * bench_fault.c - how long a guest waits for a page, seen from the guest's side
 *
 * One thread touches pages and reads the clock before and after. What it touches:
 *
 *  random      compressed pages in random order
 *  sequential  compressed pages one after the other: time for 64 pages, a page, since
 *              fault-around makes most touches free and a few dearer
 *  nominated   pages in staging (second chance)
 *  zero        pages known to be zero
 *  first       pages never touched, with plenty of memory
 *  swap        pages in the swap file
 *
 * Random and sequential are taken for three placements of the pager's thread: wherever it goes by
 * itself, on the toucher's core, on another core. Beside each stands the kernel's way with the
 * same content in the same turn: swap-in from zram, or its own first touch.
 */
#include "bench.h"
#include "bench_pager.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FAULT_VM           "bench"
#define FAULT_RANDOM       4096U /* random touches in one turn */
#define FAULT_SAMPLES      (FAULT_RANDOM * 32)
#define FAULT_RANDOM_GOAL  1.5 /* times zram */
#define FAULT_WALK_GOAL    0.7
#define FAULT_PIECE        (256ULL << 10) /* of a walk */
#define FAULT_PIECES       (1U << 16)
#define FAULT_FIRST_PIECE  (4ULL << 20) /* two large pages */
#define FAULT_NOISE_BYTES  (32ULL << 20)
#define FAULT_STAGED_BYTES (64ULL << 20)

enum fault_place { FAULT_ANYWHERE, FAULT_SAME, FAULT_OTHER, FAULT_PLACES };

static const char *const fault_place_name[] = {"free", "same core", "other core"};

/* Times of single touches, of all rounds. */
struct fault_times {
	uint32_t count;
	uint32_t ns[FAULT_SAMPLES];
};

struct fault_options {
	uint64_t bytes; /* half for random touches, half for the walk */
	unsigned int rounds;
	int cpu;
	int other_cpu;
};

struct fault_bench {
	struct fault_options o;
	struct bench_host host;
	struct mt_vm *vm;
	uint8_t *guest;
	uint8_t *plain;
	uint32_t order[FAULT_RANDOM];
	struct fault_times random, random_zram;
	double walk[BENCH_ROUNDS_MAX], walk_zram[BENCH_ROUNDS_MAX]; /* ns a page */
	double walk_cpu[BENCH_ROUNDS_MAX], walk_zram_cpu[BENCH_ROUNDS_MAX];
};

static struct fault_bench fault;
static struct fault_times fault_scratch;

/* Time of one touch; a write, so that the page has to be the toucher's own. */
static uint32_t fault_touch(volatile uint8_t *at)
{
	uint64_t start = bench_now_ns(), took;

	*at = *at;
	took = bench_now_ns() - start;
	return took > UINT32_MAX ? UINT32_MAX : (uint32_t)took;
}

static void fault_add(struct fault_times *times, uint32_t ns)
{
	if (times->count < FAULT_SAMPLES)
		times->ns[times->count++] = ns;
}

static double fault_us(const struct fault_times *times, unsigned int percent)
{
	MT_ASSERT(times->count);
	return times->ns[(uint64_t)(times->count - 1) * percent / 100] / 1e3;
}

static double fault_mean_us(const struct fault_times *times)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < times->count; i++)
		sum += times->ns[i];
	return (double)sum / 1e3 / times->count;
}

/* Distinct pages of the first half, in random order. */
static void fault_make_order(uint32_t *order, uint32_t count, uint64_t pages)
{
	uint64_t state = 88172645463325252ULL, step = pages / count;

	for (uint32_t i = 0; i < count; i++)
		order[i] = (uint32_t)(i * step);
	for (uint32_t i = count - 1; i; i--) {
		uint32_t j, keep = order[i];

		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		j = (uint32_t)(state % (i + 1));
		order[i] = order[j];
		order[j] = keep;
	}
}

static void fault_random(uint8_t *memory, struct fault_times *times)
{
	for (uint32_t i = 0; i < FAULT_RANDOM; i++) {
		uint8_t *page = memory + ((uint64_t)fault.order[i] << MT_PAGE_SHIFT);

		if (!bench_present(page, MT_PAGE_SIZE))
			fault_add(times, fault_touch(page));
	}
}

/*
 * A walk in pieces of @piece bytes. Return: ns a page, median of the pieces that were out, for the
 * walk is long enough to be interrupted by whoever else uses the core.
 */
static double fault_walk(uint8_t *memory, uint64_t bytes, uint64_t piece)
{
	static bool out[FAULT_PIECES];
	volatile uint8_t *at = memory;

	MT_ASSERT(bytes / piece <= FAULT_PIECES);
	for (uint64_t i = 0; i < bytes / piece; i++)
		out[i] = !bench_present(memory + i * piece, piece);
	fault_scratch.count = 0;
	for (uint64_t done = 0; done < bytes; done += piece) {
		uint64_t start = bench_now_ns();

		for (uint64_t i = done; i < done + piece; i += MT_PAGE_SIZE)
			at[i] = at[i];
		if (out[done / piece])
			fault_add(&fault_scratch, (uint32_t)(bench_now_ns() - start));
	}
	bench_sort(fault_scratch.ns, fault_scratch.count);
	return fault_us(&fault_scratch, 50) * 1e3 / (double)(piece >> MT_PAGE_SHIFT);
}

static void fault_vm_start(int cpu)
{
	bench_pin(cpu);
	fault.vm = bench_vm_start(&fault.host, FAULT_VM);
	bench_set(&fault.host, FAULT_VM, "zip_max_pct", "100");
	bench_pin(-1);
}

/*
 * A VM whose threads are where @place says: born on one core they keep to it, else the pager goes
 * where it thinks best.
 */
static void fault_place(enum fault_place place)
{
	const int cpu[] = {-1, fault.o.cpu, fault.o.other_cpu};

	fault_vm_start(cpu[place]);
	memcpy(fault.guest, fault.plain, fault.o.bytes);
	bench_vm_region(fault.vm, fault.guest, fault.o.bytes);
}

/* The guest's memory anew: pages that were touched before would be spared when it is squeezed. */
static void fault_renew(void)
{
	mt_vm_region_remove(fault.vm, fault.guest, fault.o.bytes);
	memcpy(fault.guest, fault.plain, fault.o.bytes);
	bench_vm_region(fault.vm, fault.guest, fault.o.bytes);
}

static void fault_zipped_round(enum fault_place place, unsigned int round)
{
	uint64_t half = fault.o.bytes / 2, cpu_ns;
	double pages;

	fault_renew();
	bench_squeeze(&fault.host, fault.vm, FAULT_VM, bench_zip_target(fault.o.bytes));
	bench_ease(&fault.host, fault.vm, FAULT_VM);
	bench_pin(place == FAULT_ANYWHERE ? -1 : fault.o.cpu);
	fault_random(fault.guest, &fault.random);
	cpu_ns = bench_cpu_ns();
	pages = (double)((half >> MT_PAGE_SHIFT) - bench_present(fault.guest + half, half));
	fault.walk[round] = fault_walk(fault.guest + half, half, FAULT_PIECE);
	fault.walk_cpu[round] = (double)(bench_cpu_ns() - cpu_ns) / pages;
	pages = (double)(half >> MT_PAGE_SHIFT);
	bench_pin(-1);
	if (!bench_zram())
		return;
	if (bench_page_out(fault.plain, fault.o.bytes) < fault.o.bytes >> MT_PAGE_SHIFT >> 1)
		bench_die("the kernel does not put pages into zram");
	bench_pin(place == FAULT_ANYWHERE ? -1 : fault.o.cpu);
	fault_random(fault.plain, &fault.random_zram);
	cpu_ns = bench_cpu_ns();
	fault.walk_zram[round] = fault_walk(fault.plain + half, half, FAULT_PIECE);
	fault.walk_zram_cpu[round] = (double)(bench_cpu_ns() - cpu_ns) / pages;
	bench_pin(-1);
}

static void fault_zipped_rows(enum fault_place place, unsigned int rounds)
{
	bool goal = place == FAULT_ANYWHERE && bench_zram();
	double walk = bench_median(fault.walk, rounds) / 1e3, zram_p50 = 0, zram_walk = 0;
	struct fault_times *z = &fault.random_zram;
	char id[64], what[96], beside[96] = "no zram swap";

	bench_sort(fault.random.ns, fault.random.count);
	bench_sort(z->ns, z->count);
	if (bench_zram()) {
		zram_p50 = fault_us(z, 50);
		zram_walk = bench_median(fault.walk_zram, rounds) / 1e3;
		snprintf(beside, sizeof(beside), "zram p50 %.1f mean %.1f p99 %.1f", zram_p50,
			 fault_mean_us(z), fault_us(z, 99));
	}
	snprintf(id, sizeof(id), "unzip-random-%d", (int)place);
	snprintf(what, sizeof(what), "touch of compressed page, random, p50, pager %s",
		 fault_place_name[place]);
	bench_row(id, what, "us", goal ? BENCH_AT_MOST : BENCH_NO_GOAL,
		  FAULT_RANDOM_GOAL * zram_p50, fault_us(&fault.random, 50),
		  "%s; ours mean %.1f p99 %.1f", beside, fault_mean_us(&fault.random),
		  fault_us(&fault.random, 99));
	snprintf(id, sizeof(id), "unzip-walk-%d", (int)place);
	snprintf(what, sizeof(what), "walk through compressed pages, a page, pager %s",
		 fault_place_name[place]);
	bench_row(id, what, "us", goal ? BENCH_AT_MOST : BENCH_NO_GOAL, FAULT_WALK_GOAL * zram_walk,
		  walk, "zram %.2f; us CPU/page %.2f, zram %.2f", zram_walk,
		  bench_median(fault.walk_cpu, rounds) / 1e3,
		  bench_zram() ? bench_median(fault.walk_zram_cpu, rounds) / 1e3 : 0.0);
}

static void fault_zipped(void)
{
	for (int place = 0; place < FAULT_PLACES; place++) {
		fault.random.count = 0;
		fault.random_zram.count = 0;
		fault_place((enum fault_place)place);
		for (unsigned int i = 0; i < fault.o.rounds; i++)
			fault_zipped_round((enum fault_place)place, i);
		fault_zipped_rows((enum fault_place)place, fault.o.rounds);
		mt_vm_region_remove(fault.vm, fault.guest, fault.o.bytes);
		mt_vm_leave(fault.vm, NULL);
	}
}

/* Touches every page that is out, @step apart, and reports. */
static void fault_sweep(uint8_t *memory, uint64_t bytes, uint64_t step)
{
	fault_scratch.count = 0;
	for (uint64_t i = 0; i < bytes; i += step)
		if (!bench_present(memory + i, MT_PAGE_SIZE))
			fault_add(&fault_scratch, fault_touch(memory + i));
	bench_sort(fault_scratch.ns, fault_scratch.count);
}

static bool fault_nominate(struct mt_pager *pager, void *arg)
{
	(void)arg;
	mt_nominate_some(pager, 256);
	return pager->map.pages[MT_PAGE_RESIDENT] == 0;
}

static void fault_nominated(void)
{
	uint8_t *memory = bench_map(FAULT_STAGED_BYTES, false);
	struct bench_pager *bp;

	memset(memory, 0x5a, FAULT_STAGED_BYTES);
	bp = bench_pager_new(memory, FAULT_STAGED_BYTES);
	bench_pager_run(bp);
	mt_command(&bp->pager, fault_nominate, NULL);
	fault_sweep(memory, FAULT_STAGED_BYTES, 4 * MT_PAGE_SIZE);
	bench_row("nominated", "touch of nominated page, p50", "us", BENCH_NO_GOAL, 0,
		  fault_us(&fault_scratch, 50), "mean %.1f p99 %.1f", fault_mean_us(&fault_scratch),
		  fault_us(&fault_scratch, 99));
	bench_pager_free(bp);
	munmap(memory, FAULT_STAGED_BYTES);
}

/* A region with that content goes out; then each @step is touched. */
static void fault_content(const struct bench_mix *mix, uint64_t step, const char *id,
			  const char *what)
{
	uint8_t *memory = bench_map(FAULT_NOISE_BYTES, false);

	bench_fill(memory, FAULT_NOISE_BYTES, mix, 2);
	bench_vm_region(fault.vm, memory, FAULT_NOISE_BYTES);
	bench_squeeze(&fault.host, fault.vm, FAULT_VM, FAULT_NOISE_BYTES / 4);
	bench_ease(&fault.host, fault.vm, FAULT_VM);
	fault_sweep(memory, FAULT_NOISE_BYTES, step);
	bench_row(id, what, "us", BENCH_NO_GOAL, 0, fault_us(&fault_scratch, 50),
		  "mean %.1f p99 %.1f", fault_mean_us(&fault_scratch),
		  fault_us(&fault_scratch, 99));
	mt_vm_region_remove(fault.vm, memory, FAULT_NOISE_BYTES);
	munmap(memory, FAULT_NOISE_BYTES);
}

/* ns a page of a first walk through fresh memory. */
static double fault_first_walk(bool managed, bool huge, uint64_t bytes)
{
	uint8_t *memory = bench_map(bytes, huge);
	double ns;

	if (managed)
		bench_vm_region(fault.vm, memory, bytes);
	usleep(20000);
	ns = fault_walk(memory, bytes, FAULT_FIRST_PIECE);
	if (managed)
		mt_vm_region_remove(fault.vm, memory, bytes);
	munmap(memory, bytes);
	return ns;
}

static void fault_first(void)
{
	double ours[2][BENCH_ROUNDS_MAX], plain[2][BENCH_ROUNDS_MAX];
	static const char *const what[] = {"first touch walk, a page, small pages",
					   "first touch walk, a page, large pages"};

	for (unsigned int i = 0; i < fault.o.rounds; i++)
		for (int huge = 0; huge < 2; huge++) {
			ours[huge][i] = fault_first_walk(true, huge, fault.o.bytes);
			plain[huge][i] = fault_first_walk(false, huge, fault.o.bytes);
		}
	for (int huge = 0; huge < 2; huge++)
		bench_row(huge ? "first-thp" : "first-4k", what[huge], "us", BENCH_NO_GOAL, 0,
			  bench_median(ours[huge], fault.o.rounds) / 1e3, "kernel alone %.2f",
			  bench_median(plain[huge], fault.o.rounds) / 1e3);
}

static void fault_start(void)
{
	struct bench_mix mix = BENCH_GUEST_MIX;

	fault_make_order(fault.order, FAULT_RANDOM, fault.o.bytes / 2 >> MT_PAGE_SHIFT);
	fault.guest = bench_map(fault.o.bytes, false);
	fault.plain = bench_map(fault.o.bytes, false);
	bench_fill(fault.plain, fault.o.bytes, &mix, 1);
	bench_host_start(&fault.host, "16G");
}

int main(int argc, char **argv)
{
	int option;

	fault.o = (struct fault_options){.bytes = 256ULL << 20, .rounds = 5, .cpu = 1};
	while ((option = getopt(argc, argv, "m:r:c:o:")) != -1) {
		if (option == 'm')
			fault.o.bytes = strtoull(optarg, NULL, 10) << 20;
		else if (option == 'r')
			fault.o.rounds = (unsigned int)MT_MIN(atoi(optarg), 32);
		else if (option == 'c')
			fault.o.cpu = atoi(optarg);
		else if (option == 'o')
			fault.o.other_cpu = atoi(optarg);
		else
			bench_die("usage: bench_fault [-m MIB] [-r ROUNDS] [-c CORE] [-o OTHER "
				  "CORE]");
	}
	fault_nominated();
	fault_start();
	fault_zipped();
	fault_vm_start(-1);
	fault_first();
	fault_content(&(struct bench_mix){.zero = 100}, 4 * MT_PAGE_SIZE, "zero",
		      "touch of zero page, p50");
	fault_content(&(struct bench_mix){0}, 12 * MT_PAGE_SIZE, "swap",
		      "touch of page in the swap file, p50");
	mt_vm_leave(fault.vm, NULL);
	bench_host_stop(&fault.host);
	return 0;
}
