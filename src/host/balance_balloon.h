/* SPDX-License-Identifier: MIT */
/*
 * balance_balloon.h - what a decision about the host means for each VM's balloon, and the reverse
 *
 * Reference 3.3: a VM that has to shrink is asked by its balloon first; compression and swap bring
 * the rest. So while a VM's balloon works its monitor is not steered below what it holds, and what
 * it holds sinks as the guest gives pages up; when the balloon does not work the monitor is steered
 * to the target at once. From the hard state on it always is. A VM under a limit never holds more
 * than it did when it had to shrink, so only a limit that is lowered waits for the balloon.
 *
 * "Has to shrink" is from the soft state on, or when somebody below his target waits for memory
 * (ours: grants make a VM wait before free memory has sunk to the soft state), or for a limit.
 */
#ifndef MT_HOST_BALANCE_BALLOON_H
#define MT_HOST_BALANCE_BALLOON_H

#include "host/server.h"

/** mt_balance_balloons() - give every balloon its order, after a decision */
void mt_balance_balloons(struct mt_server *server, const struct mt_sched_host *host,
			 const struct mt_sched_decision *decision);

/** mt_balance_soften() - where to steer @vm's monitor, with what its balloon does in mind */
uint64_t mt_balance_soften(struct mt_vmrec *vm);

#endif
