/* SPDX-License-Identifier: MIT */
/*
 * bench_victims.c - which pages go: is the choice better than chance?
 *
 * A guest touches its pages with Zipf's frequencies, and half of them are taken away. Counted are
 * the touches that find their page gone to a store (the second chance from staging is a fault, but
 * costs no copy; it is told beside). Beside that the same touches are replayed against models that
 * keep as many pages as the guest had in memory on average:
 *
 *   random   any page in memory goes, with the same chance
 *   lru      the page goes that was not touched for longest: knows of every touch
 *   best     keeps the most popular pages and never errs: no one who does not know the
 *            frequencies beforehand can do better
 *
 * Counts, not times: a busy machine does not change them much.
 */
#include "bench.h"
#include "bench_pager.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define VICTIMS_PAGES   16384U
#define VICTIMS_TOUCHES 1500000U
/* Touches before the count begins: the models and the pager have settled. */
#define VICTIMS_WARM    600000U
#define VICTIMS_SAMPLES 256U
#define VICTIMS_GOAL    0.5
/* The pager gets time to work every so many touches: else one core would only touch. */
#define VICTIMS_BURST 512U

static uint32_t trace[VICTIMS_TOUCHES];

struct victims_counts {
	double store;   /* touches of a page in a store, of 1000 touches */
	double staged;  /* of a page in staging */
	uint32_t pages; /* in memory, on average */
};

