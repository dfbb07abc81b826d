/* SPDX-License-Identifier: MIT */
/* patterns.c - uniform, Zipf-like, sequential, phased and idle walks */
#include "patterns.h"
#include "common/checked_page.h"

#include <string.h>

#define PHASE_SECONDS 3.0
#define ZIPF_CLUSTER  16u

static const char *const pattern_names[TV_PATTERNS] = {"uniform", "zipf", "sequential", "phase",
						       "idle"};

bool tv_pattern_parse(const char *word, enum tv_pattern_kind *ret)
{
	for (int i = 0; i < TV_PATTERNS; i++) {
		if (!strcmp(word, pattern_names[i])) {
			*ret = (enum tv_pattern_kind)i;
			return true;
		}
	}
	return false;
}

void tv_walker_init(struct tv_walker *walker, enum tv_pattern_kind kind, unsigned int hot_pct,
		    uint64_t pages, unsigned int thread, unsigned int threads, uint64_t seed)
{
	*walker = (struct tv_walker){
		.kind = kind,
		.hot_pct = hot_pct,
		.pages = pages,
		.cursor = pages * thread / threads,
		.random = seed * 0x9e3779b97f4a7c15u + thread + 1,
	};
}

uint64_t tv_walker_random(struct tv_walker *walker, uint64_t limit)
{
	return cp_random(&walker->random) % limit;
}

/* Log-uniform rank, then a fixed permutation, so that the hot clusters lie all over memory. */
static uint64_t zipf(struct tv_walker *walker)
{
	uint64_t clusters = walker->pages / ZIPF_CLUSTER, rank, low;
	unsigned int bits = 0;

	while ((clusters >> bits) > 1)
		bits++;
	low = 1ull << tv_walker_random(walker, bits + 1ull);
	rank = (low + tv_walker_random(walker, low) - 1) % clusters;
	return (rank * 2654435761u % clusters) * ZIPF_CLUSTER +
	       tv_walker_random(walker, ZIPF_CLUSTER);
}

static uint64_t hot(struct tv_walker *walker, double now, unsigned int cold_per_cent)
{
	uint64_t size = walker->pages * walker->hot_pct / 100 + 1;
	uint64_t start = (uint64_t)(now / PHASE_SECONDS) * (size / 2 + 1);

	if (tv_walker_random(walker, 100) < cold_per_cent)
		return tv_walker_random(walker, walker->pages);
	return (start + tv_walker_random(walker, size)) % walker->pages;
}

uint64_t tv_walker_next(struct tv_walker *walker, double now)
{
	switch (walker->kind) {
	case TV_ZIPF:
		return zipf(walker);
	case TV_SEQUENTIAL:
		walker->cursor = (walker->cursor + 1) % walker->pages;
		return walker->cursor;
	case TV_PHASE:
		return hot(walker, now, 5);
	case TV_IDLE:
		return hot(walker, 0, 0);
	case TV_UNIFORM:
	case TV_PATTERNS:
		break;
	}
	return tv_walker_random(walker, walker->pages);
}
