/* SPDX-License-Identifier: MIT */
/* balloon.c - the goal, what bounds it, and how fast it is reached; see balloon.h */
#include "policy/balloon.h"

#define NS_PER_S 1000000000ULL

uint64_t mt_balloon_cap(uint64_t total_pages, unsigned int max_pct)
{
	return total_pages / 100 * max_pct + total_pages % 100 * max_pct / 100;
}

uint64_t mt_balloon_floor(uint64_t total_pages)
{
	uint64_t floor = MT_MAX(total_pages / 16, MT_BALLOON_FLOOR_PAGES);

	return MT_MIN(floor, total_pages / 4);
}

/* What the host would like. */
static uint64_t balloon_goal(struct mt_balloon_state *state, const struct mt_balloon_guest *guest,
			     uint64_t now_ns)
{
	uint64_t fitting = mt_minus(guest->memsize_pages, guest->fit_pages);
	uint64_t step;

	switch (guest->drive) {
	case MT_BALLOON_TAKE:
		state->taken_ns = now_ns;
		/* a guest that fits is left alone: its free pages are the host's already */
		if (guest->used_pages > guest->fit_pages)
			return fitting;
		return MT_MIN(state->target_pages, fitting);
	case MT_BALLOON_HOLD:
		state->taken_ns = now_ns;
		return state->target_pages;
	case MT_BALLOON_EASE:
		break;
	}
	if (now_ns - state->taken_ns < MT_BALLOON_EASE_NS)
		return state->target_pages;
	step = MT_MIN(guest->spare_pages, guest->memsize_pages / 16);
	return mt_minus(state->target_pages, step);
}

static void balloon_bound(uint64_t *goal, uint64_t bound, enum mt_balloon_why why,
			  enum mt_balloon_why *ret_why)
{
	if (*goal <= bound)
		return;
	*goal = bound;
	*ret_why = why;
}

/*
 * The size at which the guest is left with the floor. Its report is a little old: while the balloon
 * grows, what was available then and what is in the balloon now would count the same pages twice.
 * So a size that was found right is kept while it lies between the most that this may mean and the
 * least.
 */
static uint64_t balloon_to_floor(const struct mt_balloon_state *state,
				 const struct mt_balloon_guest *guest, uint64_t floor)
{
	uint64_t least = MT_MIN(guest->reported_pages, guest->ballooned_pages);
	uint64_t low = mt_minus(least + guest->available_pages, floor);
	uint64_t high = mt_minus(guest->ballooned_pages + guest->available_pages, floor);

	return MT_MIN(MT_MAX(state->target_pages, low), high);
}

/* Most by what is left to the guest. */
static void balloon_bound_floor(struct mt_balloon_state *state,
				const struct mt_balloon_guest *guest, uint64_t now_ns,
				uint64_t *goal, enum mt_balloon_why *ret_why)
{
	uint64_t floor = mt_balloon_floor(guest->total_pages), now = guest->ballooned_pages;
	uint64_t left = guest->available_pages;
	bool danger = left < floor / 2;

	if (danger || guest->swapped_in_pages > MT_BALLOON_SWAPS_PAGES) {
		uint64_t back = danger ? MT_MAX(now / 2, floor) : now / 8;

		state->backoff_until_ns = now_ns + MT_BALLOON_BACKOFF_NS;
		state->backoff_pages = mt_minus(now, back);
		if (now)
			balloon_bound(goal, state->backoff_pages,
				      danger ? MT_BALLOON_DANGER : MT_BALLOON_GUEST_SWAPS, ret_why);
	}
	if (now_ns < state->backoff_until_ns)
		balloon_bound(goal, state->backoff_pages, MT_BALLOON_GUEST_SWAPS, ret_why);
	balloon_bound(goal, balloon_to_floor(state, guest, floor), MT_BALLOON_AT_FLOOR, ret_why);
}

