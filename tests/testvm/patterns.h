/* SPDX-License-Identifier: MIT */
/*
 * patterns.h - which page comes next: the ways a guest walks through its memory
 *
 * Each thread has a walker of its own, so that choosing needs no lock. Pages are numbered through
 * all regions.
 */
#ifndef MT_TESTVM_PATTERNS_H
#define MT_TESTVM_PATTERNS_H

#include <stdbool.h>
#include <stdint.h>

enum tv_pattern_kind {
	TV_UNIFORM,    /* any page alike */
	TV_ZIPF,       /* log-uniform over clusters of 16 pages: a few hot, a long tail */
	TV_SEQUENTIAL, /* round and round; each thread starts elsewhere */
	TV_PHASE,      /* 95 % in a hot part, which moves on every few seconds */
	TV_IDLE,       /* hardly anything, in the hot part */
	TV_PATTERNS
};

struct tv_walker {
	enum tv_pattern_kind kind;
	unsigned int hot_pct;
	uint64_t pages;
	uint64_t cursor;
	uint64_t random;
};

/* Return: false for a word that is no pattern. */
bool tv_pattern_parse(const char *word, enum tv_pattern_kind *ret);

void tv_walker_init(struct tv_walker *walker, enum tv_pattern_kind kind, unsigned int hot_pct,
		    uint64_t pages, unsigned int thread, unsigned int threads, uint64_t seed);

/* The next page; @now in seconds decides where the hot part is. */
uint64_t tv_walker_next(struct tv_walker *walker, double now);

/* A number below @limit. */
uint64_t tv_walker_random(struct tv_walker *walker, uint64_t limit);

#endif
