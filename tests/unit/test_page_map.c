/* SPDX-License-Identifier: MIT */
/* test_page_map.c - records of guest pages: states, lists, tickets, and what must never happen */
#include "monitor/page_map.h"

#include "common/mt_test.h"

#include <errno.h>
#include <sys/mman.h>

#define PAGES 600U

static struct mt_page_map map;
static mt_gpn_t first;

static void make_map(void)
{
	MT_CHECK_EQ(mt_map_init(&map), 0);
	MT_CHECK_EQ(mt_map_extend(&map, PAGES, &first), 0);
}

static mt_gpn_t page(uint32_t i)
{
	return MT_GPN(first.n + i);
}

/* Takes a page from UNTOUCHED to @to by a way that exists. */
static void bring(mt_gpn_t gpn, enum mt_page_state to)
{
	if (to == MT_PAGE_UNTOUCHED)
		return;
	if (to == MT_PAGE_RELEASED) {
		mt_page_set(&map, gpn, MT_PAGE_UNTOUCHED, to, 0);
		return;
	}
	mt_page_set(&map, gpn, MT_PAGE_UNTOUCHED, MT_PAGE_RESIDENT, 0);
	if (to == MT_PAGE_RESIDENT)
		return;
	mt_page_set(&map, gpn, MT_PAGE_RESIDENT, MT_PAGE_NOMINATED, gpn.n);
	if (to == MT_PAGE_NOMINATED)
		return;
	if (to != MT_PAGE_FAILED) {
		mt_page_set(&map, gpn, MT_PAGE_NOMINATED, to, 7);
		return;
	}
	mt_page_set(&map, gpn, MT_PAGE_NOMINATED, MT_PAGE_SWAPPED, 7);
	mt_page_set(&map, gpn, MT_PAGE_SWAPPED, MT_PAGE_FAILED, 7);
}

/* Does @act trap? It is tried in a child. */
static bool traps(void (*act)(void))
{
	int status = 0;
	pid_t pid;

	/* Records are kept from children of the VMM; this one is to have them. */
	madvise(map.chunk[0], MT_MAP_CHUNK_PAGES * 16, MADV_DOFORK);
	pid = fork();
	if (pid == 0) {
		act();
		_exit(0);
	}
	MT_CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
	return WIFSIGNALED(status) && (WTERMSIG(status) == SIGILL || WTERMSIG(status) == SIGTRAP);
}

static enum mt_page_state way_from, way_to;

static void go_that_way(void)
{
	mt_page_set(&map, page(0), way_from, way_to, 0);
}

static uint32_t list_length(const struct mt_page_list *list)
{
	uint32_t length = 0;
	mt_gpn_t last = MT_GPN_NONE;

	for (mt_gpn_t gpn = list->head; !mt_gpn_is_none(gpn); gpn = mt_page_next(&map, gpn)) {
		last = gpn;
		MT_CHECK(++length <= PAGES);
	}
	MT_CHECK_EQ(last.n, list->tail.n);
	MT_CHECK_EQ(length, list->count);
	return length;
}

MT_TEST("every page is in one state, and the counts say how many are in each")
{
	uint64_t sum = 0;

	make_map();
	for (uint32_t i = 0; i < PAGES; i++)
		bring(page(i), (enum mt_page_state)(i % MT_PAGE_STATES));
	for (uint32_t i = 0; i < MT_PAGE_STATES; i++) {
		MT_CHECK(map.pages[i] == PAGES / MT_PAGE_STATES ||
			 map.pages[i] == PAGES / MT_PAGE_STATES + 1);
		sum += map.pages[i];
	}
	MT_CHECK_EQ(sum, PAGES);
	for (uint32_t i = 0; i < PAGES; i++)
		MT_CHECK_EQ(mt_page_state(&map, page(i)), i % MT_PAGE_STATES);
	mt_map_fini(&map);
}

