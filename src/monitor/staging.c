/* SPDX-License-Identifier: MIT */
/* staging.c - slots of the staging area; see staging.h */
#include "monitor/staging.h"

#include <errno.h>
#include <string.h>

int mt_staging_init(struct mt_staging *staging, void *base, uint32_t size,
		    const struct mt_mem_ops *mem)
{
	int rc;

	memset(staging, 0, sizeof(*staging));
	rc = mt_slots_new(size, &staging->slots);
	if (rc)
		return rc;
	staging->base = base;
	staging->size = size;
	staging->mem = mem;
	return 0;
}

void mt_staging_fini(struct mt_staging *staging)
{
	mt_slots_free(staging->slots);
	staging->slots = NULL;
}

uint32_t mt_staging_alloc(struct mt_staging *staging, uint32_t want, mt_stage_t *ret_first)
{
	mt_slot_t first;
	uint32_t count;

	if (mt_slots_alloc(staging->slots, want, &first, &count))
		return 0;
	*ret_first = MT_STAGE(first.n);
	staging->used += count;
	return count;
}

void mt_staging_free_empty(struct mt_staging *staging, mt_stage_t slot)
{
	MT_ASSERT(staging->used > 0);
	mt_slots_release(staging->slots, MT_SLOT(slot.n));
	staging->used--;
}

void mt_staging_free_full(struct mt_staging *staging, mt_stage_t slot)
{
	if (staging->dropping == MT_STAGING_DROP_MAX)
		mt_staging_flush(staging);
	staging->drop[staging->dropping++] = slot;
}

void mt_staging_flush(struct mt_staging *staging)
{
	uint32_t start = 0;

	for (uint32_t i = 1; i <= staging->dropping; i++) {
		uint32_t count = i - start;

		if (i < staging->dropping && staging->drop[i].n == staging->drop[start].n + count)
			continue;
		staging->mem->drop(staging->mem->ctx,
				   mt_staging_addr(staging, staging->drop[start]),
				   (uint64_t)count << MT_PAGE_SHIFT);
		for (uint32_t j = start; j < i; j++)
			mt_staging_free_empty(staging, staging->drop[j]);
		start = i;
	}
	staging->dropping = 0;
}
