/* SPDX-License-Identifier: MIT */
/*
 * sim_host.h - a simulated host: several VMs and a daemon, all of their code real
 *
 * Each VM is the monitor's library from mt_vm_new() to mt_vm_leave(), over the memory, guest and
 * disk of sim_vm.h; its threads are coroutines (sim_threads.h). The daemon is the daemon's server
 * object. They talk over socketpairs. What is made up is what the kernel would do: connecting,
 * processes and their ends, userfaultfd, swap files, the clock (sim_kernel.c). All runs in one
 * thread, in an order that follows from one seed, as does what befalls them:
 *
 *   the daemon dies, at any call to the kernel, and is started anew from its state file
 *   VMs come and go, by the front door or killed; memory is added to them and taken away
 *   peers that lie, in sim_hostile.c
 *   everything that befalls a single VM in sim_vm.h
 *
 *   sim_kernel.c   what stands in for the kernel      sim_daemon.c   the daemon lives and dies
 *   sim_guests.c   VMs come, live and go              sim_books.c    the books against the truth
 *   sim_hostile.c  peers that lie                     sim_host.c     puts it together and runs it
 */
#ifndef MT_TESTS_SIM_HOST_H
#define MT_TESTS_SIM_HOST_H

#include "monitor/vm_internal.h"
#include "sim/sim_mem.h"
#include "sim/sim_threads.h"

/* Both sides have one of this name; the daemon's sources are compiled with another for it. */
#define mt_link       mt_daemon_link
#define mt_link_close mt_daemon_link_close
#include "host/monitor_hello.h"
#include "host/monitor_link.h"
#include "host/registry.h"
#include "host/server.h"
#include "host/share.h"
#include "host/share_table_impl.h"
#include "host/state_file.h"
#undef mt_link
#undef mt_link_close

#include <setjmp.h>

#define SIM_GUESTS_MAX 6U
#define SIM_CONNS_MAX  64U

struct sim_host_config {
	uint64_t seed;
	uint32_t guests;      /* at most at a time */
	uint32_t guest_pages; /* of the largest */
	uint32_t pool_pages;
	uint32_t step_ns;        /* most that the clock advances in one step */
	uint32_t death_ppm;      /* in so many steps of a million the daemon is killed */
	uint32_t kill_ppm;       /* ... a VM is */
	uint32_t hostile_ppm;    /* ... a peer that lies turns up */
	uint32_t alike;          /* contents that many pages have; 0: no sharing */
	uint32_t disk_full_pct;  /* so many swap files can't be made or grow */
	struct sim_config guest; /* troubles of each VM */
};

struct sim_guest {
	struct sim_state *state;
	struct sim_task task[SIM_KINDS];
	struct mt_vm *vm; /* as soon as it has a userfaultfd; NULL before and after */
	char name[16];
	char group[16];
	uint64_t reservation_bytes, limit_bytes, shares;
	pid_t pid;
	int process_fd; /* readable when the process has ended */
	bool present;   /* the process lives */
	bool ended;     /* the VMM's main function has returned */
	uint32_t regions_added;
};

/* Both ends of a connection. */
struct sim_conn {
	int monitor_fd, daemon_fd; /* -1: closed */
	pid_t pid;
	bool waiting; /* the daemon has not accepted it yet */
};

struct sim_world {
	struct sim_host_config config;
	uint64_t random, step, clock_ns;
	bool calm;
	bool talk; /* MT_SIM_TALK is set: say what happens */
	struct sim_guest guest[SIM_GUESTS_MAX];
	struct sim_guest *now; /* whose threads run */
	struct sim_conn conn[SIM_CONNS_MAX];
	pid_t last_pid;

	struct mt_server *server; /* NULL: there is no daemon */
	struct mt_config daemon_config;
	bool in_daemon;
	uint32_t death_in; /* calls to the kernel until the daemon dies; 0: it doesn't */
	jmp_buf death;
	uint64_t start_ns; /* when to start it again */
	uint64_t born_ns;  /* when it was started */
	uint64_t hang_ns;  /* it does nothing before then */
	int epoll_fd;      /* the daemon's */

	uint64_t daemons, deaths, guests, leaves, kills, refusals, hostiles, rests, adds, removes;
	uint64_t reads, shared, zipped, swapped; /* of VMs that are gone */
};

extern struct sim_world world;

#define HOST_FAIL(...)                                                                   \
	do {                                                                             \
		printf("# seed %llu step %llu: ", (unsigned long long)world.config.seed, \
		       (unsigned long long)world.step);                                  \
		printf(__VA_ARGS__);                                                     \
		printf("\n");                                                            \
		fflush(stdout);                                                          \
		_exit(1);                                                                \
	} while (0)

#define HOST_TALK(...)                                                   \
	do {                                                             \
		if (!world.talk)                                         \
			break;                                           \
		printf("# step %llu: ", (unsigned long long)world.step); \
		printf(__VA_ARGS__);                                     \
		printf("\n");                                            \
	} while (0)

/* sim_host.c */

/** sim_host_run() - @steps steps. Ends the process, having said why, if anything is wrong. */
void sim_host_run(const struct sim_host_config *config, const char *dir, uint64_t steps);
uint32_t host_below(uint32_t limit);
bool host_chance_ppm(uint32_t ppm);

/* sim_kernel.c */
int sim_kernel_connect(pid_t pid);
void sim_kernel_hang_up(pid_t pid);
void sim_kernel_daemon_died(void);
void sim_kernel_start_process(struct sim_guest *guest);
bool sim_kernel_silent(void);

/* sim_daemon.c */
void sim_daemon_start(void);
void sim_daemon_turn(void);
void sim_daemon_stop(void);
void sim_daemon_may_die(void);

/* sim_guests.c */
void sim_guest_use(struct sim_guest *guest);
void sim_guest_start(struct sim_guest *guest);
void sim_guest_turn(struct sim_guest *guest);
void sim_guest_kill(struct sim_guest *guest);
void sim_guest_gone(struct sim_guest *guest);
struct mt_pager *sim_guest_pager(const struct sim_guest *guest);
bool sim_guest_at_rest(const struct sim_guest *guest);
struct sim_guest *sim_guest_of_pid(pid_t pid);

/* sim_hostile.c */
void sim_hostile_step(void);
void sim_hostile_end(void);
int sim_hostile_process_fd(pid_t pid);

/* sim_books.c */
void sim_books_check(void);
bool sim_books_sizes_agree(void);
void sim_books_check_rest(void);
void sim_books_check_tables(void);
void sim_books_check_empty(void);

#endif
