/* SPDX-License-Identifier: MIT */
/* sim_host.c - puts the simulated host together and runs it; see sim_host.h */
#include "sim/sim_host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OWN_PAGES 64U
#define HANG_PPM  50U
/* Between two looks at everything. */
#define REST_STEPS 3000U
/* Steps without trouble within which every thread must have its page, and nothing be on its way. */
#define CALM_STEPS   60000U
#define LOCKED_STEPS 3000U
#define NS_PER_S     1000000000ULL

struct sim_world world;

static uint64_t host_random(void)
{
	uint64_t z = (world.random += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

uint32_t host_below(uint32_t limit)
{
	return (uint32_t)(host_random() % limit);
}

bool host_chance_ppm(uint32_t ppm)
{
	return host_below(1000000) < ppm;
}

static void configure(const char *dir)
{
	struct mt_config *config = &world.daemon_config;

	mt_config_init(config);
	config->pool_bytes = (uint64_t)world.config.pool_pages << MT_PAGE_SHIFT;
	config->own_bytes = OWN_PAGES << MT_PAGE_SHIFT;
	config->sandbox = false;
	config->zip_max_pct = world.config.guest.zip_pct;
	config->region_wait_ms = 3000;
	config->sched.sample_period_s = 1;
	config->sched.sample_pages = 30;
	config->sched.balance_period_s = 2;
	config->sched.state_dwell_s = 1;
	config->sched.share_scan_time_min = world.config.alike ? 1 : 0;
	snprintf(config->socket, sizeof(config->socket), "%.200s/s", dir);
	snprintf(config->swap_dir, sizeof(config->swap_dir), "%.200s", dir);
}

static void begin(const struct sim_host_config *config, const char *dir)
{
	memset(&world, 0, sizeof(world));
	world.config = *config;
	world.talk = getenv("MT_SIM_TALK") != NULL;
	world.random = config->seed * 0x9e3779b97f4a7c15ULL;
	world.clock_ns = 1000 * NS_PER_S;
	world.last_pid = 1000;
	for (uint32_t i = 0; i < SIM_CONNS_MAX; i++)
		world.conn[i].monitor_fd = world.conn[i].daemon_fd = -1;
	configure(dir);
	sim_daemon_start();
}

static void guests_come_and_go(void)
{
	struct sim_guest *guest = &world.guest[host_below(world.config.guests)];

	if (!guest->present && host_chance_ppm(6000))
		sim_guest_start(guest);
	else if (guest->present && host_chance_ppm(world.config.kill_ppm))
		sim_guest_kill(guest);
}

static void daemon_comes_and_goes(void)
{
	if (!world.server && (world.calm || world.clock_ns >= world.start_ns))
		sim_daemon_start();
	else if (world.server && !world.calm && host_chance_ppm(world.config.death_ppm / 8))
		sim_daemon_stop();
	else if (host_chance_ppm(HANG_PPM))
		world.hang_ns = world.clock_ns + host_below(20) * NS_PER_S;
}

static void step(void)
{
	world.clock_ns += world.config.step_ns / 8 + host_below(world.config.step_ns);
	if (!world.calm) {
		guests_come_and_go();
		sim_hostile_step();
	}
	sim_guest_turn(&world.guest[host_below(world.config.guests)]);
	daemon_comes_and_goes();
	if (world.calm || host_below(3) == 0)
		sim_daemon_turn();
	sim_books_check();
}

static uint32_t blocked(void)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < SIM_GUESTS_MAX; i++) {
		if (!world.guest[i].present || !world.guest[i].state->pager)
			continue;
		sim_guest_use(&world.guest[i]);
		count += sim_guest_blocked() + sim_discard_active();
	}
	return count;
}

static bool at_rest(void)
{
	if (!world.server || blocked() || !sim_kernel_silent() || !sim_books_sizes_agree())
		return false;
	for (uint32_t i = 0; i < SIM_GUESTS_MAX; i++)
		if (!sim_guest_at_rest(&world.guest[i]))
			return false;
	return true;
}

static void for_memory(void (*does)(void))
{
	for (uint32_t i = 0; i < SIM_GUESTS_MAX; i++) {
		struct sim_guest *guest = &world.guest[i];
		struct mt_pager *pager = guest->present ? sim_guest_pager(guest) : NULL;

		if (!pager || !pager->regions.count)
			continue;
		sim_guest_use(guest);
		does();
	}
}

