/* SPDX-License-Identifier: MIT */
/*
 * swap_slots.c - which 4 KiB slots of a VM's swap file (or of its staging area) are taken
 *
 * A bitmap, a set bit for each slot taken, and a cursor where the last run ended. A search starts
 * at the cursor and wraps around once. It ends at the first run that is long enough; from the
 * moment it has found any free slot it looks at no more than MT_REACH slots in hope of a longer
 * one, so a fragmented file costs bounded time. Only finding the few last free slots of a nearly
 * full file walks the whole map, 64 slots a step.
 *
 * Bits from capacity to the end of the last word are set, so that they are never handed out; they
 * are not counted in used.
 */
#include "monitor/swap_slots.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MT_WORD_SLOTS 64U
#define MT_REACH      1024U

struct mt_slots {
	uint64_t *words;
	uint32_t capacity;
	uint32_t used;
	uint32_t cursor; /* below capacity, or 0 */
};

struct mt_run {
	uint32_t first;
	uint32_t count;
};

static uint64_t words_for(uint32_t capacity)
{
	return ((uint64_t)capacity + MT_WORD_SLOTS - 1) / MT_WORD_SLOTS;
}

/* Set the bits of the last word that stand for no slot. */
static void seal_end(struct mt_slots *slots)
{
	uint32_t tail = slots->capacity % MT_WORD_SLOTS;

	if (tail)
		slots->words[slots->capacity / MT_WORD_SLOTS] |= UINT64_MAX << tail;
}

static void unseal_end(struct mt_slots *slots)
{
	uint32_t tail = slots->capacity % MT_WORD_SLOTS;

	if (tail)
		slots->words[slots->capacity / MT_WORD_SLOTS] &= ~(UINT64_MAX << tail);
}

