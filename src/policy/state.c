/* SPDX-License-Identifier: MIT */
/* state.c - thresholds compared by cross multiplication, so that nothing is rounded; see state.h */
#include "policy/state.h"

#define NS_PER_S 1000000000ULL

static const struct {
	const char *name;
	unsigned int actions;
} states[MT_HOST_STATES] = {
	[MT_HOST_HIGH] = {"high", 0},
	[MT_HOST_CLEAR] = {"clear", MT_ACT_BREAK_LARGE | MT_ACT_SHARE_NOW},
	[MT_HOST_SOFT] = {"soft", MT_ACT_BREAK_LARGE | MT_ACT_SHARE_NOW | MT_ACT_BALLOON},
	[MT_HOST_HARD] = {"hard", MT_ACT_BREAK_LARGE | MT_ACT_SHARE_NOW | MT_ACT_PAGE},
	[MT_HOST_LOW] = {"low", MT_ACT_BREAK_LARGE | MT_ACT_SHARE_NOW | MT_ACT_PAGE | MT_ACT_BLOCK},
};

static bool state_below(uint64_t free_pages, uint64_t minfree_pages, unsigned int pct)
{
	return (unsigned __int128)free_pages * 100 < (unsigned __int128)minfree_pages * pct;
}

/* The worst state whose enter threshold is undercut. */
static enum mt_host_state state_entered(const struct mt_state_rules *rules, uint64_t minfree_pages,
					uint64_t free_pages)
{
	enum mt_host_state found = MT_HOST_HIGH;

	for (unsigned int i = MT_HOST_CLEAR; i < MT_HOST_STATES; i++)
		if (state_below(free_pages, minfree_pages, rules->bounds[i].enter_pct))
			found = (enum mt_host_state)i;
	return found;
}

/* The mildest state that @from may ease to: all thresholds on the way there are passed. */
static enum mt_host_state state_eased(enum mt_host_state from, const struct mt_state_rules *rules,
				      uint64_t minfree_pages, uint64_t free_pages)
{
	unsigned int to = from;

	while (to > MT_HOST_HIGH &&
	       !state_below(free_pages, minfree_pages, rules->bounds[to].leave_pct))
		to--;
	return (enum mt_host_state)to;
}

struct mt_state mt_state_start(const struct mt_state_rules *rules, uint64_t minfree_pages,
			       uint64_t free_pages, uint64_t now_ns)
{
	return (struct mt_state){.state = state_entered(rules, minfree_pages, free_pages),
				 .since_ns = now_ns};
}

bool mt_state_update(struct mt_state *state, const struct mt_state_rules *rules,
		     uint64_t minfree_pages, uint64_t free_pages, uint64_t now_ns)
{
	enum mt_host_state to = state_entered(rules, minfree_pages, free_pages);

	if (to <= state->state) {
		if (now_ns - state->since_ns < rules->dwell_s * NS_PER_S)
			return false;
		to = state_eased(state->state, rules, minfree_pages, free_pages);
	}
	if (to == state->state)
		return false;
	state->state = to;
	state->since_ns = now_ns;
	return true;
}

uint64_t mt_state_next_ns(const struct mt_state *state, const struct mt_state_rules *rules,
			  uint64_t minfree_pages, uint64_t free_pages)
{
	if (state_eased(state->state, rules, minfree_pages, free_pages) == state->state)
		return UINT64_MAX;
	return state->since_ns + rules->dwell_s * NS_PER_S;
}

unsigned int mt_state_actions(enum mt_host_state state, const struct mt_state_rules *rules,
			      uint64_t minfree_pages, uint64_t free_pages)
{
	unsigned int actions = states[state].actions;

	if (state == MT_HOST_HIGH &&
	    state_below(free_pages, minfree_pages, rules->bounds[MT_HOST_CLEAR].leave_pct))
		actions |= MT_ACT_BREAK_LARGE;
	if (state >= MT_HOST_HARD && rules->hard_balloons)
		actions |= MT_ACT_BALLOON;
	return actions;
}

bool mt_state_pages_out(enum mt_host_state state, bool balloon_works)
{
	return state >= MT_HOST_HARD || (state == MT_HOST_SOFT && !balloon_works);
}

const char *mt_state_name(enum mt_host_state state)
{
	return states[state].name;
}
