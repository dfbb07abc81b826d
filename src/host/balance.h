/* SPDX-License-Identifier: MIT */
/*
 * balance.h - from the policy's numbers to messages: targets, grants, confirmed regions
 *
 * The scheduler (policy/scheduler.h) says when a decision is due and what comes out; this fills in
 * its numbers and acts on them. Order of claims on free memory: regions that wait for their first
 * grant; then, beyond the reserve kept for the next one, VMs below their target, the furthest below
 * first; then, beyond minFree, VMs that may grow past it. A grant is on the books, and in the state
 * file, before it is sent.
 *
 * When a VM that is below its target is about to use its grant up, or a new one waits, the others
 * are steered to their targets until that is over ("waiting").
 */
#ifndef MT_HOST_BALANCE_H
#define MT_HOST_BALANCE_H

#include "host/server.h"

/** mt_balance_want() - settings, VMs or the pool have changed: decide anew */
void mt_balance_want(struct mt_server *server);

/** mt_balance_again() - only grants may change: memory has come back */
void mt_balance_again(struct mt_server *server);

/** mt_balance_run() - do what is due. Return: was anything? */
bool mt_balance_run(struct mt_server *server);

/** mt_balance_steer() - tell @vm's monitor where to go, if that has changed */
void mt_balance_steer(struct mt_vmrec *vm);

/** mt_balance_held() - what @vm holds, the room that its monitor keeps for faults included */
uint64_t mt_balance_held(const struct mt_vmrec *vm);

/** mt_balance_used() - guest pages with contents, wherever they are */
uint64_t mt_balance_used(const struct mt_vmrec *vm);

/** mt_balance_gap_pages() - room that a monitor with this grant keeps free for faults, about */
uint64_t mt_balance_gap_pages(uint64_t grant_pages);

#endif
