/* SPDX-License-Identifier: MIT */
/*
 * bench_share_scan.c - what could be shared: equal pages in files of guest memory
 *
 * Why: "finds 95 % of what is shareable" needs somebody else to say how much that is. How: hashes
 * every page of all files (XXH3, 128 bits, so that no two contents pass for one), sorts, counts.
 *
 * usage: bench_share_scan FILE...
 * Prints: pages, zero pages, other pages that have a like, and the copies these come down to.
 */
#include "base/types.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static XXH128_hash_t *hashes;
static size_t count, room;
static unsigned long zero;

static int by_hash(const void *a, const void *b)
{
	return XXH128_cmp(a, b);
}

static int add_file(const char *path)
{
	static const unsigned char zeros[MT_PAGE_SIZE];
	unsigned char page[MT_PAGE_SIZE];
	FILE *file = fopen(path, "re");

	if (!file) {
		perror(path);
		return 1;
	}
	while (fread(page, sizeof(page), 1, file) == 1) {
		if (!memcmp(page, zeros, sizeof(page))) {
			zero++;
			continue;
		}
		if (count == room) {
			room = room ? room * 2 : 65536;
			hashes = realloc(hashes, room * sizeof(*hashes));
			if (!hashes)
				abort();
		}
		hashes[count++] = XXH3_128bits(page, sizeof(page));
	}
	fclose(file);
	return 0;
}

int main(int argc, char **argv)
{
	unsigned long alike = 0, copies = 0;

	for (int i = 1; i < argc; i++)
		if (add_file(argv[i]))
			return 1;
	qsort(hashes, count, sizeof(*hashes), by_hash);
	for (size_t i = 0, j; i < count; i = j) {
		for (j = i + 1; j < count && XXH128_isEqual(hashes[i], hashes[j]); j++)
			;
		if (j - i > 1) {
			alike += j - i;
			copies++;
		}
	}
	printf("%lu pages, %lu zero, %lu alike, %lu copies\n", (unsigned long)count + zero, zero,
	       alike, copies);
	free(hashes);
	return 0;
}
