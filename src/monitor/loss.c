/* SPDX-License-Identifier: MIT */
/*
 * loss.c - give a page up for lost
 *
 * When the only copy of a page is damaged, can't be read, or is not where it should be, nobody
 * knows what the page held. It becomes FAILED: who touches it waits for ever, and the daemon is
 * told the first such page and why. The alternative, zeros or an old version, would be a guess the
 * guest cannot tell from its own data (I6).
 */
#include "monitor/pager.h"

#include <errno.h>
#include <string.h>

void mt_page_lost(struct mt_pager *pager, mt_gpn_t gpn, enum mt_page_state from, mt_slot_t slot,
		  int error)
{
	uint64_t place = slot.n == MT_SLOT_NONE.n ? 0 : slot.n;

	if (!pager->map.pages[MT_PAGE_FAILED])
		pager->loss = (struct mt_page_loss){.gpn = gpn, .slot = slot, .error = error};
	mt_page_set(&pager->map, gpn, from, MT_PAGE_FAILED, place);
	pager->notify(pager->notify_ctx);
}

const char *mt_page_loss_text(int error)
{
	switch (error) {
	case -EBADMSG:
		return "what was stored is damaged (wrong checksum)";
	case -ENODATA:
		return "it is gone from memory, though nobody gave it up";
	default:
		return strerror(-error);
	}
}
