/* SPDX-License-Identifier: MIT */
/*
 * sim_mem.h - what the parts of the simulated VM share; see sim_vm.h
 *
 *   sim_mem.c     memory, presence, the pager's memory operations
 *   sim_guest.c   guest threads, and the discards of the VMM
 *   sim_unseen.c  direct I/O that nobody reports
 *   sim_share.c   the daemon that pages are shared with
 *   sim_check.c   compares everything with the model
 *   sim_vm.c      puts it together and runs it
 */
#ifndef MT_TESTS_SIM_MEM_H
#define MT_TESTS_SIM_MEM_H

#include "common/fake_swap_io.h"
#include "sim/sim_vm.h"

#include <ucontext.h>

/* A number stands for a page's content: 0 is all zeros; the remainder says how well it shrinks. */
struct sim_region {
	uint8_t *base;
	uint32_t pages; /* 0: not there */
	mt_gpn_t first;
	uint32_t split; /* the kernel has a mapping's end here, if not 0 */
	bool locked;    /* pages can be neither moved out nor in */
	bool leaving;   /* the VMM is taking it away: nobody touches it any more */
	bool present[SIM_REGION_PAGES];
	bool pinned[SIM_REGION_PAGES];
	bool incoming[SIM_REGION_PAGES];   /* a transfer that nobody reports is under way */
	uint32_t mapped[SIM_REGION_PAGES]; /* 1 + frame that is mapped there; 0: none */
	/* What memory the kernel would join: 0 the region's first, others came between frames. */
	uint32_t piece[SIM_REGION_PAGES];
	uint32_t last_piece;
	uint64_t model[SIM_REGION_PAGES];
};

struct sim_thread {
	bool blocked;
	bool woken;
	bool write;
	uint32_t region;
	uint32_t page;
	uint64_t since; /* step */
	uint32_t walk;  /* pages it will go on to touch, one after the other */
};

/* The discarding thread of the VMM, a coroutine. */
struct sim_discarder {
	ucontext_t self, back;
	uint8_t stack[256 << 10];
	bool active, inside;
};

struct sim_state {
	struct sim_config config;
	struct mt_pager *pager;
	struct sim_region region[SIM_REGIONS];
	uint8_t *staging;
	uint32_t staging_slots;
	bool staged[SIM_STAGING_MAX];
	uint32_t staged_page[SIM_STAGING_MAX]; /* and where it came from: sim_page_id() */
	struct sim_thread thread[SIM_THREADS];
	struct mt_fault fault[4096]; /* queue */
	uint32_t fault_head, fault_tail;
	struct mt_fake_swap *swap;
	uint64_t random, step, clock_ns, next_value;
	uint64_t damages;
	bool in_step;                                 /* the pager is in a turn */
	bool calm;                                    /* no trouble, nothing new */
	bool quiet;                                   /* no discards: a region is on its way out */
	uint32_t flux_region, flux_first, flux_pages; /* a discard under way */
	uint64_t unmap_failures;                      /* of its pages */
	uint32_t pieces_max;
	bool unseen_open; /* a file whose transfers nobody reports */
	uint32_t incoming;
	uint64_t transfers;
	uint64_t reads, discards, failed_seen, checks;
	struct sim_discarder discarder;
};

/* The VM whose threads run: there may be several (sim_host.h). */
extern struct sim_state *sim_now;
#define sim (*sim_now)

#define SIM_FAIL(...)                                                                  \
	do {                                                                           \
		printf("# seed %llu step %llu: ", (unsigned long long)sim.config.seed, \
		       (unsigned long long)sim.step);                                  \
		printf(__VA_ARGS__);                                                   \
		printf("\n");                                                          \
		fflush(stdout);                                                        \
		_exit(1);                                                              \
	} while (0)

/* sim_mem.c */
uint64_t sim_random(void);
uint32_t sim_below(uint32_t limit);
bool sim_chance(uint32_t permille);
uint64_t sim_value(void);
void sim_fill(uint8_t *page, uint64_t value);
bool sim_is(const uint8_t *page, uint64_t value);
void sim_mem_areas(void);
void sim_mem_ops(struct mt_mem_ops *ret_ops);
uint32_t sim_page_id(const struct sim_region *region, uint32_t page);
struct sim_region *sim_region_of(const void *addr, uint32_t *ret_page);
bool sim_in_flux(uint32_t region, uint32_t page);

/* sim_guest.c */
void sim_guest_step(void);
void sim_guest_wake(uint32_t region, uint32_t first, uint32_t pages);
uint32_t sim_guest_blocked(void);
void sim_guest_forget(uint32_t region);
void sim_guest_no_one_waits_for_staged(void);
void sim_discard_begin(uint32_t region, uint32_t first, uint32_t pages);
void sim_discard_somewhere(void);
void sim_discard_resume(void);
bool sim_discard_active(void);

/* sim_unseen.c */
void sim_unseen_step(void);
void sim_unseen_some(void);
void sim_unseen_stop(void);
void sim_unseen_discarded(struct sim_region *region, uint32_t page);
void sim_unseen_forget(struct sim_region *region, uint32_t page);
void sim_unseen_given_up(uint32_t page_id);
bool sim_unseen_io(void *ctx);

/* sim_share.c */
void sim_share_start(void);
void sim_share_step(void);
bool sim_share_at_rest(void);
void sim_share_check_rest(void);
void sim_share_report(void);
const uint8_t *sim_share_frame(uint32_t frame);

/* sim_check.c */
void sim_check_step(void);
void sim_check_counts(void);
void sim_check_contents(void);
void sim_check_rest(void);
bool sim_page_is(const struct sim_region *region, uint32_t page, uint64_t value);

#endif
