/* SPDX-License-Identifier: MIT */
/*
 * checked_page_test.c - tests of the checked pages themselves.
 *
 * Why: the checked pages are the judge in all other tests; a judge that lets a wrong byte pass
 *makes those worthless. How: a stand-alone program that prints a line for each test and exits 1
 *when one fails. With -DCP_TEST_LZ4 (link with -llz4) it also checks that the kinds compress as
 *promised:
 *
 *	cc -std=gnu11 -O2 -DCP_TEST_LZ4 checked_page_test.c checked_page.c -llz4
 */
#include "checked_page.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#ifdef CP_TEST_LZ4
#include <lz4.h>
#endif

#define SEED 42u

static int failures;

static void report(bool ok, const char *sentence)
{
	printf("%s - %s\n", ok ? "ok" : "not ok", sentence);
	failures += !ok;
}

static void test_round_trip(void)
{
	unsigned char page[CP_PAGE_SIZE], again[CP_PAGE_SIZE];
	bool ok = true;
	uint64_t n;
	int kind;

	for (kind = CP_ZERO; kind < CP_KINDS; kind++) {
		for (n = 0; n < 200; n++) {
			memset(page, 0xa5, sizeof(page));
			memset(again, 0x5a, sizeof(again));
			cp_fill(page, SEED, n, (uint32_t)n * 3, (enum cp_kind)kind);
			cp_fill(again, SEED, n, (uint32_t)n * 3, (enum cp_kind)kind);
			ok &= !memcmp(page, again, sizeof(page));
			ok &= cp_verify(page, SEED, n, (uint32_t)n * 3, (enum cp_kind)kind) ==
			      CP_OK;
		}
	}
	report(ok, "every page of every kind is filled whole, the same each time, and verifies");
}

static void test_every_bit(void)
{
	unsigned char page[CP_PAGE_SIZE];
	bool ok = true;
	size_t bit;
	int kind;

	for (kind = CP_ZERO; kind < CP_KINDS; kind++) {
		cp_fill(page, SEED, 7, 1, (enum cp_kind)kind);
		for (bit = 0; bit < CP_PAGE_SIZE * 8; bit++) {
			page[bit / 8] ^= (unsigned char)(1u << bit % 8);
			ok &= cp_verify(page, SEED, 7, 1, (enum cp_kind)kind) != CP_OK;
			ok &= cp_first_difference(page, SEED, 7, 1, (enum cp_kind)kind) == bit / 8;
			page[bit / 8] ^= (unsigned char)(1u << bit % 8);
		}
		ok &= cp_verify(page, SEED, 7, 1, (enum cp_kind)kind) == CP_OK;
	}
	report(ok, "a single flipped bit anywhere in a page is noticed and its place is named");
}

static void expect(const void *page, enum cp_kind kind, enum cp_verdict verdict,
		   const char *sentence)
{
	report(cp_verify(page, SEED, 7, 5, kind) == verdict, sentence);
}

static void test_verdicts(void)
{
	unsigned char page[CP_PAGE_SIZE];

	cp_fill(page, SEED, 7, 4, CP_TEXT);
	expect(page, CP_TEXT, CP_WRONG_VERSION,
	       "an older version of the page is called a wrong version");
	expect(page, CP_ZERO, CP_NOT_ZERO, "content where zeros belong is called not zero");
	cp_fill(page, SEED, 8, 5, CP_TEXT);
	expect(page, CP_TEXT, CP_WRONG_PAGE, "another page is called a wrong page");
	cp_fill(page, SEED + 1, 7, 5, CP_TEXT);
	expect(page, CP_TEXT, CP_WRONG_SEED, "another guest's page is called a wrong seed");
	cp_fill(page, SEED, 7, 5, CP_NOISE);
	expect(page, CP_TEXT, CP_WRONG_KIND, "another kind of page is called a wrong kind");
	cp_fill(page, SEED, 7, 4, CP_NOISE);
	cp_fill(page, SEED, 7, 5, CP_ZERO);
	expect(page, CP_HALF, CP_UNEXPECTED_ZERO, "a lost page is called unexpectedly zero");
	memset(page, 0xcc, sizeof(page));
	expect(page, CP_HALF, CP_BAD_HEADER, "foreign bytes are called a bad header");
}

