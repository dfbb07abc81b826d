/* SPDX-License-Identifier: MIT */
/* test_placement.c - a thread goes to the core it is told, follows others, and is let go */
#include "common/mt_test.h"
#include "sys/placement.h"

#include <pthread.h>
#include <unistd.h>

static int cores_now(void)
{
	cpu_set_t set;

	MT_CHECK_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
	return CPU_COUNT(&set);
}

/* The last core that this thread may run on, or -1 if there is only one. */
static int last_core(void)
{
	cpu_set_t set;
	int last = -1;

	MT_CHECK_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
	for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&set) > 1; i++)
		if (CPU_ISSET(i, &set))
			last = i;
	return last;
}

MT_TEST("a thread runs on the core it is sent to, and anywhere when it is let go")
{
	struct mt_placement placement;
	int before = cores_now(), core = last_core();

	if (core < 0)
		MT_SKIP("one core only");
	mt_placement_init(&placement);
	mt_placement_at(&placement, core);
	MT_CHECK_EQ(sched_getcpu(), core);
	MT_CHECK_EQ(cores_now(), 1);
	mt_placement_at(&placement, -1);
	MT_CHECK_EQ(cores_now(), before);
}

MT_TEST("a core that a thread may not run on, or that is none, changes nothing")
{
	struct mt_placement placement;
	cpu_set_t all, rest;
	int core = last_core();

	if (core < 0)
		MT_SKIP("one core only");
	MT_CHECK_EQ(sched_getaffinity(0, sizeof(all), &all), 0);
	rest = all;
	CPU_CLR(core, &rest);
	MT_CHECK_EQ(sched_setaffinity(0, sizeof(rest), &rest), 0);
	mt_placement_init(&placement);
	mt_placement_at(&placement, core);
	MT_CHECK_EQ(cores_now(), CPU_COUNT(&rest));
	mt_placement_at(&placement, CPU_SETSIZE);
	MT_CHECK_EQ(cores_now(), CPU_COUNT(&rest));
	MT_CHECK_EQ(sched_setaffinity(0, sizeof(all), &all), 0);
}

/* Waits on its core to be found there. */
static void *waiting(void *arg)
{
	int *pipe_fd = arg;
	struct mt_placement placement;
	uint32_t tid = (uint32_t)gettid();
	char end;

	mt_placement_init(&placement);
	mt_placement_at(&placement, last_core());
	MT_CHECK_EQ(write(pipe_fd[1], &tid, sizeof(tid)), (ssize_t)sizeof(tid));
	while (read(pipe_fd[2], &end, 1) < 0)
		;
	return NULL;
}

MT_TEST("a thread goes to the core where another one ran last")
{
	int told[2], ends[2], fds[3], core = last_core();
	struct mt_placement placement;
	pthread_t thread;
	uint32_t tid;

	if (core < 0)
		MT_SKIP("one core only");
	MT_CHECK_EQ(pipe(told), 0);
	MT_CHECK_EQ(pipe(ends), 0);
	fds[0] = told[0];
	fds[1] = told[1];
	fds[2] = ends[0];
	MT_CHECK_EQ(pthread_create(&thread, NULL, waiting, fds), 0);
	MT_CHECK_EQ(read(told[0], &tid, sizeof(tid)), (ssize_t)sizeof(tid));
	mt_placement_init(&placement);
	mt_placement_near(&placement, tid);
	MT_CHECK_EQ(placement.cpu, core);
	MT_CHECK_EQ(sched_getcpu(), core);
	mt_placement_free(&placement);
	close(ends[1]);
	pthread_join(thread, NULL);
	close(ends[0]);
	close(told[0]);
	close(told[1]);
}

MT_TEST_MAIN
