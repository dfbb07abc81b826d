/* SPDX-License-Identifier: MIT */
/*
 * sim_threads.h - threads that are coroutines, so that the course of events follows from a seed
 *
 * The threads of a simulated VMM run only when sim_thread_resume() says so, and until they would
 * wait: for a lock, a condition, a socket, the clock. pthread_create() and what waits are wrapped
 * at link time (sim_threads.c), so the monitor's own code runs unchanged. One may be resumed from
 * within another: that is one thread overtaking the other between two of its steps.
 */
#ifndef MT_TESTS_SIM_THREADS_H
#define MT_TESTS_SIM_THREADS_H

#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

#define SIM_STACK_BYTES (256UL << 10)

enum sim_thread_kind {
	SIM_VMM, /* of the VMM: it makes the VM, adds memory */
	SIM_PAGER,
	SIM_HELPER,
	SIM_LINK,
	SIM_KINDS,
};

struct sim_task {
	ucontext_t self, back;
	uint8_t *stack; /* kept for the next one */
	void *(*run)(void *arg);
	void *arg;
	bool alive;
	bool running; /* it, or one that was resumed from within it */
};

/* The one that runs; NULL: none, or the daemon. */
extern struct sim_task *sim_task;

/** sim_task_start() - have @run(@arg) run when resumed */
void sim_task_start(struct sim_task *task, void *(*run)(void *arg), void *arg);

/** sim_task_resume() - run it until it waits; nothing if it has ended, or runs already */
void sim_task_resume(struct sim_task *task);

/** sim_task_yield() - the running one waits */
void sim_task_yield(void);

/* A pager has just been to sleep in vain: its turn goes on. */
extern bool sim_pager_slept;

/* Of the VM whose threads run; sim_guests.c. */
struct sim_task *sim_task_of(enum sim_thread_kind kind);

/** sim_clock_ns() - the simulated clock */
uint64_t sim_clock_ns(void);

#endif
