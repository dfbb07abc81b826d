/* SPDX-License-Identifier: MIT */
/* test_room.c - what a VM holds and may hold */
#include "monitor/pager.h"

#include "common/mt_test.h"

#include <sys/mman.h>

#define STAGING_SLOTS 128U

static struct mt_pager pager;
static uint32_t notified;

static void count_drop(void *ctx, void *addr, uint64_t bytes)
{
	(void)ctx;
	(void)addr;
	(void)bytes;
}

static void count_notify(void *ctx)
{
	(void)ctx;
	notified++;
}

static void make_pager(uint64_t granted, uint64_t target)
{
	void *staging = mt_pager_area(STAGING_SLOTS << MT_PAGE_SHIFT);

	pager.mem.drop = count_drop;
	pager.notify = count_notify;
	pager.fault_fd = -1;
	pager.mem_fd = -1;
	pager.zip_arena_bytes = 1 << 20;
	pager.helper.by_hand = true;
	MT_CHECK(staging && !mt_pager_init(&pager, staging, STAGING_SLOTS));
	atomic_store(&pager.granted_pages, granted);
	atomic_store(&pager.target_pages, target);
	atomic_store(&pager.zip_max_pct, 10);
}

/* Says that so many guest pages are in their place. */
static void hold(uint64_t pages)
{
	pager.map.pages[MT_PAGE_RESIDENT] = pages;
}

static uint64_t held_by_nothing(void)
{
	hold(0);
	return mt_room_held_pages(&pager);
}

MT_TEST("everything that takes machine memory is counted, once")
{
	uint64_t base;
	mt_stage_t slot;
	mt_zref_t ref;
	char data[2000];

	make_pager(10000, 10000);
	base = held_by_nothing();
	MT_CHECK(base >= mt_pages_of_bytes(mt_room_overhead_bytes(&pager)));
	hold(100);
	MT_CHECK_EQ(mt_room_held_pages(&pager), base + 100);
	MT_CHECK_EQ(mt_staging_alloc(&pager.staging, 5, &slot), 5);
	/* A nominated page counts by its staging slot, not by its state too. */
	pager.map.pages[MT_PAGE_NOMINATED] = 5;
	MT_CHECK_EQ(mt_room_held_pages(&pager), base + 105);
	pager.promised_pages = 8;
	MT_CHECK_EQ(mt_room_held_pages(&pager), base + 113);
	atomic_store(&pager.nursery_ready[1], 1);
	MT_CHECK_EQ(mt_room_held_pages(&pager), base + 113 + MT_HUGE_PAGES);
	memset(data, 1, sizeof(data));
	for (uint32_t i = 0; i < 20; i++)
		MT_CHECK_EQ(mt_zip_put(pager.zip, MT_GPN(i), data, sizeof(data), &ref), 0);
	MT_CHECK(mt_room_held_pages(&pager) >= base + 113 + MT_HUGE_PAGES + 10);
}

MT_TEST("a discarded page counts until its memory has gone")
{
	mt_stage_t slot;
	uint64_t base;

	make_pager(10000, 10000);
	base = held_by_nothing();
	MT_CHECK_EQ(mt_staging_alloc(&pager.staging, 1, &slot), 1);
	mt_staging_free_full(&pager.staging, slot);
	MT_CHECK_EQ(mt_room_held_pages(&pager), base + 1);
	mt_staging_flush(&pager.staging);
	MT_CHECK_EQ(mt_room_held_pages(&pager), base);
}

MT_TEST("there is room up to the grant and not a page further")
{
	uint64_t base;

	make_pager(5000, UINT64_MAX);
	base = held_by_nothing();
	hold(5000 - base - 3);
	MT_CHECK_EQ(mt_room_left_pages(&pager), 3);
	MT_CHECK(mt_room_for(&pager, 3) && !mt_room_for(&pager, 4));
	hold(5000 - base);
	MT_CHECK(!mt_room_for(&pager, 1));
	hold(6000 - base);
	MT_CHECK_EQ(mt_room_left_pages(&pager), 0);
	MT_CHECK(!mt_room_for(&pager, 1));
}

MT_TEST("what is steered to lies below both target and grant")
{
	uint64_t base;

	make_pager(5000, 4000);
	base = held_by_nothing();
	hold(4000 - base - 64);
	MT_CHECK_EQ(mt_room_excess_pages(&pager), 0);
	hold(4000 - base - 63);
	MT_CHECK_EQ(mt_room_excess_pages(&pager), 1);
	atomic_store(&pager.target_pages, UINT64_MAX);
	hold(5000 - base - 78);
	MT_CHECK_EQ(mt_room_excess_pages(&pager), 0);
	hold(5000 - base - 77);
	MT_CHECK_EQ(mt_room_excess_pages(&pager), 1);
	/* Even one that can never be reached is no reason to count wrongly. */
	atomic_store(&pager.target_pages, 0);
	MT_CHECK_EQ(mt_room_excess_pages(&pager), 5000 - 77 + 64);
}

MT_TEST("a lower target brings the grant down to what is held, never below")
{
	uint64_t base;

	make_pager(5000, 3000);
	base = held_by_nothing();
	hold(4000 - base);
	mt_room_return_grant(&pager);
	MT_CHECK_EQ(mt_room_grant_pages(&pager), 4000);
	MT_CHECK_EQ(notified, 1);
	/* Small change goes at once, too; the daemon is woken only for what is worth a message. */
	hold(3950 - base);
	mt_room_return_grant(&pager);
	MT_CHECK_EQ(mt_room_grant_pages(&pager), 3950);
	MT_CHECK_EQ(notified, 1);
	hold(2990 - base);
	mt_room_return_grant(&pager);
	MT_CHECK_EQ(mt_room_grant_pages(&pager), 3000);
	mt_room_return_grant(&pager);
	MT_CHECK_EQ(mt_room_grant_pages(&pager), 3000);
	MT_CHECK_EQ(notified, 2);
	MT_CHECK_EQ(atomic_load(&pager.granted_pages), 5000);
}

MT_TEST("a VM that leaves takes what it needs and returns nothing meanwhile")
{
	make_pager(3000, 2000);
	hold(100000);
	pager.leaving = true;
	MT_CHECK(mt_room_for(&pager, 1000000));
	mt_room_return_grant(&pager);
	MT_CHECK_EQ(mt_room_grant_pages(&pager), 3000);
}

MT_TEST("the zip store may take its share of the guest, but never all that the VM may hold")
{
	struct mt_region region = {.base = (uint8_t *)(1UL << 30), .pages = 1 << 20};
	uint64_t base;

	make_pager(1 << 20, 1 << 20);
	MT_CHECK_EQ(mt_region_insert(&pager.regions, &region), 0);
	MT_CHECK_EQ(mt_room_zip_max_bytes(&pager), (4ULL << 30) / 100 * 10);
	MT_CHECK_EQ(mt_slots_new(1000, &pager.slots), 0);
	MT_CHECK_EQ(mt_room_zip_max_bytes(&pager), (4ULL << 30) / 100 * 10);
	base = held_by_nothing();
	atomic_store(&pager.target_pages, base + 2000);
	MT_CHECK(mt_room_zip_max_bytes(&pager) <= 1000 << MT_PAGE_SHIFT);
	MT_CHECK(mt_room_zip_max_bytes(&pager) >= 900 << MT_PAGE_SHIFT);
	atomic_store(&pager.target_pages, 0);
	MT_CHECK_EQ(mt_room_zip_max_bytes(&pager), 0);
}

MT_TEST_MAIN
