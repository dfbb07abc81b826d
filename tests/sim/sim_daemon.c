/* SPDX-License-Identifier: MIT */
/*
 * sim_daemon.c - the daemon of the simulated host lives and dies; see sim_host.h
 *
 * It is killed by a jump out of the call to the kernel that it is in. What it had allocated is left
 * behind, as nobody could tell what of it is whole; its descriptors are closed, as the kernel
 * would.
 */
#include "sim/sim_host.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

/* Calls to the kernel within which a daemon that is to die does so. */
#define DEATH_WITHIN 30U
/* A daemon is young for so long. */
#define YOUNG_NS 1500000000U
/* Longest time without a daemon. */
#define AWAY_NS 3000000000U

void __wrap_mt_events_add(struct mt_events *events, enum mt_event_level level, const char *vm,
			  const char *fmt, ...) MT_PRINTF(4, 5);
void __real_mt_events_add(struct mt_events *events, enum mt_event_level level, const char *vm,
			  const char *fmt, ...) MT_PRINTF(4, 5);

void sim_daemon_start(void)
{
	struct mt_err err = {0};

	world.in_daemon = true;
	world.server = mt_server_new(&world.daemon_config, &err);
	world.in_daemon = false;
	if (!world.server)
		HOST_FAIL("the daemon does not start: %s", err.msg);
	world.daemons++;
	world.born_ns = world.clock_ns;
}

void sim_daemon_may_die(void)
{
	if (!world.in_daemon || !world.death_in || --world.death_in)
		return;
	longjmp(world.death, 1);
}

/* What it says of itself, for whoever looks for a fault. */
void __wrap_mt_events_add(struct mt_events *events, enum mt_event_level level, const char *vm,
			  const char *fmt, ...)
{
	char text[400];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	HOST_TALK("%s: %s", vm ? vm : "daemon", text);
	__real_mt_events_add(events, level, vm, "%s", text);
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void close_all(const struct mt_server *server)
{
	for (const struct mt_daemon_link *link = server->links; link; link = link->next)
		close_fd(link->pidfd);
	for (uint32_t i = 0; i < server->vm_count; i++) {
		close_fd(server->vms[i]->pidfd);
		close_fd(server->vms[i]->swap_fd);
	}
	for (const struct mt_share_group *g = server->share_groups; g; g = g->next) {
		close_fd(g->frames.fd);
		close_fd(g->frames.reader_fd);
	}
	close_fd(server->uffd);
	close_fd(server->signal_fd);
	close_fd(server->control_fd);
	close_fd(server->vm_fd);
	close_fd(world.epoll_fd);
}

static void daemon_died(void)
{
	close_all(world.server);
	sim_kernel_daemon_died();
	world.server = NULL;
	world.death_in = 0;
	world.deaths++;
	HOST_TALK("the daemon is killed");
	world.start_ns = world.clock_ns + host_below(AWAY_NS);
}

/* It may not live through it. */
static void daemon_do(void (*does)(void))
{
	struct sim_task *task = sim_task;

	sim_task = NULL;
	world.in_daemon = true;
	if (!setjmp(world.death))
		does();
	else
		daemon_died();
	world.in_daemon = false;
	sim_task = task;
}

static void daemon_live(void)
{
	struct mt_err err = {0};

	if (mt_server_turn(world.server, &err))
		HOST_FAIL("the daemon ends: %s", err.msg);
}

void sim_daemon_turn(void)
{
	/* VMs are still coming back: what they tell must not get lost with a second death. */
	bool young = world.clock_ns - world.born_ns < YOUNG_NS;

	if (!world.server || world.in_daemon || (!world.calm && world.clock_ns < world.hang_ns))
		return;
	if (world.calm)
		world.death_in = 0;
	else if (!world.death_in && host_chance_ppm(world.config.death_ppm * (young ? 8 : 1)))
		world.death_in = 1 + host_below(DEATH_WITHIN);
	daemon_do(daemon_live);
}

/* Told to end, as when a newer one is installed. */
static void daemon_end(void)
{
	world.server->stop = true;
	mt_state_file_finish(world.server);
	world.death_in = 0;
	mt_server_free(world.server);
	sim_kernel_daemon_died();
	world.server = NULL;
	world.start_ns = world.clock_ns + host_below(AWAY_NS);
}

void sim_daemon_stop(void)
{
	if (world.server && !world.in_daemon)
		daemon_do(daemon_end);
}
