/* SPDX-License-Identifier: MIT */
/*
 * share_zipped.c - compressed pages that turn out to have a like
 *
 * The first of several equal pages to be put away finds no frame, and is compressed. When the
 * second one comes, the daemon says that there is a frame now; then the first is unpacked to be
 * hashed and offered, and once more to be compared, and gives its object up for the frame. In
 * between it is busy with the batch's ticket, and a touch or a discard takes it as any compressed
 * page.
 */
#include "monitor/pager.h"

#include <lz4.h>
#include <string.h>

static bool zipped_unpack(struct mt_pager *pager, mt_gpn_t gpn, uint8_t *to)
{
	const void *data;
	mt_gpn_t owner;
	uint32_t bytes =
		mt_zip_get(pager->zip, (mt_zref_t){mt_page_place(&pager->map, gpn)}, &data, &owner);

	return owner.n == gpn.n && LZ4_decompress_safe(data, (char *)to, (int)bytes,
						       (int)MT_PAGE_SIZE) == (int)MT_PAGE_SIZE;
}

bool mt_share_zipped_add(struct mt_pager *pager, struct mt_share_batch *batch, mt_gpn_t gpn)
{
	if (mt_page_state(&pager->map, gpn) != MT_PAGE_ZIPPED || mt_page_busy(&pager->map, gpn) ||
	    !zipped_unpack(pager, gpn, pager->bounce))
		return false;
	batch->gpn[batch->count] = gpn;
	batch->hash[batch->count] = mt_share_hash(pager->bounce);
	batch->page[batch->count] = NULL;
	batch->count++;
	return true;
}

static bool zipped_current(struct mt_pager *pager, const struct mt_share_batch *batch, uint32_t i)
{
	return mt_region_of_gpn(&pager->regions, batch->gpn[i]) &&
	       mt_page_state(&pager->map, batch->gpn[i]) == MT_PAGE_ZIPPED &&
	       mt_page_busy(&pager->map, batch->gpn[i]) == batch->ticket;
}

static bool zipped_equal(struct mt_pager *pager, mt_gpn_t gpn, uint32_t frame)
{
	const uint8_t *shared = pager->share.frames + ((uint64_t)frame << MT_PAGE_SHIFT);

	return zipped_unpack(pager, gpn, pager->bounce) &&
	       !memcmp(pager->bounce, shared, MT_PAGE_SIZE);
}

static void zipped_take(struct mt_pager *pager, const struct mt_share_batch *batch, uint32_t i)
{
	mt_gpn_t gpn = batch->gpn[i];
	uint32_t answer = batch->answer[i];
	bool current = zipped_current(pager, batch, i);
	mt_zref_t ref;

	if (current && answer < MT_FRAMES_MAX && zipped_equal(pager, gpn, answer)) {
		ref = (mt_zref_t){mt_page_place(&pager->map, gpn)};
		mt_page_set(&pager->map, gpn, MT_PAGE_ZIPPED, MT_PAGE_SHARED, answer);
		mt_page_sum_set(&pager->map, gpn, batch->hash[i]);
		mt_zip_del(pager->zip, ref);
		mt_count(pager, MT_C_SHARE_MADE, 1);
		return;
	}
	if (current)
		mt_page_busy_clear(&pager->map, gpn, false);
	if (answer < MT_FRAMES_MAX)
		mt_share_let_go(pager, MT_GPN(0), MT_FRAME(answer));
}

void mt_share_zipped_take(struct mt_pager *pager, struct mt_share_batch *batch)
{
	for (uint32_t i = 0; i < batch->count; i++)
		zipped_take(pager, batch, i);
	atomic_store_explicit(&batch->phase, MT_SHARE_IDLE, memory_order_relaxed);
}
