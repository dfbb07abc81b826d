/* SPDX-License-Identifier: MIT */
/*
 * sim_vm.h - a simulated VM: the real pager over memory, threads and a disk that are a model
 *
 * Guest memory and staging are plain arrays with a bit for each page that says whether it is there.
 * Guest threads are a table: one that touches an absent page queues a fault and stays blocked until
 * the pager puts the page there or wakes it. Every page's content follows from one number, so the
 * model knows what the guest must see. The VMM's discards run as a coroutine that can be stopped
 * wherever the real one could be overtaken by the pager, and the other way round.
 *
 * Everything follows from one seed. What goes wrong ends the process with seed and step.
 */
#ifndef MT_TESTS_SIM_VM_H
#define MT_TESTS_SIM_VM_H

#include "monitor/pager.h"

#define SIM_REGIONS      3U
#define SIM_REGION_PAGES 8192U /* address space of each; a region uses part of it */
#define SIM_STAGING      288U
#define SIM_STAGING_MAX  32768U
#define SIM_THREADS      24U
#define SIM_SWAP_SLOTS   8192U

struct sim_config {
	uint64_t seed;
	uint32_t pages[SIM_REGIONS]; /* largest size of each region */
	uint32_t spare_pages;        /* the target is this far above the least, at most */
	uint32_t zip_pct;
	uint32_t zip_blocks;       /* of 64 KiB that the zip store can have; 0: plenty */
	uint32_t swap_slots;       /* 0: no swap */
	uint32_t swap_delay;       /* a transfer takes up to so many turns */
	uint32_t trouble_permille; /* kernel answers other than done */
	bool damage;               /* reads and writes of swap fail or lie: pages may get FAILED */
	bool theft;                /* pages vanish from memory: they must be FAILED, not zero */
	bool swap_errors;          /* transfers fail, and say so: nothing may get lost */
	uint32_t eio_pct;          /* so many in a hundred, with swap_errors */
	bool regions_come_and_go;
	uint32_t alike;    /* so many contents that many pages have; 0: no sharing */
	uint32_t maps_max; /* mappings of frames there may be; 0: as many as the kernel has */
	bool map_at_once;  /* frames are mapped when pages are shared */
	bool must_share;   /* a run in which hardly anything is shared has failed */
	/* One without any pressure, in which the scanner must do what it was told. */
	bool must_keep_pace;
	bool unreported;  /* now and then direct I/O may be under way that nobody reports */
	bool all_shrinks; /* every page goes to the zip store if it may */
};

/** sim_run() - @steps random steps. Ends the process, having said why, if anything is wrong. */
void sim_run(const struct sim_config *config, uint64_t steps);

#endif
