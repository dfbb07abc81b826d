/* SPDX-License-Identifier: MIT */
/* bench.c - clock, medians, rows of results; see bench.h */
#include "bench.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void bench_die(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fputs("bench: ", stderr);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
	va_end(args);
	exit(EXIT_FAILURE);
}

static uint64_t bench_clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

uint64_t bench_now_ns(void)
{
	return bench_clock_ns(CLOCK_MONOTONIC);
}

uint64_t bench_cpu_ns(void)
{
	return bench_clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

static int bench_by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double bench_median(const double *values, unsigned int count)
{
	double sorted[BENCH_ROUNDS_MAX];

	MT_ASSERT(count && count <= BENCH_ROUNDS_MAX);
	memcpy(sorted, values, count * sizeof(*values));
	qsort(sorted, count, sizeof(*sorted), bench_by_value);
	return (sorted[(count - 1) / 2] + sorted[count / 2]) / 2;
}

static int bench_by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

void bench_sort(uint32_t *values, uint64_t count)
{
	qsort(values, count, sizeof(*values), bench_by_number);
}

static const char *bench_verdict(enum bench_goal kind, double goal, double measured)
{
	if (kind == BENCH_NO_GOAL)
		return "-";
	if (kind == BENCH_AT_LEAST)
		return measured >= goal ? "ok" : "short";
	return measured <= goal ? "ok" : "short";
}

void bench_row(const char *id, const char *what, const char *unit, enum bench_goal kind,
	       double goal, double measured, const char *beside, ...)
{
	static const char *const sign[] = {"", ">= ", "<= "};
	const char *path = getenv("BENCH_ROWS");
	FILE *to = path ? fopen(path, "a") : stdout;
	char words[256], wanted[32] = "-";
	va_list args;

	if (!to)
		bench_die("cannot write to $BENCH_ROWS, %s", path);
	va_start(args, beside);
	vsnprintf(words, sizeof(words), beside, args);
	va_end(args);
	if (kind != BENCH_NO_GOAL)
		snprintf(wanted, sizeof(wanted), "%s%.6g", sign[kind], goal);
	fprintf(to, "%s\t%s\t%s\t%s\t%.4g\t%s\t%s\n", id, what, unit, wanted, measured, words,
		bench_verdict(kind, goal, measured));
	if (to != stdout)
		fclose(to);
	else
		fflush(to);
}
