/* SPDX-License-Identifier: MIT */
/* counters.c - names, kinds and meanings of the monitor's numbers; see counters.h */
#include "wire/counters.h"

const struct mt_counter_info mt_counter_info[MT_COUNTER_MAX] = {
#define X(id, n, k, m) [MT_C_##id] = {.name = (n), .kind = MT_COUNTER_##k, .meaning = (m)},
	MT_COUNTERS(X)
#undef X
};
