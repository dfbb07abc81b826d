/* SPDX-License-Identifier: MIT */
/*
 * sim_unseen.c - direct I/O into guest pages that the kernel does not report
 *
 * The VMM opens a file behind the monitor's back. From then on transfers may begin into any page
 * that is in its place, and end when they like, with new content: in that very memory, wherever it
 * has been moved to. So it must still be there, in its place or in staging, and nobody may be
 * reading it. Some time later the descriptor is found, and when it has long been closed, forgotten,
 * as monitor/vm_direct.c does it.
 */
#include "sim/sim_mem.h"

#include <stdio.h>
#include <unistd.h>

/* The memory that a transfer goes into, wherever the pager has it now. */
static uint8_t *unseen_memory(const struct sim_region *region, uint32_t page)
{
	mt_gpn_t gpn = MT_GPN(region->first.n + page);

	if (region->present[page])
		return region->base + ((uint64_t)page << MT_PAGE_SHIFT);
	if (mt_page_state(&sim.pager->map, gpn) == MT_PAGE_NOMINATED &&
	    mt_page_in_use(&sim.pager->map, gpn))
		SIM_FAIL("page %u is read while a transfer into it is under way", page);
	for (uint32_t slot = 0; slot < sim.staging_slots; slot++)
		if (sim.staged[slot] && sim.staged_page[slot] == sim_page_id(region, page))
			return sim.staging + ((uint64_t)slot << MT_PAGE_SHIFT);
	SIM_FAIL("page %u is %s, and a transfer into it is under way", page,
		 mt_page_state_name(mt_page_state(&sim.pager->map, gpn)));
}

static void unseen_end(struct sim_region *region, uint32_t page)
{
	region->incoming[page] = false;
	sim.incoming--;
	/* A guest that gives up what it has just asked for gets what comes. */
	if (sim_in_flux((uint32_t)(region - sim.region), page))
		return;
	region->model[page] = sim_value();
	sim_fill(unseen_memory(region, page), region->model[page]);
	sim.transfers++;
}

static void unseen_end_some(uint32_t permille)
{
	for (uint32_t i = 0; sim.incoming && i < SIM_REGIONS; i++)
		for (uint32_t page = 0; page < sim.region[i].pages; page++)
			if (sim.region[i].incoming[page] && sim_chance(permille))
				unseen_end(&sim.region[i], page);
}

static void unseen_begin(void)
{
	struct sim_region *region = &sim.region[sim_below(SIM_REGIONS)];
	uint32_t page = region->pages ? sim_below(region->pages) : 0;

	if (!region->pages || region->leaving || !region->present[page] || region->incoming[page] ||
	    sim_in_flux((uint32_t)(region - sim.region), page))
		return;
	region->incoming[page] = true;
	sim.incoming++;
}

void sim_unseen_forget(struct sim_region *region, uint32_t page)
{
	sim.incoming -= region->incoming[page];
	region->incoming[page] = false;
}

/* What is left of it in staging, until nobody reads it any more, is nobody's. */
void sim_unseen_discarded(struct sim_region *region, uint32_t page)
{
	sim_unseen_forget(region, page);
	for (uint32_t slot = 0; slot < sim.staging_slots; slot++)
		if (sim.staged[slot] && sim.staged_page[slot] == sim_page_id(region, page))
			sim.staged_page[slot] = MT_NONE32;
}

/* The memory of a page is given up: only what the guest discards may be on its way. */
void sim_unseen_given_up(uint32_t page_id)
{
	uint32_t page = page_id % SIM_REGION_PAGES;

	if (page_id != MT_NONE32 && sim.region[page_id / SIM_REGION_PAGES].incoming[page] &&
	    !sim_in_flux(page_id / SIM_REGION_PAGES, page))
		SIM_FAIL("page %u is given up while a transfer into it is under way", page);
}

void sim_unseen_some(void)
{
	for (uint32_t i = 0; sim.unseen_open && i < 4; i++)
		unseen_begin();
	if (sim.incoming && sim_chance(20))
		unseen_end_some(300);
}

void sim_unseen_step(void)
{
	struct mt_pager *pager = sim.pager;

	if (!sim.config.unreported)
		return;
	sim_unseen_some();
	if (sim.unseen_open && sim_chance(5)) {
		unseen_end_some(1000);
		sim.unseen_open = false;
	} else if (!sim.unseen_open && sim_chance(5)) {
		sim.unseen_open = true;
	}
	/* A look by the link, soon when it is wanted. */
	if (sim_chance(atomic_load(&pager->look_wanted) ? 30 : 3)) {
		atomic_store(&pager->look_wanted, false);
		pager->in_place = sim.unseen_open;
	}
}

void sim_unseen_stop(void)
{
	unseen_end_some(1000);
	sim.unseen_open = sim.pager->in_place = false;
	atomic_store(&sim.pager->look_wanted, false);
}

bool sim_unseen_io(void *ctx)
{
	(void)ctx;
	/* What the kernel does not say may be so. */
	return sim.unseen_open || (!sim.calm && sim_chance(sim.config.trouble_permille));
}
