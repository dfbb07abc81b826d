/* SPDX-License-Identifier: MIT */
/*
 * sim_soak.c - the simulated VM, course after course, each with circumstances of its own
 *
 * A course is one VM from its start to its end; the seed decides its size, its stores, the troubles
 * that it meets and every event. So one number replays a failure: "sim_soak --seed S --steps N".
 */
#include "sim/sim_courses.h"
#include "sim/sim_vm.h"

/* What may go wrong in this course. Loss is for courses that expect it. */
static void pick_troubles(struct sim_config *config, uint64_t *r)
{
	config->trouble_permille = sim_pick_chance(r, 75) ? sim_pick(r, 1, 120) : 0;
	config->regions_come_and_go = sim_pick_chance(r, 40);
	if (sim_pick_chance(r, 35)) {
		config->swap_errors = true;
		config->eio_pct = sim_pick_chance(r, 50) ? sim_pick(r, 1, 25) : 0;
	} else if (sim_pick_chance(r, 20)) {
		config->damage = true;
	} else if (sim_pick_chance(r, 15)) {
		config->theft = true;
	}
}

static struct sim_config pick_config(uint64_t seed)
{
	uint64_t r = seed * 0x9e3779b97f4a7c15ULL;
	struct sim_config config = {.seed = seed};
	uint32_t pages;

	config.pages[0] = sim_pick(&r, 100, 1500);
	config.pages[1] = sim_pick_chance(&r, 70) ? sim_pick(&r, 2, 800) : 0;
	config.pages[2] = sim_pick_chance(&r, 50) ? sim_pick(&r, 2, 600) : 0;
	pages = config.pages[0] + config.pages[1] + config.pages[2];
	config.spare_pages = sim_pick(&r, 1, sim_pick_chance(&r, 15) ? 6000 : 700);
	config.zip_pct = sim_pick(&r, 1, sim_pick_chance(&r, 30) ? 95 : 25);
	/* The file holds all memory: the daemon has seen to that. Sometimes not a page more. */
	config.swap_slots = sim_pick_chance(&r, 30) ? pages : SIM_SWAP_SLOTS;
	config.swap_delay = sim_pick(&r, 0, sim_pick_chance(&r, 20) ? 100 : 8);
	config.all_shrinks = sim_pick_chance(&r, 10);
	pick_troubles(&config, &r);
	config.alike = sim_pick_chance(&r, 50) ? sim_pick(&r, 5, 400) : 0;
	config.map_at_once = sim_pick_chance(&r, 30);
	config.maps_max = sim_pick_chance(&r, 30) ? sim_pick(&r, 1, 30) : 0;
	config.unreported = sim_pick_chance(&r, 15);
	return config;
}

static void run(uint64_t seed, uint64_t steps)
{
	struct sim_config config = pick_config(seed);

	sim_run(&config, steps);
}

int main(int argc, char **argv)
{
	static const struct sim_courses courses = {
		.program = "sim_soak",
		.sentence = "simulated VMs in all sorts of trouble keep every page",
		.course_steps = 25000,
		.seed = 1000,
		.steps = 2000000,
		.run = run};

	return sim_courses_main(argc, argv, &courses);
}
