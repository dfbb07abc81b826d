/* SPDX-License-Identifier: MIT */
/*
 * sim_courses.h - a simulation, course after course, each with circumstances of its own
 *
 * One number, the seed, decides a course's circumstances and every event in it. Each course is a
 * process, two at a time, so that a failure ends only its own.
 */
#ifndef MT_TESTS_SIM_COURSES_H
#define MT_TESTS_SIM_COURSES_H

#include "base/compiler.h"

#include <stdbool.h>

struct sim_courses {
	const char *program;
	const char *sentence; /* the test's name */
	uint32_t course_steps;
	uint64_t seed;  /* of the first, unless another is asked for */
	uint64_t steps; /* in all, likewise */
	/* One course; ends the process, having said why, if anything is wrong. */
	void (*run)(uint64_t seed, uint64_t steps);
};

/** sim_courses_main() - "PROGRAM --seed S --steps N": courses from seed S on. Return: exit status.
 */
int sim_courses_main(int argc, char **argv, const struct sim_courses *courses);

/* Circumstances: numbers that follow from @random, which follows from the seed. */
uint32_t sim_pick(uint64_t *random, uint32_t low, uint32_t high);
bool sim_pick_chance(uint64_t *random, uint32_t percent);

#endif
