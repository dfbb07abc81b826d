/* SPDX-License-Identifier: MIT */
/* active.c - three averages and their maximum; see active.h */
#include "policy/active.h"
#include "base/compiler.h"

#define SLOW_TAU_S 240.0
#define FAST_TAU_S 180.0
/* Squares of the distances, in standard errors, where the fast gain starts and ends to grow. */
#define STEP_FROM_SQ   2.25
#define STEP_TO_SQ     9.0
#define PERIOD_USUAL_S 60.0

static double active_gain(double period_s, double tau_s)
{
	return period_s / (period_s + tau_s);
}

/* Square root of 0 to 0.25 by Newton's method: not worth a mathematics library. */
static double active_root(double x)
{
	double root = 0.5;

	for (unsigned int i = 0; i < 12; i++)
		root = (root + x / root) / 2;
	return root;
}

/*
 * The fast average after a sample. The expected part is drawn a little to one half, as if two more
 * pages had been watched, so that an average of exactly 0 or 1 can still be surprised by a finite
 * amount.
 */
static double active_fast(double average, double sample, uint64_t watched, double plain)
{
	double n = (double)watched;
	double expected = (average * n + 1.0) / (n + 2.0);
	double variance = expected * (1.0 - expected) / n;
	double apart = sample - average;
	double grown = (apart * apart / variance - STEP_FROM_SQ) / (STEP_TO_SQ - STEP_FROM_SQ);

	if (grown < 1.0)
		return average + apart * (plain + (1.0 - plain) * MT_MAX(grown, 0.0));
	if (apart < 0.0)
		return sample;
	return MT_MIN(1.0, sample + active_root(sample * (1.0 - sample) / n));
}

static double active_sample(uint64_t watched, uint64_t touched)
{
	return (double)MT_MIN(touched, watched) / (double)watched;
}

void mt_active_init(struct mt_active *active)
{
	*active = (struct mt_active){.slow = 1.0, .fast = 1.0, .now = 1.0};
}

void mt_active_watch(struct mt_active *active, uint64_t watched, uint64_t touched)
{
	double sample, fast;

	if (!active->primed || !watched)
		return;
	sample = active_sample(watched, touched);
	if (sample <= active->fast)
		return;
	fast = active_fast(active->fast, sample, watched, active_gain(PERIOD_USUAL_S, FAST_TAU_S));
	active->now = MT_MAX(active->now, fast);
}

void mt_active_end(struct mt_active *active, uint64_t watched, uint64_t touched, double period_s)
{
	double sample;

	if (!watched || !(period_s > 0.0))
		return;
	sample = active_sample(watched, touched);
	if (!active->primed) {
		*active = (struct mt_active){sample, sample, sample, true};
		return;
	}
	active->fast =
		active_fast(active->fast, sample, watched, active_gain(period_s, FAST_TAU_S));
	active->slow += active_gain(period_s, SLOW_TAU_S) * (sample - active->slow);
	active->now = active->fast;
}

double mt_active_part(const struct mt_active *active)
{
	double most = MT_MAX(active->slow, MT_MAX(active->fast, active->now));

	return MT_MAX(0.0, MT_MIN(1.0, most));
}

uint64_t mt_active_pages(const struct mt_active *active, uint64_t sampled_pages,
			 unsigned int floor_pct)
{
	double part = MT_MAX(mt_active_part(active), (double)MT_MIN(floor_pct, 100U) / 100.0);

	return MT_MIN(sampled_pages, (uint64_t)(part * (double)sampled_pages + 0.5));
}
