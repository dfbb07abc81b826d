/* SPDX-License-Identifier: MIT */
/*
 * test_heat.c - what a page's touches say of its heat
 */
#include "base/compiler.h"
#include "monitor/heat.h"
#include "common/mt_test.h"

#define GUEST  65536U
#define MEMORY 32768U
#define TICK   (GUEST >> MT_HEAT_TICK_SHIFT)

static struct mt_heat left_and_back(struct mt_heat heat, uint64_t left_pages, uint64_t away_pages)
{
	heat = mt_heat_left(heat, mt_heat_clock(left_pages, MEMORY, GUEST));
	return mt_heat_back(heat, mt_heat_clock(left_pages + away_pages, MEMORY, GUEST));
}

MT_TEST("each touch in staging doubles the visits a page is spared, up to a limit")
{
	struct mt_heat heat = {0};

	for (unsigned int level = 1; level < 10; level++) {
		heat = mt_heat_touched(heat);
		MT_CHECK_EQ(heat.level, MT_MIN(level, MT_HEAT_LEVEL_MAX));
		MT_CHECK_EQ(heat.rounds, (1U << heat.level) - 1);
	}
}

MT_TEST("a page that leaves keeps half its level, and is spared no visit if brought along by "
	"another")
{
	struct mt_heat heat = mt_heat_left(mt_heat_hottest((struct mt_heat){0}),
					   mt_heat_clock(7 * TICK, MEMORY, GUEST));

	MT_CHECK_EQ(heat.level, MT_HEAT_LEVEL_MAX / 2);
	MT_CHECK_EQ(heat.rounds, 0);
	MT_CHECK_EQ(heat.left_tick, 8);
}

MT_TEST("a page that comes back soon climbs two levels, later one, and late none")
{
	struct mt_heat cold = {0};

	MT_CHECK_EQ(left_and_back(cold, 1000, 0).level, 2);
	MT_CHECK_EQ(left_and_back(cold, 1000, MEMORY / 4 - 2 * TICK).level, 2);
	MT_CHECK_EQ(left_and_back(cold, 1000, MEMORY / 4 + TICK).level, 1);
	MT_CHECK_EQ(left_and_back(cold, 1000, MEMORY - 2 * TICK).level, 1);
	MT_CHECK_EQ(left_and_back(cold, 1000, MEMORY + TICK).level, 0);
	MT_CHECK_EQ(left_and_back(cold, 1000, 4 * MEMORY).level, 0);
}

MT_TEST("a page that never left is not taken for one that just came back")
{
	struct mt_heat never = {0};

	for (uint64_t left = 0; left < 40 * (uint64_t)GUEST; left += TICK)
		MT_CHECK_EQ(mt_heat_back(never, mt_heat_clock(left, MEMORY, GUEST)).level, 0);
}

MT_TEST("the clock may wrap between leaving and coming back")
{
	for (uint64_t left = 0; left < 40 * (uint64_t)GUEST; left += TICK) {
		/* A page that left at tick 0 of a turn of the clock seems to have left one later.
		 */
		unsigned int level = left_and_back((struct mt_heat){0}, left, 2 * TICK).level;

		MT_CHECK_EQ(level, 2);
	}
}

MT_TEST("guests of any size have a clock, with nothing in memory too")
{
	for (uint64_t guest = 0; guest < 300; guest++)
		for (uint64_t memory = 0; memory <= guest; memory++) {
			struct mt_heat_clock clock = mt_heat_clock(5 * guest, memory, guest);
			struct mt_heat heat = mt_heat_left((struct mt_heat){0}, clock);

			MT_CHECK(clock.tick >= 1);
			MT_CHECK(mt_heat_back(heat, clock).level <= 2);
		}
}

MT_TEST_MAIN
