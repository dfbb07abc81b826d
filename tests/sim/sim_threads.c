/* SPDX-License-Identifier: MIT */
/* sim_threads.c - coroutines, and calls that wait; see sim_threads.h */
#include "sim/sim_threads.h"
#include "base/compiler.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000ULL
/* The monitor's sockets have limits of this length (link.c). */
#define SOCKET_LIMIT_NS (10 * NS_PER_S)

struct sim_task *sim_task;
bool sim_pager_slept;

int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*run)(void *),
			  void *arg);
int __wrap_pthread_join(pthread_t thread, void **ret);
int __wrap_pthread_mutex_lock(pthread_mutex_t *lock);
int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock);
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock,
				  const struct timespec *until);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout_ms);
ssize_t __wrap_read(int fd, void *data, size_t bytes);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *msg, int flags);
int __real_poll(struct pollfd *fds, nfds_t count, int timeout_ms);
ssize_t __real_read(int fd, void *data, size_t bytes);
ssize_t __real_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t __real_recvmsg(int fd, struct msghdr *msg, int flags);

/* The daemon may die at any call to the kernel; sim_daemon.c. */
void sim_daemon_may_die(void);

static void task_main(void)
{
	struct sim_task *task = sim_task;

	task->run(task->arg);
	task->alive = false;
	setcontext(&task->back);
}

void sim_task_start(struct sim_task *task, void *(*run)(void *arg), void *arg)
{
	if (!task->stack)
		task->stack = malloc(SIM_STACK_BYTES);
	MT_ASSERT(task->stack && !task->alive);
	getcontext(&task->self);
	task->self.uc_stack.ss_sp = task->stack;
	task->self.uc_stack.ss_size = SIM_STACK_BYTES;
	task->self.uc_link = NULL;
	makecontext(&task->self, task_main, 0);
	task->run = run;
	task->arg = arg;
	task->alive = true;
	task->running = false;
}

void sim_task_resume(struct sim_task *task)
{
	struct sim_task *before = sim_task;

	if (!task->alive || task->running)
		return;
	sim_task = task;
	task->running = true;
	swapcontext(&task->back, &task->self);
	task->running = false;
	sim_task = before;
}

void sim_task_yield(void)
{
	struct sim_task *task = sim_task;

	MT_ASSERT(task);
	swapcontext(&task->self, &task->back);
}

/* In the order in which vm.c starts them. */
int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*run)(void *),
			  void *arg)
{
	static const enum sim_thread_kind kinds[] = {SIM_HELPER, SIM_PAGER, SIM_LINK};

	(void)attr;
	for (uint32_t i = 0; i < MT_ARRAY_SIZE(kinds); i++) {
		struct sim_task *task = sim_task_of(kinds[i]);

		if (task->alive)
			continue;
		sim_task_start(task, run, arg);
		*ret = (pthread_t)(uintptr_t)task;
		return 0;
	}
	return EAGAIN;
}

int __wrap_pthread_join(pthread_t thread, void **ret)
{
	struct sim_task *task = (struct sim_task *)(uintptr_t)thread;

	while (task->alive)
		sim_task_yield();
	if (ret)
		*ret = NULL;
	return 0;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *lock)
{
	while (pthread_mutex_trylock(lock))
		sim_task_yield();
	return 0;
}

/* Wakes up early as often as not, as it may. */
int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock)
{
	(void)cond;
	pthread_mutex_unlock(lock);
	sim_task_yield();
	return __wrap_pthread_mutex_lock(lock);
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock,
				  const struct timespec *until)
{
	uint64_t until_ns = (uint64_t)until->tv_sec * NS_PER_S + (uint64_t)until->tv_nsec;

	__wrap_pthread_cond_wait(cond, lock);
	return sim_clock_ns() >= until_ns ? ETIMEDOUT : 0;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret)
{
	uint64_t now_ns = sim_clock_ns();

	(void)clock;
	ret->tv_sec = (time_t)(now_ns / NS_PER_S);
	ret->tv_nsec = (long)(now_ns % NS_PER_S);
	return 0;
}

/* A pager that has nothing to do looks once more, and would be back when it is its turn. */
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
	uint64_t until_ns = sim_clock_ns() + (uint64_t)timeout_ms * 1000000;
	int ready = __real_poll(fds, count, 0);

	if (!sim_task)
		return ready;
	if (sim_task == sim_task_of(SIM_PAGER)) {
		sim_pager_slept = true;
		return ready;
	}
	while (!ready && (timeout_ms < 0 || sim_clock_ns() < until_ns)) {
		sim_task_yield();
		ready = __real_poll(fds, count, 0);
	}
	return ready;
}

static bool readable(int fd, short events)
{
	struct pollfd wait = {.fd = fd, .events = events};

	return __real_poll(&wait, 1, 0) > 0;
}

/* The helper sleeps in it. */
ssize_t __wrap_read(int fd, void *data, size_t bytes)
{
	while (sim_task && sim_task == sim_task_of(SIM_HELPER) && !readable(fd, POLLIN))
		sim_task_yield();
	return __real_read(fd, data, bytes);
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	uint64_t until_ns = sim_clock_ns() + SOCKET_LIMIT_NS;
	ssize_t sent;

	if (!sim_task) {
		sim_daemon_may_die();
		sent = __real_sendmsg(fd, msg, flags);
		sim_daemon_may_die();
		return sent;
	}
	while ((sent = __real_sendmsg(fd, msg, flags | MSG_DONTWAIT)) < 0 && errno == EAGAIN &&
	       sim_clock_ns() < until_ns)
		sim_task_yield();
	return sent;
}

ssize_t __wrap_recvmsg(int fd, struct msghdr *msg, int flags)
{
	uint64_t until_ns = sim_clock_ns() + SOCKET_LIMIT_NS;

	if (!sim_task)
		sim_daemon_may_die();
	while (sim_task && !readable(fd, POLLIN)) {
		sim_task_yield();
		if (sim_clock_ns() >= until_ns) {
			errno = EAGAIN;
			return -1;
		}
	}
	return __real_recvmsg(fd, msg, flags);
}
