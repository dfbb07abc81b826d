/* SPDX-License-Identifier: MIT */
/*
 * bench.h - what the benchmarks share: clock, memory, pinning, a private daemon, rows of results
 *
 * Why: a figure is worth something only beside another one taken on the same machine at the same
 * time. Every benchmark takes its own and the kernel's figure in turns, and reports medians.
 *
 * A result is a row of tab-separated fields, appended to the file named by $BENCH_ROWS (standard
 * output without it); run.sh makes a table and JSON of them:
 *
 *   id  what  unit  goal  measured  beside  verdict
 *
 * A benchmark that can't set up what it needs says why and exits 1; one that misses a goal exits 0
 * and says "short" in its row.
 */
#ifndef MT_BENCH_H
#define MT_BENCH_H

#include "base/compiler.h"
#include "memtide/memtide.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define BENCH_ROUNDS_MAX 64

/* Kinds of content: see tests/common/checked_page.h. Percent of text and half pages; rest noise. */
struct bench_mix {
	unsigned int zero;
	unsigned int text;
	unsigned int half;
};

/* What an idle guest's memory is like to lz4: 60 % of pages shrink to a quarter, 40 % to less than
 * half. */
#define BENCH_GUEST_MIX ((struct bench_mix){.text = 60, .half = 40})

/* A daemon of our own, ended with us. */
struct bench_host {
	pid_t pid;
	int control; /* connection to the control socket */
	char dir[80];
	char socket[104];
};

/* bench.c */

_Noreturn void MT_PRINTF(1, 2) bench_die(const char *fmt, ...);
uint64_t bench_now_ns(void);

/** bench_cpu_ns() - processor time used by all threads of this process */
uint64_t bench_cpu_ns(void);
double bench_median(const double *values, unsigned int count);

/** bench_sort() - ascending, for percentiles */
void bench_sort(uint32_t *values, uint64_t count);

/* How a measured value is held against its goal. */
enum bench_goal { BENCH_NO_GOAL, BENCH_AT_LEAST, BENCH_AT_MOST };

/** bench_row() - report one result; @beside: what it is to be seen beside, in words */
void MT_PRINTF(7, 8)
	bench_row(const char *id, const char *what, const char *unit, enum bench_goal kind,
		  double goal, double measured, const char *beside, ...);

/* bench_mem.c */

/** bench_map() - private anonymous memory, 2 MiB-aligned, large pages or not */
uint8_t *bench_map(uint64_t bytes, bool huge);

/** bench_fill() - content as of @mix, different for each @seed */
void bench_fill(uint8_t *memory, uint64_t bytes, const struct bench_mix *mix, uint64_t seed);

/** bench_present() - pages of the range that are in memory right now */
uint64_t bench_present(const uint8_t *memory, uint64_t bytes);

/** bench_page_out() - have the kernel put the range into its swap. Return: pages that went. */
uint64_t bench_page_out(uint8_t *memory, uint64_t bytes);

/** bench_zram() - is the kernel's first choice of swap a zram device? */
bool bench_zram(void);

/** bench_rss_bytes() - anonymous memory of this process; of the range only if @memory is given */
uint64_t bench_rss_bytes(const uint8_t *memory);

/* bench_host.c */

/** bench_pin() - this thread, and those it starts from now on, to @cpu; -1: to all */
void bench_pin(int cpu);

/** bench_host_start() - run $MEMTIDED with @pool, like "4G", and connect */
void bench_host_start(struct bench_host *host, const char *pool);
void bench_host_stop(struct bench_host *host);

/** bench_set() - as "memtide set VM KEY=VALUE" */
void bench_set(struct bench_host *host, const char *vm, const char *key, const char *value);

/** bench_vm_start() - a VM of that name through the public API */
struct mt_vm *bench_vm_start(struct bench_host *host, const char *name);
void bench_vm_region(struct mt_vm *vm, uint8_t *memory, uint64_t bytes);
struct mt_vm_stats bench_stats(struct mt_vm *vm);

/**
 * bench_squeeze() - hold the VM to @target_bytes until it is there
 * Return: nanoseconds that took.
 */
uint64_t bench_squeeze(struct bench_host *host, struct mt_vm *vm, const char *name,
		       uint64_t target_bytes);

/**
 * bench_zip_target() - target at which about 70 % of BENCH_GUEST_MIX content is compressed, the
 * rest in place and nothing in the swap file: the zip store takes no more than half of what a VM
 * may hold
 */
uint64_t bench_zip_target(uint64_t bytes);

/** bench_ease() - let it have all it wants again, and wait until that was granted */
void bench_ease(struct bench_host *host, struct mt_vm *vm, const char *name);

#endif
