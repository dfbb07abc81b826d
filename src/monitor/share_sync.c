/* SPDX-License-Identifier: MIT */
/*
 * share_sync.c - what the daemon knows of the frames in use: commands of the link to the pager
 *
 * A connection that breaks takes all knowledge with it: answers under way are void, and releases
 * need not be told. After a reconnection the daemon is told the frame of each SHARED page, page by
 * page from the first to the last, while the guest goes on: a page that ceases to be shared is
 * released only if the daemon has been told of it.
 */
#include "monitor/pager.h"

/* First managed page at or after @gpn; none behind the last. Regions are in no order. */
static mt_gpn_t tell_seek(const struct mt_pager *pager, mt_gpn_t gpn)
{
	uint32_t best = MT_NONE32;

	for (uint32_t i = 0; i < pager->regions.count; i++) {
		const struct mt_region *region = &pager->regions.region[i];

		if (gpn.n < region->first.n + region->pages)
			best = MT_MIN(best, MT_MAX(gpn.n, region->first.n));
	}
	return MT_GPN(best);
}

bool mt_share_tell(struct mt_pager *pager, void *arg)
{
	struct mt_share *share = &pager->share;
	struct mt_share_tell *tell = arg;
	mt_gpn_t gpn = tell_seek(pager, share->tell_next);
	uint32_t looks = 16384;

	while (!mt_gpn_is_none(gpn) && tell->count < MT_WIRE_SHARE_KEEPS && looks--) {
		if (mt_page_state(&pager->map, gpn) == MT_PAGE_SHARED)
			tell->frame[tell->count++] = (uint32_t)mt_page_place(&pager->map, gpn);
		share->tell_next = MT_GPN(gpn.n + 1);
		gpn = tell_seek(pager, share->tell_next);
	}
	tell->more = !mt_gpn_is_none(gpn);
	if (!tell->more)
		share->tell_next = MT_GPN_NONE;
	return !tell->more || tell->count == MT_WIRE_SHARE_KEEPS;
}

bool mt_share_tell_begin(struct mt_pager *pager, void *arg)
{
	(void)arg;
	pager->share.sync = MT_SHARE_TELLING;
	pager->share.tell_next = MT_GPN(0);
	return true;
}

bool mt_share_begin(struct mt_pager *pager, void *arg)
{
	struct mt_share_begin *begin = arg;

	/* Pages that are in other frames can't be told from those in these. */
	begin->refused = pager->share.frames != begin->frames && pager->map.pages[MT_PAGE_SHARED];
	if (begin->refused)
		return true;
	pager->share.frames = begin->frames;
	pager->share.frames_fd = begin->frames_fd;
	pager->share.map_at_once = begin->map_at_once;
	pager->share.sync = MT_SHARE_SYNCED;
	return true;
}

/* Whatever the daemon promised is void: the next one is told only of pages that are shared now. */
bool mt_share_cut(struct mt_pager *pager, void *arg)
{
	struct mt_share *share = &pager->share;
	uint64_t *ret_pages = arg;

	share->sync = MT_SHARE_CUT;
	atomic_store(&share->release_head, atomic_load(&share->release_tail));
	atomic_store(&share->release_lost, false);
	for (uint32_t i = 0; i < MT_SHARE_BATCHES; i++) {
		struct mt_share_batch *batch = &share->batch[i];

		if (atomic_load(&batch->phase) == MT_SHARE_IDLE)
			continue;
		for (uint32_t n = 0; n < batch->count; n++)
			batch->answer[n] = MT_WIRE_SHARE_NONE;
		atomic_store(&batch->phase, MT_SHARE_ANSWERED);
	}
	mt_look_cut(pager);
	*ret_pages = pager->map.pages[MT_PAGE_SHARED];
	return true;
}