/* Bit n of line s: may a page go from state s to state n? As the table in page_map.h tells it. */
static const char *const ways[MT_PAGE_STATES] = {
	/*                 URNZSCWDF: Untouched Resident Nominated Zero Shared zipped sWapped
	   releaseD */
	[MT_PAGE_UNTOUCHED] = "010000010", [MT_PAGE_RESIDENT] = "101000011",
	[MT_PAGE_NOMINATED] = "010111111", [MT_PAGE_ZERO] = "010000010",
	[MT_PAGE_SHARED] = "010000011",    [MT_PAGE_ZIPPED] = "010010111",
	[MT_PAGE_SWAPPED] = "010000011",   [MT_PAGE_RELEASED] = "110000000",
	[MT_PAGE_FAILED] = "000000010",
};

MT_TEST("only the transitions that exist are made, all others trap")
{
	for (uint32_t from = 0; from < MT_PAGE_STATES; from++) {
		for (uint32_t to = 0; to < MT_PAGE_STATES; to++) {
			make_map();
			bring(page(0), (enum mt_page_state)from);
			way_from = (enum mt_page_state)from;
			way_to = (enum mt_page_state)to;
			if (traps(go_that_way) != (ways[from][to] == '0'))
				MT_FAIL("from %s to %s", mt_page_state_name(way_from),
					mt_page_state_name(way_to));
			mt_map_fini(&map);
		}
	}
}

MT_TEST("a page marked as droppable is so until its state changes")
{
	make_map();
	bring(page(0), MT_PAGE_RESIDENT);
	MT_CHECK(!mt_page_droppable(&map, page(0)));
	mt_page_droppable_set(&map, page(0));
	mt_page_heat_set(&map, page(0), (struct mt_heat){.level = 2});
	MT_CHECK(mt_page_droppable(&map, page(0)));
	mt_page_set(&map, page(0), MT_PAGE_RESIDENT, MT_PAGE_NOMINATED, 5);
	MT_CHECK(!mt_page_droppable(&map, page(0)));
	mt_page_set(&map, page(0), MT_PAGE_NOMINATED, MT_PAGE_RESIDENT, 0);
	MT_CHECK(!mt_page_droppable(&map, page(0)));
	MT_CHECK_EQ(mt_page_heat(&map, page(0)).level, 2);
	mt_map_fini(&map);
}

static void set_from_wrong_state(void)
{
	mt_page_set(&map, page(0), MT_PAGE_RELEASED, MT_PAGE_RESIDENT, 0);
}

static void busy_without_ticket(void)
{
	mt_page_busy_set(&map, page(0), 0);
}

static void busy_twice(void)
{
	mt_page_busy_set(&map, page(0), 1);
	mt_page_busy_set(&map, page(0), 2);
}

static void busy_at_home(void)
{
	mt_page_set(&map, page(0), MT_PAGE_NOMINATED, MT_PAGE_RESIDENT, 0);
	mt_page_busy_set(&map, page(0), 1);
}

static void clear_nothing(void)
{
	mt_page_busy_clear(&map, page(0), false);
}

static void sum_of_nominated(void)
{
	(void)mt_page_sum(&map, page(0));
}

static void page_of_no_region(void)
{
	(void)mt_page_state(&map, MT_GPN(first.n + MT_MAP_CHUNK_PAGES));
}

static void forget_pages_in_use(void)
{
	mt_map_retract(&map, first, PAGES);
}

static void place_too_large(void)
{
	mt_page_set(&map, page(0), MT_PAGE_NOMINATED, MT_PAGE_ZIPPED, 1ULL << 40);
}

MT_TEST("what only a bug would do traps")
{
	static void (*const bugs[])(void) = {
		set_from_wrong_state, busy_without_ticket, busy_twice,
		busy_at_home,         clear_nothing,       sum_of_nominated,
		page_of_no_region,    forget_pages_in_use, place_too_large};

	make_map();
	bring(page(0), MT_PAGE_NOMINATED);
	for (size_t i = 0; i < MT_ARRAY_SIZE(bugs); i++)
		if (!traps(bugs[i]))
			MT_FAIL("number %zu did not", i);
	mt_map_fini(&map);
}

