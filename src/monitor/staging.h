/* SPDX-License-Identifier: MIT */
/*
 * staging.h - where nominated pages wait: a range of this process that the guest can't see
 *
 * A slot is in use from the MOVE that brought a page until its memory has gone: moved back to the
 * guest, or dropped after the page got a copy elsewhere. A slot whose page was copied back to the
 * guest while a helper or an I/O was reading it ("stale") stays in use until they are done.
 */
#ifndef MT_MONITOR_STAGING_H
#define MT_MONITOR_STAGING_H

#include "base/compiler.h"
#include "base/types.h"
#include "monitor/mem_ops.h"
#include "monitor/swap_slots.h"

/* Slots whose memory is dropped together. */
#define MT_STAGING_DROP_MAX 64U

struct mt_staging {
	uint8_t *base;
	uint32_t size; /* slots */
	uint32_t used;
	struct mt_slots *slots;
	const struct mt_mem_ops *mem;
	uint32_t dropping; /* slots in drop[] */
	mt_stage_t drop[MT_STAGING_DROP_MAX];
};

/**
 * mt_staging_init() - @size slots at @base (borrowed, registered for faults by the caller)
 * Return: 0 or -ENOMEM.
 */
MT_MUST_CHECK int mt_staging_init(struct mt_staging *staging, void *base, uint32_t size,
				  const struct mt_mem_ops *mem);
void mt_staging_fini(struct mt_staging *staging);

/** mt_staging_alloc() - up to @want slots in a row. Return: how many; 0 when none is free. */
uint32_t mt_staging_alloc(struct mt_staging *staging, uint32_t want, mt_stage_t *ret_first);

/** mt_staging_free_empty() - slot whose memory has been moved away */
void mt_staging_free_empty(struct mt_staging *staging, mt_stage_t slot);

/** mt_staging_free_full() - slot whose memory is to be dropped; soon, together with others */
void mt_staging_free_full(struct mt_staging *staging, mt_stage_t slot);

/** mt_staging_flush() - drop the memory of all slots given to mt_staging_free_full() */
void mt_staging_flush(struct mt_staging *staging);

static inline uint8_t *mt_staging_addr(const struct mt_staging *staging, mt_stage_t slot)
{
	MT_ASSERT(slot.n < staging->size);
	return staging->base + ((uint64_t)slot.n << MT_PAGE_SHIFT);
}

#endif
