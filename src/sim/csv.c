/* SPDX-License-Identifier: MIT */
/* csv.c - samples as comma-separated values; see report.h */
#include "sim/report.h"

#include <errno.h>
#include <string.h>

static double mib(double pages)
{
	return pages / 256.0;
}

static void csv_moment(const struct sim_result *result, unsigned int k, FILE *out)
{
	const struct sim_moment *moment = &result->moments[k];
	const struct sim_point *points = result->points + (size_t)k * result->scenario->vm_count;
	struct sim_point all = {0};

	for (unsigned int i = 0; i < result->scenario->vm_count; i++) {
		all.held += points[i].held;
		all.active += points[i].active;
		all.estimate += points[i].estimate;
		all.zipped += points[i].zipped;
		all.swapped += points[i].swapped;
	}
	fprintf(out, "%.1f,,%.1f,%.1f,%.1f,%.1f,%.1f,%.1f,%s\n", moment->time_s,
		mib(moment->available_pages), mib(all.held), mib(all.active), mib(all.estimate),
		mib(all.zipped), mib(all.swapped), mt_state_name(moment->state));
	for (unsigned int i = 0; i < result->scenario->vm_count; i++)
		fprintf(out, "%.1f,%s,%.1f,%.1f,%.1f,%.1f,%.1f,%.1f,\n", moment->time_s,
			result->scenario->vms[i].name, mib(points[i].target), mib(points[i].held),
			mib(points[i].active), mib(points[i].estimate), mib(points[i].zipped),
			mib(points[i].swapped));
}

int sim_write_csv(const struct sim_result *result, const char *path, struct mt_err *err)
{
	FILE *out = fopen(path, "we");
	int bad;

	if (!out)
		return mt_err_set(err, -errno, "%s: can't be written: %s", path, strerror(errno));
	fputs("time,vm,target,held,active,estimate,zipped,swapped,state\n", out);
	for (unsigned int k = 0; k < result->sample_count; k++)
		csv_moment(result, k, out);
	bad = ferror(out);
	if (fclose(out) || bad)
		return mt_err_set(err, -EIO, "%s: writing failed; is the disk full?", path);
	return 0;
}
