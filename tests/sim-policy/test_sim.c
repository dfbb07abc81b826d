/* SPDX-License-Identifier: MIT */
/*
 * test_sim.c - the simulator: a golden run, experiments of the literature, bad input, determinism
 *
 * The experiments are the issue's own, here with played guests; tests of real ones are elsewhere.
 * Scenarios are written to a temporary folder. Speed is printed, never judged.
 */
#include "common/mt_test.h"
#include "sim/report.h"

#include <time.h>

#define FOLDER "/tmp/mt-sim-XXXXXX"

static char folder[] = FOLDER;

static const char *write_file(const char *name, const char *text)
{
	static char path[128];
	FILE *file;

	if (strstr(folder, "XXXXXX"))
		MT_CHECK(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = fopen(path, "w");
	MT_CHECK(file && fputs(text, file) >= 0 && !fclose(file));
	return path;
}

static void remove_files(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/t.csv", folder);
	unlink(path);
	snprintf(path, sizeof(path), "%s/s.sim", folder);
	unlink(path);
	rmdir(folder);
	memcpy(folder, FOLDER, sizeof(folder));
}

static void run_file(const char *path, double interval_s, struct sim_scenario *scenario,
		     struct sim_result *result)
{
	struct mt_err err = {0};

	if (sim_scenario_read(scenario, path, &err) || sim_run(scenario, interval_s, result, &err))
		MT_FAIL("%s", err.msg);
}

static void run_text(const char *text, double interval_s, struct sim_scenario *scenario,
		     struct sim_result *result)
{
	run_file(write_file("s.sim", text), interval_s, scenario, result);
	remove_files();
}

static void done(struct sim_scenario *scenario, struct sim_result *result)
{
	sim_result_free(result);
	sim_scenario_free(scenario);
}

static const struct sim_point *point_at(const struct sim_result *result, double time_s,
					unsigned int vm)
{
	unsigned int k = 0;

	while (k + 1 < result->sample_count && result->moments[k + 1].time_s <= time_s)
		k++;
	return result->points + (size_t)k * result->scenario->vm_count + vm;
}

static char *summary_of(const char *path)
{
	struct sim_scenario scenario;
	struct sim_result result;
	char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);

	MT_CHECK(out);
	run_file(path, 0, &scenario, &result);
	sim_print_summary(&result, out);
	fclose(out);
	done(&scenario, &result);
	return text;
}

MT_TEST("a small run gives what it gave when it was looked at")
{
	char *text = summary_of(SIM_TEST_DIR "/golden.sim");
	char golden[8192];
	FILE *file = fopen(SIM_TEST_DIR "/golden.txt", "r");
	size_t length;

	MT_CHECK(file);
	length = fread(golden, 1, sizeof(golden) - 1, file);
	golden[length] = '\0';
	fclose(file);
	if (strcmp(text, golden)) {
		printf("# now it gives:\n%s", text);
		MT_FAIL("not as in golden.txt");
	}
	free(text);
}

MT_TEST("the same scenario gives the same result to the last bit, another seed another one")
{
	struct sim_scenario scenario;
	struct sim_result one, two, other;
	struct mt_err err;
	size_t bytes;

	run_file(SIM_TEST_DIR "/golden.sim", 5, &scenario, &one);
	MT_CHECK(!sim_run(&scenario, 5, &two, &err));
	scenario.seed++;
	MT_CHECK(!sim_run(&scenario, 5, &other, &err));
	bytes = one.sample_count * scenario.vm_count * sizeof(one.points[0]);
	MT_CHECK_EQ(one.sample_count, two.sample_count);
	MT_CHECK(!memcmp(one.points, two.points, bytes));
	MT_CHECK(memcmp(one.points, other.points, bytes));
	sim_result_free(&one);
	sim_result_free(&two);
	done(&scenario, &other);
}

