/* SPDX-License-Identifier: MIT */
/* minfree.c - the sliding scale as a table of brackets, like an income tax; see minfree.h */
#include "policy/minfree.h"
#include "base/compiler.h"

#define GIB_PAGES(g) ((uint64_t)(g) << (30 - MT_PAGE_SHIFT))

static const struct {
	uint64_t pages; /* width of the bracket */
	unsigned int pct;
} brackets[] = {
	{GIB_PAGES(4), 6},
	{GIB_PAGES(8), 4},
	{GIB_PAGES(16), 2},
	{UINT64_MAX, 1},
};

uint64_t mt_minfree_pages(uint64_t pool_pages, unsigned int fixed_pct)
{
	uint64_t hundredths = 0, left = pool_pages;

	if (fixed_pct)
		return pool_pages / 100 * fixed_pct + pool_pages % 100 * fixed_pct / 100;
	for (size_t i = 0; i < MT_ARRAY_SIZE(brackets) && left; i++) {
		uint64_t part = MT_MIN(left, brackets[i].pages);

		hundredths += part * brackets[i].pct;
		left -= part;
	}
	return hundredths / 100;
}
