/* SPDX-License-Identifier: MIT */
/*
 * page_map.c - records of guest pages, their states and lists
 *
 * A record is two words. The first holds the state (4 bits), busy (1 bit), 3 bits of the state's
 * own (RESIDENT: a discard may still drop the page; SHARED: the frame is mapped; SWAPPED: how often
 * a read of it failed), heat (16 bits) and the place (40 bits). The second is the state's own:
 * links of the list the page is on (NOMINATED, ZIPPED), the ticket of whoever is busy with it, or
 * the checksum (SWAPPED, SHARED).
 *
 * Records come in chunks of 1 GiB of guest memory, 4 MiB of address space each, of which the
 * kernel gives us only what is touched.
 *
 * Invariants (cited by audit.c):
 *  I1  every page is in exactly one state; pages[] counts them
 *  I2  a page is on the nominated (zipped) list iff it is NOMINATED (ZIPPED) and not busy
 *  I3  nothing leaves FAILED but by retraction of the region
 */
#include "monitor/page_map.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

struct mt_page {
	uint64_t word;
	union {
		struct {
			uint32_t prev;
			uint32_t next;
		} link;
		uint64_t ticket;
		uint64_t sum;
	};
};

_Static_assert(sizeof(struct mt_page) == 16, "the budget is 16 bytes for each page");

#define WORD_STATE_MASK 0xfULL
#define WORD_BUSY       (1ULL << 4)
/* RESIDENT, SHARED and SWAPPED pages have a use of their own for the same bits. */
#define WORD_DROPPABLE   (1ULL << 5)
#define WORD_MAPPED      (1ULL << 5)
#define WORD_TRIES_SHIFT 5
#define WORD_TRIES_MASK  (7ULL << WORD_TRIES_SHIFT)
#define WORD_HEAT_SHIFT  8
#define WORD_HEAT_MASK   (0xffffULL << WORD_HEAT_SHIFT)
#define WORD_PLACE_SHIFT 24
/* Heat, from the lowest bit: level (3 bits), rounds (4 bits), tick it left at (9 bits). */
#define HEAT_ROUNDS_SHIFT 3
#define HEAT_TICK_SHIFT   7
#define WORD_PLACE_MAX    ((1ULL << 40) - 1)

#define BIT(state) (1U << MT_PAGE_##state)

/* Which states may follow which. Retraction turns anything into UNTOUCHED, through here too. */
static const uint16_t page_may_become[MT_PAGE_STATES] = {
	[MT_PAGE_UNTOUCHED] = BIT(RESIDENT) | BIT(RELEASED),
	[MT_PAGE_RESIDENT] = BIT(NOMINATED) | BIT(RELEASED) | BIT(UNTOUCHED) | BIT(FAILED),
	[MT_PAGE_NOMINATED] = BIT(RESIDENT) | BIT(ZERO) | BIT(SHARED) | BIT(ZIPPED) | BIT(SWAPPED) |
			      BIT(RELEASED) | BIT(FAILED),
	[MT_PAGE_ZERO] = BIT(RESIDENT) | BIT(RELEASED),
	[MT_PAGE_SHARED] = BIT(RESIDENT) | BIT(RELEASED) | BIT(FAILED),
	[MT_PAGE_ZIPPED] = BIT(RESIDENT) | BIT(SWAPPED) | BIT(SHARED) | BIT(RELEASED) | BIT(FAILED),
	[MT_PAGE_SWAPPED] = BIT(RESIDENT) | BIT(RELEASED) | BIT(FAILED),
	[MT_PAGE_RELEASED] = BIT(RESIDENT) | BIT(UNTOUCHED),
	[MT_PAGE_FAILED] = BIT(RELEASED),
};

static struct mt_page *page_record(const struct mt_page_map *map, mt_gpn_t gpn)
{
	struct mt_page *chunk;

	MT_ASSERT(gpn.n >> MT_MAP_CHUNK_SHIFT < MT_MAP_CHUNKS);
	chunk = map->chunk[gpn.n >> MT_MAP_CHUNK_SHIFT];
	MT_ASSERT(chunk);
	return &chunk[gpn.n & (MT_MAP_CHUNK_PAGES - 1)];
}

static struct mt_page_list *page_list_of(struct mt_page_map *map, enum mt_page_state state)
{
	if (state == MT_PAGE_NOMINATED)
		return &map->nominated;
	if (state == MT_PAGE_ZIPPED)
		return &map->zipped;
	return NULL;
}

