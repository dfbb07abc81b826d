/* SPDX-License-Identifier: MIT */
/*
 * sim_soak.c - the simulated VM, course after course, each with circumstances of its own
 *
 * A course is one VM from its start to its end; the seed decides its size, its stores, the troubles
 * that it meets and every event. So one number replays a failure: "sim_soak --seed S --steps N".
 * Each course is a process, two at a time, so that a failure ends only its own.
 */
#include "sim/sim_vm.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

#define COURSE_STEPS 25000U
#define COURSES_MAX  2U
/* Courses that failed until no more are started. */
#define FAILURES_MAX 3U

static const char help[] = "usage: sim_soak [--steps N (2000000)] [--seed N (1000)] [--tap]\n"
			   "Runs simulated VMs with seeds from N on, 25000 steps each. Exits with "
			   "1 when one failed.\n";

struct soak {
	uint64_t seed; /* of the next course */
	uint64_t steps_left;
	unsigned int running;
	unsigned int failures;
	uint64_t courses;
};

static uint32_t pick(uint64_t *random, uint32_t low, uint32_t high)
{
	*random = *random * 6364136223846793005ULL + 1442695040888963407ULL;
	return low + (uint32_t)((*random >> 33) % (high - low + 1));
}

static bool chance(uint64_t *random, uint32_t percent)
{
	return pick(random, 1, 100) <= percent;
}

/* What may go wrong in this course. Loss is for courses that expect it. */
static void pick_troubles(struct sim_config *config, uint64_t *r)
{
	config->trouble_permille = chance(r, 75) ? pick(r, 1, 120) : 0;
	config->regions_come_and_go = chance(r, 40);
	if (chance(r, 35)) {
		config->swap_errors = true;
		config->eio_pct = chance(r, 50) ? pick(r, 1, 25) : 0;
	} else if (chance(r, 20)) {
		config->damage = true;
	} else if (chance(r, 15)) {
		config->theft = true;
	}
}

static struct sim_config pick_config(uint64_t seed)
{
	uint64_t r = seed * 0x9e3779b97f4a7c15ULL;
	struct sim_config config = {.seed = seed};
	uint32_t pages;

	config.pages[0] = pick(&r, 100, 1500);
	config.pages[1] = chance(&r, 70) ? pick(&r, 2, 800) : 0;
	config.pages[2] = chance(&r, 50) ? pick(&r, 2, 600) : 0;
	pages = config.pages[0] + config.pages[1] + config.pages[2];
	config.spare_pages = pick(&r, 1, chance(&r, 15) ? 6000 : 700);
	config.zip_pct = pick(&r, 1, chance(&r, 30) ? 95 : 25);
	/* The file holds all memory: the daemon has seen to that. Sometimes not a page more. */
	config.swap_slots = chance(&r, 30) ? pages : SIM_SWAP_SLOTS;
	config.swap_delay = pick(&r, 0, chance(&r, 20) ? 100 : 8);
	config.all_shrinks = chance(&r, 10);
	pick_troubles(&config, &r);
	config.alike = chance(&r, 50) ? pick(&r, 5, 400) : 0;
	config.maps_max = chance(&r, 30) ? pick(&r, 1, 30) : 0;
	return config;
}

static void soak_start(struct soak *soak)
{
	uint64_t steps = soak->steps_left < COURSE_STEPS ? soak->steps_left : COURSE_STEPS;
	struct sim_config config = pick_config(soak->seed);
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		sim_run(&config, steps);
		fflush(stdout);
		_exit(0);
	}
	if (pid < 0)
		soak->failures++;
	else
		soak->running++;
	soak->seed++;
	soak->courses++;
	soak->steps_left -= steps;
}

static void soak_wait(struct soak *soak)
{
	int status = 0;

	if (waitpid(-1, &status, 0) < 0)
		return;
	soak->running--;
	if (!status)
		return;
	soak->failures++;
	/* The course has said its seed and step, unless it died of a signal. */
	printf("# a course ended with wait status 0x%x; replay it with --seed as above --steps "
	       "%u\n",
	       status, COURSE_STEPS);
	if (WIFSIGNALED(status))
		printf("# its seed was one of the last %u before %llu\n", COURSES_MAX,
		       (unsigned long long)soak->seed);
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

int main(int argc, char **argv)
{
	static const struct option options[] = {{"steps", required_argument, NULL, 's'},
						{"seed", required_argument, NULL, 'r'},
						{"tap", no_argument, NULL, 't'},
						{NULL, 0, NULL, 0}};
	struct soak soak = {.seed = 1000, .steps_left = 2000000};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 's') {
			soak.steps_left = strtoull(optarg, NULL, 0);
		} else if (option == 'r') {
			soak.seed = strtoull(optarg, NULL, 0);
		} else if (option != 't') {
			fputs(help, stderr);
			return 2;
		}
	}
	soak_run(&soak);
	printf("# %llu courses\n", (unsigned long long)soak.courses);
	printf("%sok 1 - simulated VMs in all sorts of trouble keep every page\n1..1\n",
	       soak.failures ? "not " : "");
	return soak.failures != 0;
}
