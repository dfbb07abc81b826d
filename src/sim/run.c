/* SPDX-License-Identifier: MIT */
/* run.c - the loop over virtual time; see run.h */
#include "sim/run.h"
#include "policy/admission.h"
#include "policy/minfree.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define NS_PER_S 1000000000.0

struct sim {
	struct sim_scenario scenario; /* a copy: settings change */
	struct sim_result *result;
	struct sim_guest *guests;
	struct mt_sched_vm *vms;
	struct mt_ent_vm *work;
	unsigned int count;
	struct mt_sched sched;
	struct mt_sched_decision decision;
	double held_pages; /* of all VMs */
	bool starved;
	size_t next_event;
	uint64_t random;
	double interval_s, next_sample_s;
	unsigned int sample_room;
};

static void sim_note(struct sim *sim, double now_s, const char *fmt, ...) MT_PRINTF(3, 4);
static void sim_note(struct sim *sim, double now_s, const char *fmt, ...)
{
	struct sim_result *result = sim->result;
	char text[MT_ERR_MSG_MAX];
	va_list args;

	if (result->note_count++ >= SIM_NOTES_MAX)
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	snprintf(result->notes[result->note_count - 1], sizeof(result->notes[0]), "%.0f s: %s",
		 now_s, text);
}

static struct mt_admit_vm sim_admit_vm(const struct sim *sim, unsigned int i)
{
	const struct mt_sched_vm *vm = &sim->vms[i];

	return (struct mt_admit_vm){.memsize_pages = sim->guests[i].vm->memsize_pages,
				    .reservation_pages = vm->reservation_pages,
				    .limit_pages = vm->limit_pages};
}

/* May VM @i run with its settings beside the others? */
static int sim_admit(const struct sim *sim, unsigned int i, struct mt_err *err)
{
	const struct sim_scenario *s = &sim->scenario;
	struct mt_admit_host host = {
		.pool_pages = s->pool_pages,
		.own_pages = s->own_pages,
		.minfree_pages = mt_minfree_pages(s->pool_pages, s->config.min_free_pct),
		.swap_free_pages = s->swap_pages};
	struct mt_admit_vm vm = sim_admit_vm(sim, i);

	for (unsigned int k = 0; k < sim->count; k++) {
		struct mt_admit_vm other = sim_admit_vm(sim, k);

		if (k == i || !sim->guests[k].running)
			continue;
		host.reserved_pages += mt_admit_promise(&other);
		host.swap_free_pages -= MT_MIN(host.swap_free_pages, mt_admit_swap(&other));
	}
	return mt_admit_check(&host, &vm, sim->guests[i].vm->name, err);
}

static void sim_start_vm(struct sim *sim, unsigned int i, double now_s)
{
	struct sim_guest *guest = &sim->guests[i];
	struct mt_err err;

	guest->started = true;
	if (sim_admit(sim, i, &err)) {
		sim->result->refused++;
		sim_note(sim, now_s, "refused: %s", err.msg);
		return;
	}
	sim_guest_start(guest, &sim->scenario, now_s, i);
	sim->vms[i].memsize_pages = guest->vm->memsize_pages;
	sim->vms[i].overhead_pages = mt_overhead_pages(guest->vm->memsize_pages);
	mt_sched_touch(&sim->sched);
}

static void sim_stop_vm(struct sim *sim, unsigned int i)
{
	sim->guests[i].running = false;
	sim->vms[i].memsize_pages = 0;
	sim->vms[i].target_pages = 0;
	mt_sched_touch(&sim->sched);
}

static void sim_power(struct sim *sim, double now_s)
{
	for (unsigned int i = 0; i < sim->count; i++) {
		struct sim_guest *guest = &sim->guests[i];

		if (!guest->started && now_s >= guest->vm->start_s)
			sim_start_vm(sim, i, now_s);
		if (guest->running && now_s >= guest->vm->stop_s)
			sim_stop_vm(sim, i);
	}
}

static bool event_of_vm_settings(const struct sim_event *event)
{
	return event->kind == SIM_EVENT_SHARES || event->kind == SIM_EVENT_RESERVATION ||
	       event->kind == SIM_EVENT_LIMIT;
}

