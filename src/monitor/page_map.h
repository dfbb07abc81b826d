/* SPDX-License-Identifier: MIT */
/*
 * page_map.h - where each guest page is: the PMAP of the literature
 *
 * One 16-byte record for each guest page says in which state it is, where its only good copy is,
 * and links it into the list its state keeps. Only the pager thread may call these functions.
 *
 *   UNTOUCHED  no copy: never touched, reads as zeros
 *   RESIDENT   in its place in guest RAM
 *   NOMINATED  in staging slot @place; on the nominated list unless busy
 *   ZERO       no copy: known to be all zeros
 *   SHARED     in shared frame @place, mapped or not; the record keeps the checksum
 *   ZIPPED     zip store object @place; on the zip list, oldest first, unless busy
 *   SWAPPED    swap slot @place; the record keeps the checksum
 *   RELEASED   no copy: given up by the guest or the VMM, reads as zeros
 *   FAILED     unknown: a store lost it, or it vanished from memory; left only by a discard
 *
 * "Busy" says that a helper or an I/O works on the copy: the copy must not be freed before it is
 * done, but the page may change state meanwhile; whoever finishes finds out and throws its
 * result away.
 */
#ifndef MT_MONITOR_PAGE_MAP_H
#define MT_MONITOR_PAGE_MAP_H

#include "base/compiler.h"
#include "base/types.h"
#include "monitor/heat.h"

enum mt_page_state {
	MT_PAGE_UNTOUCHED,
	MT_PAGE_RESIDENT,
	MT_PAGE_NOMINATED,
	MT_PAGE_ZERO,
	MT_PAGE_SHARED,
	MT_PAGE_ZIPPED,
	MT_PAGE_SWAPPED,
	MT_PAGE_RELEASED,
	MT_PAGE_FAILED,
	MT_PAGE_STATES
};

/* Largest guest: 16 TiB in chunks of 1 GiB. */
#define MT_MAP_CHUNK_SHIFT 18
#define MT_MAP_CHUNK_PAGES (1U << MT_MAP_CHUNK_SHIFT)
#define MT_MAP_CHUNKS      16383U

struct mt_page; /* a record; private to page_map.c */

/* Ends of a list of pages; the links are in the records. Oldest at the head. */
struct mt_page_list {
	mt_gpn_t head;
	mt_gpn_t tail;
	uint64_t count;
};

struct mt_page_map {
	struct mt_page **chunk; /* MT_MAP_CHUNKS pointers */
	uint64_t pages[MT_PAGE_STATES];
	struct mt_page_list nominated;
	struct mt_page_list zipped;
	uint64_t settled_pages;     /* oldest of the nominated ones that no I/O can be going into */
	uint64_t bookkeeping_bytes; /* of chunks in use, as if all of them were touched */
};

/** mt_map_init() - an empty map. Return: 0 or -ENOMEM. */
MT_MUST_CHECK int mt_map_init(struct mt_page_map *map);

/** mt_map_fini() - free it; a zeroed one is fine */
void mt_map_fini(struct mt_page_map *map);

/**
 * mt_map_extend() - make records for @pages pages; all UNTOUCHED
 * @ret_first: number of the first; chunk-aligned
 *
 * Return: 0, -ENOMEM, or -ENOSPC beyond the largest guest.
 */
MT_MUST_CHECK int mt_map_extend(struct mt_page_map *map, uint64_t pages, mt_gpn_t *ret_first);

/** mt_map_retract() - forget @pages pages from @first on, which must all be UNTOUCHED or FAILED */
void mt_map_retract(struct mt_page_map *map, mt_gpn_t first, uint64_t pages);

/** mt_page_state() - state of page @gpn, which must be in the map */
enum mt_page_state mt_page_state(const struct mt_page_map *map, mt_gpn_t gpn);

/** mt_page_place() - staging slot, zip reference or swap slot, by the state */
uint64_t mt_page_place(const struct mt_page_map *map, mt_gpn_t gpn);

/** mt_page_moved() - a ZIPPED page's object is elsewhere in the store now */
void mt_page_moved(struct mt_page_map *map, mt_gpn_t gpn, uint64_t place);