/* Is it on its way, and fast enough? Windows follow each other while there is something to take. */
static bool balloon_fast(struct mt_balloon_state *state, const struct mt_balloon_guest *guest,
			 uint64_t now_ns)
{
	uint64_t now = guest->ballooned_pages, left = mt_minus(state->target_pages, now);
	uint64_t passed_ns = now_ns - state->measured_ns, seen;

	if (left <= MT_BALLOON_GRAIN_PAGES) {
		state->measuring = state->slow = false;
		return true;
	}
	if (state->measuring && passed_ns < MT_BALLOON_WINDOW_NS)
		return !state->slow;
	if (state->measuring) {
		seen = mt_minus(now, state->measured_pages) * NS_PER_S / passed_ns;
		state->slow = seen < state->wanted_pages_s;
	}
	state->measuring = true;
	state->measured_ns = now_ns;
	state->measured_pages = now;
	state->wanted_pages_s = MT_MAX(left / MT_BALLOON_HASTE_S, 1);
	return !state->slow;
}

static struct mt_balloon_decision balloon_unable(struct mt_balloon_state *state,
						 const struct mt_balloon_guest *guest)
{
	enum mt_balloon_why why = MT_BALLOON_ABSENT;

	if (guest->present)
		why = guest->deflates_on_oom ? MT_BALLOON_SILENT : MT_BALLOON_UNSAFE;
	/* nothing more is taken from a guest that can't say how it fares */
	state->target_pages = MT_MIN(state->target_pages, guest->ballooned_pages);
	state->measuring = state->slow = false;
	return (struct mt_balloon_decision){.target_pages = state->target_pages,
					    .most_pages = guest->ballooned_pages,
					    .why = why};
}

struct mt_balloon_decision mt_balloon_decide(struct mt_balloon_state *state,
					     const struct mt_balloon_guest *guest, uint64_t now_ns)
{
	struct mt_balloon_decision decision = {.why = MT_BALLOON_NO_NEED};
	uint64_t goal, moved, most = guest->memsize_pages;
	enum mt_balloon_why bound = MT_BALLOON_NO_NEED;

	if (!guest->present || !guest->deflates_on_oom || !guest->fresh)
		return balloon_unable(state, guest);
	goal = balloon_goal(state, guest, now_ns);
	if (goal)
		decision.why = MT_BALLOON_FITS;
	balloon_bound(&most, mt_balloon_cap(guest->total_pages, guest->max_pct), MT_BALLOON_AT_CAP,
		      &bound);
	balloon_bound_floor(state, guest, now_ns, &most, &bound);
	balloon_bound(&goal, most, bound, &decision.why);
	decision.most_pages = most;
	moved = goal > state->target_pages ? goal - state->target_pages
					   : state->target_pages - goal;
	if (moved >= MT_BALLOON_GRAIN_PAGES || !goal)
		state->target_pages = goal;
	decision.target_pages = state->target_pages;
	/* without a balloon its own size is what it is short of */
	decision.guest_short = guest->ballooned_pages &&
			       (now_ns < state->backoff_until_ns ||
				guest->available_pages < mt_balloon_floor(guest->total_pages));
	if (guest->drive != MT_BALLOON_TAKE)
		return decision;
	decision.works = balloon_fast(state, guest, now_ns);
	decision.slow = !decision.works;
	/* it is where it shall be, and that does not do: at a bound, or ballooned pages are in use
	 */
	if (guest->used_pages > guest->fit_pages &&
	    guest->ballooned_pages + MT_BALLOON_GRAIN_PAGES >= state->target_pages)
		decision.works = false;
	return decision;
}

const char *mt_balloon_why_text(enum mt_balloon_why why)
{
	static const char *const texts[MT_BALLOON_WHYS] = {
		[MT_BALLOON_NO_NEED] = "there is no need",
		[MT_BALLOON_FITS] = "the guest shall fit its target",
		[MT_BALLOON_AT_CAP] = "the most a balloon may take",
		[MT_BALLOON_AT_FLOOR] = "the guest needs the rest",
		[MT_BALLOON_GUEST_SWAPS] = "the guest was short of memory",
		[MT_BALLOON_DANGER] = "the guest is short of memory",
		[MT_BALLOON_UNSAFE] = "it lacks deflate-on-oom=on and could kill the guest",
		[MT_BALLOON_SILENT] = "the guest's driver does not report",
		[MT_BALLOON_ABSENT] = "there is no balloon",
	};

	return texts[why];
}
