/* SPDX-License-Identifier: MIT */
/* sim_check.c - compares the pager's view with the model; see sim_mem.h */
#include "sim/sim_mem.h"

#include <lz4.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/*
 * What can be seen without a look at every page, after each step: I1, I4 and what the stores say of
 * themselves. The full audit comes every few steps.
 */
void sim_check_step(void)
{
	struct mt_pager *pager = sim.pager;
	const struct mt_page_map *map = &pager->map;
	uint64_t mapped = 0, counted = 0;

	for (uint32_t i = 0; i < SIM_REGIONS; i++) {
		if (mt_region_of_addr(&pager->regions, (uintptr_t)sim.region[i].base))
			mapped += sim.region[i].pages;
		else if (sim.region[i].pages && !sim.quiet)
			SIM_FAIL("region %u is not known", i);
	}
	for (uint32_t i = 0; i < MT_PAGE_STATES; i++)
		counted += map->pages[i];
	if (mapped != counted)
		SIM_FAIL("I1: %lu pages are counted, there are %lu", (unsigned long)counted,
			 (unsigned long)mapped);
	if (!pager->settling && mt_room_held_pages(pager) > mt_room_grant_pages(pager))
		SIM_FAIL("I4: %lu pages held, %lu granted",
			 (unsigned long)mt_room_held_pages(pager),
			 (unsigned long)mt_room_grant_pages(pager));
	if (mt_zip_objects(pager->zip) != map->pages[MT_PAGE_ZIPPED])
		SIM_FAIL("I7: %lu zip objects for %lu zipped pages",
			 (unsigned long)mt_zip_objects(pager->zip),
			 (unsigned long)map->pages[MT_PAGE_ZIPPED]);
	if (pager->share.maps > pager->share.maps_max)
		SIM_FAIL("frames take %lu mappings, %lu are allowed",
			 (unsigned long)pager->share.maps, (unsigned long)pager->share.maps_max);
	if (map->nominated.count > map->pages[MT_PAGE_NOMINATED] ||
	    map->zipped.count > map->pages[MT_PAGE_ZIPPED] ||
	    pager->staging.used < map->pages[MT_PAGE_NOMINATED])
		SIM_FAIL("I2: %lu pages nominated, %lu on the list, %u slots",
			 (unsigned long)map->pages[MT_PAGE_NOMINATED],
			 (unsigned long)map->nominated.count, pager->staging.used);
}

/* Pages that were stolen, and that nobody has missed yet: an audit must. */
static uint64_t stolen_pages(void)
{
	struct mt_pager *pager = sim.pager;
	uint64_t stolen = 0;

	if (!sim.config.theft || mt_discards_waiting(&pager->discards))
		return 0;
	for (uint32_t i = 0; i < SIM_REGIONS; i++)
		for (uint32_t page = 0; page < sim.region[i].pages; page++) {
			mt_gpn_t gpn = MT_GPN(sim.region[i].first.n + page);

			stolen += !sim.region[i].present[page] &&
				  mt_page_state(&pager->map, gpn) == MT_PAGE_RESIDENT &&
				  !mt_page_droppable(&pager->map, gpn);
		}
	return stolen;
}

/* Nothing is counted that is not there, and nothing is there that is not counted. */
void sim_check_counts(void)
{
	struct mt_pager *pager = sim.pager;
	char text[200] = "";
	uint64_t pages, stolen = stolen_pages(),
			found = mt_audit(pager, &pages, text, sizeof(text));

	if (found != stolen)
		SIM_FAIL("audit: %lu found, %lu pages stolen: %s", (unsigned long)found,
			 (unsigned long)stolen, text);
	for (uint32_t i = 0; i < sim.staging_slots; i++)
		if (sim.staged[i] != mt_slots_is_used(pager->staging.slots, MT_SLOT(i)))
			SIM_FAIL("staging slot %u is %s", i,
				 sim.staged[i] ? "full but free" : "empty but taken");
	if (pager->staging.used != mt_slots_used(pager->staging.slots))
		SIM_FAIL("%u staging slots counted, %u used", pager->staging.used,
			 mt_slots_used(pager->staging.slots));
}

/* Called when nothing is under way: whatever is taken belongs to a page, and nobody is busy. */
void sim_check_rest(void)
{
	const struct mt_page_map *map = &sim.pager->map;
	uint64_t swapped = map->pages[MT_PAGE_SWAPPED];

	if (map->nominated.count != map->pages[MT_PAGE_NOMINATED] ||
	    map->zipped.count != map->pages[MT_PAGE_ZIPPED])
		SIM_FAIL("a page stays busy");
	if (sim.pager->staging.used != map->pages[MT_PAGE_NOMINATED])
		SIM_FAIL("%u staging slots are taken for %lu pages", sim.pager->staging.used,
			 (unsigned long)map->pages[MT_PAGE_NOMINATED]);
	if (sim.pager->sample.staged)
		SIM_FAIL("%u pages stay in a sample", sim.pager->sample.staged);
	if (sim.pager->promised_pages)
		SIM_FAIL("%lu pages stay promised", (unsigned long)sim.pager->promised_pages);
	/* Slots that damaged pages were in are not used again. */
	if (sim.pager->slots && !sim.damages && mt_slots_used(sim.pager->slots) != swapped)
		SIM_FAIL("%u swap slots are taken for %lu pages", mt_slots_used(sim.pager->slots),
			 (unsigned long)swapped);
}

