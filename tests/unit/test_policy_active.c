/* SPDX-License-Identifier: MIT */
/* test_policy_active.c - the estimator of active memory, on played samples */
#include "common/mt_test.h"
#include "base/compiler.h"
#include "policy/active.h"

static uint64_t seed = 88172645463325252ULL;

static uint64_t roll(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (seed >> 11) % below;
}

/* How many of @count random pages are touched when @pct of memory are. */
static uint64_t sample(uint64_t count, unsigned int pct)
{
	uint64_t touched = 0;

	while (count--)
		touched += roll(100) < pct;
	return touched;
}

static void periods(struct mt_active *active, unsigned int count, uint64_t pages, unsigned int pct,
		    double period_s)
{
	while (count--)
		mt_active_end(active, pages, sample(pages, pct), period_s);
}

static double error_points(const struct mt_active *active, unsigned int pct)
{
	double error = mt_active_part(active) * 100.0 - pct;

	return error < 0 ? -error : error;
}

MT_TEST("before the first period ends a VM counts as fully active, then as its sample says")
{
	struct mt_active active;

	mt_active_init(&active);
	MT_CHECK_EQ(mt_active_pages(&active, 1000, 1), 1000);
	mt_active_watch(&active, 100, 3);
	MT_CHECK_EQ(mt_active_pages(&active, 1000, 1), 1000);
	mt_active_end(&active, 0, 0, 60);
	MT_CHECK_EQ(mt_active_pages(&active, 1000, 1), 1000);
	mt_active_end(&active, 100, 30, 60);
	MT_CHECK_EQ(mt_active_pages(&active, 1000, 1), 300);
}

MT_TEST("the estimate has a floor and never exceeds the memory sampled")
{
	struct mt_active active;

	mt_active_init(&active);
	mt_active_end(&active, 100, 0, 60);
	MT_CHECK_EQ(mt_active_pages(&active, 1000, 1), 10);
	MT_CHECK_EQ(mt_active_pages(&active, 1000, 0), 0);
	mt_active_end(&active, 100, 500, 60);
	MT_CHECK_EQ(mt_active_pages(&active, 1000, 1), 1000);
}

/* A step up in the middle of a period: seen in it, as touches come in, or at the end of the next.
 */
static double step_up(unsigned int from, unsigned int to, double part_of_period)
{
	struct mt_active active;
	uint64_t before, after, touched;

	mt_active_init(&active);
	periods(&active, 10, 100, from, 60);
	/* pages touched before the step stay touched, those of the new set come on top */
	touched = sample(100, from);
	for (before = 0, after = 0; before < 100 - touched; before++)
		after += roll(100 - from) < to - from;
	mt_active_watch(&active, 100, touched);
	mt_active_watch(&active, 100, touched + after);
	mt_active_end(&active, 100, touched + after, 60);
	/* the next period goes on until a whole one has passed since the step */
	mt_active_watch(&active, 100, (uint64_t)((double)sample(100, to) * part_of_period));
	return mt_active_part(&active) * 100.0;
}

/* Part of the steps of @least to @most points that reach 90 % of the new level in a period. */
static double steps_reached(unsigned int least, unsigned int most)
{
	unsigned int runs = 0, reached = 0;

	for (unsigned int from = 10; from <= 80; from += 10)
		for (unsigned int to = from + least; to <= 80 && to <= from + most; to += 10)
			for (unsigned int k = 0; k < 1000; k++) {
				runs++;
				reached += step_up(from, to, 0.5) >= 0.9 * to;
			}
	return 100.0 * reached / runs;
}

MT_TEST("a step up is followed to 90 % within one period")
{
	unsigned int good = 0;

	printf("# steps of 10 points: %.1f %%, of 20: %.1f %%, of 30 to 70: %.1f %% reach 90 %% of "
	       "the new level\n",
	       steps_reached(10, 10), steps_reached(20, 20), steps_reached(30, 70));
	MT_CHECK(steps_reached(20, 70) >= 95.0);
	for (unsigned int k = 0; k < 2000; k++)
		good += step_up(10, 80, 0.5) >= 10 + 0.9 * 70;
	printf("# 10 -> 80 %%: %.1f %% reach 90 %% of the step\n", good / 20.0);
	MT_CHECK(good >= 1980);
}

MT_TEST("a steady load is estimated to 10 points")
{
	double worst = 0, sum = 0;
	unsigned int beyond = 0, readings = 0;

	for (unsigned int pct = 10; pct <= 80; pct += 10)
		for (unsigned int run = 0; run < 200; run++) {
			struct mt_active active;
			double mean = 0;

			mt_active_init(&active);
			periods(&active, 10, 100, pct, 60);
			for (unsigned int i = 0; i < 60; i++) {
				double error;

				periods(&active, 1, 100, pct, 60);
				mt_active_watch(&active, 100, sample(100, pct));
				error = error_points(&active, pct);
				mean += error / 60;
				sum += error;
				readings++;
				beyond += error > 10.0;
				worst = MT_MAX(worst, error);
			}
			MT_CHECK(mean <= 10.0);
		}
	printf("# %u readings: mean error %.2f points, worst %.1f, %.2f %% beyond 10\n", readings,
	       sum / readings, worst, 100.0 * beyond / readings);
	MT_CHECK(beyond * 50 <= readings);
}

MT_TEST("after a step down the estimate sinks over minutes, without a jump")
{
	struct mt_active active;
	double before;
	unsigned int minutes = 0;

	mt_active_init(&active);
	periods(&active, 20, 100, 80, 60);
	before = mt_active_part(&active);
	while (mt_active_part(&active) > 0.25 && minutes < 60) {
		periods(&active, 1, 100, 10, 60);
		minutes++;
		MT_CHECK(mt_active_part(&active) > before * 0.7);
		before = mt_active_part(&active);
	}
	printf("# from 80 %% to below 25 %%: %u minutes\n", minutes);
	MT_CHECK(minutes >= 3 && minutes <= 15);
}

MT_TEST("a change of the period changes the effort, not the speed")
{
	struct mt_active slow, fast;

	mt_active_init(&slow);
	mt_active_init(&fast);
	periods(&slow, 10, 1000, 80, 60);
	periods(&fast, 60, 1000, 80, 10);
	periods(&slow, 5, 1000, 10, 60);
	periods(&fast, 30, 1000, 10, 10);
	printf("# five minutes after a step down: %.2f with 60 s, %.2f with 10 s\n",
	       mt_active_part(&slow), mt_active_part(&fast));
	MT_CHECK(mt_active_part(&slow) - mt_active_part(&fast) < 0.1);
	MT_CHECK(mt_active_part(&fast) - mt_active_part(&slow) < 0.1);
}

MT_TEST("a few pages move the estimate less than many")
{
	struct mt_active few, many;

	mt_active_init(&few);
	mt_active_init(&many);
	periods(&few, 1, 100, 50, 60);
	many = few;
	mt_active_end(&few, 4, 4, 60);
	mt_active_end(&many, 400, 400, 60);
	MT_CHECK(mt_active_part(&few) < 0.8);
	MT_CHECK(mt_active_part(&many) > 0.99);
}

MT_TEST_MAIN
