/* SPDX-License-Identifier: MIT */
/*
 * command.h - have the pager run a function for another thread, and wait for it
 *
 * For what is rare and needs the page map: regions that come and go, audits, leaving. The pager
 * runs commands between faults. It takes the lock only if it is free, so a thread that holds it
 * can never keep a fault waiting.
 */
#ifndef MT_MONITOR_COMMAND_H
#define MT_MONITOR_COMMAND_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct mt_pager;

/* Runs in the pager. Return: true when finished; false to be called again in the next turn. */
typedef bool (*mt_command_fn)(struct mt_pager *pager, void *arg);

struct mt_command {
	mt_command_fn run;
	void *arg;
	bool done; /* [commands->lock] */
	struct mt_command *next;
};

struct mt_commands {
	pthread_mutex_t lock;
	pthread_cond_t finished;
	struct mt_command *first; /* [lock] oldest first */
};

void mt_commands_init(struct mt_commands *commands);
void mt_commands_fini(struct mt_commands *commands);

/** mt_command() - run @run(@arg) in the pager and wait until it is finished; not from the pager */
void mt_command(struct mt_pager *pager, mt_command_fn run, void *arg);

/** mt_commands_run() - pager: one round. Return: are there unfinished ones? */
bool mt_commands_run(struct mt_pager *pager);

#endif
