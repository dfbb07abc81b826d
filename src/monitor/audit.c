/* SPDX-License-Identifier: MIT */
/*
 * audit.c - check every invariant of a live VM
 *
 * Run by the pager between two turns, so what it sees stands still. The numbers are those of
 * ARCHITECTURE.md:
 *
 *   I1  every page is in exactly one state; the counts say how many in each
 *   I2  a page is on its state's list iff nobody is busy with it
 *   I4  what is held does not exceed the grant
 *   I7  every copy belongs to the page that points at it, and to no other
 *   I8  a page in its place is present; a page elsewhere is not, but for a mapped frame
 */
#include "base/audit.h"
#include "monitor/pager.h"

#define AUDIT_BATCH 512U

struct audit {
	struct mt_pager *pager;
	uint64_t seen[MT_PAGE_STATES];
	uint64_t listed_nominated;
	uint64_t listed_zipped;
	uint64_t sampled;
	uint64_t staging_used;
	uint64_t slots_used;
	struct mt_findings found;
};

static void audit_zipped(struct audit *audit, mt_gpn_t gpn, uint64_t place)
{
	const void *data;
	mt_gpn_t owner;

	if (!mt_zip_get(audit->pager->zip, (mt_zref_t){place}, &data, &owner))
		mt_finding(&audit->found, "I7: page 0x%x has an empty zip object", gpn.n);
	else if (owner.n != gpn.n)
		mt_finding(&audit->found, "I7: zip object of page 0x%x says it is page 0x%x", gpn.n,
			   owner.n);
}

static void audit_shared(struct audit *audit, mt_gpn_t gpn, uint64_t place)
{
	if (!audit->pager->share.frames || place >= MT_FRAMES_MAX)
		mt_finding(&audit->found, "I7: page 0x%x is in frame 0x%lx, which can't be", gpn.n,
			   (unsigned long)place);
	else if (!mt_share_intact(audit->pager, gpn))
		mt_finding(&audit->found, "I7: frame 0x%lx has not what page 0x%x had in it",
			   (unsigned long)place, gpn.n);
}

static void audit_copy(struct audit *audit, mt_gpn_t gpn, enum mt_page_state state)
{
	struct mt_pager *pager = audit->pager;
	uint64_t place = mt_page_place(&pager->map, gpn);
	bool busy = mt_page_busy(&pager->map, gpn) != 0;

	if (state == MT_PAGE_NOMINATED) {
		audit->staging_used++;
		audit->listed_nominated += !busy;
		audit->sampled += mt_page_busy(&pager->map, gpn) == MT_TICKET_SAMPLE;
		if (place >= pager->staging.size ||
		    !mt_slots_is_used(pager->staging.slots, MT_SLOT(place)))
			mt_finding(&audit->found,
				   "I7: page 0x%x is nominated in free staging slot %lu", gpn.n,
				   (unsigned long)place);
	} else if (state == MT_PAGE_SHARED) {
		audit_shared(audit, gpn, place);
	} else if (state == MT_PAGE_ZIPPED) {
		audit->listed_zipped += !busy;
		audit_zipped(audit, gpn, place);
	} else if (state == MT_PAGE_SWAPPED) {
		audit->slots_used++;
		if (!pager->slots || !mt_slots_is_used(pager->slots, MT_SLOT(place)))
			mt_finding(&audit->found, "I7: page 0x%x is in free swap slot %lu", gpn.n,
				   (unsigned long)place);
	}
}

static void audit_present(struct audit *audit, mt_gpn_t gpn, enum mt_page_state state, bool present)
{
	struct mt_pager *pager = audit->pager;

	/* A resident page may have been dropped by a discard that is still in the ring. */
	if (present && state != MT_PAGE_RESIDENT && state != MT_PAGE_RELEASED &&
	    !mt_page_mapped(&pager->map, gpn))
		mt_finding(&audit->found, "I8: page 0x%x is %s, yet there is a page in its place",
			   gpn.n, mt_page_state_name(state));
	if (!present && state == MT_PAGE_RESIDENT && mt_page_absence(pager, gpn) == MT_ABSENCE_LOST)
		mt_finding(&audit->found, "I8: page 0x%x is resident, yet it is not in its place",
			   gpn.n);
}

static void audit_region(struct audit *audit, const struct mt_region *region)
{
	struct mt_pager *pager = audit->pager;
	bool present[AUDIT_BATCH];

	for (uint64_t done = 0; done < region->pages; done += AUDIT_BATCH) {
		uint32_t count = (uint32_t)MT_MIN(AUDIT_BATCH, region->pages - done);
		mt_gpn_t first = MT_GPN(region->first.n + done);

		if (pager->mem.present(pager->mem.ctx, mt_region_addr(region, first), count,
				       present)) {
			mt_finding(&audit->found,
				   "the kernel does not tell which pages are present");
			return;
		}
		for (uint32_t i = 0; i < count; i++) {
			mt_gpn_t gpn = MT_GPN(first.n + i);
			enum mt_page_state state = mt_page_state(&pager->map, gpn);

			audit->seen[state]++;
			audit_copy(audit, gpn, state);
			audit_present(audit, gpn, state, present[i]);
		}
	}
}

