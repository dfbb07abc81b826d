/* SPDX-License-Identifier: MIT */
/*
 * run.h - a scenario in virtual time, under the daemon's own policy
 *
 * Each step: changes that are due, demands, samples, a decision of the scheduler if one is due,
 * reclaim, and the guests' touches. Same scenario, same seed: same result, to the last digit.
 */
#ifndef MT_SIM_RUN_H
#define MT_SIM_RUN_H

#include "sim/guest.h"

#define SIM_SAMPLES_MAX 2000
#define SIM_NOTES_MAX   16

/* Pages of one VM at one time. */
struct sim_point {
	float target, held, active, estimate, zipped, swapped;
};

struct sim_moment {
	double time_s;
	enum mt_host_state state;
	double free_pages;
	double available_pages;
};

struct sim_result {
	const struct sim_scenario *scenario;
	double state_s[MT_HOST_STATES];
	unsigned int state_changes;
	unsigned int decisions;
	uint64_t minfree_pages;
	double least_free_pages;
	unsigned int refused;
	unsigned int note_count; /* all; only the first are kept */
	char notes[SIM_NOTES_MAX][MT_ERR_MSG_MAX + 32];
	struct sim_flows flows;
	struct sim_sums sums;

	struct sim_guest *guests; /* one for each VM, as they were at the end */
	unsigned int sample_count;
	struct sim_moment *moments; /* sample_count */
	struct sim_point *points;   /* sample_count times VMs */
};

/**
 * sim_run() - simulate
 * @interval_s: between samples; 0: as fits for a picture
 */
MT_MUST_CHECK int sim_run(const struct sim_scenario *scenario, double interval_s,
			  struct sim_result *result, struct mt_err *err);
void sim_result_free(struct sim_result *result);

#endif