MT_TEST("the idle-tax experiment: halves without a tax, 30 % more work for the busy VM with it")
{
	static const char *const text = "host pool=420M miss-cost=5\n"
					"run time=%s step=1s\n"
					"set Mem.IdleTax=%d\n"
					"vm idle memory=256M load=3%% touched=100%%\n"
					"vm busy memory=256M load=95%%\n";
	double work[2], held[2][2];

	for (unsigned int i = 0; i < 2; i++) {
		struct sim_scenario scenario;
		struct sim_result result;
		char buf[512];

		snprintf(buf, sizeof(buf), text, "30m", i ? 75 : 0);
		run_text(buf, 0, &scenario, &result);
		for (unsigned int k = 0; k < 2; k++)
			held[i][k] = point_at(&result, 1800, k)->held / 256;
		work[i] = result.guests[1].sums.work / result.guests[1].sums.time_s;
		done(&scenario, &result);
	}
	printf("# held idle:busy %.0f:%.0f MiB without, %.0f:%.0f with the tax; work %.0f %% -> "
	       "%.0f %%\n",
	       held[0][0], held[0][1], held[1][0], held[1][1], 100 * work[0], 100 * work[1]);
	MT_CHECK(held[0][0] / held[0][1] > 0.9 && held[0][0] / held[0][1] < 1.15);
	MT_CHECK(held[1][1] > 240 && held[1][0] < 145);
	MT_CHECK(work[1] > 1.3 * work[0]);
}

MT_TEST("saturated VMs with shares 1:2:4 hold memory 1:2:4 within 5 % after three balance periods")
{
	struct sim_scenario scenario;
	struct sim_result result;
	double held[3];

	run_text("host pool=2G\nrun time=10m step=1s\n"
		 "vm a memory=1536M load=100% shares=1000\n"
		 "vm b memory=1536M load=100% shares=1000\n"
		 "vm c memory=1536M load=100% shares=1000\n"
		 "at 5m vm b shares=2000\nat 5m vm c shares=4000\n",
		 1, &scenario, &result);
	for (unsigned int i = 0; i < 3; i++)
		held[i] = point_at(&result, 345, i)->held;
	printf("# 1 : %.3f : %.3f\n", held[1] / held[0], held[2] / held[0]);
	MT_CHECK(held[1] > 1.9 * held[0] && held[1] < 2.1 * held[0]);
	MT_CHECK(held[2] > 3.8 * held[0] && held[2] < 4.2 * held[0]);
	done(&scenario, &result);
}

MT_TEST("a VM that suddenly needs a quarter of the pool has it from idle VMs within 5 s")
{
	struct sim_scenario scenario;
	struct sim_result result;
	double got;

	run_text("host pool=4G fault=2G reclaim=1G\nrun time=10m step=250ms\n"
		 "vm idle memory=1G count=5 load=5% touched=100%\n"
		 "vm busy memory=2G load=2%\n"
		 "at 5m vm busy active=52%\n",
		 0.5, &scenario, &result);
	got = point_at(&result, 305, 5)->held / 256;
	printf("# %.0f MiB after 5 s, %.0f before\n", got, point_at(&result, 299, 5)->held / 256);
	MT_CHECK(got >= 1024);
	done(&scenario, &result);
}

MT_TEST("a limit holds on an empty host, live changes too, and one too large is refused")
{
	struct sim_scenario scenario;
	struct sim_result result;

	run_text("host pool=8G\nrun time=10m step=1s\n"
		 "vm a memory=2G load=60% limit=1G\n"
		 "vm b memory=2G load=60%\n"
		 "at 3m vm b limit=512M\n"
		 "at 6m vm b limit=none reservation=1G\n"
		 "at 7m set Mem.MemMinFreePct=50\n"
		 "vm c memory=4G reservation=4G start=8m\n",
		 1, &scenario, &result);
	for (double t = 0; t < 600; t += 7)
		MT_CHECK(point_at(&result, t, 0)->held <= 256 * 1024);
	MT_CHECK(point_at(&result, 100, 1)->held > 256 * 1200);
	MT_CHECK(point_at(&result, 200, 1)->held <= 256 * 512);
	MT_CHECK(point_at(&result, 500, 1)->held > 256 * 1200);
	MT_CHECK_EQ(result.refused, 1);
	printf("# %s\n", result.notes[0]);
	MT_CHECK(strstr(result.notes[0], "unreserved"));
	done(&scenario, &result);
}

