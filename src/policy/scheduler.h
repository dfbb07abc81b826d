/* SPDX-License-Identifier: MIT */
/*
 * scheduler.h - one decision about the whole host: its state, everybody's target, and why
 *
 * The caller (daemon, simulator, tests) fills in numbers about the host and each VM, and acts on
 * what comes out. A decision is due every balance period, when the memory state changes, after any
 * change of settings, VMs or the pool, and soon after a VM could not grow for want of a target.
 *
 * What there is to share out: the pool without the daemon's own part and without minFree, the
 * cushion that lets a VM grow at once while others are still giving memory up.
 *
 * A VM's claims, in guest pages plus overhead:
 *   floor   the used part of its reservation and room to grow in it (all of it when it is
 *           pressing); what it needs to run at all; when its pages can't be moved away, what it
 *           holds that its balloon can't take, and room to grow, as far as the others keep their
 *           floors: nobody has admitted that
 *   want    what it uses (in memory, compressed or swapped) and room to grow
 *   cap     its limit; its configured size
 * The room to grow is growth_pct of what it uses. When it is *pressing* (it had to give up pages of
 * its own to bring others in), it may want to double, or to grow by an eighth of what there is if
 * that is more.
 *
 * Two numbers come out for each VM. The target is what it deserves; targets sum to what there is.
 * Where to steer it follows the state: in high and clear nobody must give anything up for a target
 * (nobody needs it; reference 3.2 and 3.3), and VMs that are pressing may grow beyond theirs into
 * memory that is free beyond minFree. From soft on, or when somebody below his target waits for
 * memory, everybody is steered to his target. A limit holds in every state.
 */
#ifndef MT_POLICY_SCHEDULER_H
#define MT_POLICY_SCHEDULER_H

#include "policy/entitlement.h"
#include "policy/proportional.h"
#include "policy/settings.h"
#include "policy/state.h"

/* After a VM pressed, the next decision comes no sooner than this after the last one. */
#define MT_SCHED_PRESS_NS 250000000ULL
/* Least room to grow: 16 MiB. */
#ifndef MT_SCHED_GROWTH_MIN_PAGES
#define MT_SCHED_GROWTH_MIN_PAGES ((16UL << 20) / MT_PAGE_SIZE)
#endif

/* What the caller keeps between decisions; zero at first. */
struct mt_sched {
	bool started;
	bool touched; /* something changed: decide now */
	bool pressed; /* somebody wants to grow: decide soon */
	struct mt_state state;
	uint64_t decided_ns;
};

struct mt_sched_host {
	uint64_t pool_pages;
	uint64_t own_pages;  /* not to be shared out: the daemon's part, VMs out of reach */
	uint64_t free_pages; /* held by nobody */
	bool waiting;        /* a VM below its target could not be given more */
};

/* What a target follows from. The first of these that applies. */
enum mt_why {
	MT_WHY_SHORT,       /* not even all floors fit */
	MT_WHY_LIMIT,       /* it may not have more */
	MT_WHY_ALL,         /* it can't use more: configured size and overhead */
	MT_WHY_FIXED,       /* its pages can't leave their places */
	MT_WHY_RESERVATION, /* it must not have less */
	MT_WHY_MINIMUM,     /* it needs this to run */
	MT_WHY_WANT,        /* it doesn't use more */
	MT_WHY_SPARE,       /* everybody has what he wants, and this is its part of the rest */
	MT_WHY_TAX,         /* idle memory was taken from it */
	MT_WHY_SHARES,      /* fewer shares per page than others */
	MT_WHY_GAIN,        /* more shares per charged page than others */
};

struct mt_sched_reason {
	enum mt_why why;
	uint64_t before_pages; /* 0: the first target */
	uint64_t after_pages;
	uint64_t bound_pages;  /* limit, reservation, what is fixed, or what it uses */
	unsigned int idle_pct; /* of the memory it had as target before */
	double idle_cost;      /* what its idle pages are charged on average, in active pages */
	double rho;            /* shares per charged page before */
	double rho_next;       /* taken from it: the least that those have who gained;
				* given to it: the most that those have who lost; 0: nobody */
};

struct mt_sched_vm {
	/* in */
	uint64_t memsize_pages; /* 0: no memory yet, no target */
	uint64_t overhead_pages;
	uint64_t reservation_pages;
	uint64_t limit_pages;      /* MT_POLICY_NO_LIMIT: none */
	uint64_t target_max_pages; /* MT_POLICY_NO_LIMIT: none */
	uint64_t shares;
	uint64_t active_pages; /* estimate of guest pages in use */
	uint64_t used_pages;   /* guest pages with contents, wherever they are */
	uint64_t held_pages;   /* machine memory in all */
	uint64_t fixed_pages;  /* not 0: no page of it can be moved away, and its balloon can bring
				* it down to so much at best */
	bool pressing;

	/* in and out */
	uint64_t target_pages; /* of the last decision; 0: none yet */

	/* out */
	uint64_t steer_pages; /* what to tell the monitor, and most to grant */
	bool blocked;         /* must not grow */
	struct mt_sched_reason reason;
};

struct mt_sched_decision {
	enum mt_host_state state;
	bool state_changed;
	unsigned int actions; /* enum mt_action */
	uint64_t minfree_pages;
	uint64_t available_pages; /* what was shared out */
	uint64_t targets_pages;   /* sum of targets: available, or all caps if that is less */
};

/** mt_sched_touch() - settings, VMs or the pool have changed */
void mt_sched_touch(struct mt_sched *sched);

/** mt_sched_press() - a VM is pressing, or waits for memory below its target */
void mt_sched_press(struct mt_sched *sched);

/** mt_sched_due() - is a decision due at @now_ns? Cheap: for every turn of an event loop. */
bool mt_sched_due(const struct mt_sched *sched, const struct mt_sched_config *config,
		  const struct mt_sched_host *host, uint64_t now_ns);

/** mt_sched_next_ns() - when a decision is due at the latest if nothing changes */
uint64_t mt_sched_next_ns(const struct mt_sched *sched, const struct mt_sched_config *config,
			  const struct mt_sched_host *host);

/**
 * mt_sched_decide() - decide
 * @work: room for @count items; only work space
 */
struct mt_sched_decision mt_sched_decide(struct mt_sched *sched,
					 const struct mt_sched_config *config,
					 const struct mt_sched_host *host, struct mt_sched_vm *vms,
					 struct mt_ent_vm *work, size_t count, uint64_t now_ns);

#define MT_SCHED_TEXT_MAX 200

/** mt_sched_reason_text() - "target 412M → 300M: idle 71 %, taxed 4x, 2.1 shares/page below the
 * next". Returns @buf. */
const char *mt_sched_reason_text(const struct mt_sched_reason *reason,
				 char buf[static MT_SCHED_TEXT_MAX]);

/** mt_sched_why_text() - only what stands behind the colon. Returns @buf. */
const char *mt_sched_why_text(const struct mt_sched_reason *reason,
			      char buf[static MT_SCHED_TEXT_MAX]);

#endif