static uint64_t audit_list_length(struct audit *audit, const struct mt_page_list *list,
				  enum mt_page_state state)
{
	const struct mt_page_map *map = &audit->pager->map;
	uint64_t length = 0;

	for (mt_gpn_t gpn = list->head; !mt_gpn_is_none(gpn); gpn = mt_page_next(map, gpn)) {
		if (mt_page_state(map, gpn) != state)
			mt_finding(&audit->found, "I2: page 0x%x is %s on the list of %s pages",
				   gpn.n, mt_page_state_name(mt_page_state(map, gpn)),
				   mt_page_state_name(state));
		if (++length > list->count)
			break;
	}
	return length;
}

static void audit_lists(struct audit *audit)
{
	const struct mt_page_map *map = &audit->pager->map;

	if (audit_list_length(audit, &map->nominated, MT_PAGE_NOMINATED) != map->nominated.count ||
	    audit->listed_nominated != map->nominated.count)
		mt_finding(&audit->found, "I2: nominated list has %lu pages, %lu should be on it",
			   (unsigned long)map->nominated.count,
			   (unsigned long)audit->listed_nominated);
	if (map->settled_pages > map->nominated.count)
		mt_finding(&audit->found, "I2: %lu of %lu nominated pages are settled",
			   (unsigned long)map->settled_pages, (unsigned long)map->nominated.count);
	if (audit_list_length(audit, &map->zipped, MT_PAGE_ZIPPED) != map->zipped.count ||
	    audit->listed_zipped != map->zipped.count)
		mt_finding(&audit->found, "I2: zip list has %lu pages, %lu should be on it",
			   (unsigned long)map->zipped.count, (unsigned long)audit->listed_zipped);
}

/* Each store holds at least what the pages point at; the rest belongs to work under way. */
static void audit_stores(struct audit *audit)
{
	struct mt_pager *pager = audit->pager;
	char text[128] = "";

	if (mt_zip_objects(pager->zip) != audit->seen[MT_PAGE_ZIPPED])
		mt_finding(&audit->found, "I7: %lu zip objects for %lu zipped pages",
			   (unsigned long)mt_zip_objects(pager->zip),
			   (unsigned long)audit->seen[MT_PAGE_ZIPPED]);
	if (mt_zip_audit(pager->zip, text, sizeof(text)))
		mt_finding(&audit->found, "I7: zip store: %s", text);
	if (audit->staging_used > pager->staging.used)
		mt_finding(&audit->found, "I7: %lu pages in %u used staging slots",
			   (unsigned long)audit->staging_used, pager->staging.used);
	if (audit->sampled != pager->sample.staged)
		mt_finding(&audit->found, "I7: %lu pages in staging for the sample, %u counted",
			   (unsigned long)audit->sampled, pager->sample.staged);
	if (mt_slots_audit(pager->staging.slots, text, sizeof(text)))
		mt_finding(&audit->found, "I7: staging: %s", text);
	if (pager->slots && audit->slots_used > mt_slots_used(pager->slots))
		mt_finding(&audit->found, "I7: %lu pages in %u used swap slots",
			   (unsigned long)audit->slots_used, mt_slots_used(pager->slots));
	if (pager->slots && mt_slots_audit(pager->slots, text, sizeof(text)))
		mt_finding(&audit->found, "I7: swap slots: %s", text);
}

static void audit_maps(struct audit *audit)
{
	const struct mt_share *share = &audit->pager->share;
	uint64_t pages, maps;

	mt_share_audit_maps(audit->pager, &pages, &maps);
	if (pages != share->mapped_pages || maps != share->maps)
		mt_finding(&audit->found,
			   "I1: %lu frames are mapped by %lu mappings, the counts say %lu by %lu",
			   (unsigned long)pages, (unsigned long)maps,
			   (unsigned long)share->mapped_pages, (unsigned long)share->maps);
}

uint64_t mt_audit(struct mt_pager *pager, uint64_t *ret_pages, char *text, size_t text_bytes)
{
	struct audit audit = {.pager = pager, .found = {.text = text, .text_bytes = text_bytes}};
	uint64_t pages = 0;

	text[0] = '\0';
	for (uint32_t i = 0; i < pager->regions.count; i++)
		audit_region(&audit, &pager->regions.region[i]);
	for (uint32_t i = 0; i < MT_PAGE_STATES; i++) {
		pages += audit.seen[i];
		if (audit.seen[i] != pager->map.pages[i])
			mt_finding(&audit.found, "I1: %lu pages are %s, the count says %lu",
				   (unsigned long)audit.seen[i],
				   mt_page_state_name((enum mt_page_state)i),
				   (unsigned long)pager->map.pages[i]);
	}
	audit_lists(&audit);
	audit_stores(&audit);
	audit_maps(&audit);
	if (!pager->leaving && !pager->settling &&
	    mt_room_held_pages(pager) > mt_room_grant_pages(pager))
		mt_finding(&audit.found, "I4: %lu pages held, %lu granted",
			   (unsigned long)mt_room_held_pages(pager),
			   (unsigned long)mt_room_grant_pages(pager));
	*ret_pages = pages;
	return audit.found.violations;
}
