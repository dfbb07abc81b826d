/* SPDX-License-Identifier: MIT */
/*
 * state.h - the five states of a host's memory and what each turns on
 *
 * Free memory, as a percentage of minFree, picks the state: high, clear, soft, hard, low. Every
 * state but high has two thresholds: it is entered when free memory falls below the first, and
 * left when free memory reaches the second. With the defaults each state is left where the next
 * milder one ends, the model that fits all published sources (reference, section 3.2).
 *
 * Getting worse is immediate and may skip states: it protects the host. Getting better waits until
 * the state has stood for a while (the dwell time), so that a load that swings around a threshold
 * changes the state at most twice a minute: once down, once up. Free memory need not stay above
 * the threshold all that time. When the time is over, the state goes to the mildest one whose
 * thresholds are all passed; the literature's "one step at a time" would multiply the dwell time.
 */
#ifndef MT_POLICY_STATE_H
#define MT_POLICY_STATE_H

#include "base/compiler.h"
#include "base/types.h"

/* In the order of the vSphere counter mem.state. */
enum mt_host_state {
	MT_HOST_HIGH,
	MT_HOST_CLEAR,
	MT_HOST_SOFT,
	MT_HOST_HARD,
	MT_HOST_LOW,
	MT_HOST_STATES
};

/* What a state turns on. */
enum mt_action {
	MT_ACT_BREAK_LARGE = 1 << 0, /* break up cold large pages */
	MT_ACT_SHARE_NOW = 1 << 1,   /* look for equal pages actively */
	MT_ACT_BALLOON = 1 << 2,     /* drive the balloons to their targets */
	MT_ACT_PAGE = 1 << 3,        /* compress and swap what the balloon does not bring */
	MT_ACT_BLOCK = 1 << 4,       /* VMs above their target may not grow */
};

struct mt_state_bounds {
	unsigned int enter_pct; /* of minFree: entered below this */
	unsigned int leave_pct; /* of minFree: left at this or above */
};

struct mt_state_rules {
	struct mt_state_bounds bounds[MT_HOST_STATES]; /* high has none */
	unsigned int dwell_s;
	bool hard_balloons; /* go on driving balloons in hard and low (sources differ) */
};

struct mt_state {
	enum mt_host_state state;
	uint64_t since_ns; /* time of the last change */
};

/** mt_state_start() - the state that fits @free_pages, without any history */
struct mt_state mt_state_start(const struct mt_state_rules *rules, uint64_t minfree_pages,
			       uint64_t free_pages, uint64_t now_ns);

/** mt_state_update() - follow free memory. Return: has the state changed? */
bool mt_state_update(struct mt_state *state, const struct mt_state_rules *rules,
		     uint64_t minfree_pages, uint64_t free_pages, uint64_t now_ns);

/**
 * mt_state_next_ns() - when the state may change next though free memory stays as it is
 *
 * Return: UINT64_MAX if not at all
 */
uint64_t mt_state_next_ns(const struct mt_state *state, const struct mt_state_rules *rules,
			  uint64_t minfree_pages, uint64_t free_pages);

/**
 * mt_state_actions() - what is on, as a set of enum mt_action (reference, sections 1.3 and 3.2)
 *
 * In the high state large pages are broken too, once free memory is below the bound at which
 * clear would be left: the sources have this start "just below high".
 */
unsigned int mt_state_actions(enum mt_host_state state, const struct mt_state_rules *rules,
			      uint64_t minfree_pages, uint64_t free_pages);

/**
 * mt_state_pages_out() - may a VM's memory be compressed and swapped to reach its target?
 * @balloon_works: its balloon is driven and has not come to its end. In the soft state only a VM
 * without such a balloon is paged (reference, sections 2.1 and 3.3).
 */
bool mt_state_pages_out(enum mt_host_state state, bool balloon_works);

/** mt_state_name() - "high", "clear", "soft", "hard", "low" */
const char *mt_state_name(enum mt_host_state state);

#endif
