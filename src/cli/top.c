/* SPDX-License-Identifier: MIT */
/*
 * top.c - "memtide top": esxtop's memory screen; for now its batch mode
 *
 * The CSV is laid out like esxtop's, so that what reads that reads this: a heading of
 * "\\host\Object(instance)\Counter" names, the time as first column, one row for each sample. As in
 * esxtop the columns are fixed by the first sample: a VM that comes later is not shown, the cells
 * of one that left stay empty. Column names and their order are stable; new ones go to the end of
 * their object.
 */
#include "cli/ask.h"
#include "cli/fields.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char top_help[] =
	"usage: memtide top -b [-n N] [-d SEC]\n"
	"Prints samples as CSV, like esxtop's batch mode: first column the time, then the host's\n"
	"columns and each VM's. See memtide(1) for the columns. There is no interactive screen "
	"yet.\n\n"
	"  -b, --batch      batch mode\n"
	"  -n, --samples N  end after N samples; otherwise until interrupted\n"
	"  -d, --delay SEC  seconds between samples (5)\n";

enum top_kind {
	TOP_MB,       /* a KiB field as MB */
	TOP_MB_S,     /* growth of a KiB field as MB/s */
	TOP_PAGES_S,  /* growth of a count of pages as MB/s */
	TOP_FAULTS_S, /* growth of all faults, per second */
	TOP_US,       /* a ns field as microseconds */
	TOP_RATIO,    /* a percentage as a ratio */
};

struct top_column {
	const char *name;
	const char *field;
	enum top_kind kind;
};

static const struct top_column host_columns[] = {
	{"Memory Overcommit (Current)", "overcommit_pct", TOP_RATIO},
	{"Machine MBytes", "pool", TOP_MB},
	{"Free MBytes", "free", TOP_MB},
	{"Minfree MBytes", "minfree", TOP_MB},
	{"PShare Shared MBytes", "shared", TOP_MB},
	{"PShare Common MBytes", "sharedcommon", TOP_MB},
	{"Swap Used MBytes", "swapused", TOP_MB},
	{"Swap MBytes Read/sec", "swapin", TOP_MB_S},
	{"Swap MBytes Write/sec", "swapout", TOP_MB_S},
	{"Compression Zipped MBytes", "zipped", TOP_MB},
	{"Compression Saved MBytes", "zipSaved", TOP_MB},
	{"Memctl Current MBytes", "vmmemctl", TOP_MB},
};

static const struct top_column vm_columns[] = {
	{"Memory Size MBytes", "memsize", TOP_MB},
	{"Memory Granted Size MBytes", "granted", TOP_MB},
	{"Memory Consumed Size MBytes", "consumed", TOP_MB},
	{"Memory Held Size MBytes", "held", TOP_MB},
	{"Target Size MBytes", "target", TOP_MB},
	{"Memctl MBytes", "vmmemctl", TOP_MB},
	{"Swapped MBytes", "swapped", TOP_MB},
	{"Swap Read MBytes/sec", "swapin", TOP_MB_S},
	{"Swap Written MBytes/sec", "swapout", TOP_MB_S},
	{"Zero MBytes", "zero", TOP_MB},
	{"Shared MBytes", "shared", TOP_MB},
	{"Overhead MBytes", "overhead", TOP_MB},
	{"Compression Cache Used MBytes", "zipHeld", TOP_MB},
	{"Compressed MBytes", "zipped", TOP_MB},
	{"Compressed MBytes/sec", "zipin", TOP_PAGES_S},
	{"Decompressed MBytes/sec", "zipout", TOP_PAGES_S},
	{"Faults/sec", NULL, TOP_FAULTS_S},
	{"Fault 99th Percentile Microseconds", "faultP99", TOP_US},
	{"Memctl Target MBytes", "vmmemctltarget", TOP_MB},
	{"Memctl Max MBytes", "vmmemctlmax", TOP_MB},
};

static double top_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static uint64_t top_value(const struct top_column *column, struct json_object *object)
{
	return column->field ? field_u64(object, column->field) : field_faults(object);
}

/* A rate needs an earlier sample; without one, or after a restart of the counter, it is 0. */
static double top_rate(const struct top_column *column, struct json_object *now,
		       struct json_object *before, double seconds)
{
	uint64_t value = top_value(column, now), old = before ? top_value(column, before) : value;

	return value >= old && seconds > 0 ? (double)(value - old) / seconds : 0;
}

static double top_cell(const struct top_column *column, struct json_object *now,
		       struct json_object *before, double seconds)
{
	switch (column->kind) {
	case TOP_MB:
		return (double)top_value(column, now) / 1024;
	case TOP_MB_S:
		return top_rate(column, now, before, seconds) / 1024;
	case TOP_PAGES_S:
		return top_rate(column, now, before, seconds) / 256;
	case TOP_FAULTS_S:
		return top_rate(column, now, before, seconds);
	case TOP_US:
		return (double)top_value(column, now) / 1000;
	case TOP_RATIO:
		return (double)field_i64(now, column->field) / 100;
	}
	return 0;
}

static struct json_object *top_vm_find(struct json_object *sample, struct json_object *like)
{
	struct json_object *vms = json_object_object_get(sample, "vms");
	const char *name = json_object_get_string(json_object_object_get(like, "name"));

