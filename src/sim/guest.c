/* SPDX-License-Identifier: MIT */
/* guest.c - one simulated VM, step by step; see guest.h */
#include "sim/guest.h"

uint64_t sim_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

/* 0.0 to 1.0 */
static double random_part(uint64_t *state)
{
	return (double)(sim_random(state) >> 11) / 9007199254740992.0;
}

static double memsize(const struct sim_guest *guest)
{
	return (double)guest->vm->memsize_pages;
}

static double clamp_part(double part)
{
	return MT_MAX(0.0, MT_MIN(1.0, part));
}

void sim_guest_start(struct sim_guest *guest, const struct sim_scenario *scenario, double now_s,
		     unsigned int index)
{
	guest->started = guest->running = true;
	mt_active_init(&guest->estimate);
	/* periods of different VMs end at different times */
	guest->sample_end_s = now_s + scenario->config.sample_period_s *
					      (1.0 + (double)(index * 37 % 101) / 101.0);
}

double sim_guest_held(const struct sim_guest *guest, const struct sim_scenario *scenario,
		      const struct mt_sched_vm *sched)
{
	if (!guest->running || !guest->settled)
		return 0.0;
	return guest->resident + guest->zipped / scenario->zip_ratio +
	       (double)sched->overhead_pages;
}

/* Between low and high and back once in a period; a smooth wave without trigonometry. */
static double load_part(const struct sim_load *load, double now_s)
{
	double turns, x;

	if (load->period_s <= 0.0)
		return load->low;
	turns = (now_s - load->peak_s) / load->period_s;
	turns -= (double)(long long)turns;
	if (turns < 0.0)
		turns += 1.0;
	x = turns < 0.5 ? 1.0 - 2.0 * turns : 2.0 * turns - 1.0;
	return load->low + (load->high - load->low) * x * x * (3.0 - 2.0 * x);
}

static double load_noise(const struct sim_load *load, uint64_t seed, unsigned int index,
			 double now_s)
{
	uint64_t state = seed * 1000003 + (uint64_t)index * 8191 + (uint64_t)(now_s / 60.0);

	return load->noise * (2.0 * random_part(&state) - 1.0);
}

/* The guest gives memory up: what is idle and resident first. */
static void guest_release(struct sim_guest *guest, double pages)
{
	double idle = MT_MIN(pages, MT_MAX(0.0, guest->resident - guest->active));
	double out = guest->zipped + guest->swapped, part;

	guest->resident -= idle;
	pages -= idle;
	part = out > 0.0 ? MT_MIN(1.0, pages / out) : 0.0;
	guest->zipped -= guest->zipped * part;
	guest->swapped -= guest->swapped * part;
	guest->resident = MT_MAX(0.0, guest->resident - MT_MAX(0.0, pages - out));
}

void sim_guest_demand(struct sim_guest *guest, const struct sim_scenario *scenario, double now_s,
		      unsigned int index)
{
	const struct sim_vm *vm = guest->vm;
	double part = guest->active_set, touched;

	if (part < 0.0)
		part = load_part(&vm->load, now_s);
	if (vm->load.noise > 0.0)
		part += load_noise(&vm->load, scenario->seed, index, now_s);
	guest->active = clamp_part(part) * memsize(guest);
	touched = guest->resident + guest->zipped + guest->swapped;
	if (guest->used_set >= 0.0) {
		guest->used = MT_MAX(guest->used_set * memsize(guest), guest->active);
		if (guest->used < touched)
			guest_release(guest, touched - guest->used);
		return;
	}
	guest->used =
		MT_MAX(MT_MAX(vm->touched, 0.0) * memsize(guest), MT_MAX(guest->active, touched));
}

/* Draws pages that were not seen touched yet, each with the chance that it is now. */
static void sample_touch(struct sim_guest *guest, uint64_t *random)
{
	double part = guest->active / memsize(guest), chance;
	uint64_t left = guest->watched - guest->touched;

	if (part <= guest->sample_part)
		return;
	chance = (part - guest->sample_part) / (1.0 - guest->sample_part);
	guest->sample_part = part;
	while (left--)
		guest->touched += random_part(random) < chance;
}

void sim_guest_sample(struct sim_guest *guest, const struct mt_sched_config *config,
		      uint64_t *random, double now_s)
{
	if (!guest->watched)
		guest->watched = config->sample_pages;
	sample_touch(guest, random);
	if (now_s < guest->sample_end_s) {
		mt_active_watch(&guest->estimate, guest->watched, guest->touched);
		return;
	}
	mt_active_end(&guest->estimate, guest->watched, guest->touched, config->sample_period_s);
	guest->sample_end_s = now_s + config->sample_period_s;
	guest->watched = guest->touched = 0;
	guest->sample_part = 0.0;
}

static double guest_zip_room(const struct sim_guest *guest, const struct sim_scenario *scenario)
{
	return MT_MAX(0.0, SIM_ZIP_MAX * memsize(guest) * scenario->zip_ratio - guest->zipped);
}