static bool zip_is(struct mt_pager *pager, uint64_t place, uint64_t value)
{
	uint8_t page[MT_PAGE_SIZE] __attribute__((aligned(8)));
	const void *data;
	mt_gpn_t owner;
	uint32_t bytes = mt_zip_get(pager->zip, (mt_zref_t){place}, &data, &owner);

	return LZ4_decompress_safe(data, (char *)page, (int)bytes, MT_PAGE_SIZE) ==
		       (int)MT_PAGE_SIZE &&
	       sim_is(page, value);
}

static bool swap_is(const struct sim_region *region, uint64_t place, uint64_t value)
{
	(void)region;
	/* With damage the disk may lie: the checksum finds out when the page is read. */
	if (sim.config.damage)
		return true;
	return sim_is(mt_fake_swap_page(sim.swap, MT_SLOT(place)), value);
}

bool sim_page_is(const struct sim_region *region, uint32_t page, uint64_t value)
{
	struct mt_pager *pager = sim.pager;
	mt_gpn_t gpn = MT_GPN(region->first.n + page);
	enum mt_page_state state = mt_page_state(&pager->map, gpn);
	uint64_t place = mt_page_place(&pager->map, gpn);
	const uint8_t *addr = region->base + (uint64_t)page * MT_PAGE_SIZE;
	bool good = value == 0;

	if (state == MT_PAGE_RESIDENT && region->present[page])
		good = sim_is(addr, value);
	/* Dropped by a discard after the pager had taken notice of it: the next touch finds out. */
	else if (state == MT_PAGE_RESIDENT && mt_page_droppable(&pager->map, gpn))
		good = value == 0;
	else if (state == MT_PAGE_RESIDENT)
		good = sim.damages > 0;
	else if (state == MT_PAGE_NOMINATED)
		good = sim_is(sim.staging + place * MT_PAGE_SIZE, value);
	else if (state == MT_PAGE_ZIPPED)
		good = zip_is(pager, place, value);
	else if (state == MT_PAGE_SHARED)
		good = sim_is(mt_share_frame(pager, gpn), value);
	else if (state == MT_PAGE_SWAPPED)
		good = swap_is(region, place, value);
	else if (state == MT_PAGE_FAILED)
		good = sim.damages > 0;
	return good;
}

/* Where the map says that the only good copy is, there is what the guest wrote. */
static void check_page(const struct sim_region *region, uint32_t page)
{
	struct mt_pager *pager = sim.pager;
	mt_gpn_t gpn = MT_GPN(region->first.n + page);
	const char *state = mt_page_state_name(mt_page_state(&pager->map, gpn));
	uint64_t place = mt_page_place(&pager->map, gpn);

	if (region->mapped[page] != (mt_page_mapped(&pager->map, gpn) ? place + 1 : 0))
		SIM_FAIL("page 0x%x is %s, and frame %u is mapped there", gpn.n, state,
			 region->mapped[page]);
	if (region->present[page] && mt_page_state(&pager->map, gpn) != MT_PAGE_RESIDENT)
		SIM_FAIL("page 0x%x is %s, yet there is a page in its place", gpn.n, state);
	if (!sim_page_is(region, page, region->model[page]))
		SIM_FAIL("page 0x%x is %s, and its copy is not what the guest wrote", gpn.n, state);
}

/* Pieces of memory that the kernel can't join: with frames far around them when they came. */
static void check_pieces(const struct sim_region *region)
{
	uint32_t pieces = 0, last = 0;

	for (uint32_t page = 0; page < region->pages; page++) {
		if (region->mapped[page] || region->piece[page] == last)
			continue;
		last = region->piece[page];
		pieces += last != 0;
	}
	sim.pieces_max = MT_MAX(sim.pieces_max, pieces);
	if (pieces > region->pages / 64 + 4)
		SIM_FAIL("%u pieces of memory that can't be joined, among %u pages", pieces,
			 region->pages);
}

/* Called when no discard is under way and the pager has taken them all. */
void sim_check_contents(void)
{
	sim.checks++;
	for (uint32_t i = 0; i < SIM_REGIONS; i++)
		check_pieces(&sim.region[i]);
	for (uint32_t i = 0; i < SIM_REGIONS; i++)
		for (uint32_t page = 0; !sim.region[i].leaving && page < sim.region[i].pages;
		     page++)
			check_page(&sim.region[i], page);
}
