/* SPDX-License-Identifier: MIT */
/* sim_vm.c - runs the simulated VM; see sim_vm.h */
#include "sim/sim_mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Steps without trouble within which every thread must get its page: writes rest for 1000. */
#define SIM_CALM_STEPS 6000U
/* Pages of locked memory come back within this many of them. */
#define SIM_LOCKED_STEPS 3000U
#define SIM_PLENTY_PAGES 20000U
#define SIM_STEP_NS      1000000U
/* Target above bookkeeping, staging's wait list and the gap: the least a VM can live with. */
#define SIM_LEAST_PAGES 280U

uint64_t __wrap_mt_pager_now_ns(void);

/* Rests after errors follow the simulated clock. */
uint64_t __wrap_mt_pager_now_ns(void)
{
	return sim.clock_ns;
}

static void sim_notify(void *ctx)
{
	(void)ctx;
}

static uint64_t fixed_pages(void)
{
	return mt_pages_of_bytes(mt_room_overhead_bytes(sim.pager) +
				 mt_zip_held_bytes(sim.pager->zip));
}

static void steer(uint64_t target)
{
	atomic_store(&sim.pager->target_pages, target);
	if (mt_room_grant_pages(sim.pager) < target)
		atomic_fetch_add(&sim.pager->granted_pages,
				 target - mt_room_grant_pages(sim.pager));
}

static void steer_anywhere(void)
{
	uint64_t overhead = mt_pages_of_bytes(mt_room_overhead_bytes(sim.pager));

	if (!sim.config.must_keep_pace)
		steer(overhead + SIM_LEAST_PAGES + sim_below(sim.config.spare_pages + 1));
}

static void region_add(uint32_t i)
{
	struct sim_region *region = &sim.region[i];
	uint32_t pages = sim.config.pages[i] / 2 + sim_below(sim.config.pages[i] / 2) + 1;
	struct mt_region entry = {.base = region->base, .pages = pages};
	uint64_t held;

	/* The daemon grants what a region needs before it is taken in. */
	atomic_fetch_add(&sim.pager->granted_pages, pages * 16 / MT_PAGE_SIZE + 2);
	MT_ASSERT(!mt_map_extend(&sim.pager->map, pages, &entry.first));
	MT_ASSERT(!mt_region_insert(&sim.pager->regions, &entry));
	region->pages = pages;
	region->first = entry.first;
	region->split = sim_chance(700) ? sim_below(pages) : 0;
	region->locked = false;
	/* Some of it the VMM has filled before. */
	for (uint32_t n = 0; n < 20; n++) {
		uint32_t page = sim_below(pages);

		held = mt_room_held_pages(sim.pager);
		if (held >= mt_room_grant_pages(sim.pager) || region->present[page])
			break;
		region->present[page] = true;
		region->model[page] = sim_value();
		sim_fill(region->base + page * MT_PAGE_SIZE, region->model[page]);
		mt_page_set(&sim.pager->map, MT_GPN(entry.first.n + page), MT_PAGE_UNTOUCHED,
			    MT_PAGE_RESIDENT, 0);
	}
}

/* As vm_region_delete() and the unregistration after it do. */
static void region_remove(uint32_t i)
{
	struct sim_region *region = &sim.region[i];
	struct mt_pager *pager = sim.pager;

	for (uint32_t page = 0; page < region->pages; page++)
		sim_unseen_discarded(region, page);
	/* What can't be unmapped is another matter (vm_region.c). */
	sim.calm = true;
	mt_discard_range(pager, region->first, region->pages);
	sim.calm = false;
	for (uint32_t page = 0; page < region->pages; page++)
		mt_page_set(&pager->map, MT_GPN(region->first.n + page), MT_PAGE_RELEASED,
			    MT_PAGE_UNTOUCHED, 0);
	mt_region_delete(&pager->regions, region->base);
	mt_map_retract(&pager->map, region->first, region->pages);
	mt_staging_flush(&pager->staging);
	memset(region->present, 0, sizeof(region->present));
	memset(region->pinned, 0, sizeof(region->pinned));
	memset(region->mapped, 0, sizeof(region->mapped));
	memset(region->piece, 0, sizeof(region->piece));
	memset(region->model, 0, sizeof(region->model));
	region->pages = 0;
	sim_guest_forget(i);
}