	if (!json_object_is_type(vms, json_type_array) || !name)
		return NULL;
	for (size_t i = 0; i < json_object_array_length(vms); i++) {
		struct json_object *vm = json_object_array_get_idx(vms, i);
		const char *its = json_object_get_string(json_object_object_get(vm, "name"));

		/* A new VM under an old name is another VM: its counters start again. */
		if (its && !strcmp(its, name) && field_u64(vm, "pid") == field_u64(like, "pid"))
			return vm;
	}
	return NULL;
}

static size_t top_vm_count(struct json_object *sample)
{
	struct json_object *vms = json_object_object_get(sample, "vms");

	return json_object_is_type(vms, json_type_array) ? json_object_array_length(vms) : 0;
}

static struct json_object *top_vm_at(struct json_object *sample, size_t i)
{
	return json_object_array_get_idx(json_object_object_get(sample, "vms"), i);
}

static void top_heading(struct json_object *first)
{
	char host[256] = "localhost", name[FIELD_TEXT_MAX];

	gethostname(host, sizeof(host) - 1);
	printf("\"(PDH-CSV 4.0) (UTC)(0)\"");
	for (size_t c = 0; c < MT_ARRAY_SIZE(host_columns); c++)
		printf(",\"\\\\%s\\Memory\\%s\"", host, host_columns[c].name);
	for (size_t i = 0; i < top_vm_count(first); i++) {
		struct json_object *vm = top_vm_at(first, i);

		field_text(vm, "name", name);
		for (size_t c = 0; c < MT_ARRAY_SIZE(vm_columns); c++)
			printf(",\"\\\\%s\\Group Memory(%llu:%s)\\%s\"", host,
			       (unsigned long long)field_u64(vm, "pid"), name, vm_columns[c].name);
	}
	putchar('\n');
}

static void top_row(struct json_object *first, struct json_object *now, struct json_object *before,
		    double seconds)
{
	struct json_object *host = json_object_object_get(now, "host");
	struct json_object *old = before ? json_object_object_get(before, "host") : NULL;
	time_t clock = time(NULL);
	struct tm tm;
	char when[32];

	gmtime_r(&clock, &tm);
	strftime(when, sizeof(when), "%m/%d/%Y %H:%M:%S", &tm);
	printf("\"%s\"", when);
	for (size_t c = 0; c < MT_ARRAY_SIZE(host_columns); c++)
		printf(",\"%.2f\"", top_cell(&host_columns[c], host, old, seconds));
	for (size_t i = 0; i < top_vm_count(first); i++) {
		struct json_object *like = top_vm_at(first, i);
		struct json_object *vm = top_vm_find(now, like);
		struct json_object *vm_old = before ? top_vm_find(before, like) : NULL;

		for (size_t c = 0; c < MT_ARRAY_SIZE(vm_columns); c++) {
			if (vm)
				printf(",\"%.2f\"", top_cell(&vm_columns[c], vm, vm_old, seconds));
			else
				printf(",\"\"");
		}
	}
	putchar('\n');
}

static void top_sleep(uint64_t ms)
{
	struct timespec pause = {.tv_sec = (time_t)(ms / 1000),
				 .tv_nsec = (long)(ms % 1000) * 1000000};

	nanosleep(&pause, NULL);
}

static int top_batch(const struct cli *cli, const struct cli_verb *verb, uint64_t samples,
		     uint64_t delay_ms)
{
	struct json_object *first = NULL, *before = NULL, *now = NULL;
	double then = 0, at;
	int rc = 0;

	for (uint64_t n = 0; !samples || n < samples; n++) {
		if (n)
			top_sleep(delay_ms);
		rc = ask_daemon(cli, verb, client_request("list"), CLIENT_ANSWER_MS, &now);
		if (rc)
			break;
		at = top_seconds();
		if (!first) {
			first = json_object_get(now);
			top_heading(first);
		}
		top_row(first, now, before, at - then);
		json_object_put(before);
		before = now;
		then = at;
		if (fflush(stdout))
			break;
	}
	json_object_put(before);
	json_object_put(first);
	return rc;
}

static int top_run(struct cli *cli, const struct cli_verb *verb, int argc, char **argv)
{
	bool batch = false;
	uint64_t samples = 0, delay_ms = 5000;
	const struct cli_opt opts[] = {{"batch", 'b', CLI_OPT_FLAG, &batch},
				       {"samples", 'n', CLI_OPT_COUNT, &samples},
				       {"delay", 'd', CLI_OPT_SECONDS, &delay_ms},
				       {0}};
	int first, rc = cli_options(cli, verb, opts, false, argc, argv, &first);

	if (rc >= 0)
		return rc;
	if (first < argc)
		return cli_usage(verb, "unexpected argument '%s'", argv[first]);
	if (!batch)
		return cli_failed(verb,
				  "the interactive screen is not there yet; use 'memtide top -b' "
				  "for CSV, or 'memtide list --watch 2'");
	return top_batch(cli, verb, samples, delay_ms);
}

const struct cli_verb cli_verb_top = {"top", "print samples as CSV (top -b), like esxtop", top_help,
				      top_run};
