/* SPDX-License-Identifier: MIT */
/*
 * guest_stats.h - what a guest reports about its own memory, through its balloon's driver
 *
 * QEMU hands out the guest's last report for ever, however old. Its age is told by the monotonic
 * time at which the report was first seen, not by comparing clocks: "last-update" only has to
 * change. Numbers of an old report are not shown; that they are old is.
 */
#ifndef MT_HOST_GUEST_STATS_H
#define MT_HOST_GUEST_STATS_H

#include "base/compiler.h"

#include <json-c/json.h>
#include <stdbool.h>

/* clang-format off */
#define MT_GUEST_STATS(X) \
	/* id          QEMU                     libvirt (dommemstat)  a size */ \
	X(SWAP_IN,     "stat-swap-in",          "swap_in",            true) \
	X(SWAP_OUT,    "stat-swap-out",         "swap_out",           true) \
	X(MAJOR_FAULT, "stat-major-faults",     "major_fault",        false) \
	X(MINOR_FAULT, "stat-minor-faults",     "minor_fault",        false) \
	X(UNUSED,      "stat-free-memory",      "unused",             true) \
	X(AVAILABLE,   "stat-total-memory",     "available",          true) \
	X(USABLE,      "stat-available-memory", "usable",             true) \
	X(DISK_CACHES, "stat-disk-caches",      "disk_caches",        true) \
	X(HTLB_PGALLOC, "stat-htlb-pgalloc",    "hugetlb_pgalloc",    false) \
	X(HTLB_PGFAIL, "stat-htlb-pgfail",      "hugetlb_pgfail",     false)
/* clang-format on */

enum mt_guest_stat {
#define X(id, qemu, libvirt, size) MT_GUEST_##id,
	MT_GUEST_STATS(X)
#undef X
		MT_GUEST_STATS_MAX
};

/* The guest does not tell. */
#define MT_GUEST_UNTOLD UINT64_MAX

struct mt_guest_stats {
	bool reported;                      /* at least once since it started */
	uint64_t value[MT_GUEST_STATS_MAX]; /* bytes, or counts; MT_GUEST_UNTOLD */
	uint64_t swapped_in_bytes;          /* between the last two reports */
	uint64_t total_max_bytes;           /* a driver may count the balloon out of the total */
	int64_t last_update_s;              /* since 1970; 0: never */
	uint64_t seen_ns;                   /* when that changed */
	int64_t reset_s; /* the next report may be older, and of the guest before; 0: it can't */
};

/**
 * mt_guest_stats_reset() - the guest starts anew: nothing it said holds
 * @at_s: when, by QEMU's clock, or 0. What it said last may not have been seen yet.
 */
void mt_guest_stats_reset(struct mt_guest_stats *stats, int64_t at_s);

/**
 * mt_guest_stats_take() - read QEMU's "guest-stats"
 * Return: is this a report that was not seen before? False for what is no such object, too.
 */
bool mt_guest_stats_take(struct mt_guest_stats *stats, struct json_object *object, uint64_t now_ns);

/** mt_guest_stats_fresh() - did the guest report within @age_ns, with what the policy needs? */
bool mt_guest_stats_fresh(const struct mt_guest_stats *stats, uint64_t age_ns, uint64_t now_ns);

/** mt_guest_stats_json() - add the numbers to @object under libvirt's names, sizes in KiB */
void mt_guest_stats_json(const struct mt_guest_stats *stats, bool fresh,
			 struct json_object *object);

#endif
