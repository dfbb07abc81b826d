/* SPDX-License-Identifier: MIT */
/*
 * heat.h - how long a page is worth keeping, from the few touches that can be seen
 *
 * A page in its place tells nothing: its touches are not seen. What is seen is a touch of a page in
 * staging, and the return of a page from a store. From these each page has a level; its level buys
 * it 2^level - 1 visits of the clock hand before it is nominated.
 *
 *   touched in staging         one level up
 *   left for a store           half its level, and the time is noted
 *   came back soon after       up: two levels if fewer pages have left since than a quarter of what
 *                              is in memory, one if fewer than all of it
 *
 * Time is counted in pages that left. How many left while a page was away says how much more memory
 * would have kept it; a page that comes back within what there is is as hot as those that stayed
 * ("refault distance", as in Linux's mm/workingset.c, after the clock-pro and two-queue papers).
 * So popular pages climb until the hand takes others, and a guest that changes its mind is followed
 * within some rounds.
 *
 * All functions are pure.
 */
#ifndef MT_MONITOR_HEAT_H
#define MT_MONITOR_HEAT_H

#include "base/types.h"

#define MT_HEAT_LEVEL_MAX  4U
#define MT_HEAT_ROUNDS_MAX ((1U << MT_HEAT_LEVEL_MAX) - 1)
#define MT_HEAT_TIME_BITS  9U

/* Ticks of the clock that times absences are 1/64 of the guest's pages leaving. */
#define MT_HEAT_TICK_SHIFT 6U

struct mt_heat {
	uint8_t level;      /* 0 to MT_HEAT_LEVEL_MAX */
	uint8_t rounds;     /* visits of the hand that it is still spared */
	uint16_t left_tick; /* when it left for a store, modulo 2^MT_HEAT_TIME_BITS; 0: never */
};

/* Where the clock stands, and what "soon" is. */
struct mt_heat_clock {
	uint64_t tick;         /* starts at 1 */
	uint64_t memory_ticks; /* as many pages leaving as are in memory now */
};

/** mt_heat_clock() - @left_pages left so far, @memory_pages of the guest's @guest_pages are in */
struct mt_heat_clock mt_heat_clock(uint64_t left_pages, uint64_t memory_pages,
				   uint64_t guest_pages);

/** mt_heat_touched() - the page was touched in staging */
struct mt_heat mt_heat_touched(struct mt_heat heat);

/** mt_heat_left() - the page left for a store */
struct mt_heat mt_heat_left(struct mt_heat heat, struct mt_heat_clock clock);

/** mt_heat_back() - the page came back because it was touched */
struct mt_heat mt_heat_back(struct mt_heat heat, struct mt_heat_clock clock);

/** mt_heat_hottest() - a page that must not be tried again soon */
struct mt_heat mt_heat_hottest(struct mt_heat heat);

#endif