static uint64_t seed = 11;

static unsigned int roll(unsigned int below)
{
	return (unsigned int)(sim_random(&seed) % below);
}

static void random_scenario(char *text, size_t room)
{
	size_t at =
		(size_t)snprintf(text, room,
				 "host pool=%uM\nrun time=20m step=%us seed=%u\n"
				 "set Mem.IdleTax=%u Mem.IdleTaxType=%u\n",
				 300 + roll(3000), 1 + roll(15), roll(1000), roll(100), roll(2));

	for (unsigned int i = 0, count = 1 + roll(6); i < count; i++) {
		unsigned int mib = 64 + roll(1000), reservation = roll(2) ? 0 : roll(mib / 2);

		at += (size_t)snprintf(
			text + at, room - at,
			"vm v%u memory=%uM count=%u reservation=%uM limit=%uM start=%um "
			"stop=%um shares=%u load=%u%%..%u%%/%um noise=%u%% touched=%u%%\n",
			i, mib, 1 + roll(3), reservation, 32 + reservation + roll(mib), roll(8),
			12 + roll(12), 1 + roll(5000), roll(30), 30 + roll(71), 1 + roll(20),
			roll(10), roll(101));
	}
}

static void check_points(const struct sim_scenario *scenario, const struct sim_result *result)
{
	for (unsigned int k = 0; k < result->sample_count; k++) {
		const struct sim_point *points = result->points + (size_t)k * scenario->vm_count;
		double held = 0;

		for (unsigned int i = 0; i < scenario->vm_count; i++) {
			MT_CHECK(points[i].held <= (double)scenario->vms[i].limit_pages);
			held += points[i].held;
		}
		MT_CHECK(held + (double)scenario->own_pages <= (double)scenario->pool_pages);
	}
	MT_CHECK(result->least_free_pages >= 0);
}

/* Less than a page for each decision may be due to rounding. */
static void check_reserved(const struct sim_scenario *scenario, const struct sim_result *result)
{
	for (unsigned int i = 0; i < scenario->vm_count; i++)
		if (result->guests[i].sums.reserved_taken > result->decisions)
			MT_FAIL("%s: %.0f pages of its reservation were taken",
				scenario->vms[i].name, result->guests[i].sums.reserved_taken);
}

MT_TEST("on 600 random hosts the pool, limits and used reservations hold all the time")
{
	char text[4096];

	for (unsigned int i = 0; i < 600; i++) {
		struct sim_scenario scenario;
		struct sim_result result;

		random_scenario(text, sizeof(text));
		run_text(text, 5, &scenario, &result);
		check_points(&scenario, &result);
		check_reserved(&scenario, &result);
		done(&scenario, &result);
	}
}

static void check_bad(const char *text, const char *message)
{
	const char *path = write_file("s.sim", text);
	struct sim_scenario scenario;
	struct mt_err err = {0};
	char expected[512];

	snprintf(expected, sizeof(expected), "%s:%s", path, message);
	MT_CHECK(sim_scenario_read(&scenario, path, &err) < 0);
	MT_CHECK_STR(err.msg, expected);
	remove_files();
}

