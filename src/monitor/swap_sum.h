/* SPDX-License-Identifier: MIT */
/*
 * swap_sum.h - checksum of a page in the swap file
 *
 * Kept in memory and compared when the page is read back. It covers which page of the guest it is
 * and which slot it lies in, so that it tells not only rot and torn writes, but also a page that
 * was read from or written to the wrong place, or an old version left behind by a lost write.
 */
#ifndef MT_MONITOR_SWAP_SUM_H
#define MT_MONITOR_SWAP_SUM_H

#include "base/types.h"

/** mt_swap_sum() - checksum of the page at @page, which is @gpn and lies in @slot */
uint64_t mt_swap_sum(const void *page, mt_gpn_t gpn, mt_slot_t slot);

#endif
