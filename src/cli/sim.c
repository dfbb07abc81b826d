/* SPDX-License-Identifier: MIT */
/*
 * sim.c - "memtide sim": try the memory scheduler on a simulated host
 *
 * Needs no daemon. The policy is the one the daemon runs; see memtide-sim(1) for scenarios.
 */
#include "cli/cli.h"
#include "sim/report.h"

#include <stdio.h>

static const char sim_help[] =
	"usage: memtide sim FILE [--csv FILE] [--svg FILE] [--interval SEC] [--seed N]\n"
	"       memtide sim FILE --sweep FROM..TO:STEP\n"
	"Runs the host and the VMs described in FILE under the daemon's own policy in virtual\n"
	"time, and prints what came out. See memtide-sim(1).\n\n"
	"  --csv FILE             who held what when, as comma-separated values\n"
	"  --svg FILE             the same as a picture\n"
	"  --interval SEC         time between two samples in these\n"
	"  --seed N               another course of chance\n"
	"  --sweep FROM..TO:STEP  how far can this host be overcommitted? Tries ratios of "
	"promised\n"
	"                         memory to pool, e.g. 1.0..3.0:0.25\n";

struct sim_args {
	const char *csv, *svg, *sweep;
	uint64_t interval_ms, seed;
};

static int sim_once(const struct cli_verb *verb, const struct sim_scenario *scenario,
		    const struct sim_args *args)
{
	struct sim_result result;
	struct mt_err err;
	int rc = sim_run(scenario, (double)args->interval_ms / 1000.0, &result, &err);

	if (rc)
		return cli_failed(verb, "%s", err.msg);
	if (args->csv)
		rc = sim_write_csv(&result, args->csv, &err);
	if (!rc && args->svg)
		rc = sim_write_svg(&result, args->svg, &err);
	if (!rc)
		sim_print_summary(&result, stdout);
	sim_result_free(&result);
	return rc ? cli_failed(verb, "%s", err.msg) : 0;
}

static int sim_sweep(const struct cli_verb *verb, const struct sim_scenario *scenario,
		     const struct sim_sweep *sweep)
{
	struct mt_err err;

	if (sim_sweep_run(scenario, sweep, stdout, &err))
		return cli_failed(verb, "%s", err.msg);
	return 0;
}

static int sim_verb_run(struct cli *cli, const struct cli_verb *verb, int argc, char **argv)
{
	struct sim_args args = {0};
	const struct cli_opt opts[] = {{"csv", 0, CLI_OPT_TEXT, &args.csv},
				       {"svg", 0, CLI_OPT_TEXT, &args.svg},
				       {"sweep", 0, CLI_OPT_TEXT, &args.sweep},
				       {"interval", 0, CLI_OPT_SECONDS, &args.interval_ms},
				       {"seed", 0, CLI_OPT_COUNT, &args.seed},
				       {0}};
	struct sim_scenario scenario;
	struct sim_sweep sweep;
	struct mt_err err;
	int first, rc = cli_options(cli, verb, opts, false, argc, argv, &first);

	if (rc >= 0)
		return rc;
	if (first + 1 != argc)
		return cli_usage(verb, "give one file with a scenario");
	if (args.sweep && (args.csv || args.svg || args.interval_ms))
		return cli_usage(verb, "--sweep goes without --csv, --svg and --interval");
	if (args.sweep && sim_sweep_read(args.sweep, &sweep, &err))
		return cli_usage(verb, "%s", err.msg);
	if (sim_scenario_read(&scenario, argv[first], &err))
		return cli_failed(verb, "%s", err.msg);
	if (args.seed)
		scenario.seed = args.seed;
	rc = args.sweep ? sim_sweep(verb, &scenario, &sweep) : sim_once(verb, &scenario, &args);
	sim_scenario_free(&scenario);
	return rc;
}

const struct cli_verb cli_verb_sim = {"sim", "try the scheduler on a simulated host", sim_help,
				      sim_verb_run};