MT_TEST("lists are in order of arrival, and pages leave them from anywhere")
{
	make_map();
	for (uint32_t i = 0; i < 10; i++)
		bring(page(i), MT_PAGE_NOMINATED);
	MT_CHECK_EQ(map.nominated.head.n, page(0).n);
	MT_CHECK_EQ(map.nominated.tail.n, page(9).n);
	mt_page_set(&map, page(0), MT_PAGE_NOMINATED, MT_PAGE_RESIDENT, 0);
	mt_page_set(&map, page(5), MT_PAGE_NOMINATED, MT_PAGE_ZIPPED, 1);
	mt_page_set(&map, page(9), MT_PAGE_NOMINATED, MT_PAGE_ZERO, 0);
	MT_CHECK_EQ(list_length(&map.nominated), 7);
	MT_CHECK_EQ(list_length(&map.zipped), 1);
	MT_CHECK_EQ(map.nominated.head.n, page(1).n);
	MT_CHECK_EQ(mt_page_next(&map, page(4)).n, page(6).n);
	MT_CHECK_EQ(map.nominated.tail.n, page(8).n);
	for (uint32_t i = 1; i < 9; i++)
		if (i != 5)
			mt_page_set(&map, page(i), MT_PAGE_NOMINATED, MT_PAGE_RELEASED, 0);
	MT_CHECK_EQ(list_length(&map.nominated), 0);
	MT_CHECK(mt_gpn_is_none(map.nominated.head) && mt_gpn_is_none(map.nominated.tail));
	mt_map_fini(&map);
}

MT_TEST("a busy page is off its list, keeps its ticket, and comes back at the end asked for")
{
	make_map();
	for (uint32_t i = 0; i < 4; i++)
		bring(page(i), MT_PAGE_ZIPPED);
	mt_page_busy_set(&map, page(1), 77);
	mt_page_busy_set(&map, page(2), 78);
	MT_CHECK_EQ(mt_page_busy(&map, page(0)), 0);
	MT_CHECK_EQ(mt_page_busy(&map, page(1)), 77);
	MT_CHECK_EQ(list_length(&map.zipped), 2);
	mt_page_busy_clear(&map, page(2), true);
	mt_page_busy_clear(&map, page(1), false);
	MT_CHECK_EQ(map.zipped.head.n, page(2).n);
	MT_CHECK_EQ(map.zipped.tail.n, page(1).n);
	MT_CHECK_EQ(list_length(&map.zipped), 4);
	mt_map_fini(&map);
}

MT_TEST("a page that changes state is nobody's any more: its old ticket is worth nothing")
{
	make_map();
	bring(page(0), MT_PAGE_NOMINATED);
	mt_page_busy_set(&map, page(0), 5);
	mt_page_set(&map, page(0), MT_PAGE_NOMINATED, MT_PAGE_RESIDENT, 0);
	MT_CHECK_EQ(mt_page_busy(&map, page(0)), 0);
	MT_CHECK_EQ(list_length(&map.nominated), 0);
	mt_page_set(&map, page(0), MT_PAGE_RESIDENT, MT_PAGE_NOMINATED, 9);
	MT_CHECK_EQ(mt_page_busy(&map, page(0)), 0);
	mt_page_busy_set(&map, page(0), 6);
	MT_CHECK_EQ(mt_page_busy(&map, page(0)), 6);
	MT_CHECK_EQ(mt_page_place(&map, page(0)), 9);
	mt_map_fini(&map);
}

MT_TEST("a swapped page keeps its checksum while it is read")
{
	make_map();
	bring(page(0), MT_PAGE_SWAPPED);
	mt_page_sum_set(&map, page(0), UINT64_MAX - 1);
	mt_page_busy_set(&map, page(0), 12345);
	MT_CHECK_EQ(mt_page_busy(&map, page(0)), 1);
	MT_CHECK(mt_page_sum(&map, page(0)) == UINT64_MAX - 1);
	mt_page_busy_clear(&map, page(0), false);
	MT_CHECK_EQ(mt_page_busy(&map, page(0)), 0);
	MT_CHECK(mt_page_sum(&map, page(0)) == UINT64_MAX - 1);
	MT_CHECK_EQ(mt_page_place(&map, page(0)), 7);
	mt_map_fini(&map);
}