/* The disk lies or fails, once. */
static void spoil_swap(void)
{
	struct mt_fake_swap_faults *faults = mt_fake_swap_faults(sim.swap);
	struct mt_fake_swap_counts counts = mt_fake_swap_counts(sim.swap);
	uint32_t kind = sim_below(sim.config.damage ? 6 : 2);

	sim.damages += sim.config.damage && kind > 0;
	if (kind == 0)
		faults->eio_write = counts.writes + 1 + sim_below(4);
	else if (kind == 1)
		faults->eio_read = counts.reads + 1 + sim_below(4);
	else if (kind == 2)
		faults->rot_read = counts.reads + 1 + sim_below(4);
	else if (kind == 3)
		faults->torn_write = counts.writes + 1 + sim_below(4);
	else if (kind == 4)
		faults->lost_write = counts.writes + 1 + sim_below(4);
	else
		faults->eio_percent = faults->eio_percent ? 0 : 30;
}

/* A page is gone from its place, and nobody was told. */
static void steal_page(struct sim_region *region)
{
	struct mt_pager *pager = sim.pager;
	uint32_t page = sim_below(region->pages);
	mt_gpn_t gpn = MT_GPN(region->first.n + page);

	if (mt_page_state(&pager->map, gpn) == MT_PAGE_RESIDENT && region->present[page] &&
	    !region->incoming[page] && !mt_page_droppable(&pager->map, gpn)) {
		region->present[page] = false;
		sim.damages++;
	}
}

static void flip(bool *flag)
{
	*flag = !*flag;
}

/* What happens rarely. */
static void something_happens(void)
{
	uint32_t i = sim_below(SIM_REGIONS), what = sim_below(100);
	struct sim_region *region = &sim.region[i];

	if (what < 40)
		sim_discard_somewhere();
	else if (what < 55)
		steer_anywhere();
	else if (what < 80 && region->pages)
		flip(&region->pinned[sim_below(region->pages)]);
	else if (what < 84)
		flip(&region->locked);
	else if (what < 90 && sim.config.theft && region->pages && !sim_discard_active())
		steal_page(region);
	else if (what < 90 && sim.swap && (sim.config.damage || sim.config.swap_errors))
		spoil_swap();
	else if (what < 93 && sim.config.regions_come_and_go && !sim_discard_active()) {
		if (region->pages)
			region_remove(i);
		else if (sim.config.pages[i])
			region_add(i);
	}
}

/* A VM with a lost page goes on when it discards it. */
static void recover_failed(void)
{
	for (uint32_t i = 0; i < SIM_REGIONS; i++) {
		struct sim_region *region = &sim.region[i];

		for (uint32_t page = 0; page < region->pages; page++) {
			if (mt_page_state(&sim.pager->map, MT_GPN(region->first.n + page)) !=
			    MT_PAGE_FAILED)
				continue;
			sim.failed_seen++;
			sim_discard_begin(i, page, 1);
			return;
		}
	}
}

static void turn(void)
{
	sim.clock_ns += SIM_STEP_NS / 8 + sim_below(SIM_STEP_NS);
	sim.in_step = true;
	mt_pager_step(sim.pager, 0);
	sim.in_step = false;
	sim_share_step();
	if (sim.calm || sim_chance(600))
		mt_helper_run_one(&sim.pager->helper);
	if (sim_discard_active())
		sim_discard_resume();
	if (sim.pager->map.pages[MT_PAGE_FAILED] && !sim.damages)
		SIM_FAIL("a page was lost without any damage");
}