/*
 * Changes of a VM's settings pass admission like its start does, those of one line together.
 * Return: number of events dealt with.
 */
static size_t sim_change_vm(struct sim *sim, const struct sim_event *event, double now_s)
{
	const struct sim_event *end = sim->scenario.events + sim->scenario.event_count;
	const struct sim_event *first = event;
	struct mt_sched_vm *vm = &sim->vms[first->vm];
	struct mt_sched_vm before = *vm;
	struct mt_err err;

	for (; event < end && event->line == first->line && event->vm == first->vm &&
	       event_of_vm_settings(event);
	     event++) {
		if (event->kind == SIM_EVENT_SHARES)
			vm->shares = (uint64_t)event->value;
		else if (event->kind == SIM_EVENT_RESERVATION)
			vm->reservation_pages = (uint64_t)event->value;
		else
			vm->limit_pages =
				event->value < 0 ? MT_POLICY_NO_LIMIT : (uint64_t)event->value;
	}
	if (sim_admit(sim, first->vm, &err)) {
		*vm = before;
		sim_note(sim, now_s, "refused: %s", err.msg);
	}
	mt_sched_touch(&sim->sched);
	return (size_t)(event - first);
}

static void sim_setting(struct sim *sim, const struct sim_event *event, double now_s)
{
	char value[32];
	struct mt_err err;

	snprintf(value, sizeof(value), "%.0f", event->value);
	if (mt_sched_config_set(&sim->scenario.config, mt_settings[event->vm].name, value, &err))
		sim_note(sim, now_s, "refused: %s", err.msg);
	mt_sched_touch(&sim->sched);
}

static void sim_events(struct sim *sim, double now_s)
{
	while (sim->next_event < sim->scenario.event_count) {
		const struct sim_event *event = &sim->scenario.events[sim->next_event];
		size_t done = 1;

		if (event->at_s > now_s)
			return;
		switch (event->kind) {
		case SIM_EVENT_ACTIVE:
			sim->guests[event->vm].active_set = event->value;
			break;
		case SIM_EVENT_USED:
			sim->guests[event->vm].used_set = event->value;
			break;
		case SIM_EVENT_SETTING:
			sim_setting(sim, event, now_s);
			break;
		case SIM_EVENT_SHARES:
		case SIM_EVENT_RESERVATION:
		case SIM_EVENT_LIMIT:
			done = sim_change_vm(sim, event, now_s);
			break;
		}
		sim->next_event += done;
	}
}

static double sim_free(const struct sim *sim)
{
	const struct sim_scenario *s = &sim->scenario;

	return (double)(s->pool_pages - s->own_pages) - sim->held_pages;
}

/* Rounded up in the books, like the monitor does. */
static void sim_hold(struct sim *sim, unsigned int i)
{
	double held = sim_guest_held(&sim->guests[i], &sim->scenario, &sim->vms[i]);
	uint64_t before = sim->vms[i].held_pages;

	sim->vms[i].held_pages = (uint64_t)(held + 0.999999);
	sim->held_pages += (double)sim->vms[i].held_pages - (double)before;
}

static void sim_decide(struct sim *sim, double now_s)
{
	struct mt_sched_host host = {.pool_pages = sim->scenario.pool_pages,
				     .own_pages = sim->scenario.own_pages,
				     .free_pages = (uint64_t)MT_MAX(0.0, sim_free(sim)),
				     .waiting = sim->starved};
	const struct mt_sched_config *config = &sim->scenario.config;
	uint64_t now_ns = (uint64_t)(now_s * NS_PER_S + 0.5);

	if (!mt_sched_due(&sim->sched, config, &host, now_ns))
		return;
	for (unsigned int i = 0; i < sim->count; i++) {
		struct sim_guest *guest = &sim->guests[i];

		sim->vms[i].active_pages = mt_active_pages(
			&guest->estimate, sim->vms[i].memsize_pages, config->sample_active_pct_min);
		sim->vms[i].used_pages =
			(uint64_t)(guest->resident + guest->zipped + guest->swapped);
	}
	sim->decision = mt_sched_decide(&sim->sched, config, &host, sim->vms, sim->work, sim->count,
					now_ns);
	sim->result->state_changes += sim->decision.state_changed && sim->result->decisions;
	sim->result->decisions++;
}

