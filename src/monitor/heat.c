/* SPDX-License-Identifier: MIT */
/* heat.c - levels of pages; see heat.h */
#include "monitor/heat.h"
#include "base/compiler.h"

#define HEAT_TIME_MASK ((1U << MT_HEAT_TIME_BITS) - 1)

struct mt_heat_clock mt_heat_clock(uint64_t left_pages, uint64_t memory_pages, uint64_t guest_pages)
{
	uint64_t tick_pages = MT_MAX(guest_pages >> MT_HEAT_TICK_SHIFT, 1U);

	return (struct mt_heat_clock){.tick = 1 + left_pages / tick_pages,
				      .memory_ticks = memory_pages / tick_pages};
}

static struct mt_heat heat_at(struct mt_heat heat, unsigned int level)
{
	heat.level = (uint8_t)MT_MIN(level, MT_HEAT_LEVEL_MAX);
	heat.rounds = (uint8_t)((1U << heat.level) - 1);
	return heat;
}

struct mt_heat mt_heat_touched(struct mt_heat heat)
{
	return heat_at(heat, heat.level + 1U);
}

struct mt_heat mt_heat_left(struct mt_heat heat, struct mt_heat_clock clock)
{
	heat.level /= 2;
	heat.rounds = 0;
	heat.left_tick = (uint16_t)(clock.tick & HEAT_TIME_MASK);
	/* 0 says never. */
	heat.left_tick = (uint16_t)MT_MAX(heat.left_tick, 1U);
	return heat;
}

struct mt_heat mt_heat_back(struct mt_heat heat, struct mt_heat_clock clock)
{
	uint64_t away = (clock.tick - heat.left_tick) & HEAT_TIME_MASK;
	unsigned int more = 0;

	if (heat.left_tick && away < clock.memory_ticks)
		more = away < clock.memory_ticks / 4 ? 2 : 1;
	return heat_at(heat, heat.level + more);
}

struct mt_heat mt_heat_hottest(struct mt_heat heat)
{
	return heat_at(heat, MT_HEAT_LEVEL_MAX);
}
