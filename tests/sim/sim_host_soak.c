/* SPDX-License-Identifier: MIT */
/*
 * sim_host_soak.c - the simulated host, course after course, each with circumstances of its own
 *
 * A course is a host from the start of its daemon until all VMs are gone. One number replays a
 * failure: "sim_host_soak --seed S --steps N".
 */
#include "sim/sim_courses.h"
#include "sim/sim_host.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* The daemons' state files. */
static char dir[64];

static struct sim_host_config pick_config(uint64_t seed)
{
	uint64_t r = seed * 0x9e3779b97f4a7c15ULL;
	struct sim_host_config config = {.seed = seed};

	config.guests = sim_pick(&r, 2, SIM_GUESTS_MAX);
	config.guest_pages = sim_pick(&r, 300, 1500);
	config.pool_pages = MT_POLICY_START_PAGES * (config.guests + 1) +
			    sim_pick(&r, 0, config.guests * config.guest_pages / 6);
	config.step_ns = sim_pick(&r, 300000, 4000000);
	config.death_ppm = sim_pick_chance(&r, 85) ? sim_pick(&r, 100, 4000) : 0;
	config.kill_ppm = sim_pick(&r, 10, 600);
	config.hostile_ppm = sim_pick_chance(&r, 40) ? sim_pick(&r, 100, 2000) : 0;
	config.alike = sim_pick_chance(&r, 75) ? sim_pick(&r, 5, 400) : 0;
	config.guest.maps_max = sim_pick_chance(&r, 30) ? sim_pick(&r, 1, 30) : 0;
	config.disk_full_pct = sim_pick_chance(&r, 25) ? sim_pick(&r, 1, 40) : 0;
	config.guest.zip_pct = sim_pick(&r, 1, sim_pick_chance(&r, 30) ? 90 : 25);
	config.guest.trouble_permille = sim_pick_chance(&r, 60) ? sim_pick(&r, 1, 80) : 0;
	config.guest.swap_errors = sim_pick_chance(&r, 30);
	config.guest.eio_pct = config.guest.swap_errors ? sim_pick(&r, 0, 20) : 0;
	return config;
}

static void run(uint64_t seed, uint64_t steps)
{
	struct sim_host_config config = pick_config(seed);
	char own[96];

	snprintf(own, sizeof(own), "%s/%llu", dir, (unsigned long long)seed);
	MT_ASSERT(!mkdir(own, 0700));
	sim_host_run(&config, own, steps);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st;
	(void)kind;
	(void)at;
	return remove(path);
}

int main(int argc, char **argv)
{
	static const struct sim_courses courses = {
		.program = "sim_host_soak",
		.sentence = "VMs and daemons of simulated hosts come, die and go, and every page "
			    "stays what it was",
		.course_steps = 25000,
		.seed = 1000,
		.steps = 2000000,
		.run = run};
	int status;

	snprintf(dir, sizeof(dir), "%s/memtide-sim-XXXXXX",
		 access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	MT_ASSERT(mkdtemp(dir));
	status = sim_courses_main(argc, argv, &courses);
	nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	return status;
}
