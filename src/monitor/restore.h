/* SPDX-License-Identifier: MIT */
/*
 * restore.h - bring every page back into its place, and keep it there
 *
 * For a VMM that goes on without us. From the first step on no page goes out again, whatever target
 * the daemon sends, and what the VM holds is not bounded by its grant.
 */
#ifndef MT_MONITOR_RESTORE_H
#define MT_MONITOR_RESTORE_H

#include <stdbool.h>
#include <stdint.h>

struct mt_pager;

/* Where we are, and whether this round has met a page that is not back yet. Starts as all zeros. */
struct mt_restore {
	uint32_t region;
	uint64_t page;
	bool left;
	bool gone;             /* ... one that the kernel says there is no place for */
	uint32_t gone_rounds;  /* rounds in a row in which that was all that was left */
	const void *only;      /* base of the one region that is to come back; NULL: all */
	uint64_t failed_pages; /* when finished: pages that are lost; then all goes on as before */
};

/** mt_restore_some() - the command (command.h) that does it, some pages a turn */
bool mt_restore_some(struct mt_pager *pager, void *restore);

#endif
