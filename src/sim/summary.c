/* SPDX-License-Identifier: MIT */
/* summary.c - a simulation in twenty lines; see report.h */
#include "sim/report.h"
#include "base/size.h"

static const char *size_of(double pages, char *buf)
{
	return mt_size_text((uint64_t)MT_MAX(0.0, pages) * MT_PAGE_SIZE, buf);
}

double sim_shortfall_pct(const struct sim_sums *sums)
{
	return sums->active > 0 ? 100.0 * sums->missing / sums->active : 0.0;
}

double sim_work_pct(const struct sim_sums *sums)
{
	return sums->time_s > 0 ? 100.0 * sums->work / sums->time_s : 100.0;
}

static void print_host(const struct sim_result *result, FILE *out)
{
	const struct sim_scenario *s = result->scenario;
	uint64_t promised = sim_scenario_promised_pages(s);
	char pool[MT_SIZE_TEXT_MAX], minfree[MT_SIZE_TEXT_MAX], all[MT_SIZE_TEXT_MAX];
	char least[MT_SIZE_TEXT_MAX];

	fprintf(out, "host: pool %s, minFree %s; %u VMs promised %s (%.2f times the pool)\n",
		size_of((double)s->pool_pages, pool),
		size_of((double)result->minfree_pages, minfree), s->vm_count,
		size_of((double)promised, all), (double)promised / (double)s->pool_pages);
	fprintf(out, "time: %.0f s in steps of %g s, %u decisions, seed %llu\n", s->duration_s,
		s->step_s, result->decisions, (unsigned long long)s->seed);
	fprintf(out, "states:");
	for (unsigned int i = 0; i < MT_HOST_STATES; i++)
		fprintf(out, "%s %s %.1f %%", i ? "," : "", mt_state_name((enum mt_host_state)i),
			100.0 * result->state_s[i] / (s->duration_s + s->step_s));
	fprintf(out, "; %u changes; least free %s\n", result->state_changes,
		size_of(result->least_free_pages, least));
}

static void print_flows(const struct sim_result *result, FILE *out)
{
	const struct sim_flows *flows = &result->flows;
	const struct sim_sums *sums = &result->sums;
	char a[MT_SIZE_TEXT_MAX], b[MT_SIZE_TEXT_MAX], c[MT_SIZE_TEXT_MAX], d[MT_SIZE_TEXT_MAX];

	fprintf(out, "compressed: %s out, %s back; swapped: %s out, %s back\n",
		size_of(flows->zip_out, a), size_of(flows->zip_in, b), size_of(flows->swap_out, c),
		size_of(flows->swap_in, d));
	fprintf(out,
		"shortfall: %.2f %% of active memory was missing, %.2f %% was not entitled to; "
		"guests ran at %.1f %%\n",
		sim_shortfall_pct(sums),
		sums->active > 0 ? 100.0 * sums->entitled_short / sums->active : 0.0,
		sim_work_pct(sums));
	for (unsigned int i = 0; i < MT_MIN(result->note_count, SIM_NOTES_MAX); i++)
		fprintf(out, "note: %s\n", result->notes[i]);
	if (result->note_count > SIM_NOTES_MAX)
		fprintf(out, "note: and %u more\n", result->note_count - SIM_NOTES_MAX);
}

/* Averages over the VMs of a "vm" line and over their time. */
static void print_spec(const struct sim_result *result, const struct sim_spec *spec, FILE *out)
{
	const struct sim_vm *vm = &result->scenario->vms[spec->first];
	struct sim_sums all = {0};
	struct sim_flows flows = {0};
	char name[SIM_NAME_MAX + 16], text[8][MT_SIZE_TEXT_MAX];
	double seconds;

	for (unsigned int i = spec->first; i < spec->first + spec->count; i++) {
		const struct sim_sums *one = &result->guests[i].sums;

		all.time_s += one->time_s;
		all.held += one->held;
		all.target += one->target;
		all.active += one->active;
		all.estimate_error += one->estimate_error;
		all.missing += one->missing;
		all.work += one->work;
		flows.zip_out += result->guests[i].flows.zip_out;
		flows.swap_out += result->guests[i].flows.swap_out;
	}
	seconds = MT_MAX(all.time_s, 1e-9);
	if (spec->count > 1)
		snprintf(name, sizeof(name), "%s x%u", spec->name, spec->count);
	else
		snprintf(name, sizeof(name), "%s", spec->name);
	fprintf(out, "%-20s %8s %8llu %8s %8s %8s %7.1f %10s %10s %9.2f %6.1f\n", name,
		size_of((double)vm->memsize_pages, text[0]), (unsigned long long)vm->shares,
		size_of(all.target / seconds, text[1]), size_of(all.held / seconds, text[2]),
		size_of(all.active / seconds, text[3]), 100.0 * all.estimate_error / seconds,
		size_of(flows.zip_out, text[4]), size_of(flows.swap_out, text[5]),
		sim_shortfall_pct(&all), sim_work_pct(&all));
}

void sim_print_summary(const struct sim_result *result, FILE *out)
{
	const struct sim_scenario *s = result->scenario;

	print_host(result, out);
	print_flows(result, out);
	fprintf(out, "\n%-20s %8s %8s %8s %8s %8s %7s %10s %10s %9s %6s\n", "VM", "MEMORY",
		"SHARES", "TARGET", "HELD", "ACTIVE", "ERROR", "ZIPPED", "SWAPPED", "SHORT %",
		"RUN %");
	for (unsigned int i = 0; i < s->spec_count; i++)
		print_spec(result, &s->specs[i], out);
}
