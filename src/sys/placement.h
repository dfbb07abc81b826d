/* SPDX-License-Identifier: MIT */
/*
 * placement.h - run the calling thread where another one runs
 *
 * A thread that waits for its page leaves its core idle. If the pager is woken on that same core,
 * it runs at once and the thread goes on right after it; on another core each of the two wake-ups
 * must first rouse a core that sleeps, which costs several times what serving the fault does.
 */
#ifndef MT_SYS_PLACEMENT_H
#define MT_SYS_PLACEMENT_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

struct mt_placement {
	cpu_set_t allowed; /* where the thread could run when it started */
	int cpu;           /* where it is confined to now, or -1 */
	bool off;          /* refused once (a sandbox): not tried again */
};

/** mt_placement_init() - for the calling thread */
void mt_placement_init(struct mt_placement *placement);

/** mt_placement_near() - confine the calling thread to the core where thread @tid ran last */
void mt_placement_near(struct mt_placement *placement, uint32_t tid);

/** mt_placement_at() - confine the calling thread to core @cpu, or to none if it is -1 */
void mt_placement_at(struct mt_placement *placement, int cpu);

/** mt_placement_free() - let the calling thread run anywhere again */
void mt_placement_free(struct mt_placement *placement);

#endif
