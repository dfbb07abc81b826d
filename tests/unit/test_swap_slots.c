/* SPDX-License-Identifier: MIT */
/* test_swap_slots.c - the swap slot allocator against a plain array of flags */
#include "monitor/swap_slots.h"

#include "common/mt_test.h"

#include <errno.h>
#include <time.h>

static uint64_t random_state;

static uint32_t random_below(uint32_t limit)
{
	uint64_t z = (random_state += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return (uint32_t)((z ^ (z >> 31)) % limit);
}

static void audit(const struct mt_slots *slots)
{
	char text[200] = "";

	if (mt_slots_audit(slots, text, sizeof(text)))
		MT_FAIL("audit: %s", text);
}

static void compare(const struct mt_slots *slots, const uint8_t *model, uint32_t capacity)
{
	uint32_t used = 0;

	for (uint32_t i = 0; i < capacity; i++) {
		MT_CHECK_EQ(mt_slots_is_used(slots, MT_SLOT(i)), model[i]);
		used += model[i];
	}
	MT_CHECK_EQ(mt_slots_used(slots), used);
	MT_CHECK_EQ(mt_slots_capacity(slots), capacity);
	MT_CHECK(!mt_slots_is_used(slots, MT_SLOT(capacity)));
	audit(slots);
}

static uint32_t alloc(struct mt_slots *slots, uint32_t want, mt_slot_t *ret_first)
{
	uint32_t count = 0;

	MT_CHECK_EQ(mt_slots_alloc(slots, want, ret_first, &count), 0);
	return count;
}

static void model_alloc(struct mt_slots *slots, uint8_t *model, uint32_t capacity)
{
	uint32_t want = 1 + random_below(random_below(4) ? 16 : 200);
	bool full = mt_slots_used(slots) == capacity;
	mt_slot_t first;
	uint32_t count;
	int rc = mt_slots_alloc(slots, want, &first, &count);

	MT_CHECK_EQ(rc, full ? -ENOSPC : 0);
	if (rc)
		return;
	MT_CHECK(count >= 1 && count <= want && first.n + count <= capacity);
	for (uint32_t i = 0; i < count; i++) {
		MT_CHECK(!model[first.n + i]);
		model[first.n + i] = 1;
	}
}

static void run_model(uint64_t seed, uint32_t capacity, uint32_t capacity_max)
{
	uint8_t *model = calloc(capacity_max, 1);
	struct mt_slots *slots;

	random_state = seed;
	MT_CHECK(model);
	MT_CHECK_EQ(mt_slots_new(capacity, &slots), 0);
	for (uint32_t i = 0; i < 300000; i++) {
		uint32_t slot = capacity ? random_below(capacity) : 0;

		if ((i / 10000) % 2 == 0 && random_below(10) == 0)
			model_alloc(slots, model, capacity);
		if (capacity && model[slot] && (i / 10000) % 2) {
			mt_slots_release(slots, MT_SLOT(slot));
			model[slot] = 0;
		}
		if (random_below(20000) == 0 && capacity < capacity_max) {
			capacity += random_below(capacity_max - capacity + 1);
			MT_CHECK_EQ(mt_slots_grow(slots, capacity), 0);
			MT_CHECK_EQ(mt_slots_grow(slots, capacity / 2), 0);
		}
		if (i % 5000 == 0)
			compare(slots, model, capacity);
	}
	compare(slots, model, capacity);
	mt_slots_free(slots);
	free(model);
}

MT_TEST("random runs taken and slots released agree with the model")
{
	for (uint64_t seed = 1; seed <= 6; seed++)
		run_model(seed, 1000, 1000);
	run_model(7, 64, 64);
	run_model(8, 1, 1);
}

MT_TEST("a file that grows keeps what is taken and gains the rest")
{
	for (uint64_t seed = 1; seed <= 6; seed++)
		run_model(seed, 0, 5000);
	run_model(9, 63, 65);
}

MT_TEST("runs taken one after another lie one after another, and wrap around")
{
	struct mt_slots *slots;
	mt_slot_t first;
	uint32_t count;

	MT_CHECK_EQ(mt_slots_new(100, &slots), 0);
	for (uint32_t i = 0; i < 3; i++) {
		count = alloc(slots, 30, &first);
		MT_CHECK_EQ(first.n, 30 * i);
		MT_CHECK_EQ(count, 30);
	}
	for (uint32_t i = 5; i < 20; i++)
		mt_slots_release(slots, MT_SLOT(i));
	/* 10 at the end against 15 at the start: the longer run wins. */
	count = alloc(slots, 30, &first);
	MT_CHECK_EQ(first.n, 5);
	MT_CHECK_EQ(count, 15);
	/* Long enough: the next one wins, though a released slot lies lower. */
	mt_slots_release(slots, MT_SLOT(0));
	count = alloc(slots, 1, &first);
	MT_CHECK_EQ(first.n, 90);
	count = alloc(slots, 50, &first);
	MT_CHECK_EQ(first.n, 91);
	MT_CHECK_EQ(count, 9);
	count = alloc(slots, 50, &first);
	MT_CHECK_EQ(first.n, 0);
	MT_CHECK_EQ(mt_slots_alloc(slots, 50, &first, &count), -ENOSPC);
	audit(slots);
}

MT_TEST("a map of every second slot taken still serves runs in bounded time")
{
	enum { CAPACITY = 1 << 22 };
	struct timespec start, end;
	struct mt_slots *slots;
	mt_slot_t first;

	MT_CHECK_EQ(mt_slots_new(CAPACITY, &slots), 0);
	MT_CHECK(mt_slots_held_bytes(slots) <= CAPACITY / 8 + 64);
	MT_CHECK_EQ(alloc(slots, CAPACITY, &first), CAPACITY);
	for (uint32_t i = 0; i < CAPACITY; i += 2)
		mt_slots_release(slots, MT_SLOT(i));
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (uint32_t i = 0; i < 1000; i++) {
		MT_CHECK_EQ(alloc(slots, 64, &first), 1);
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("# fragmented: %lld ns each\n",
	       ((end.tv_sec - start.tv_sec) * 1000000000LL + end.tv_nsec - start.tv_nsec) / 1000);
	MT_CHECK_EQ(mt_slots_used(slots), CAPACITY / 2 + 1000);
	audit(slots);
}

static void release_in_child(uint32_t slot)
{
	struct mt_slots *slots;
	mt_slot_t first;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (mt_slots_new(10, &slots) || alloc(slots, 4, &first) != 4)
			_exit(1);
		mt_slots_release(slots, MT_SLOT(slot));
		_exit(0);
	}
	MT_CHECK(waitpid(pid, &status, 0) == pid);
	MT_CHECK(WIFSIGNALED(status));
}

MT_TEST("releasing a slot that is not taken traps")
{
	release_in_child(4);
	release_in_child(10);
	release_in_child(UINT32_MAX);
}

MT_TEST_MAIN
