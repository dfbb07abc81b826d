/* SPDX-License-Identifier: MIT */
/*
 * live.h - tests with a real daemon: start it, run VMs, ask it, and measure from outside
 *
 * Every test has a daemon of its own in a directory of its own. Whatever a test starts dies with
 * it. What can't be done at all fails the test at once with its reason, so that tests read as
 * what they mean. Programs come from the environment, which Meson sets: MEMTIDED_EXE,
 * MEMTIDE_EXE, MEMTIDE_TESTVM_EXE.
 */
#ifndef MT_TESTS_LIVE_H
#define MT_TESTS_LIVE_H

#include "common/mt_test.h"

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define LIVE_PATH_MAX 80
#define LIVE_ARGS_MAX 48

/*
 * How long anything is waited for. Nothing depends on it but how soon a test that fails does so: it
 * is far more than a slow machine needs under a sanitizer.
 */
#define LIVE_PATIENCE_SECONDS 120

/* Wait until an expression is true. Value: false when it never is. */
#define LIVE_WAIT(condition) MT_WAIT(LIVE_PATIENCE_SECONDS, condition)

struct live_daemon {
	pid_t pid;
	char dir[LIVE_PATH_MAX];
	char socket[LIVE_PATH_MAX + 16];
	char pool[32];
	char option[48]; /* one more for the daemon, "" for none */
};

struct live_vm {
	const struct live_daemon *daemon;
	const char *name;
	pid_t pid;
	int out;               /* what it prints */
	uint64_t baseline_kib; /* its anonymous memory before there was a guest */
	json_object *end;      /* its figures, once it has ended */
	int status;            /* its exit status, once it has ended */
};

/* Start memtided with a pool of this size ("256M") and wait until it answers; and with an option.
 */
void live_start(struct live_daemon *daemon, const char *pool);
void live_start_with(struct live_daemon *daemon, const char *pool, const char *option);
void live_stop(struct live_daemon *daemon);

/* kill -9, and start anew in the same directory. */
void live_kill(struct live_daemon *daemon);
void live_restart(struct live_daemon *daemon);

/* Start it anew without waiting until it answers; and wait for that. */
void live_restart_begin(struct live_daemon *daemon);
void live_answers(struct live_daemon *daemon);

/* Start a test VM with options in one string, split at spaces. Without --seconds it works until it
 * is told to end, so that a slow test never finds it gone. */
void live_vm_begin(struct live_vm *vm, const struct live_daemon *daemon, const char *name,
		   const char *options);

/* Wait until its memory is managed and filled, and the daemon's counters say so. */
void live_vm_ready(struct live_vm *vm);

/* Both of these. */
void live_vm_start(struct live_vm *vm, const struct live_daemon *daemon, const char *name,
		   const char *options);

/* Wait for a line with this event. The caller owns the object. */
json_object *live_vm_event(struct live_vm *vm, const char *event);

/* Wait for its end; it must have found all its memory right. */
void live_vm_finish(struct live_vm *vm);

/* Tell it to end now, then the same. */
void live_vm_end(struct live_vm *vm);

/* A number from its last line. */
int64_t live_vm_figure(const struct live_vm *vm, const char *key);

/* Run a program; its exit status, or 128 + signal. Its output in @text if that is not NULL. What
 * gives up because the daemon is slow is run again. */
int live_call(const char *const argv[], char *text, size_t room);

/* Send one JSON request, printf-like; the answer must be ok. A VM that is too slow to answer is
 * asked again. The caller owns the object. */
json_object *live_ask(const struct live_daemon *daemon, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* The same, whatever the answer. NULL when the daemon can't be reached. */
json_object *live_try(const struct live_daemon *daemon, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* A field of a VM ("held"), of the host with @vm NULL. Sizes in KiB. */
int64_t live_field(const struct live_daemon *daemon, const char *vm, const char *key);

/* Fields of a VM as they were at one moment. */
void live_fields(const struct live_daemon *daemon, const char *vm, const char *const *keys,
		 unsigned int count, int64_t *ret);

/* Their sum: what moves from one of them to another is counted once. */
int64_t live_sum(const struct live_daemon *daemon, const char *vm, const char *const *keys,
		 unsigned int count);

/* A VM's state; "" when there is no such VM. Returns a static buffer. */
const char *live_state(const struct live_daemon *daemon, const char *vm);

/* Set one key of a VM, of the host with @vm NULL. */
void live_set(const struct live_daemon *daemon, const char *vm, const char *key, const char *value);

/* Wait until a field is at most, or at least, this. Return: false, and said why, when it never is.
 */
bool live_wait_at_most(const struct live_daemon *daemon, const char *vm, const char *key,
		       int64_t value);
bool live_wait_at_least(const struct live_daemon *daemon, const char *vm, const char *key,
			int64_t value);

/* Wait until a VM is in this state; it must come to it. */
void live_wait_state(const struct live_daemon *daemon, const char *vm, const char *state);

/* Let a VM work until so many of its pages had to come back, since its beginning. */
void live_wait_faults(const struct live_daemon *daemon, const char *vm, int64_t count);

/* Is there an event about this VM that contains @text? And the same, waiting for it. */
bool live_event_seen(const struct live_daemon *daemon, const char *vm, const char *text);
bool live_wait_event(const struct live_daemon *daemon, const char *vm, const char *text);

/* The VM's audit must find nothing. */
void live_check(const struct live_daemon *daemon, const char *vm);

void live_sleep(double seconds);
double live_now(void);

#endif
