/* SPDX-License-Identifier: MIT */
/*
 * bench_share_scan.c - what could be shared: equal pages in files of guest memory
 *
 * Why: "finds 95 % of what is shareable" needs somebody else to say how much that is. How: hashes
 * every page of all files (XXH3, 128 bits, so that no two contents pass for one), sorts, counts.
 * With an earlier picture of the same memory, pages that have changed since are left out.
 *
 * usage: bench_share_scan FILE[:EARLIER-FILE]...
 * Prints: pages, changed pages, zero pages, other pages that have a like, and the copies these come
 * down to.
 */
#include "base/types.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static XXH128_hash_t *hashes;
static size_t count, room;
static unsigned long zero, changed;

static int by_hash(const void *a, const void *b)
{
	return XXH128_cmp(a, b);
}

static void add_page(const unsigned char *page)
{
	static const unsigned char zeros[MT_PAGE_SIZE];

	if (!memcmp(page, zeros, MT_PAGE_SIZE)) {
		zero++;
		return;
	}
	if (count == room) {
		room = room ? room * 2 : 65536;
		hashes = realloc(hashes, room * sizeof(*hashes));
		if (!hashes)
			abort();
	}
	hashes[count++] = XXH3_128bits(page, MT_PAGE_SIZE);
}

static FILE *open_file(const char *path)
{
	FILE *file = fopen(path, "re");

	if (!file) {
		perror(path);
		exit(1);
	}
	return file;
}

/* @earlier: NULL for none. */
static void add_file(const char *path, const char *earlier)
{
	unsigned char page[MT_PAGE_SIZE], was[MT_PAGE_SIZE];
	FILE *file = open_file(path), *before = earlier ? open_file(earlier) : NULL;

	while (fread(page, sizeof(page), 1, file) == 1) {
		if (before && fread(was, sizeof(was), 1, before) == 1 &&
		    memcmp(page, was, sizeof(page)) != 0)
			changed++;
		else
			add_page(page);
	}
	if (before)
		fclose(before);
	fclose(file);
}

int main(int argc, char **argv)
{
	unsigned long alike = 0, copies = 0;

	for (int i = 1; i < argc; i++) {
		char *earlier = strchr(argv[i], ':');

		if (earlier)
			*earlier++ = '\0';
		add_file(argv[i], earlier);
	}
	qsort(hashes, count, sizeof(*hashes), by_hash);
	for (size_t i = 0, j; i < count; i = j) {
		for (j = i + 1; j < count && XXH128_isEqual(hashes[i], hashes[j]); j++)
			;
		if (j - i > 1) {
			alike += j - i;
			copies++;
		}
	}
	printf("%lu pages, %lu changed, %lu zero, %lu alike, %lu copies\n",
	       (unsigned long)count + zero + changed, changed, zero, alike, copies);
	free(hashes);
	return 0;
}