int mt_slots_new(uint32_t capacity, struct mt_slots **ret_slots)
{
	struct mt_slots *slots = calloc(1, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	slots->words = calloc(MT_MAX(words_for(capacity), 1U), sizeof(*slots->words));
	if (!slots->words) {
		free(slots);
		return -ENOMEM;
	}
	slots->capacity = capacity;
	seal_end(slots);
	*ret_slots = slots;
	return 0;
}

void mt_slots_free(struct mt_slots *slots)
{
	if (!slots)
		return;
	free(slots->words);
	free(slots);
}

int mt_slots_grow(struct mt_slots *slots, uint32_t capacity)
{
	uint64_t before = words_for(slots->capacity), after = words_for(capacity);
	uint64_t *words;

	if (capacity <= slots->capacity)
		return 0;
	words = calloc(after, sizeof(*words));
	if (!words)
		return -ENOMEM;
	unseal_end(slots);
	memcpy(words, slots->words, before * sizeof(*words));
	free(slots->words);
	slots->words = words;
	slots->capacity = capacity;
	seal_end(slots);
	return 0;
}

/* First free slot in [@from, @end); @end when there is none. */
static uint32_t next_free(const struct mt_slots *slots, uint32_t from, uint32_t end)
{
	uint64_t i = from / MT_WORD_SLOTS;
	uint64_t free_bits;

	if (from >= end)
		return end;
	free_bits = ~slots->words[i] & (UINT64_MAX << (from % MT_WORD_SLOTS));
	while (!free_bits) {
		if (++i * MT_WORD_SLOTS >= end)
			return end;
		free_bits = ~slots->words[i];
	}
	i = i * MT_WORD_SLOTS + (uint32_t)__builtin_ctzll(free_bits);
	return i < end ? (uint32_t)i : end;
}

/* First taken slot in [@from, @end); @end when there is none. */
static uint32_t next_used(const struct mt_slots *slots, uint32_t from, uint32_t end)
{
	uint64_t i = from / MT_WORD_SLOTS;
	uint64_t used_bits;

	if (from >= end)
		return end;
	used_bits = slots->words[i] & (UINT64_MAX << (from % MT_WORD_SLOTS));
	while (!used_bits) {
		if (++i * MT_WORD_SLOTS >= end)
			return end;
		used_bits = slots->words[i];
	}
	i = i * MT_WORD_SLOTS + (uint32_t)__builtin_ctzll(used_bits);
	return i < end ? (uint32_t)i : end;
}

/* Take the slots of @run, all of which must be free. */
static void mark(struct mt_slots *slots, struct mt_run run)
{
	uint64_t at = run.first, end = (uint64_t)run.first + run.count;

	MT_ASSERT(end <= slots->capacity);
	while (at < end) {
		uint64_t bit = at % MT_WORD_SLOTS;
		uint64_t bits = MT_MIN(MT_WORD_SLOTS - bit, end - at);
		uint64_t mask = (UINT64_MAX >> (MT_WORD_SLOTS - bits)) << bit;
		uint64_t *word = &slots->words[at / MT_WORD_SLOTS];

		MT_ASSERT(!(*word & mask));
		*word |= mask;
		at += bits;
	}
}

/* Look for a longer run than @best in [@from, @end), until @reach is used up. */
static void search(const struct mt_slots *slots, uint32_t from, uint32_t end, uint32_t want,
		   struct mt_run *best, uint32_t *reach)
{
	while (from < end && best->count < want && *reach) {
		uint32_t first = next_free(slots, from, end);
		uint32_t limit = end - first > want ? first + want : end;
		uint32_t after = next_used(slots, first, limit);

		if (best->count)
			*reach -= MT_MIN(*reach, after - from);
		if (after - first > best->count)
			*best = (struct mt_run){first, after - first};
		from = after;
	}
}

int mt_slots_alloc(struct mt_slots *slots, uint32_t want, mt_slot_t *ret_first, uint32_t *ret_count)
{
	struct mt_run best = {0, 0};
	uint32_t reach = MT_REACH;

	MT_ASSERT(want > 0);
	if (slots->used == slots->capacity)
		return -ENOSPC;
	search(slots, slots->cursor, slots->capacity, want, &best, &reach);
	search(slots, 0, slots->cursor, want, &best, &reach);
	MT_ASSERT(best.count > 0 && best.count <= want);
	mark(slots, best);
	slots->used += best.count;
	slots->cursor = best.first + best.count;
	if (slots->cursor == slots->capacity)
		slots->cursor = 0;
	*ret_first = MT_SLOT(best.first);
	*ret_count = best.count;
	return 0;
}

void mt_slots_release(struct mt_slots *slots, mt_slot_t slot)
{
	MT_ASSERT(mt_slots_is_used(slots, slot));
	slots->words[slot.n / MT_WORD_SLOTS] &= ~(1ULL << (slot.n % MT_WORD_SLOTS));
	slots->used--;
}

bool mt_slots_is_used(const struct mt_slots *slots, mt_slot_t slot)
{
	if (slot.n >= slots->capacity)
		return false;
	return (slots->words[slot.n / MT_WORD_SLOTS] >> (slot.n % MT_WORD_SLOTS)) & 1;
}

uint32_t mt_slots_used(const struct mt_slots *slots)
{
	return slots->used;
}

uint32_t mt_slots_capacity(const struct mt_slots *slots)
{
	return slots->capacity;
}

uint64_t mt_slots_held_bytes(const struct mt_slots *slots)
{
	return sizeof(*slots) + words_for(slots->capacity) * sizeof(*slots->words);
}

uint64_t mt_slots_audit(const struct mt_slots *slots, char *text, size_t text_bytes)
{
	uint64_t words = words_for(slots->capacity), set = 0, violations = 0;
	uint64_t beyond = words * MT_WORD_SLOTS - slots->capacity;

	for (uint64_t i = 0; i < words; i++)
		set += (uint64_t)__builtin_popcountll(slots->words[i]);
	if (beyond && slots->words[words - 1] >> (MT_WORD_SLOTS - beyond) !=
			      UINT64_MAX >> (MT_WORD_SLOTS - beyond)) {
		violations++;
		snprintf(text, text_bytes, "swap slots: a slot beyond the end is free");
	}
	if (set != slots->used + beyond && !violations++)
		snprintf(text, text_bytes, "swap slots: %llu taken, %u counted",
			 (unsigned long long)(set - beyond), slots->used);
	if (slots->cursor && slots->cursor >= slots->capacity && !violations++)
		snprintf(text, text_bytes, "swap slots: cursor %u of %u", slots->cursor,
			 slots->capacity);
	return violations;
}