/* Compressed as long as the zip store has room and pages shrink, swapped otherwise. */
static void guest_put_out(struct sim_guest *guest, const struct sim_scenario *scenario,
			  double pages)
{
	double zip = MT_MIN(pages * scenario->zip_part, guest_zip_room(guest, scenario));

	guest->resident -= pages;
	guest->zipped += zip;
	guest->swapped += pages - zip;
	guest->flows.zip_out += zip;
	guest->flows.swap_out += pages - zip;
}

/* Pages come back from where they are, in proportion. */
static void guest_bring_in(struct sim_guest *guest, double pages)
{
	double out = guest->zipped + guest->swapped, zip;

	pages = MT_MIN(pages, out);
	if (pages <= 0.0)
		return;
	zip = pages * guest->zipped / out;
	guest->resident += pages;
	guest->zipped -= zip;
	guest->swapped -= pages - zip;
	guest->flows.zip_in += zip;
	guest->flows.swap_in += pages - zip;
}

/* Pages to put out so that @wanted machine pages are free: compressed ones still take some. */
static double guest_pages_for(const struct sim_guest *guest, const struct sim_scenario *scenario,
			      double wanted)
{
	double zip_room = guest_zip_room(guest, scenario);
	double left_part = 1.0 - scenario->zip_part / scenario->zip_ratio;

	if (wanted * scenario->zip_part <= zip_room * left_part && left_part > 0.0)
		return wanted / left_part;
	return wanted + zip_room / scenario->zip_ratio;
}

/* Puts out what frees @wanted machine pages, as fast as it can. Return: pages freed. */
static double guest_free(struct sim_guest *guest, const struct sim_scenario *scenario,
			 double wanted, double step_s)
{
	double before = guest->resident + guest->zipped / scenario->zip_ratio, pages;

	if (wanted <= 0.0)
		return 0.0;
	pages = MT_MIN(guest_pages_for(guest, scenario, wanted), guest->resident);
	guest_put_out(guest, scenario, MT_MIN(pages, scenario->reclaim_pages_s * step_s));
	return before - (guest->resident + guest->zipped / scenario->zip_ratio);
}

/* Held of its reservation, in use, and not more than its limit leaves. */
static double guest_reserved(const struct sim_guest *guest, const struct sim_scenario *scenario,
			     const struct mt_sched_vm *sched)
{
	double kept = guest->resident + guest->zipped / scenario->zip_ratio;
	double reserved = (double)MT_MIN(sched->reservation_pages,
					 sched->limit_pages -
						 MT_MIN(sched->limit_pages, sched->overhead_pages));

	return MT_MIN(kept, reserved);
}

void sim_guest_reclaim(struct sim_guest *guest, const struct sim_scenario *scenario,
		       const struct mt_sched_vm *sched, double step_s)
{
	double held = sim_guest_held(guest, scenario, sched);
	double reserved = guest_reserved(guest, scenario, sched);

	guest_free(guest, scenario, held - (double)sched->steer_pages, step_s);
	guest->sums.reserved_taken += reserved - guest_reserved(guest, scenario, sched);
}

/* Pages out that the guest touches in this step. */
static double guest_misses(const struct sim_guest *guest, double step_s)
{
	double out = guest->zipped + guest->swapped;
	double missing = MT_MIN(out, MT_MAX(0.0, guest->active - guest->resident));
	double idle = guest->used - guest->active, drift = 0.0;

	if (idle > 0.0 && out > missing)
		drift = guest->vm->turnover * guest->active * step_s / 60.0 * (out - missing) /
			idle;
	return MT_MIN(out, missing + drift);
}

void sim_guest_run(struct sim_guest *guest, const struct sim_scenario *scenario,
		   struct mt_sched_vm *sched, double step_s, double room, bool *ret_starved)
{
	double most = scenario->fault_pages_s * step_s;
	double touched = guest->resident + guest->zipped + guest->swapped;
	double fresh = MT_MIN(most, MT_MAX(0.0, guest->used - touched));
	double back = MT_MIN(most - fresh, guest_misses(guest, step_s));
	double held = sim_guest_held(guest, scenario, sched);
	double own_room = sched->blocked ? 0.0 : MT_MAX(0.0, (double)sched->steer_pages - held);
	double wanted = fresh + back, grow = MT_MIN(wanted, MT_MIN(own_room, MT_MAX(0.0, room)));
	/* what finds no room comes in in place of other pages */
	double most_in = grow + guest_free(guest, scenario, wanted - grow, step_s);

	fresh = MT_MIN(fresh, most_in);
	guest->resident += fresh;
	guest_bring_in(guest, MT_MIN(back, most_in - fresh));
	sched->pressing = wanted > grow + 1.0;
	*ret_starved = sched->pressing && grow + 1.0 < own_room;
}