static uint64_t victims_random(void)
{
	static uint64_t state = 1;
	uint64_t z = (state += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

/* Page number i is touched with a frequency of 1 / rank^@skew; ranks are scattered over the guest.
 */
static void victims_trace(double skew)
{
	static double sum[VICTIMS_PAGES];
	static uint32_t page[VICTIMS_PAGES];
	double all = 0;

	for (uint32_t i = 0; i < VICTIMS_PAGES; i++) {
		all += 1 / pow(i + 1, skew);
		sum[i] = all;
		page[i] = i;
	}
	for (uint32_t i = VICTIMS_PAGES - 1; i; i--) {
		uint32_t other = (uint32_t)(victims_random() % (i + 1)), swap = page[i];

		page[i] = page[other];
		page[other] = swap;
	}
	for (uint32_t i = 0; i < VICTIMS_TOUCHES; i++) {
		double at = (double)(victims_random() >> 11) / (double)(1ULL << 53) * all;
		uint32_t low = 0, high = VICTIMS_PAGES - 1;

		while (low < high) {
			uint32_t middle = (low + high) / 2;

			if (sum[middle] < at)
				low = middle + 1;
			else
				high = middle;
		}
		trace[i] = page[low];
	}
}

/* Random replacement. Return: misses of 1000 touches. */
static double victims_model_random(uint32_t frames)
{
	static uint32_t kept[VICTIMS_PAGES], where[VICTIMS_PAGES]; /* where + 1, 0: out */
	uint64_t misses = 0;

	memset(where, 0, sizeof(where));
	for (uint32_t i = 0; i < frames; i++) {
		kept[i] = i;
		where[i] = i + 1;
	}
	for (uint32_t i = 0; i < VICTIMS_TOUCHES; i++) {
		uint32_t victim;

		if (where[trace[i]])
			continue;
		misses += i >= VICTIMS_WARM;
		victim = (uint32_t)(victims_random() % frames);
		where[kept[victim]] = 0;
		kept[victim] = trace[i];
		where[trace[i]] = victim + 1;
	}
	return 1000.0 * (double)misses / (VICTIMS_TOUCHES - VICTIMS_WARM);
}

/* Least recently used, as a list through the frames. */
static double victims_model_lru(uint32_t frames)
{
	static uint32_t next[VICTIMS_PAGES + 1], prev[VICTIMS_PAGES + 1];
	static bool in[VICTIMS_PAGES];
	const uint32_t head = VICTIMS_PAGES; /* next: youngest; prev: oldest */
	uint64_t misses = 0;
	uint32_t count = 0;

	memset(in, 0, sizeof(in));
	next[head] = prev[head] = head;
	for (uint32_t i = 0; i < VICTIMS_TOUCHES; i++) {
		uint32_t page = trace[i];

		if (in[page]) {
			next[prev[page]] = next[page];
			prev[next[page]] = prev[page];
		} else if (count < frames) {
			count++;
		} else {
			uint32_t oldest = prev[head];

			next[prev[oldest]] = head;
			prev[head] = prev[oldest];
			in[oldest] = false;
		}
		misses += i >= VICTIMS_WARM && !in[page];
		in[page] = true;
		next[page] = next[head];
		prev[page] = head;
		prev[next[head]] = page;
		next[head] = page;
	}
	return 1000.0 * (double)misses / (VICTIMS_TOUCHES - VICTIMS_WARM);
}

static int victims_descending(const void *a, const void *b)
{
	uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

	return left < right ? 1 : left > right ? -1 : 0;
}

static double victims_model_best(uint32_t frames)
{
	static uint32_t touches[VICTIMS_PAGES];
	uint64_t misses = 0;

	memset(touches, 0, sizeof(touches));
	for (uint32_t i = VICTIMS_WARM; i < VICTIMS_TOUCHES; i++)
		touches[trace[i]]++;
	qsort(touches, VICTIMS_PAGES, sizeof(touches[0]), victims_descending);
	for (uint32_t i = frames; i < VICTIMS_PAGES; i++)
		misses += touches[i];
	return 1000.0 * (double)misses / (VICTIMS_TOUCHES - VICTIMS_WARM);
}

static uint64_t victims_count(struct bench_pager *bp, enum mt_counter id)
{
	return atomic_load_explicit(&bp->pager.counter[id], memory_order_relaxed);
}

static uint64_t victims_from_stores(struct bench_pager *bp)
{
	return victims_count(bp, MT_C_FAULT_ZIPPED) + victims_count(bp, MT_C_FAULT_ZERO) +
	       victims_count(bp, MT_C_FAULT_SWAPPED) + victims_count(bp, MT_C_PREFETCHED);
}

/* Steers the pager until half of the guest is in memory; what the stores take is not counted. */
static void victims_take_half(struct bench_pager *bp)
{
	uint64_t end_ns = bench_now_ns() + 20000000000ULL;
	uint64_t in, goal = VICTIMS_PAGES / 2;

	do {
		uint64_t held = victims_count(bp, MT_C_HELD);

		in = victims_count(bp, MT_C_RESIDENT) + victims_count(bp, MT_C_NOMINATED);
		/* the gap that is kept free: see monitor/room.c */
		atomic_store(&bp->pager.target_pages, held - in + goal + goal / 64);
		mt_pager_kick(&bp->pager);
		usleep(10000);
		if (bench_now_ns() > end_ns)
			bench_die("the pager does not take half of the guest");
	} while (in > goal + goal / 32);
}

static struct victims_counts victims_run(void)
{
	uint64_t bytes = (uint64_t)VICTIMS_PAGES << MT_PAGE_SHIFT, store = 0, staged = 0, in = 0;
	uint8_t *memory = bench_map(bytes, false);
	struct timespec pause = {.tv_nsec = 20000};
	struct victims_counts counts;
	struct bench_pager *bp;
	uint32_t samples = 0;

	/* Shrinks to next to nothing: the zip store takes all and holds little. */
	for (uint32_t i = 0; i < VICTIMS_PAGES; i++)
		memset(memory + (uint64_t)i * MT_PAGE_SIZE, 1 + (int)(i % 255), MT_PAGE_SIZE);
	bp = bench_pager_new(memory, bytes);
	bench_pager_run(bp);
	victims_take_half(bp);
	for (uint32_t i = 0; i < VICTIMS_TOUCHES; i++) {
		volatile uint8_t *page = memory + (uint64_t)trace[i] * MT_PAGE_SIZE;

		if (*page != 1 + trace[i] % 255)
			bench_die("page %u is wrong", trace[i]);
		if (i == VICTIMS_WARM) {
			store = victims_from_stores(bp);
			staged = victims_count(bp, MT_C_FAULT_NOMINATED);
		}
		if (i % VICTIMS_BURST == 0)
			nanosleep(&pause, NULL);
		if (i >= VICTIMS_WARM && i % (VICTIMS_TOUCHES / VICTIMS_SAMPLES) == 0) {
			in += victims_count(bp, MT_C_RESIDENT) + victims_count(bp, MT_C_NOMINATED);
			samples++;
		}
	}
	counts.store = 1000.0 * (double)(victims_from_stores(bp) - store) /
		       (VICTIMS_TOUCHES - VICTIMS_WARM);
	counts.staged = 1000.0 * (double)(victims_count(bp, MT_C_FAULT_NOMINATED) - staged) /
			(VICTIMS_TOUCHES - VICTIMS_WARM);
	counts.pages = (uint32_t)(in / samples);
	bench_pager_free(bp);
	munmap(memory, bytes);
	return counts;
}

int main(void)
{
	static const double skews[] = {0.8, 1.0, 1.2};

	for (unsigned int i = 0; i < MT_ARRAY_SIZE(skews); i++) {
		struct victims_counts ours;
		double chance, best;
		char id[32], what[80];

		victims_trace(skews[i]);
		ours = victims_run();
		chance = victims_model_random(ours.pages);
		best = victims_model_best(ours.pages);
		snprintf(id, sizeof(id), "victims-%.1f", skews[i]);
		snprintf(what, sizeof(what), "touches of pages gone, Zipf %.1f, of random choice's",
			 skews[i]);
		bench_row(id, what, "ratio", BENCH_AT_MOST, VICTIMS_GOAL, ours.store / chance,
			  "per 1000: %.1f (second chances %.1f), random %.1f, lru %.1f, best "
			  "possible %.1f (%.2f); %.0f %% in memory",
			  ours.store, ours.staged, chance, victims_model_lru(ours.pages), best,
			  best / chance, 100.0 * ours.pages / VICTIMS_PAGES);
	}
	return 0;
}
