/* SPDX-License-Identifier: MIT */
/* thread.c - start threads that get no signals, know them, and wake them; see thread.h */
#include "base/thread.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define THREAD_CLOSE_UNSHARE 2U /* CLOSE_RANGE_UNSHARE, Linux 5.9 */

static __thread bool thread_ours;

int mt_thread_start(pthread_t *ret_thread, const pthread_attr_t *attr, void *(*run)(void *arg),
		    void *arg)
{
	sigset_t all, before;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(ret_thread, attr, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -rc;
}

void mt_thread_enter(const char *name)
{
	thread_ours = true;
	pthread_setname_np(pthread_self(), name);
}

bool mt_thread_is_ours(void)
{
	return thread_ours;
}

static int thread_close_range(unsigned int first, unsigned int last, unsigned int flags)
{
	return syscall(SYS_close_range, first, last, flags) ? -errno : 0;
}

/* The lowest of @keep that is not below @from; UINT_MAX when there is none. */
static unsigned int thread_next(const int *keep, unsigned int count, unsigned int from)
{
	unsigned int next = UINT_MAX;

	for (unsigned int i = 0; i < count; i++)
		if (keep[i] >= 0 && (unsigned int)keep[i] >= from && (unsigned int)keep[i] < next)
			next = (unsigned int)keep[i];
	return next;
}

int mt_thread_own_files(const int *keep, unsigned int count)
{
	unsigned int from = 0, next, last = 0;
	int rc;

	for (unsigned int i = 0; i < count; i++)
		if (keep[i] > (int)last)
			last = (unsigned int)keep[i];
	/* From behind, as the kernel copies only what is before it. */
	rc = thread_close_range(last + 1, UINT_MAX, THREAD_CLOSE_UNSHARE);
	for (; !rc && from <= last; from = next + 1) {
		next = thread_next(keep, count, from);
		if (next > from)
			rc = thread_close_range(from, next - 1, 0);
	}
	return rc;
}

void mt_thread_wake(int fd)
{
	uint64_t one = 1;

	/* Fails only when the counter is at its end, and then the sleeper wakes anyway. */
	if (write(fd, &one, sizeof(one)) < 0)
		return;
}