static void test_torn(void)
{
	unsigned char page[CP_PAGE_SIZE], old[CP_PAGE_SIZE];

	cp_fill(page, SEED, 7, 5, CP_NOISE);
	cp_fill(old, SEED, 7, 4, CP_NOISE);
	memcpy(page + CP_PAGE_SIZE / 2, old + CP_PAGE_SIZE / 2, CP_PAGE_SIZE / 2);
	expect(page, CP_NOISE, CP_BAD_CONTENT,
	       "a page torn between two versions is called bad content");
	report(cp_first_difference(page, SEED, 7, 5, CP_NOISE) == CP_PAGE_SIZE / 2,
	       "the first wrong byte of a torn page is where it is torn");
}

/* Shares of 100,000 page numbers are within one point of the mix. */
static void test_mix(void)
{
	static const unsigned int want[CP_KINDS] = {15, 40, 25, 20};
	struct cp_mix mix = CP_DEFAULT_MIX, zero = {.zero = 100}, noise = {0};
	long count[CP_KINDS] = {0};
	bool ok = true, pure = true;
	uint64_t n;
	int kind;

	for (n = 0; n < 100000; n++) {
		count[cp_kind_for(SEED, n, &mix)]++;
		pure &= cp_kind_for(SEED, n, &zero) == CP_ZERO &&
			cp_kind_for(SEED, n, &noise) == CP_NOISE;
		ok &= cp_kind_for(SEED, n, &mix) == cp_kind_for(SEED, n, &mix);
	}
	for (kind = 0; kind < CP_KINDS; kind++)
		ok &= count[kind] > want[kind] * 1000l - 1000 &&
		      count[kind] < want[kind] * 1000l + 1000;
	report(ok, "the kinds come in the shares that the mix asks for, the same each time");
	report(pure, "a mix of 100 % gives that kind alone");
}

static void test_names(void)
{
	bool ok = true;
	int i, j;

	for (i = 0; i < CP_VERDICTS; i++)
		for (j = 0; j < i; j++)
			ok &= strcmp(cp_verdict_name((enum cp_verdict)i),
				     cp_verdict_name((enum cp_verdict)j)) != 0;
	ok &= !strcmp(cp_verdict_name((enum cp_verdict)99), "unknown");
	ok &= !strcmp(cp_kind_name(CP_TEXT), "text") &&
	      !strcmp(cp_kind_name((enum cp_kind)99), "unknown");
	report(ok, "every verdict has a name of its own");
}

/* Microseconds of processor time for each of 1000 verifications. */
static double verify_us(const void *page, bool *ok)
{
	struct timespec from, to;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
	for (int i = 0; i < 1000; i++)
		*ok &= cp_verify(page, SEED, 7, 5, CP_NOISE) == CP_OK;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
	return ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) /
	       1e6;
}

/* The fastest of many rounds: the machine may have other things to do in some of them. */
static void test_speed(void)
{
	unsigned char page[CP_PAGE_SIZE];
	double us = 1e9, now;
	bool ok = true;

	cp_fill(page, SEED, 7, 5, CP_NOISE);
	for (int i = 0; i < 20; i++) {
		now = verify_us(page, &ok);
		us = now < us ? now : us;
	}
	printf("# verifying a noise page took %.2f us\n", us);
	report(ok && us < 50, "verifying a page takes less than 50 us");
}

#ifdef CP_TEST_LZ4
static double lz4_percent(enum cp_kind kind)
{
	char page[CP_PAGE_SIZE], packed[LZ4_COMPRESSBOUND(CP_PAGE_SIZE)];
	long total = 0;
	uint64_t n;

	for (n = 0; n < 2000; n++) {
		cp_fill(page, SEED, n, 1, kind);
		total += LZ4_compress_default(page, packed, CP_PAGE_SIZE, sizeof(packed));
	}
	return (double)total * 100 / (2000.0 * CP_PAGE_SIZE);
}

static void test_ratios(void)
{
	double text = lz4_percent(CP_TEXT), half = lz4_percent(CP_HALF),
	       noise = lz4_percent(CP_NOISE);

	printf("# lz4: text %.1f %%, half %.1f %%, noise %.1f %%\n", text, half, noise);
	report(text >= 20 && text <= 25, "text pages compress to 20-25 % with lz4");
	report(half >= 40 && half <= 48, "half pages compress to 40-48 % with lz4");
	report(noise >= 99, "noise pages do not compress with lz4");
}
#endif

int main(void)
{
	test_round_trip();
	test_every_bit();
	test_verdicts();
	test_torn();
	test_mix();
	test_names();
	test_speed();
#ifdef CP_TEST_LZ4
	test_ratios();
#endif
	return failures != 0;
}
