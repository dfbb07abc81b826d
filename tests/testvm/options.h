/* SPDX-License-Identifier: MIT */
/* options.h - what memtide-testvm is told on its command line */
#ifndef MT_TESTVM_OPTIONS_H
#define MT_TESTVM_OPTIONS_H

#include "patterns.h"
#include "common/checked_page.h"

#include <stdbool.h>
#include <stdint.h>

#define TV_MAX_REGIONS 16
#define TV_MAX_THREADS 32

struct tv_options {
	const char *name;
	const char *socket; /* NULL: the library's default */
	const char *token;
	const char *share_group;
	uint64_t mem_bytes; /* of each region */
	unsigned int regions;
	unsigned int threads;
	enum tv_pattern_kind pattern;
	unsigned int hot_pct;
	struct cp_mix mix;
	uint64_t seed;
	double seconds;
	uint64_t ops; /* 0: until the time is over */
	unsigned int write_pct;
	unsigned int discard_pct;
	unsigned int before_pct; /* of each region, filled before it is put under management */
	double verify_every;     /* seconds; 0: only at the end */
	unsigned int pin_threads;
	const char *dir; /* for the files of direct I/O */
	bool fill;
	bool leave;
	bool churn;
	bool forks;
	bool thp;
	unsigned int mmu;  /* 1 + enum mt_mmu_mode: run a guest kernel; 0: checked pages */
	const char *trace; /* for it; NULL: at random */
	bool unmanaged;    /* for comparison: no monitor at all */
	uint64_t reservation_bytes;
	uint64_t limit_bytes;
	uint64_t shares;
};

/* Return: -1 to go on, or the status to exit with (after a message or the help text). */
int tv_options_parse(struct tv_options *o, int argc, char **argv);

#endif