/**
 * mt_page_set() - the one function that changes a page's state
 * @from: the state it must be in
 * @to: the state it gets
 * @place: meaning by @to; 0 where it has none
 *
 * Takes the page off its old list and puts it at the young end of its new one; clears busy.
 * Asserts that the transition is one that exists.
 */
void mt_page_set(struct mt_page_map *map, mt_gpn_t gpn, enum mt_page_state from,
		 enum mt_page_state to, uint64_t place);

/**
 * mt_page_settle() - no I/O can be going into any page that is on the nominated list now
 *
 * Of how many of the oldest that still holds is counted (settled_pages): never too many, but too
 * few when a page leaves the list from behind these.
 */
void mt_page_settle(struct mt_page_map *map);

/**
 * mt_page_busy_set() - take a NOMINATED, ZIPPED or SWAPPED page off its list: @ticket works on it
 * mt_page_busy() - its ticket, or 0 when nobody does
 * mt_page_busy_clear() - work was given up; back on the list, at the old end if @oldest
 *
 * Tickets are never 0. A SWAPPED page keeps its checksum instead of its ticket: busy is 1.
 */
void mt_page_busy_set(struct mt_page_map *map, mt_gpn_t gpn, uint64_t ticket);
uint64_t mt_page_busy(const struct mt_page_map *map, mt_gpn_t gpn);
void mt_page_busy_clear(struct mt_page_map *map, mt_gpn_t gpn, bool oldest);

/* Ticket of pages that are being watched: nobody reads their copy. */
#define MT_TICKET_SAMPLE UINT64_MAX

/* Set in tickets of pages whose copy nobody reads while they are busy: those of the sample, and of
 * pages offered for sharing. */
#define MT_TICKET_UNREAD (1ULL << 63)

/** mt_page_in_use() - does a helper or an I/O work on the copy of NOMINATED page @gpn? */
static inline bool mt_page_in_use(const struct mt_page_map *map, mt_gpn_t gpn)
{
	uint64_t ticket = mt_page_busy(map, gpn);

	return ticket && !(ticket & MT_TICKET_UNREAD);
}

/** mt_page_sum_set(), mt_page_sum() - checksum of a SWAPPED or SHARED page */
void mt_page_sum_set(struct mt_page_map *map, mt_gpn_t gpn, uint64_t sum);
uint64_t mt_page_sum(const struct mt_page_map *map, mt_gpn_t gpn);

/* Most failed reads that a record can count. */
#define MT_TRIES_MAX 7U

/** mt_page_tries(), mt_page_tries_set() - reads of a SWAPPED page that failed, one after the other
 */
unsigned int mt_page_tries(const struct mt_page_map *map, mt_gpn_t gpn);
void mt_page_tries_set(struct mt_page_map *map, mt_gpn_t gpn, unsigned int tries);

/** mt_page_heat(), mt_page_heat_set() - how hot it is; survives changes of state */
struct mt_heat mt_page_heat(const struct mt_page_map *map, mt_gpn_t gpn);
void mt_page_heat_set(struct mt_page_map *map, mt_gpn_t gpn, struct mt_heat heat);

/**
 * mt_page_droppable_set() - RESIDENT page @gpn came into its place while a discard was under way
 * mt_page_droppable() - so the discard may have dropped it again, and the guest finds zeros
 *
 * Forgotten when the page's state changes.
 */
void mt_page_droppable_set(struct mt_page_map *map, mt_gpn_t gpn);
bool mt_page_droppable(const struct mt_page_map *map, mt_gpn_t gpn);

/**
 * mt_page_mapped_set() - SHARED page @gpn's frame is mapped in its place now, or no longer
 * mt_page_mapped() - the guest reads the frame in its place, and a write is a fault
 *
 * A page must not leave SHARED while it is mapped.
 */
void mt_page_mapped_set(struct mt_page_map *map, mt_gpn_t gpn, bool mapped);
bool mt_page_mapped(const struct mt_page_map *map, mt_gpn_t gpn);

/** mt_page_next() - page after @gpn on its list, or MT_GPN_NONE */
mt_gpn_t mt_page_next(const struct mt_page_map *map, mt_gpn_t gpn);

/** mt_page_state_name() - for people */
const char *mt_page_state_name(enum mt_page_state state);

#endif