/* Locked memory can't be given up, so others may have to wait for it; its own pages come back. */
static void unlock(void)
{
	sim_guest_no_one_waits_for_staged();
	for (uint32_t i = 0; i < SIM_REGIONS; i++)
		sim.region[i].locked = false;
}

static bool at_rest(const struct mt_pager *pager)
{
	for (uint32_t i = 0; i < MT_SWAP_OPS; i++)
		if (pager->swap_op[i].kind != MT_SWAP_FREE)
			return false;
	for (uint32_t i = 0; i < MT_JOBS; i++)
		if (pager->helper.job[i].phase != MT_JOB_IDLE)
			return false;
	return sim_share_at_rest() && !pager->swap_queue.count &&
	       pager->sample.phase == MT_SAMPLE_IDLE;
}

/* Periods are short here: a few hundred turns. */
static void sim_sample(bool on)
{
	atomic_store(&sim.pager->sample.pages, (uint32_t)(10 + sim.config.seed % 90));
	atomic_store(&sim.pager->sample.period_ns, on ? SIM_STEP_NS * 200 : 0);
}

/* With all the memory in the world nothing is under way, so nobody may be busy and nothing kept. */
static void come_to_rest(void)
{
	uint64_t target = atomic_load(&sim.pager->target_pages);
	uint32_t turns = 0;

	sim_sample(false);
	atomic_store(&sim.pager->target_pages, mt_room_grant_pages(sim.pager));
	atomic_fetch_add(&sim.pager->granted_pages, SIM_PLENTY_PAGES);
	atomic_fetch_add(&sim.pager->target_pages, SIM_PLENTY_PAGES);
	do
		turn();
	while (!at_rest(sim.pager) && ++turns < SIM_CALM_STEPS);
	if (at_rest(sim.pager)) {
		sim_check_rest();
		sim_share_check_rest();
	}
	sim_sample(true);
	atomic_store(&sim.pager->target_pages, target);
}

/* No trouble, nothing new: within bounds, whoever waits must get what he waits for. */
static void calm_down(void)
{
	struct mt_fake_swap_faults *faults = sim.swap ? mt_fake_swap_faults(sim.swap) : NULL;
	uint32_t waited = 0;

	sim.calm = true;
	sim_unseen_stop();
	if (faults)
		faults->eio_write = faults->eio_read = 0;
	if (faults)
		faults->eio_percent = 0;
	for (uint32_t i = 0; i < SIM_REGIONS; i++)
		memset(sim.region[i].pinned, 0, sizeof(sim.region[i].pinned));
	while (sim_guest_blocked() || sim_discard_active()) {
		turn();
		sim_guest_step();
		if (waited == SIM_LOCKED_STEPS)
			unlock();
		if (++waited == SIM_CALM_STEPS)
			SIM_FAIL("%u threads still wait for their page after %u calm turns; %lu "
				 "held, "
				 "%lu granted, %u waiters",
				 sim_guest_blocked(), waited,
				 (unsigned long)mt_room_held_pages(sim.pager),
				 (unsigned long)mt_room_grant_pages(sim.pager), sim.pager->waiters);
	}
	unlock();
	turn();
	sim_check_counts();
	sim_check_contents();
	come_to_rest();
	if (faults && sim.config.swap_errors)
		faults->eio_percent = sim.config.eio_pct;
	sim.calm = false;
}

