/* SPDX-License-Identifier: MIT */
/*
 * storm.h - a random guest: processes that map, write, read, unmap, fork, exec and exit, and a
 * balloon
 *
 * For tests and the test VM. The same seed does the same, whatever the MMU; contents are checked
 * by lab_touch().
 */
#ifndef MT_LAB_STORM_H
#define MT_LAB_STORM_H

#include "lab/trace.h"

struct lab_storm {
	struct lab_run *run;
	uint64_t random;
	uint64_t heap_pages; /* addresses used */
};

void lab_storm_init(struct lab_storm *storm, struct lab_run *run, uint64_t seed);

/** lab_storm_step() - one step. Return: 0, or -errno for what no guest should see */
int lab_storm_step(struct lab_storm *storm);

#endif
