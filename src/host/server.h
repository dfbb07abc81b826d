/* SPDX-License-Identifier: MIT */
/*
 * server.h - the daemon as one object: what all its parts share
 *
 * One thread. Callbacks of the loop change records, queue output and mark what is broken or has
 * to be balanced anew; after each batch of events mt_server_sweep() acts on the marks. So nothing
 * disappears under a function that still uses it, and a hundred messages cost one balancing.
 */
#ifndef MT_HOST_SERVER_H
#define MT_HOST_SERVER_H

#include "host/config.h"
#include "host/events.h"
#include "host/ledger.h"
#include "host/loop.h"
#include "host/vm.h"
#include "policy/scheduler.h"

#define MT_VMS_MAX     1024
#define MT_LINKS_MAX   (MT_VMS_MAX + 64) /* some may not have said hello yet */
#define MT_CLIENTS_MAX 256
/* Kept out of VMs' reach where possible, so that a new one can start at once. */
#define MT_STARTER_RESERVE_PAGES MT_POLICY_START_PAGES
#define MT_NS_PER_S              1000000000ULL
#define MT_NS_PER_MS             1000000ULL

struct mt_server {
	struct mt_config config;
	struct mt_loop *loop;
	struct mt_events *events;
	struct mt_ledger *ledger;
	int uffd; /* /dev/userfaultfd */
	int signal_fd;
	int control_fd;
	int vm_fd;
	char vm_path[PATH_MAX];
	struct mt_source *signal_source;
	struct mt_source *control_source;
	struct mt_source *vm_source;
	bool stop;

	struct mt_vmrec *vms[MT_VMS_MAX]; /* sorted by name */
	unsigned int vm_count;
	uint32_t last_vm_id;
	struct mt_client *clients;
	unsigned int client_count;
	struct mt_link *links;
	unsigned int link_count;
	uint32_t last_serial;

	struct mt_share_group *share_groups;
	bool share_to_say;        /* links have answers gathered, see mt_share_say() */
	uint64_t common_balanced; /* shared frames at the last balancing because of them */
	unsigned int host_mhz;    /* of all processors */

	uint64_t started_ns;
	uint64_t held_max_pages;
	struct mt_event_rate rate; /* of peers that have no VM */

	struct mt_sched sched;
	struct mt_sched_config sched_config; /* in force; config.sched is how the daemon started */
	struct mt_sched_vm sched_vms[MT_VMS_MAX]; /* of the round under way */
	struct mt_ent_vm sched_work[MT_VMS_MAX];
	bool balance_due;
	bool paging;          /* the state asks for compression and swap, whatever balloons do */
	bool balance_waiting; /* a VM below its target, or a new one, needs what others hold */

	uint64_t deadline_ns;      /* next time something may have to be given up; may be early */
	uint64_t accept_paused_ns; /* out of descriptors until then; 0: accepting */
	bool state_dirty;
	uint64_t state_due_ns;
	bool state_failed; /* said so already */
};

struct mt_server *mt_server_new(const struct mt_config *config, struct mt_err *err);
void mt_server_free(struct mt_server *server);
/** mt_server_run() - until SIGTERM or SIGINT */
MT_MUST_CHECK int mt_server_run(struct mt_server *server, struct mt_err *err);

/** mt_server_turn() - wait for something to happen, at most until a deadline of ours, and act on it
 */
MT_MUST_CHECK int mt_server_turn(struct mt_server *server, struct mt_err *err);

/** mt_server_arm() - wake up at @deadline_ns at the latest and see what has expired */
void mt_server_arm(struct mt_server *server, uint64_t deadline_ns);

/** mt_server_pause_accept() - out of descriptors or memory: leave new peers waiting for a while */
void mt_server_pause_accept(struct mt_server *server, uint64_t pause_ns);

/** mt_server_now_ns() - monotonic, of this turn */
uint64_t mt_server_now_ns(const struct mt_server *server);

/** mt_server_minfree_pages() - free memory that all states are measured by */
uint64_t mt_server_minfree_pages(const struct mt_server *server, uint64_t pool_pages);

/** mt_server_room_pages() - what VMs may be promised in all, with a pool of @pool_pages */
uint64_t mt_server_room_pages(const struct mt_server *server, uint64_t pool_pages);

/** mt_server_held_pages() - what the VMs say they hold */
uint64_t mt_server_held_pages(const struct mt_server *server);

/** mt_server_event_limited() - an event that a peer can cause at will */
void mt_server_event_limited(struct mt_server *server, struct mt_event_rate *rate,
			     enum mt_event_level level, const char *vm, const char *text);

#endif