static void sim_start(const struct sim_config *config)
{
	memset(&sim, 0, sizeof(sim));
	sim.config = *config;
	sim.random = config->seed * 0x2545f4914f6cdd1dULL;
	sim.clock_ns = 1000000000;
	sim.pager = calloc(1, sizeof(*sim.pager));
	MT_ASSERT(sim.pager);
	sim_mem_areas();
	sim_mem_ops(&sim.pager->mem);
	sim.pager->notify = sim_notify;
	sim.pager->fault_fd = -1;
	sim.pager->mem_fd = -1;
	sim.pager->zip_arena_bytes = config->zip_blocks ? config->zip_blocks << 16 : 64 << 20;
	sim.pager->helper.by_hand = true;
	atomic_store(&sim.pager->zip_max_pct, config->zip_pct);
	sim.pager->sample.random = config->seed | 1;
	sim_sample(true);
	MT_ASSERT(!mt_pager_init(sim.pager, sim.staging, SIM_STAGING));
	if (config->swap_slots) {
		sim.swap = mt_fake_swap_new(config->swap_slots, MT_SWAP_OPS * 2,
					    sim.pager->event_fd, &sim.pager->swap);
		MT_ASSERT(!mt_slots_new(config->swap_slots, &sim.pager->slots));
		*mt_fake_swap_faults(sim.swap) = (struct mt_fake_swap_faults){
			.seed = config->seed,
			.delay_max = config->swap_delay,
			.reorder = true,
			.eio_percent = config->swap_errors ? config->eio_pct : 0,
			.eio_passes = !config->damage};
	}
	sim_share_start();
	steer(fixed_pages() + SIM_LEAST_PAGES + config->spare_pages);
	for (uint32_t i = 0; i < SIM_REGIONS; i++)
		if (config->pages[i])
			region_add(i);
	steer_anywhere();
}

static void sim_report(void)
{
	printf("# seed %llu: %llu steps, %llu accesses, %llu discards, %llu nominations, zip in "
	       "%llu, "
	       "swap out %llu in %llu, lost %llu, full checks %llu, sampled %llu of %llu, unseen "
	       "transfers %llu\n",
	       (unsigned long long)sim.config.seed, (unsigned long long)sim.step,
	       (unsigned long long)sim.reads, (unsigned long long)sim.discards,
	       (unsigned long long)sim.pager->counter[MT_C_NOMINATIONS],
	       (unsigned long long)sim.pager->counter[MT_C_ZIP_IN],
	       (unsigned long long)sim.pager->counter[MT_C_SWAP_OUT],
	       (unsigned long long)sim.pager->counter[MT_C_SWAP_IN],
	       (unsigned long long)sim.failed_seen, (unsigned long long)sim.checks,
	       (unsigned long long)sim.pager->counter[MT_C_SAMPLE_TOUCHED],
	       (unsigned long long)sim.pager->counter[MT_C_SAMPLE_WATCHED],
	       (unsigned long long)sim.transfers);
}

/*
 * While swap takes pages, a nominated page is compressed once at most, however slow the disk is:
 * what would not shrink waits for its transfer, not for another try.
 */
static void sim_check_effort(void)
{
	const struct sim_config *config = &sim.config;

	if (config->damage || config->swap_errors || config->swap_slots < SIM_SWAP_SLOTS)
		return;
	if (sim.pager->counter[MT_C_ZIP_REJECTED] + sim.pager->counter[MT_C_ZIP_IN] >
	    sim.pager->counter[MT_C_NOMINATIONS])
		SIM_FAIL("%llu pages rejected for %llu nominations",
			 (unsigned long long)sim.pager->counter[MT_C_ZIP_REJECTED],
			 (unsigned long long)sim.pager->counter[MT_C_NOMINATIONS]);
}

void sim_run(const struct sim_config *config, uint64_t steps)
{
	sim_start(config);
	for (sim.step = 1; sim.step <= steps; sim.step++) {
		sim_guest_step();
		if (sim_chance(60))
			something_happens();
		if (sim.pager->map.pages[MT_PAGE_FAILED] && !sim_discard_active() && sim_chance(50))
			recover_failed();
		sim_unseen_step();
		turn();
		sim_check_step();
		if (sim.step % 8 == 0)
			sim_check_counts();
		if (sim.step % 2000 == 0)
			calm_down();
	}
	sim_report();
	sim_share_report();
	sim_check_effort();
	mt_pager_fini(sim.pager);
}
