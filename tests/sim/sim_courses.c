/* SPDX-License-Identifier: MIT */
/* sim_courses.c - runs courses in processes; see sim_courses.h */
#include "sim/sim_courses.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define COURSES_MAX 2U
/* Courses that failed until no more are started. */
#define FAILURES_MAX 3U

struct soak {
	const struct sim_courses *courses;
	uint64_t seed; /* of the next course */
	uint64_t steps_left;
	unsigned int running;
	unsigned int failures;
	uint64_t count;
	struct {
		pid_t pid; /* 0: free */
		uint64_t seed;
	} course[COURSES_MAX];
};

uint32_t sim_pick(uint64_t *random, uint32_t low, uint32_t high)
{
	*random = *random * 6364136223846793005ULL + 1442695040888963407ULL;
	return low + (uint32_t)((*random >> 33) % (high - low + 1));
}

bool sim_pick_chance(uint64_t *random, uint32_t percent)
{
	return sim_pick(random, 1, 100) <= percent;
}

static void soak_start(struct soak *soak)
{
	uint64_t steps = MT_MIN(soak->steps_left, soak->courses->course_steps);
	pid_t pid = fork();
	uint32_t i = 0;

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		soak->courses->run(soak->seed, steps);
		fflush(stdout);
		_exit(0);
	}
	if (pid < 0) {
		soak->failures++;
		return;
	}
	while (soak->course[i].pid)
		i++;
	soak->course[i].pid = pid;
	soak->course[i].seed = soak->seed++;
	soak->running++;
	soak->count++;
	soak->steps_left -= steps;
}

static void soak_wait(struct soak *soak)
{
	int status = 0;
	pid_t pid = waitpid(-1, &status, 0);

	for (uint32_t i = 0; i < COURSES_MAX; i++) {
		if (pid < 0 || soak->course[i].pid != pid)
			continue;
		soak->course[i].pid = 0;
		soak->running--;
		if (!status)
			return;
		soak->failures++;
		printf("# a course ended with wait status 0x%x; replay it with %s --seed %llu "
		       "--steps %u\n",
		       (unsigned int)status, soak->courses->program,
		       (unsigned long long)soak->course[i].seed, soak->courses->course_steps);
	}
}

static void soak_run(struct soak *soak)
{
	while (soak->steps_left && soak->failures < FAILURES_MAX) {
		fflush(stdout);
		soak_start(soak);
		if (soak->running == COURSES_MAX)
			soak_wait(soak);
	}
	while (soak->running)
		soak_wait(soak);
}

int sim_courses_main(int argc, char **argv, const struct sim_courses *courses)
{
	static const struct option options[] = {{"steps", required_argument, NULL, 's'},
						{"seed", required_argument, NULL, 'r'},
						{NULL, 0, NULL, 0}};
	struct soak soak = {
		.courses = courses, .seed = courses->seed, .steps_left = courses->steps};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 's') {
			soak.steps_left = strtoull(optarg, NULL, 0);
		} else if (option == 'r') {
			soak.seed = strtoull(optarg, NULL, 0);
		} else {
			fprintf(stderr,
				"usage: %s [--steps N (%llu)] [--seed N (%llu)]\nRuns courses with "
				"seeds from N on, %u steps each. Exits with 1 when one failed.\n",
				courses->program, (unsigned long long)courses->steps,
				(unsigned long long)courses->seed, courses->course_steps);
			return 2;
		}
	}
	soak_run(&soak);
	printf("# %llu courses\n%sok 1 - %s\n1..1\n", (unsigned long long)soak.count,
	       soak.failures ? "not " : "", courses->sentence);
	return soak.failures != 0;
}
