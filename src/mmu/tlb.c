/* SPDX-License-Identifier: MIT */
/* tlb.c - filling and flushing the TLB; see tlb.h */
#include "mmu/tlb.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct mt_tlb_entry empty = {.tag = MT_TLB_EMPTY, .page_shift = MT_PAGE_SHIFT};

static unsigned int array_entries(const struct mt_tlb_array *array)
{
	return array->sets * array->ways;
}

int mt_tlb_init(struct mt_tlb *tlb, const struct mt_tlb_config *config)
{
	memset(tlb, 0, sizeof(*tlb));
	for (unsigned int i = 0; i < MT_TLB_SIZES; i++) {
		struct mt_tlb_array *array = &tlb->arrays[i];

		array->sets = config->arrays[i].sets;
		array->ways = config->arrays[i].ways;
		if (!array->sets || !array->ways || (array->sets & (array->sets - 1))) {
			mt_tlb_destroy(tlb);
			return -EINVAL;
		}
		array->entries = calloc(array_entries(array), sizeof(*array->entries));
		if (!array->entries) {
			mt_tlb_destroy(tlb);
			return -ENOMEM;
		}
		array->used = true;
	}
	mt_tlb_flush(tlb);
	return 0;
}

void mt_tlb_destroy(struct mt_tlb *tlb)
{
	for (unsigned int i = 0; i < MT_TLB_SIZES; i++)
		free(tlb->arrays[i].entries);
	memset(tlb, 0, sizeof(*tlb));
}

void mt_tlb_add(struct mt_tlb *tlb, mt_gva_t gva, uint16_t asid, mt_mpa_t mpa,
		unsigned int page_shift, uint32_t allowed)
{
	struct mt_tlb_array *array = &tlb->arrays[(page_shift - MT_PAGE_SHIFT) / MT_INDEX_BITS];
	struct mt_tlb_entry *set = mt_tlb_set(array, gva, page_shift);
	struct mt_tlb_entry fresh = {.tag = mt_tlb_tag(gva, asid, page_shift),
				     .start = mpa.a & ~((1ULL << page_shift) - 1),
				     .allowed = allowed,
				     .page_shift = page_shift};
	unsigned int way = 0;

	MT_ASSERT(asid < MT_TLB_ASIDS);
	while (way + 1 < array->ways && set[way].tag != fresh.tag && set[way].tag != MT_TLB_EMPTY)
		way++;
	memmove(set + 1, set, way * sizeof(*set));
	set[0] = fresh;
	array->used = true;
}

void mt_tlb_flush(struct mt_tlb *tlb)
{
	for (unsigned int i = 0; i < MT_TLB_SIZES; i++) {
		struct mt_tlb_array *array = &tlb->arrays[i];

		for (unsigned int k = 0; array->used && k < array_entries(array); k++)
			array->entries[k] = empty;
		array->used = false;
	}
}

void mt_tlb_flush_asid(struct mt_tlb *tlb, uint16_t asid)
{
	for (unsigned int i = 0; i < MT_TLB_SIZES; i++) {
		struct mt_tlb_array *array = &tlb->arrays[i];

		for (unsigned int k = 0; array->used && k < array_entries(array); k++)
			if (array->entries[k].tag % MT_TLB_ASIDS == asid)
				array->entries[k] = empty;
	}
}

void mt_tlb_flush_page(struct mt_tlb *tlb, uint16_t asid, mt_gva_t gva)
{
	unsigned int page_shift = MT_PAGE_SHIFT;

	for (unsigned int i = 0; i < MT_TLB_SIZES; i++, page_shift += MT_INDEX_BITS) {
		struct mt_tlb_array *array = &tlb->arrays[i];
		struct mt_tlb_entry *set = mt_tlb_set(array, gva, page_shift);
		uint64_t tag = mt_tlb_tag(gva, asid, page_shift);

		for (unsigned int way = 0; way < array->ways; way++)
			if (set[way].tag == tag)
				set[way] = empty;
	}
}

/* Slots of a level: 32, 8, 4, 2 from level 2 up. */
static unsigned int pwc_slot(uint64_t prefix, unsigned int level)
{
	static const unsigned int slots[MT_PWC_LEVELS] = {MT_PWC_SLOTS, 8, 4, 2};

	return (unsigned int)prefix & (slots[level - 2] - 1);
}

void mt_pwc_flush(struct mt_pwc *pwc)
{
	for (unsigned int i = 0; i < MT_PWC_LEVELS; i++)
		for (unsigned int k = 0; k < MT_PWC_SLOTS; k++)
			pwc->slots[i][k].tag = MT_TLB_EMPTY;
}

bool mt_pwc_find(const struct mt_pwc *pwc, mt_gva_t gva, uint16_t asid, unsigned int levels,
		 struct mt_walk_start *ret)
{
	for (unsigned int level = 2; level <= levels; level++) {
		uint64_t prefix = gva.a >> mt_level_shift(level);
		unsigned int slot = pwc_slot(prefix, level);

		if (pwc->slots[level - 2][slot].tag != (prefix << 16 | asid))
			continue;
		ret->level = level - 1;
		ret->table = pwc->slots[level - 2][slot].table;
		ret->rights = pwc->slots[level - 2][slot].rights;
		return true;
	}
	return false;
}

void mt_pwc_learn(struct mt_pwc *pwc, mt_gva_t gva, uint16_t asid,
		  const struct mt_walk_start *start, const struct mt_walk *walk)
{
	uint64_t rights = start ? start->rights : MT_PTE_RW | MT_PTE_US | MT_PTE_NX;

	for (unsigned int i = 0; i + 1 < walk->step_count; i++) {
		const struct mt_walk_step *step = &walk->steps[i];
		uint64_t prefix = gva.a >> mt_level_shift(step->level);
		unsigned int slot = pwc_slot(prefix, step->level);

		rights &= step->entry ^ MT_PTE_NX;
		pwc->slots[step->level - 2][slot].tag = prefix << 16 | asid;
		pwc->slots[step->level - 2][slot].table = step->entry & MT_PTE_ADDRESS;
		pwc->slots[step->level - 2][slot].rights = rights;
	}
}
