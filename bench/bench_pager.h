/* SPDX-License-Identifier: MIT */
/*
 * bench_pager.h - a pager in this process, with the real userfaultfd but without a daemon
 *
 * For what the public API can't ask for: to nominate pages and leave it at that.
 */
#ifndef MT_BENCH_PAGER_H
#define MT_BENCH_PAGER_H

#include "monitor/pager.h"
#include "sys/uffd.h"

struct bench_pager {
	struct mt_pager pager;
	struct mt_uffd uffd;
	uint8_t *staging;
	pthread_t thread;
	bool running;
	_Atomic bool stop;
};

/** bench_pager_new() - a pager with all the memory it may want, and @memory, all in place, its one
 * region */
struct bench_pager *bench_pager_new(uint8_t *memory, uint64_t bytes);

/** bench_pager_run() - start its thread; until then its functions may be called from here */
void bench_pager_run(struct bench_pager *bp);

/** bench_pager_free() - @memory's pages that are out are lost */
void bench_pager_free(struct bench_pager *bp);

#endif
