/* SPDX-License-Identifier: MIT */
/* report.h - results of a simulation for people and other programs: summary, CSV, SVG, sweep */
#ifndef MT_SIM_REPORT_H
#define MT_SIM_REPORT_H

#include "sim/run.h"

#include <stdio.h>

/** sim_print_summary() - states, traffic, shortfall, and a line for each "vm" line */
void sim_print_summary(const struct sim_result *result, FILE *out);

/**
 * sim_write_csv() - who held what when: a line for each VM and sample, in MiB
 *
 * Each sample begins with a line for the host, whose "vm" field is empty: target is what there was
 * to share out, held what all VMs held; only this line has a state.
 */
MT_MUST_CHECK int sim_write_csv(const struct sim_result *result, const char *path,
				struct mt_err *err);

/** sim_write_svg() - the same as a picture */
MT_MUST_CHECK int sim_write_svg(const struct sim_result *result, const char *path,
				struct mt_err *err);

/* Overcommit ratios to try: memory promised to all VMs, as a multiple of the pool. */
struct sim_sweep {
	double from, to, step;
};

/** sim_sweep_read() - "1.0..3.0:0.25" */
MT_MUST_CHECK int sim_sweep_read(const char *text, struct sim_sweep *sweep, struct mt_err *err);

/** sim_sweep_run() - a line for each ratio, and how far one can go; the pool is made to fit the
 * ratio, the VMs stay as they are */
MT_MUST_CHECK int sim_sweep_run(const struct sim_scenario *scenario, const struct sim_sweep *sweep,
				FILE *out, struct mt_err *err);

/** sim_shortfall_pct() - active memory that was not in memory, of all active memory over time */
double sim_shortfall_pct(const struct sim_sums *sums);
/** sim_work_pct() - how fast guests ran, compared with having all their memory */
double sim_work_pct(const struct sim_sums *sums);

#endif
