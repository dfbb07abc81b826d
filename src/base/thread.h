/* SPDX-License-Identifier: MIT */
/*
 * thread.h - threads inside somebody else's process
 *
 * The monitor's threads live in a VMM. Its signals are the VMM's business, so none of them may be
 * delivered to a thread of ours. Nor are its calls the VMM's: what the preload library does about
 * these is none of theirs.
 */
#ifndef MT_BASE_THREAD_H
#define MT_BASE_THREAD_H

#include "base/compiler.h"

#include <pthread.h>
#include <stdbool.h>

/**
 * mt_thread_start() - start a thread with all signals blocked
 * @attr: as for pthread_create(), or NULL
 *
 * Return: 0 or -errno.
 */
MT_MUST_CHECK int mt_thread_start(pthread_t *ret_thread, const pthread_attr_t *attr,
				  void *(*run)(void *arg), void *arg);

/** mt_thread_enter() - first thing in a thread of ours: its name, and that it is one */
void mt_thread_enter(const char *name);

/** mt_thread_is_ours() - is this thread one of ours? */
bool mt_thread_is_ours(void);

/**
 * mt_thread_own_files() - from here on this thread has descriptors of its own
 * @keep: those that it takes along, with their numbers; @count of them
 *
 * What others close stays open here, and the other way round. By close_range(2), as sandboxes deny
 * unshare(2). Return: 0 or -errno; then the thread shares what all have.
 */
MT_MUST_CHECK int mt_thread_own_files(const int *keep, unsigned int count);

/** mt_thread_wake() - make eventfd @fd readable; any thread, signal-safe */
void mt_thread_wake(int fd);

#endif
