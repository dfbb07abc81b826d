/* SPDX-License-Identifier: MIT */
/*
 * swap_slots.h - which 4 KiB slots of a VM's swap file (or of its staging area) are taken
 *
 * Slots are handed out in runs, next-fit: pages evicted together lie together in the file, so
 * that they are written, and later read back, in one transfer. Costs one bit for each slot.
 *
 * Not thread-safe: the pager owns it. Only _new() and _grow() allocate; both belong on the
 * control path.
 */
#ifndef MT_MONITOR_SWAP_SLOTS_H
#define MT_MONITOR_SWAP_SLOTS_H

#include "base/compiler.h"
#include "base/types.h"

struct mt_slots;

/** mt_slots_new() - all @capacity slots are free. Return: 0 or -ENOMEM. */
MT_MUST_CHECK int mt_slots_new(uint32_t capacity, struct mt_slots **ret_slots);

/** mt_slots_free() - NULL is fine */
void mt_slots_free(struct mt_slots *slots);

/**
 * mt_slots_grow() - have @capacity slots from now on; a smaller number than now changes nothing
 *
 * Return: 0, or -ENOMEM with nothing changed.
 */
MT_MUST_CHECK int mt_slots_grow(struct mt_slots *slots, uint32_t capacity);

/**
 * mt_slots_alloc() - take a run of 1 to @want slots that follow each other
 *
 * Takes the next run long enough, or the longest of those within reach: with a fragmented file
 * the caller gets a short run and asks again for the rest.
 *
 * Return: 0, or -ENOSPC when every slot is taken.
 */
MT_MUST_CHECK int mt_slots_alloc(struct mt_slots *slots, uint32_t want, mt_slot_t *ret_first,
				 uint32_t *ret_count);

/** mt_slots_release() - @slot, which is taken, is free again */
void mt_slots_release(struct mt_slots *slots, mt_slot_t slot);

/** mt_slots_is_used() - is @slot taken? false beyond the capacity */
bool mt_slots_is_used(const struct mt_slots *slots, mt_slot_t slot);

/** mt_slots_used() - number of slots taken */
uint32_t mt_slots_used(const struct mt_slots *slots);

/** mt_slots_capacity() - number of slots there are */
uint32_t mt_slots_capacity(const struct mt_slots *slots);

/** mt_slots_held_bytes() - memory of the allocator itself */
uint64_t mt_slots_held_bytes(const struct mt_slots *slots);

/**
 * mt_slots_audit() - recount and check
 * @text: first violation in words; @text_bytes its room
 *
 * Return: number of violations.
 */
uint64_t mt_slots_audit(const struct mt_slots *slots, char *text, size_t text_bytes);

#endif
