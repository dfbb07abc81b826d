/* SPDX-License-Identifier: MIT */
/*
 * balance.h - from the policy's numbers to messages: targets, grants, confirmed regions
 *
 * Runs once per sweep when something changed. Order of claims on free memory: regions that wait
 * for their first grant; then, beyond the reserve kept for the next one, VMs below their target,
 * the furthest below first. A grant is on the books, and in the state file, before it is sent.
 */
#ifndef MT_HOST_BALANCE_H
#define MT_HOST_BALANCE_H

#include "host/server.h"

/** mt_balance_want() - targets may change; why is for the events, the first reason of a round
 * counts */
void mt_balance_want(struct mt_server *server, const char *fmt, ...) MT_PRINTF(2, 3);

/** mt_balance_again() - only grants may change: memory has come back */
void mt_balance_again(struct mt_server *server);

/** mt_balance_run() - do what is due. Return: was anything? */
bool mt_balance_run(struct mt_server *server);

#endif
