/* SPDX-License-Identifier: MIT */
/*
 * mend.h - large pages that sampling has broken, put together again
 *
 * To watch one page of a large page (2 MiB) the kernel must split it, and the guest loses what a
 * large page saves its processor. Once all of its small pages are back in their places, the helper
 * asks the kernel to put them into one large page again (MADV_COLLAPSE): some hundred microseconds
 * in which the guest may wait for these pages. khugepaged would do it too, some time, where it is
 * enabled.
 *
 * The kernel declines while any of the pages is not in its place: the next period may watch one
 * already. Then it is asked again each time the helper is woken, some times. It also declines when
 * some of the pages are nothing but zeros, for which it has taken the memory back when it split the
 * page.
 *
 * The pager puts addresses in, the helper takes them; a full queue drops what comes.
 */
#ifndef MT_MONITOR_MEND_H
#define MT_MONITOR_MEND_H

#include "base/types.h"

#include <stdatomic.h>

#define MT_MENDS 128U

struct mt_mends {
	_Atomic uint64_t addr[MT_MENDS]; /* of a large page; 0: free */
	uint32_t at;                     /* helper: the next to be tried */
	_Atomic uint64_t mended;         /* large pages put together, in all */
};

struct mt_pager;

/** mt_mend_wanted() - the large page around @gpn was broken; mend it if it can be. Pager. */
void mt_mend_wanted(struct mt_pager *pager, mt_gpn_t gpn);

/** mt_mend_forget() - memory in this range is about to be the VMM's alone. Pager. */
void mt_mend_forget(struct mt_mends *mends, const void *addr, uint64_t bytes);

/** mt_mend_one() - helper thread: mend one large page. Return: was there one? */
bool mt_mend_one(struct mt_mends *mends);

#endif