static void page_link_tail(struct mt_page_map *map, struct mt_page_list *list, mt_gpn_t gpn)
{
	struct mt_page *page = page_record(map, gpn);

	page->link.prev = list->tail.n;
	page->link.next = MT_NONE32;
	if (mt_gpn_is_none(list->tail))
		list->head = gpn;
	else
		page_record(map, list->tail)->link.next = gpn.n;
	list->tail = gpn;
	list->count++;
}

static void page_link_head(struct mt_page_map *map, struct mt_page_list *list, mt_gpn_t gpn)
{
	struct mt_page *page = page_record(map, gpn);

	page->link.prev = MT_NONE32;
	page->link.next = list->head.n;
	if (mt_gpn_is_none(list->head))
		list->tail = gpn;
	else
		page_record(map, list->head)->link.prev = gpn.n;
	list->head = gpn;
	list->count++;
	if (list == &map->nominated)
		map->settled_pages = 0;
}

/* A page has left the nominated list: if not the last on it, it may have been one of the settled.
 */
static void page_unsettle(struct mt_page_map *map, bool was_last)
{
	if (was_last)
		map->settled_pages = MT_MIN(map->settled_pages, map->nominated.count);
	else if (map->settled_pages)
		map->settled_pages--;
}

static void page_unlink(struct mt_page_map *map, struct mt_page_list *list, mt_gpn_t gpn)
{
	struct mt_page *page = page_record(map, gpn);

	MT_ASSERT(list->count > 0);
	if (page->link.prev == MT_NONE32)
		list->head = MT_GPN(page->link.next);
	else
		page_record(map, MT_GPN(page->link.prev))->link.next = page->link.next;
	if (page->link.next == MT_NONE32)
		list->tail = MT_GPN(page->link.prev);
	else
		page_record(map, MT_GPN(page->link.next))->link.prev = page->link.prev;
	list->count--;
	if (list == &map->nominated)
		page_unsettle(map, page->link.next == MT_NONE32);
}