/* Touches of a step; a VM that has just started first waits for what its monitor takes. */
static void sim_run_guest(struct sim *sim, unsigned int i)
{
	struct sim_guest *guest = &sim->guests[i];
	double room = sim_free(sim) - 1.0;
	bool starved = true;

	if (!guest->settled)
		guest->settled = room >= (double)sim->vms[i].overhead_pages;
	else
		sim_guest_run(guest, &sim->scenario, &sim->vms[i], sim->scenario.step_s, room,
			      &starved);
	if (guest->settled)
		sim_hold(sim, i);
	sim->starved |= starved;
}

/* First those who give, then those who take; who comes first changes from step to step. */
static void sim_guests(struct sim *sim, unsigned int step)
{
	bool pressed = false;

	sim->starved = false;
	for (unsigned int i = 0; i < sim->count; i++) {
		if (!sim->guests[i].running && !sim->vms[i].held_pages)
			continue;
		if (sim->guests[i].running)
			sim_guest_reclaim(&sim->guests[i], &sim->scenario, &sim->vms[i],
					  sim->scenario.step_s);
		sim_hold(sim, i);
	}
	for (unsigned int k = 0; k < sim->count; k++) {
		unsigned int i = (k + step) % sim->count;

		if (!sim->guests[i].running)
			continue;
		sim_run_guest(sim, i);
		pressed |= sim->vms[i].pressing;
	}
	if (pressed || sim->starved)
		mt_sched_press(&sim->sched);
}

static void sim_count_guest(struct sim *sim, unsigned int i)
{
	const struct sim_guest *guest = &sim->guests[i];
	struct sim_sums *sums = &sim->guests[i].sums;
	double step = sim->scenario.step_s, active = guest->active;
	double overhead = (double)sim->vms[i].overhead_pages;
	double entitled = (double)sim->vms[i].target_pages - overhead;
	double missing = MT_MAX(0.0, active - guest->resident);
	double part = mt_active_part(&guest->estimate);
	double error = part - active / (double)guest->vm->memsize_pages;

	sums->time_s += step;
	sums->held += step * (double)sim->vms[i].held_pages;
	sums->target += step * (double)sim->vms[i].target_pages;
	sums->active += step * active;
	sums->estimate_error += step * (error < 0 ? -error : error);
	sums->missing += step * missing;
	sums->entitled_short += step * MT_MAX(0.0, active - MT_MAX(0.0, entitled));
	sums->work += step / (1.0 + (active > 0 ? sim->scenario.miss_cost * missing / active : 0));
}

static void sim_count(struct sim *sim)
{
	sim->result->state_s[sim->decision.state] += sim->scenario.step_s;
	sim->result->minfree_pages = sim->decision.minfree_pages;
	sim->result->least_free_pages = MT_MIN(sim->result->least_free_pages, sim_free(sim));
	for (unsigned int i = 0; i < sim->count; i++)
		if (sim->guests[i].running)
			sim_count_guest(sim, i);
}

static void sim_sample(struct sim *sim, double now_s)
{
	struct sim_result *result = sim->result;
	struct sim_point *points = result->points + (size_t)result->sample_count * sim->count;

	if (now_s < sim->next_sample_s || result->sample_count >= sim->sample_room)
		return;
	sim->next_sample_s += sim->interval_s;
	result->moments[result->sample_count++] =
		(struct sim_moment){.time_s = now_s,
				    .state = sim->decision.state,
				    .free_pages = sim_free(sim),
				    .available_pages = (double)sim->decision.available_pages};
	for (unsigned int i = 0; i < sim->count; i++) {
		const struct sim_guest *guest = &sim->guests[i];

		if (!guest->running)
			continue;
		points[i] =
			(struct sim_point){.target = (float)sim->vms[i].target_pages,
					   .held = (float)sim->vms[i].held_pages,
					   .active = (float)guest->active,
					   .estimate = (float)(mt_active_part(&guest->estimate) *
							       (double)guest->vm->memsize_pages),
					   .zipped = (float)guest->zipped,
					   .swapped = (float)guest->swapped};
	}
}

