/* SPDX-License-Identifier: MIT */
/*
 * vm.h - what the daemon knows about one VM
 *
 * A record lives from the moment its name is taken (by "memtide run" or by a monitor's HELLO)
 * until its memory is free again: its monitor said BYE, or its process has ended. In between the
 * connection may be lost and come back; what the VM holds stays on the books all the while.
 */
#ifndef MT_HOST_VM_H
#define MT_HOST_VM_H

#include "base/types.h"
#include "host/ledger.h"
#include "host/loop.h"
#include "host/qmp.h"
#include "policy/active.h"
#include "policy/admission.h"
#include "policy/proportional.h"
#include "wire/wire.h"

#include <sys/types.h>

#define MT_VM_REGIONS_MAX 64
/* A guest page number has 32 bits, and its largest value means "none". */
#define MT_VM_PAGES_MAX (UINT32_MAX - 1ULL)
#define MT_VM_BYTES_MAX (1ULL << 48)

struct mt_balloon;
struct mt_client;
struct mt_link;
struct mt_server;
struct mt_share_group;
struct mt_share_member;

enum mt_vm_state {
	MT_VM_STARTING,
	MT_VM_RUNNING,
	MT_VM_UNMANAGED,
	MT_VM_REFUSED,
	MT_VM_FAILED,
	MT_VM_AWAY,
};

/* How far it is stopped that a VM lost a page; see pause.h. */
enum mt_vm_pause {
	MT_PAUSE_NONE,
	MT_PAUSE_DUE,
	MT_PAUSE_ASKED,
};

/* Shares for each MiB of memory, as in vSphere. */
enum mt_vm_shares {
	MT_SHARES_LOW = 5,
	MT_SHARES_NORMAL = 10,
	MT_SHARES_HIGH = 20,
};

struct mt_vm_settings {
	uint64_t reservation_bytes;
	uint64_t limit_bytes;      /* 0: none */
	uint64_t target_max_bytes; /* 0: none */
	uint64_t shares;           /* 0: by level */
	uint32_t shares_per_mib;   /* level: enum mt_vm_shares */
	uint32_t zip_max_pct;
	char share_group[MT_WIRE_NAME_MAX];
};

struct mt_vm_region {
	uint64_t addr;
	uint64_t bytes;
	bool unmanaged;
	bool pending; /* REGION_ADD not answered yet */
	uint32_t serial;
	uint64_t deadline_ns;
	uint64_t swap_before; /* size of the swap file to go back to when refused */
};

/* At most so many lines a second from one source: nobody may push others' lines out of the ring. */
struct mt_event_rate {
	uint64_t window_ns;
	unsigned int count;
	unsigned int dropped;
};

struct mt_vmrec {
	struct mt_server *server;
	uint32_t id;
	char name[MT_WIRE_NAME_MAX];
	char token[MT_WIRE_TOKEN_MAX]; /* empty once used */
	char secret[MT_WIRE_TOKEN_MAX];
	char vmm[32];
	char reason[MT_WIRE_TEXT_MAX];
	char qmp_path[MT_QMP_PATH_MAX]; /* empty: no QMP */
	pid_t qmp_pid;                  /* who serves it in the place of the VMM; 0: the VMM */
	struct mt_vm_settings settings;

	struct mt_client *creator; /* holds the name until HELLO */
	struct mt_link *link;      /* NULL: starting or away */
	uid_t owner;               /* who made it, or runs it; see rights.h */
	bool owner_known;          /* not for one from an earlier daemon, until it says hello */
	pid_t pid;
	uint64_t start_ticks;
	int pidfd;
	struct mt_source *pidfd_source;
	uint64_t away_event_ns; /* when to say that the connection is lost; 0: nothing to say */

	struct mt_account *account;
	uint64_t target_pages;   /* what it deserves, as last decided; 0: nothing yet */
	uint64_t event_pages;    /* target of the last event about it */
	uint64_t decided_pages;  /* what the scheduler steers it to */
	uint64_t soft_pages;     /* while its balloon brings it there: what it held last; or 0 */
	uint64_t steer_pages;    /* what its monitor is told to hold, and most to grant */
	bool limited;            /* its target is all that it may have */
	bool target_known;       /* the monitor has been told */
	bool blocked;            /* must not grow: above its target in the low state */
	uint64_t plan_pages;     /* to be granted in this round */
	uint64_t recorded_pages; /* what the state file says it may hold */
	bool recorded;           /* it is in the state file */

	struct mt_vm_region regions[MT_VM_REGIONS_MAX];
	unsigned int region_count;
	uint64_t base_pages;    /* memory whose regions an earlier daemon knew */
	uint64_t less_pages;    /* memory it says it has, when that is less than we know of */
	uint64_t less_since_ns; /* 0: it isn't */
	int swap_fd;
	uint64_t swap_bytes;
	bool swap_passed;  /* the monitor has it */
	bool swap_unknown; /* an earlier daemon made the swap file */
	bool reconnected;
	bool unmanaged;
	bool refused;
	bool failed;
	bool over_grant; /* said so already */
	enum mt_vm_pause pause;
	bool pause_told; /* that it did not answer */
	struct mt_event_rate rate;
	uint64_t stats[MT_COUNTER_MAX];
	bool stats_known; /* there were any since it connected */

	struct mt_share_group *share_group; /* NULL: its monitor has not said hello */
	struct mt_share_member *sharer;
	bool share_pending; /* it is still to tell which frames it uses */
	bool share_waits;   /* it is to be told to start when its group has its frames again */

	/* What the scheduler takes from the statistics. */
	struct mt_active touched;
	struct mt_active written;
	struct mt_balloon *balloon; /* NULL: no QMP */
	bool pressing;              /* it had to give up pages of its own to bring others in */
};

/** mt_vm_in_place() - may no page leave its place, as a file is open for direct I/O? */
bool mt_vm_in_place(const struct mt_vmrec *vm);

/** mt_vm_memsize_pages() - guest memory under management, regions still waiting included */
uint64_t mt_vm_memsize_pages(const struct mt_vmrec *vm);

/** mt_vm_policy() - @vm as the policy sees it */
struct mt_policy_vm mt_vm_policy(const struct mt_vmrec *vm);

/** mt_vm_start_pages() - grant without which a region is not confirmed */
uint64_t mt_vm_start_pages(const struct mt_vmrec *vm);

/** mt_vm_admission() - @vm with @settings as admission control sees it; before it has memory, as if
 * that were its reservation */
struct mt_admit_vm mt_vm_admission(const struct mt_vmrec *vm,
				   const struct mt_vm_settings *settings);

/** mt_vm_promise_pages() - what the pool must be able to give @vm whatever the others do */
uint64_t mt_vm_promise_pages(const struct mt_vmrec *vm);

/** mt_vm_shares() - the number, also when it was given as a level */
uint64_t mt_vm_shares(const struct mt_vmrec *vm);

/** mt_vm_swap_bytes_wanted() - memory that may have to be swapped: all but the reservation */
uint64_t mt_vm_swap_bytes_wanted(const struct mt_vmrec *vm, uint64_t reservation_bytes);

enum mt_vm_state mt_vm_state(const struct mt_vmrec *vm);
const char *mt_vm_state_name(enum mt_vm_state state);

#endif