static void end_troubles(void)
{
	struct mt_fake_swap_faults *faults =
		sim.swap && sim.pager ? mt_fake_swap_faults(sim.swap) : NULL;

	if (faults)
		faults->eio_write = faults->eio_read = faults->eio_percent = 0;
	for (uint32_t i = 0; i < SIM_REGIONS; i++)
		memset(sim.region[i].pinned, 0, sizeof(sim.region[i].pinned));
}

static void begin_troubles(void)
{
	if (sim.swap && sim.config.swap_errors)
		mt_fake_swap_faults(sim.swap)->eio_percent = sim.config.eio_pct;
}

static void unlock(void)
{
	for (uint32_t i = 0; i < SIM_REGIONS; i++)
		sim.region[i].locked = false;
}

/* No offers any more, or again. As when an operator says so. */
static void set_sharing(bool on)
{
	world.server->sched_config.share_scan_time_min =
		on ? world.daemon_config.sched.share_scan_time_min : 0;
	mt_monitor_send_settings_all(world.server);
}

static void check_all(void)
{
	sim_check_counts();
	sim_check_contents();
}

static void tell_unrest(void)
{
	for (uint32_t i = 0; i < SIM_GUESTS_MAX; i++) {
		const struct sim_guest *guest = &world.guest[i];

		if (!sim_books_sizes_agree())
			printf("# the daemon has another size of some VM's memory\n");
		if (!sim_guest_at_rest(guest))
			printf("# %s has not come to rest: %s\n", guest->name,
			       !sim_guest_pager(guest)  ? "it starts or leaves"
			       : guest->vm->link.fd < 0 ? "it has no connection"
							: "it waits for the daemon, or its pager");
	}
}

/*
 * No trouble, and nothing new: whoever waits gets what he waits for, and what is on its way
 * arrives.
 */
static void come_to_rest(void)
{
	uint32_t waited = 0;

	world.calm = true;
	sim_hostile_end();
	for_memory(end_troubles);
	do {
		step();
		if (waited == LOCKED_STEPS)
			for_memory(unlock);
		if (world.server && waited % 1000 == 0)
			set_sharing(false);
		if (++waited == CALM_STEPS) {
			tell_unrest();
			HOST_FAIL("after %u steps without trouble %u threads still wait, or "
				  "something is on its way",
				  waited, blocked());
		}
	} while (!at_rest());
	sim_books_check_rest();
	for_memory(check_all);
	for_memory(begin_troubles);
	set_sharing(true);
	world.rests++;
	world.calm = false;
}

/* All VMs go, and leave nothing behind. */
static void end(void)
{
	for (uint32_t i = 0; i < SIM_GUESTS_MAX; i++)
		sim_guest_kill(&world.guest[i]);
	world.calm = true;
	sim_hostile_end();
	for (uint32_t n = 0, left = 1; left && n < CALM_STEPS; n++) {
		step();
		left = 0;
		for (uint32_t i = 0; i < SIM_GUESTS_MAX; i++) {
			sim_guest_kill(&world.guest[i]);
			left += world.guest[i].present;
		}
	}
	for (uint32_t n = 0; n < 100; n++)
		step();
	sim_books_check_empty();
	sim_daemon_stop();
}

static void report(void)
{
	printf("# seed %llu: %llu steps, %.0f s; daemons %llu (%llu killed); VMs %llu, left %llu, "
	       "killed %llu, refusals %llu; memory added %llu, removed %llu; liars %llu; looks "
	       "%llu; "
	       "accesses %llu, shared %llu, zipped %llu, swapped %llu\n",
	       (unsigned long long)world.config.seed, (unsigned long long)world.step,
	       (double)world.clock_ns / 1e9 - 1000, (unsigned long long)world.daemons,
	       (unsigned long long)world.deaths, (unsigned long long)world.guests,
	       (unsigned long long)world.leaves, (unsigned long long)world.kills,
	       (unsigned long long)world.refusals, (unsigned long long)world.adds,
	       (unsigned long long)world.removes, (unsigned long long)world.hostiles,
	       (unsigned long long)world.rests, (unsigned long long)world.reads,
	       (unsigned long long)world.shared, (unsigned long long)world.zipped,
	       (unsigned long long)world.swapped);
}

void sim_host_run(const struct sim_host_config *config, const char *dir, uint64_t steps)
{
	begin(config, dir);
	for (world.step = 1; world.step <= steps; world.step++) {
		step();
		if (world.step % 200 == 0)
			sim_books_check_tables();
		if (world.step % REST_STEPS == 0)
			come_to_rest();
	}
	end();
	report();
}