MT_TEST("bad lines of a scenario are told with file, line and column")
{
	check_bad("host pool=1G\nfun\n", "2:1: 'fun' is unknown; lines begin with host, run, set, "
					 "vm, at or trace");
	check_bad("host pool=big\n", "1:11: 'big' makes no sense as pool");
	check_bad("host pool=1G  paint=red\n", "1:15: 'host' has no key 'paint'");
	check_bad("host pool=1G\n\tset Mem.IdleTax=101\n",
		  "2:6: Mem.IdleTax: 101 is out of range; it must be 0 to 99 %");
	check_bad("vm a\n", "1:1: a VM needs memory=SIZE");
	check_bad("vm memory=1G\n", "1:1: a VM needs a name");
	check_bad("vm a memory=1G load=120%\n", "1:21: '120%' makes no sense as load");
	check_bad("vm a memory=1G load=50%..20%/1h\n",
		  "1:21: '50%..20%/1h' makes no sense as load");
	check_bad("vm a memory=1G shares=0\n", "1:23: '0' makes no sense as shares");
	check_bad("vm a memory=1G colour=red\n", "1:16: a VM has no property 'colour'");
	check_bad("vm a memory=1G reservation=2G\n",
		  "1:4: the reservation is more than the memory");
	check_bad("vm a memory=1G limit=1M\n", "1:4: the limit is below the 16M a VM needs to run");
	check_bad("vm a memory=1G start\n", "1:16: 'start' is not key=value");
	check_bad("vm a memory=1G\nvm a memory=2G\n", "2:4: there is a VM called 'a' already");
	check_bad("vm a memory=1G\nat noon vm a active=1%\n",
		  "2:4: 'noon' is not a time; write it like 90, 5m or 1.5h");
	check_bad("vm a memory=1G\nat 1h vm b active=1%\n", "2:10: no VM is called 'b'");
	check_bad("vm a memory=1G\nat 1h vm a memory=2G\n", "2:12: 'memory' of a VM can't be "
							    "changed");
	check_bad("vm a memory=1G\nat 1h set Mem.Fun=1\n", "2:19: Mem.Fun: there is no such "
							   "setting");
	check_bad("run step=1h\n", "1:10: '1h' makes no sense as step");
	check_bad("vm a memory=1G\n", " no pool; add a line: host pool=SIZE");
	check_bad("host pool=1G\n", " no VMs; add a line: vm NAME memory=SIZE");
	check_bad("host pool=1G\nset Mem.StateSoftEnter=120\nvm a memory=1G\n",
		  " Mem.StateSoftLeave (100) must not be below Mem.StateSoftEnter (120)");
}

static void check_bad_trace(const char *csv, const char *message)
{
	struct sim_scenario scenario;
	struct mt_err err = {0};
	char expected[512];

	write_file("t.csv", csv);
	MT_CHECK(sim_scenario_read(&scenario,
				   write_file("s.sim", "host pool=1G\nvm a memory=1G\n"
						       "vm b memory=1G count=2\ntrace t.csv\n"),
				   &err) < 0);
	snprintf(expected, sizeof(expected), "%s/t.csv:%s", folder, message);
	MT_CHECK_STR(err.msg, expected);
	remove_files();
}

MT_TEST("bad lines of a CSV trace are told with file, line and column")
{
	check_bad_trace("time,vm,load\n",
			"1:9: unknown column 'load'; there are time, vm, active and used");
	check_bad_trace("time,vm\n", "1:1: no column 'active'");
	check_bad_trace("time,vm,active,vm\n", "1:16: column 'vm' for the second time");
	check_bad_trace("", "1:1: no line with the names of the columns");
	check_bad_trace("# demands\ntime,vm,active\n0,a,10%\n5 min,a,20%\n",
			"4:1: '5 min' is not a time; write it like 90, 5m or 1.5h");
	check_bad_trace("time,vm,active\n0,c,10%\n", "2:3: no VM is called 'c'");
	check_bad_trace("time,vm,active\n0, b1, 110%\n",
			"2:8: '110%' is neither a size nor a percentage up to 100 % of the VM's "
			"memory");
	check_bad_trace("time,vm,active\n0,b2\n", "2:3: 2 fields instead of 3");
	check_bad_trace("time,vm,active\n0,b2,-5%\n",
			"2:6: '-5%' is neither a size nor a percentage up to 100 % of the VM's "
			"memory");
}

