/* SPDX-License-Identifier: MIT */
/* swap_sum.c - checksum of a page in the swap file: XXH3-64, seeded with its place */
#include "monitor/swap_sum.h"

#include <xxhash.h>

uint64_t mt_swap_sum(const void *page, mt_gpn_t gpn, mt_slot_t slot)
{
	return XXH3_64bits_withSeed(page, MT_PAGE_SIZE, (uint64_t)gpn.n << 32 | slot.n);
}