MT_TEST("heat, place and state do not disturb each other")
{
	uint64_t place = (1ULL << 40) - 1;

	make_map();
	for (unsigned int i = 0; i < PAGES && i < 512; i++) {
		struct mt_heat heat = {.level = (uint8_t)(i % (MT_HEAT_LEVEL_MAX + 1)),
				       .rounds = (uint8_t)(i % (MT_HEAT_ROUNDS_MAX + 1)),
				       .left_tick = (uint16_t)(511 - i)};

		bring(page(i), MT_PAGE_NOMINATED);
		mt_page_heat_set(&map, page(i), heat);
		mt_page_set(&map, page(i), MT_PAGE_NOMINATED, MT_PAGE_ZIPPED, place);
		mt_page_busy_set(&map, page(i), 1);
		MT_CHECK_EQ(mt_page_place(&map, page(i)), place);
		mt_page_moved(&map, page(i), 3);
		MT_CHECK_EQ(mt_page_busy(&map, page(i)), 1);
		MT_CHECK_EQ(mt_page_place(&map, page(i)), 3);
		MT_CHECK_EQ(mt_page_heat(&map, page(i)).level, heat.level);
		MT_CHECK_EQ(mt_page_heat(&map, page(i)).rounds, heat.rounds);
		MT_CHECK_EQ(mt_page_heat(&map, page(i)).left_tick, heat.left_tick);
	}
	mt_map_fini(&map);
}

MT_TEST("regions come and go; numbers of those that went are given out again")
{
	mt_gpn_t second, third;
	uint64_t before;

	make_map();
	before = map.bookkeeping_bytes;
	MT_CHECK_EQ(mt_map_extend(&map, MT_MAP_CHUNK_PAGES + 1, &second), 0);
	MT_CHECK_EQ(second.n, MT_MAP_CHUNK_PAGES);
	MT_CHECK_EQ(map.pages[MT_PAGE_UNTOUCHED], PAGES + MT_MAP_CHUNK_PAGES + 1);
	mt_page_set(&map, MT_GPN(second.n + MT_MAP_CHUNK_PAGES), MT_PAGE_UNTOUCHED,
		    MT_PAGE_RESIDENT, 0);
	mt_page_set(&map, MT_GPN(second.n + MT_MAP_CHUNK_PAGES), MT_PAGE_RESIDENT,
		    MT_PAGE_UNTOUCHED, 0);
	mt_map_retract(&map, second, MT_MAP_CHUNK_PAGES + 1);
	MT_CHECK_EQ(map.bookkeeping_bytes, before);
	MT_CHECK_EQ(mt_map_extend(&map, 1, &third), 0);
	MT_CHECK_EQ(third.n, second.n);
	mt_map_fini(&map);
}

MT_TEST("more than 16 TiB, and nothing at all, are refused without changing anything")
{
	uint64_t largest = (uint64_t)MT_MAP_CHUNKS << MT_MAP_CHUNK_SHIFT;
	mt_gpn_t gpn;

	make_map();
	MT_CHECK_EQ(mt_map_extend(&map, 0, &gpn), -ENOSPC);
	MT_CHECK_EQ(mt_map_extend(&map, largest, &gpn), -ENOSPC);
	MT_CHECK_EQ(mt_map_extend(&map, 1ULL << 33, &gpn), -ENOSPC);
	MT_CHECK_EQ(mt_map_extend(&map, UINT64_MAX >> MT_PAGE_SHIFT, &gpn), -ENOSPC);
	MT_CHECK_EQ(map.pages[MT_PAGE_UNTOUCHED], PAGES);
	mt_map_fini(&map);
}

MT_TEST_MAIN