MT_TEST("a sweep reads its range and refuses others")
{
	struct sim_sweep sweep;
	struct mt_err err;

	MT_CHECK_EQ(sim_sweep_read("1.0..3.0:0.25", &sweep, &err), 0);
	MT_CHECK(sweep.from == 1.0 && sweep.to == 3.0 && sweep.step == 0.25);
	MT_CHECK(sim_sweep_read("1..2", &sweep, &err) < 0);
	MT_CHECK(sim_sweep_read("2..1:0.1", &sweep, &err) < 0);
	MT_CHECK(sim_sweep_read("1..2:0", &sweep, &err) < 0);
	MT_CHECK(sim_sweep_read("1..99:0.001", &sweep, &err) < 0);
	MT_CHECK(sim_sweep_read("..:", &sweep, &err) < 0);
	MT_CHECK(sim_sweep_read("", &sweep, &err) < 0);
}

MT_TEST("a sweep finds that idle VMs can be overcommitted and busy ones can't")
{
	static const char *const loads[] = {"10%", "95%"};
	bool good[2];

	for (unsigned int i = 0; i < 2; i++) {
		const struct sim_sweep sweep = {1.5, 1.5, 1};
		struct sim_scenario scenario;
		struct mt_err err;
		char buf[256], *text = NULL;
		size_t length;
		FILE *out = open_memstream(&text, &length);

		snprintf(buf, sizeof(buf),
			 "host pool=4G\nrun time=1h\nvm a memory=1G count=8 load=%s\n", loads[i]);
		MT_CHECK(!sim_scenario_read(&scenario, write_file("s.sim", buf), &err));
		MT_CHECK(!sim_sweep_run(&scenario, &sweep, out, &err));
		fclose(out);
		good[i] = strstr(text, "good") && strstr(text, "can be overcommitted 1.50 times");
		free(text);
		sim_scenario_free(&scenario);
		remove_files();
	}
	MT_CHECK(good[0] && !good[1]);
}

MT_TEST_LIMIT("how long 1,000 VMs take for a day (figure only)", 600)
{
	struct timespec from, to;
	struct sim_scenario scenario;
	struct sim_result result;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
	run_file(SIM_EXAMPLES_DIR "/thousand.sim", 0, &scenario, &result);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
	printf("# %u VMs, %.0f h in %.1f s of CPU\n", scenario.vm_count, scenario.duration_s / 3600,
	       (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9);
	done(&scenario, &result);
}

/* Runs the tool itself. Return: its exit status; what it printed is in @ret_text. */
static int tool(const char *args, char *ret_text, size_t room)
{
	char command[512];
	size_t length;
	FILE *out;

	MT_CHECK(getenv("MEMTIDE_EXE"));
	snprintf(command, sizeof(command), "'%s' sim %s 2>&1", getenv("MEMTIDE_EXE"), args);
	out = popen(command, "r");
	MT_CHECK(out);
	length = fread(ret_text, 1, room - 1, out);
	ret_text[length] = '\0';
	return WEXITSTATUS(pclose(out));
}

MT_TEST("the tool writes CSV and SVG for every sample file, and refuses bad command lines")
{
	static const char *const samples[] = {"idle-tax", "trace"};
	char args[512], text[16384];

	for (unsigned int i = 0; i < 2; i++) {
		snprintf(args, sizeof(args),
			 SIM_EXAMPLES_DIR
			 "/%s.sim --csv /dev/stdout --svg /dev/null --interval 600",
			 samples[i]);
		MT_CHECK_EQ(tool(args, text, sizeof(text)), 0);
		MT_CHECK(
			strstr(text, "time,vm,target,held,active,estimate,zipped,swapped,state\n"));
		MT_CHECK(strstr(text, "shortfall: "));
	}
	MT_CHECK_EQ(tool("", text, sizeof(text)), 2);
	MT_CHECK_EQ(tool("a b", text, sizeof(text)), 2);
	MT_CHECK_EQ(tool("--sweep 3 a", text, sizeof(text)), 2);
	MT_CHECK_EQ(tool("/nowhere/x.sim", text, sizeof(text)), 1);
	MT_CHECK_STR(text, "memtide: sim: /nowhere/x.sim: can't be opened: No such file or "
			   "directory\n");
}

MT_TEST_MAIN
