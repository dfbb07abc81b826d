/* SPDX-License-Identifier: MIT */
/*
 * sweep.c - how far can this host be overcommitted?
 *
 * The same VMs with the same demands run on smaller and smaller pools. A ratio is good if at most
 * 1 % of active memory is missing over time, the host is in the hard or low state for at most 1 %
 * of it, and every VM may start. The answer is the largest ratio up to which all are good.
 */
#include "sim/report.h"
#include "base/size.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define GOOD_SHORTFALL_PCT 1.0
#define GOOD_HARD_PCT      1.0
#define SWEEP_RUNS_MAX     1000

int sim_sweep_read(const char *text, struct sim_sweep *sweep, struct mt_err *err)
{
	const char *dots = strstr(text, ".."), *colon = strrchr(text, ':');
	char from[32], to[32];

	if (!dots || !colon || colon < dots + 3 || dots - text >= 32 || colon - dots - 2 >= 32)
		goto bad;
	snprintf(from, sizeof(from), "%.*s", (int)(dots - text), text);
	snprintf(to, sizeof(to), "%.*s", (int)(colon - dots - 2), dots + 2);
	if (!sim_read_number(from, &sweep->from) || !sim_read_number(to, &sweep->to) ||
	    !sim_read_number(colon + 1, &sweep->step))
		goto bad;
	if (sweep->from < 0.1 || sweep->to > 100 || sweep->from > sweep->to || sweep->step <= 0)
		return mt_err_set(err, -ERANGE,
				  "--sweep: ratios go from 0.1 to 100, upward, by a step above 0");
	if ((sweep->to - sweep->from) / sweep->step > SWEEP_RUNS_MAX)
		return mt_err_set(err, -ERANGE, "--sweep: more than %d runs; take larger steps",
				  SWEEP_RUNS_MAX);
	return 0;
bad:
	return mt_err_set(err, -EINVAL, "--sweep: '%s' is not FROM..TO:STEP, like 1.0..3.0:0.25",
			  text);
}

static double state_pct(const struct sim_result *result, unsigned int from, unsigned int to)
{
	double all = 0, sum = 0;

	for (unsigned int i = 0; i < MT_HOST_STATES; i++) {
		all += result->state_s[i];
		if (i >= from && i <= to)
			sum += result->state_s[i];
	}
	return 100.0 * sum / all;
}

static bool sweep_good(const struct sim_result *result)
{
	return !result->refused && sim_shortfall_pct(&result->sums) <= GOOD_SHORTFALL_PCT &&
	       state_pct(result, MT_HOST_HARD, MT_HOST_LOW) <= GOOD_HARD_PCT;
}

static void sweep_line(const struct sim_result *result, double ratio, FILE *out)
{
	char pool[MT_SIZE_TEXT_MAX], zip[MT_SIZE_TEXT_MAX], swap[MT_SIZE_TEXT_MAX];

	mt_size_text(result->scenario->pool_pages * MT_PAGE_SIZE, pool);
	mt_size_text((uint64_t)result->flows.zip_out * MT_PAGE_SIZE, zip);
	mt_size_text((uint64_t)result->flows.swap_out * MT_PAGE_SIZE, swap);
	fprintf(out, "%6.2f %7s %6.1f %6.1f %6.1f %6.1f %6.1f %8s %8s %8.2f %6.1f  ", ratio, pool,
		state_pct(result, MT_HOST_HIGH, MT_HOST_HIGH),
		state_pct(result, MT_HOST_CLEAR, MT_HOST_CLEAR),
		state_pct(result, MT_HOST_SOFT, MT_HOST_SOFT),
		state_pct(result, MT_HOST_HARD, MT_HOST_HARD),
		state_pct(result, MT_HOST_LOW, MT_HOST_LOW), zip, swap,
		sim_shortfall_pct(&result->sums), sim_work_pct(&result->sums));
	if (result->refused)
		fprintf(out, "%u VMs refused\n", result->refused);
	else
		fputs(sweep_good(result) ? "good\n" : "too far\n", out);
}

static void sweep_answer(const struct sim_scenario *scenario, double best, bool ended, FILE *out)
{
	char pool[MT_SIZE_TEXT_MAX], all[MT_SIZE_TEXT_MAX];

	mt_size_text(scenario->pool_pages * MT_PAGE_SIZE, pool);
	if (best <= 0) {
		fputs("\nEven the least of these ratios is too far for these VMs.\n", out);
		return;
	}
	mt_size_text((uint64_t)((double)scenario->pool_pages * best) * MT_PAGE_SIZE, all);
	fprintf(out,
		"\nThis host can be overcommitted %.2f times%s: its pool of %s can be promised as "
		"%s to such VMs,\nwith at most %.0f %% of active memory missing and at most %.0f "
		"%% of the time in hard or low.\n",
		best, ended ? "" : " at least", pool, all, GOOD_SHORTFALL_PCT, GOOD_HARD_PCT);
}

int sim_sweep_run(const struct sim_scenario *scenario, const struct sim_sweep *sweep, FILE *out,
		  struct mt_err *err)
{
	double promised = (double)sim_scenario_promised_pages(scenario), best = 0;
	bool ended = false;
	unsigned int runs = (unsigned int)((sweep->to - sweep->from) / sweep->step + 1e-9) + 1;

	fprintf(out, "%6s %7s %6s %6s %6s %6s %6s %8s %8s %8s %6s\n", "RATIO", "POOL", "HIGH%",
		"CLEAR%", "SOFT%", "HARD%", "LOW%", "ZIPPED", "SWAPPED", "SHORT %", "RUN %");
	for (unsigned int i = 0; i < runs; i++) {
		double ratio = sweep->from + i * sweep->step;
		struct sim_scenario squeezed = *scenario;
		struct sim_result result;
		int rc;

		squeezed.pool_pages = (uint64_t)(promised / ratio);
		if (squeezed.pool_pages <= squeezed.own_pages)
			break;
		rc = sim_run(&squeezed, 0, &result, err);
		if (rc)
			return rc;
		sweep_line(&result, ratio, out);
		fflush(out);
		ended |= !sweep_good(&result);
		if (!ended)
			best = ratio;
		sim_result_free(&result);
	}
	sweep_answer(scenario, best, ended, out);
	return 0;
}
