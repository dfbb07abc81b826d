/* SPDX-License-Identifier: MIT */
/*
 * guest.h - a simulated VM: what it touches, and where its pages are
 *
 * Pages are counted, not followed. Of the pages a guest has ever touched ("used") some are
 * resident, some compressed, some swapped. Its active set wants to be resident; a small part of it
 * is exchanged for other pages all the time (turnover), so that memory which went out comes back
 * now and then. The coldest pages go first: as long as idle memory is resident nothing active goes.
 *
 * Memory held is what the monitor would hold: resident pages, the compressed ones at their
 * compressed size, overhead. A guest never holds more than it is steered to or than the pool has;
 * what it still wants then it gets by putting other pages out, and it is slowed down by the active
 * pages that are missing.
 *
 * Quantities are doubles in pages: flows of less than a page a step must add up.
 */
#ifndef MT_SIM_GUEST_H
#define MT_SIM_GUEST_H

#include "policy/active.h"
#include "policy/scheduler.h"
#include "sim/scenario.h"

/* The zip store's part of the VM's memory at most, the daemon's default. */
#define SIM_ZIP_MAX 0.10

struct sim_flows {
	double zip_out, zip_in, swap_out, swap_in;
};

/* Sums over the time a VM ran, each times seconds. */
struct sim_sums {
	double time_s, held, target, active, estimate_error, missing, entitled_short, work;
	double reserved_taken; /* pages reclaimed within the reservation: none, we hope */
};

struct sim_guest {
	const struct sim_vm *vm;
	bool started, running;
	bool settled;      /* has got the memory a VM waits for at its start */
	double active_set; /* part of memory, by an event; below 0: as the load says */
	double used_set;

	double active, used, resident, zipped, swapped;
	struct mt_active estimate;
	double sample_end_s, sample_part; /* of memory touched in this period so far */
	uint64_t watched, touched;

	struct sim_flows flows;
	struct sim_sums sums;
};

/** sim_random() - next of a sequence (splitmix64) */
uint64_t sim_random(uint64_t *state);

/** sim_guest_start() - powers on: nothing touched yet */
void sim_guest_start(struct sim_guest *guest, const struct sim_scenario *scenario, double now_s,
		     unsigned int index);

/** sim_guest_held() - machine pages */
double sim_guest_held(const struct sim_guest *guest, const struct sim_scenario *scenario,
		      const struct mt_sched_vm *sched);

/** sim_guest_demand() - what it wants to use now */
void sim_guest_demand(struct sim_guest *guest, const struct sim_scenario *scenario, double now_s,
		      unsigned int index);

/** sim_guest_sample() - the estimator's work of one step */
void sim_guest_sample(struct sim_guest *guest, const struct mt_sched_config *config,
		      uint64_t *random, double now_s);

/** sim_guest_reclaim() - puts pages out, down to what it is steered to, as fast as it can */
void sim_guest_reclaim(struct sim_guest *guest, const struct sim_scenario *scenario,
		       const struct mt_sched_vm *sched, double step_s);

/**
 * sim_guest_run() - touches pages for a step
 * @room: machine pages that the pool has left
 * @ret_starved: it is below its target and could not have more
 */
void sim_guest_run(struct sim_guest *guest, const struct sim_scenario *scenario,
		   struct mt_sched_vm *sched, double step_s, double room, bool *ret_starved);

#endif