static void sim_step(struct sim *sim, unsigned int step)
{
	double now_s = step * sim->scenario.step_s;

	sim_power(sim, now_s);
	sim_events(sim, now_s);
	for (unsigned int i = 0; i < sim->count; i++) {
		if (!sim->guests[i].running)
			continue;
		sim_guest_demand(&sim->guests[i], &sim->scenario, now_s, i);
		sim_guest_sample(&sim->guests[i], &sim->scenario.config, &sim->random, now_s);
	}
	sim_decide(sim, now_s);
	sim_guests(sim, step);
	sim_count(sim);
	sim_sample(sim, now_s);
}

static void sum_up(struct sim_result *result, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		const struct sim_flows *flows = &result->guests[i].flows;
		const struct sim_sums *sums = &result->guests[i].sums;

		result->flows.zip_out += flows->zip_out;
		result->flows.zip_in += flows->zip_in;
		result->flows.swap_out += flows->swap_out;
		result->flows.swap_in += flows->swap_in;
		result->sums.time_s += sums->time_s;
		result->sums.held += sums->held;
		result->sums.target += sums->target;
		result->sums.active += sums->active;
		result->sums.estimate_error += sums->estimate_error;
		result->sums.missing += sums->missing;
		result->sums.entitled_short += sums->entitled_short;
		result->sums.work += sums->work;
	}
}

static int sim_init(struct sim *sim, double interval_s)
{
	const struct sim_scenario *s = &sim->scenario;
	struct sim_result *result = sim->result;
	double samples;

	sim->interval_s = interval_s > 0 ? interval_s : s->duration_s / 288;
	sim->interval_s = MT_MAX(sim->interval_s, s->step_s);
	sim->interval_s = MT_MAX(sim->interval_s, s->duration_s / (SIM_SAMPLES_MAX - 2));
	samples = s->duration_s / sim->interval_s + 2;
	sim->sample_room = (unsigned int)samples;
	sim->guests = result->guests = calloc(sim->count, sizeof(*sim->guests));
	sim->vms = calloc(sim->count, sizeof(*sim->vms));
	sim->work = calloc(sim->count, sizeof(*sim->work));
	result->moments = calloc(sim->sample_room, sizeof(*result->moments));
	result->points = calloc((size_t)sim->sample_room * sim->count, sizeof(*result->points));
	if (!sim->guests || !sim->vms || !sim->work || !result->moments || !result->points)
		return -ENOMEM;
	for (unsigned int i = 0; i < sim->count; i++) {
		const struct sim_vm *vm = &s->vms[i];

		sim->guests[i] = (struct sim_guest){.vm = vm, .active_set = -1.0, .used_set = -1.0};
		sim->vms[i] = (struct mt_sched_vm){.reservation_pages = vm->reservation_pages,
						   .limit_pages = vm->limit_pages,
						   .target_max_pages = MT_POLICY_NO_LIMIT,
						   .shares = vm->shares};
	}
	return 0;
}

int sim_run(const struct sim_scenario *scenario, double interval_s, struct sim_result *result,
	    struct mt_err *err)
{
	struct sim sim = {.scenario = *scenario,
			  .result = result,
			  .count = scenario->vm_count,
			  .random = scenario->seed};
	unsigned int steps = (unsigned int)(scenario->duration_s / scenario->step_s + 0.5);
	int rc;

	*result = (struct sim_result){.scenario = scenario,
				      .least_free_pages = (double)scenario->pool_pages};
	rc = sim_init(&sim, interval_s);
	if (rc)
		mt_err_set(err, rc, "%s: not enough memory for so many VMs and samples",
			   scenario->path);
	for (unsigned int step = 0; !rc && step <= steps; step++)
		sim_step(&sim, step);
	if (!rc)
		sum_up(result, sim.count);
	else
		sim_result_free(result);
	free(sim.vms);
	free(sim.work);
	return rc;
}

void sim_result_free(struct sim_result *result)
{
	free(result->guests);
	free(result->moments);
	free(result->points);
	*result = (struct sim_result){0};
}