int mt_map_init(struct mt_page_map *map)
{
	void *chunks = mmap(NULL, MT_MAP_CHUNKS * sizeof(*map->chunk), PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (chunks == MAP_FAILED)
		return -ENOMEM;
	memset(map, 0, sizeof(*map));
	map->chunk = chunks;
	map->nominated = (struct mt_page_list){MT_GPN_NONE, MT_GPN_NONE, 0};
	map->zipped = (struct mt_page_list){MT_GPN_NONE, MT_GPN_NONE, 0};
	return 0;
}

void mt_map_fini(struct mt_page_map *map)
{
	if (!map->chunk)
		return;
	for (uint32_t i = 0; i < MT_MAP_CHUNKS; i++)
		if (map->chunk[i])
			munmap(map->chunk[i], MT_MAP_CHUNK_PAGES * sizeof(struct mt_page));
	munmap(map->chunk, MT_MAP_CHUNKS * sizeof(*map->chunk));
	memset(map, 0, sizeof(*map));
}

/* First of @count chunk places in a row that are free, or MT_MAP_CHUNKS. */
static uint32_t map_find_room(const struct mt_page_map *map, uint64_t count)
{
	uint32_t run = 0;

	for (uint32_t i = 0; i < MT_MAP_CHUNKS; i++) {
		run = map->chunk[i] ? 0 : run + 1;
		if (run == count)
			return i + 1 - run;
	}
	return MT_MAP_CHUNKS;
}

int mt_map_extend(struct mt_page_map *map, uint64_t pages, mt_gpn_t *ret_first)
{
	uint64_t count = (pages + MT_MAP_CHUNK_PAGES - 1) >> MT_MAP_CHUNK_SHIFT;
	uint64_t chunk_bytes = MT_MAP_CHUNK_PAGES * sizeof(struct mt_page);
	uint32_t first = map_find_room(map, count);

	if (!count || first == MT_MAP_CHUNKS)
		return -ENOSPC;
	for (uint32_t i = 0; i < count; i++) {
		void *chunk = mmap(NULL, chunk_bytes, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (chunk == MAP_FAILED) {
			while (i--) {
				munmap(map->chunk[first + i], chunk_bytes);
				map->chunk[first + i] = NULL;
			}
			return -ENOMEM;
		}
		madvise(chunk, chunk_bytes, MADV_NOHUGEPAGE);
		madvise(chunk, chunk_bytes, MADV_DONTFORK);
		map->chunk[first + i] = chunk;
	}
	map->pages[MT_PAGE_UNTOUCHED] += pages;
	map->bookkeeping_bytes += mt_align_up(pages * sizeof(struct mt_page), MT_PAGE_SIZE);
	*ret_first = MT_GPN(first << MT_MAP_CHUNK_SHIFT);
	return 0;
}

void mt_map_retract(struct mt_page_map *map, mt_gpn_t first, uint64_t pages)
{
	uint32_t chunk = first.n >> MT_MAP_CHUNK_SHIFT;
	uint64_t count = (pages + MT_MAP_CHUNK_PAGES - 1) >> MT_MAP_CHUNK_SHIFT;

	for (uint64_t i = 0; i < pages; i++)
		MT_ASSERT(mt_page_state(map, MT_GPN(first.n + i)) == MT_PAGE_UNTOUCHED);
	for (uint64_t i = 0; i < count; i++) {
		munmap(map->chunk[chunk + i], MT_MAP_CHUNK_PAGES * sizeof(struct mt_page));
		map->chunk[chunk + i] = NULL;
	}
	map->pages[MT_PAGE_UNTOUCHED] -= pages;
	map->bookkeeping_bytes -= mt_align_up(pages * sizeof(struct mt_page), MT_PAGE_SIZE);
}

enum mt_page_state mt_page_state(const struct mt_page_map *map, mt_gpn_t gpn)
{
	return (enum mt_page_state)(page_record(map, gpn)->word & WORD_STATE_MASK);
}

uint64_t mt_page_place(const struct mt_page_map *map, mt_gpn_t gpn)
{
	return page_record(map, gpn)->word >> WORD_PLACE_SHIFT;
}

static void page_place_set(struct mt_page *page, uint64_t place)
{
	MT_ASSERT(place <= WORD_PLACE_MAX);
	page->word = (page->word & ((1ULL << WORD_PLACE_SHIFT) - 1)) | place << WORD_PLACE_SHIFT;
}

void mt_page_moved(struct mt_page_map *map, mt_gpn_t gpn, uint64_t place)
{
	MT_ASSERT(mt_page_state(map, gpn) == MT_PAGE_ZIPPED);
	page_place_set(page_record(map, gpn), place);
}

void mt_page_set(struct mt_page_map *map, mt_gpn_t gpn, enum mt_page_state from,
		 enum mt_page_state to, uint64_t place)
{
	struct mt_page *page = page_record(map, gpn);
	struct mt_page_list *old_list = page_list_of(map, from);
	struct mt_page_list *new_list = page_list_of(map, to);

	MT_ASSERT((page->word & WORD_STATE_MASK) == from);
	MT_ASSERT(page_may_become[from] & (1U << to));
	MT_ASSERT(map->pages[from] > 0);
	MT_ASSERT(from != MT_PAGE_SHARED || !(page->word & WORD_MAPPED));
	if (old_list && !(page->word & WORD_BUSY))
		page_unlink(map, old_list, gpn);
	page->word = (page->word & WORD_HEAT_MASK) | to;
	page_place_set(page, place);
	page->sum = 0;
	if (new_list)
		page_link_tail(map, new_list, gpn);
	map->pages[from]--;
	map->pages[to]++;
}

void mt_page_busy_set(struct mt_page_map *map, mt_gpn_t gpn, uint64_t ticket)
{
	struct mt_page *page = page_record(map, gpn);
	struct mt_page_list *list = page_list_of(map, mt_page_state(map, gpn));

	MT_ASSERT(ticket && !(page->word & WORD_BUSY));
	MT_ASSERT(list || mt_page_state(map, gpn) == MT_PAGE_SWAPPED);
	if (list) {
		page_unlink(map, list, gpn);
		page->ticket = ticket;
	}
	page->word |= WORD_BUSY;
}

void mt_page_settle(struct mt_page_map *map)
{
	map->settled_pages = map->nominated.count;
}

uint64_t mt_page_busy(const struct mt_page_map *map, mt_gpn_t gpn)
{
	const struct mt_page *page = page_record(map, gpn);

	if (!(page->word & WORD_BUSY))
		return 0;
	return (page->word & WORD_STATE_MASK) == MT_PAGE_SWAPPED ? 1 : page->ticket;
}

void mt_page_busy_clear(struct mt_page_map *map, mt_gpn_t gpn, bool oldest)
{
	struct mt_page *page = page_record(map, gpn);
	struct mt_page_list *list = page_list_of(map, mt_page_state(map, gpn));

	MT_ASSERT(page->word & WORD_BUSY);
	page->word &= ~WORD_BUSY;
	if (!list)
		return;
	if (oldest)
		page_link_head(map, list, gpn);
	else
		page_link_tail(map, list, gpn);
}

static bool page_has_sum(const struct mt_page_map *map, mt_gpn_t gpn)
{
	enum mt_page_state state = mt_page_state(map, gpn);

	return state == MT_PAGE_SWAPPED || state == MT_PAGE_SHARED;
}

void mt_page_sum_set(struct mt_page_map *map, mt_gpn_t gpn, uint64_t sum)
{
	MT_ASSERT(page_has_sum(map, gpn));
	page_record(map, gpn)->sum = sum;
}

uint64_t mt_page_sum(const struct mt_page_map *map, mt_gpn_t gpn)
{
	MT_ASSERT(page_has_sum(map, gpn));
	return page_record(map, gpn)->sum;
}

unsigned int mt_page_tries(const struct mt_page_map *map, mt_gpn_t gpn)
{
	MT_ASSERT(mt_page_state(map, gpn) == MT_PAGE_SWAPPED);
	return (page_record(map, gpn)->word & WORD_TRIES_MASK) >> WORD_TRIES_SHIFT;
}

void mt_page_tries_set(struct mt_page_map *map, mt_gpn_t gpn, unsigned int tries)
{
	struct mt_page *page = page_record(map, gpn);

	MT_ASSERT(mt_page_state(map, gpn) == MT_PAGE_SWAPPED && tries <= MT_TRIES_MAX);
	page->word = (page->word & ~WORD_TRIES_MASK) | (uint64_t)tries << WORD_TRIES_SHIFT;
}

struct mt_heat mt_page_heat(const struct mt_page_map *map, mt_gpn_t gpn)
{
	uint64_t bits = (page_record(map, gpn)->word & WORD_HEAT_MASK) >> WORD_HEAT_SHIFT;

	return (struct mt_heat){.level = bits & ((1U << HEAT_ROUNDS_SHIFT) - 1),
				.rounds = bits >> HEAT_ROUNDS_SHIFT & MT_HEAT_ROUNDS_MAX,
				.left_tick = (uint16_t)(bits >> HEAT_TICK_SHIFT)};
}

void mt_page_heat_set(struct mt_page_map *map, mt_gpn_t gpn, struct mt_heat heat)
{
	struct mt_page *page = page_record(map, gpn);
	uint64_t bits = (uint64_t)heat.left_tick << HEAT_TICK_SHIFT |
			(uint64_t)heat.rounds << HEAT_ROUNDS_SHIFT | heat.level;

	MT_ASSERT(heat.level <= MT_HEAT_LEVEL_MAX && heat.rounds <= MT_HEAT_ROUNDS_MAX);
	MT_ASSERT(heat.left_tick < 1U << MT_HEAT_TIME_BITS);
	page->word = (page->word & ~WORD_HEAT_MASK) | bits << WORD_HEAT_SHIFT;
}

void mt_page_droppable_set(struct mt_page_map *map, mt_gpn_t gpn)
{
	MT_ASSERT(mt_page_state(map, gpn) == MT_PAGE_RESIDENT);
	page_record(map, gpn)->word |= WORD_DROPPABLE;
}

bool mt_page_droppable(const struct mt_page_map *map, mt_gpn_t gpn)
{
	return mt_page_state(map, gpn) == MT_PAGE_RESIDENT &&
	       page_record(map, gpn)->word & WORD_DROPPABLE;
}

void mt_page_mapped_set(struct mt_page_map *map, mt_gpn_t gpn, bool mapped)
{
	struct mt_page *page = page_record(map, gpn);

	MT_ASSERT(mt_page_state(map, gpn) == MT_PAGE_SHARED);
	MT_ASSERT(mapped != !!(page->word & WORD_MAPPED));
	page->word ^= WORD_MAPPED;
}

bool mt_page_mapped(const struct mt_page_map *map, mt_gpn_t gpn)
{
	return mt_page_state(map, gpn) == MT_PAGE_SHARED &&
	       page_record(map, gpn)->word & WORD_MAPPED;
}

mt_gpn_t mt_page_next(const struct mt_page_map *map, mt_gpn_t gpn)
{
	return MT_GPN(page_record(map, gpn)->link.next);
}

const char *mt_page_state_name(enum mt_page_state state)
{
	static const char *const names[MT_PAGE_STATES] = {
		[MT_PAGE_UNTOUCHED] = "untouched", [MT_PAGE_RESIDENT] = "resident",
		[MT_PAGE_NOMINATED] = "nominated", [MT_PAGE_ZERO] = "zero",
		[MT_PAGE_SHARED] = "shared",       [MT_PAGE_ZIPPED] = "zipped",
		[MT_PAGE_SWAPPED] = "swapped",     [MT_PAGE_RELEASED] = "released",
		[MT_PAGE_FAILED] = "failed",
	};

	return (unsigned int)state < MT_PAGE_STATES ? names[state] : "?";
}
