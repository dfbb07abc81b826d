/* SPDX-License-Identifier: MIT */
/*
 * room.c - what this VM holds, and what it may hold
 *
 * The grant is a hard promise: the sum of all VMs' grants never exceeds the host's pool, so what
 * is held never exceeds the grant (I4). Counted as held, at what it costs the machine:
 *
 *   guest pages in place + staging slots in use + pages promised to swap reads under way
 *   + the zip store's memory + the nursery + bookkeeping + a working reserve
 *
 * The working reserve is what putting pages away takes before it gives anything back: a job's
 * objects go into the zip store before their pages leave staging.
 *
 * Where we are steered to lies a little below the grant, so that a fault finds room and does not
 * have to wait for another page to go.
 */
#include "monitor/pager.h"

/* One job's objects at their largest, and a page for the last zip block of a few classes. */
#define ROOM_RESERVE_PAGES (MT_JOB_PAGES / 2 + 16)
/* Free room kept for faults: 1/64 of what may be held, within bounds. */
#define ROOM_GAP_SHIFT     6
#define ROOM_GAP_MIN_PAGES 64
#define ROOM_GAP_MAX_PAGES 2048
/* Tell the daemon of returned grants in pieces of this size; the rest with the next statistics. */
#define ROOM_RETURN_TELL_PAGES 64

uint64_t mt_room_overhead_bytes(const struct mt_pager *pager)
{
	uint64_t slots_bytes = pager->slots ? mt_slots_held_bytes(pager->slots) : 0;

	return pager->map.bookkeeping_bytes + pager->fixed_bytes + slots_bytes +
	       pager->swap.buffers_bytes + mt_helper_bytes() + mt_sample_bytes(&pager->sample) +
	       MT_AROUND_MAX * MT_PAGE_SIZE + (pager->share.maps_held_pages << MT_PAGE_SHIFT);
}

uint64_t mt_room_held_pages(const struct mt_pager *pager)
{
	uint64_t bytes = mt_room_overhead_bytes(pager) + mt_zip_held_bytes(pager->zip);

	return pager->map.pages[MT_PAGE_RESIDENT] + pager->staging.used + pager->promised_pages +
	       mt_nursery_pages(pager) + mt_pages_of_bytes(bytes) + ROOM_RESERVE_PAGES;
}

uint64_t mt_room_grant_pages(const struct mt_pager *pager)
{
	uint64_t returned = atomic_load_explicit(&pager->returned_pages, memory_order_acquire);

	return atomic_load_explicit(&pager->granted_pages, memory_order_acquire) - returned;
}

static int64_t room_grant(const struct mt_pager *pager)
{
	return pager->leaving ? INT64_MAX : (int64_t)mt_room_grant_pages(pager);
}

static int64_t room_target(const struct mt_pager *pager)
{
	uint64_t target = atomic_load_explicit(&pager->target_pages, memory_order_relaxed);

	return (int64_t)MT_MIN(target, (uint64_t)INT64_MAX);
}

static int64_t room_gap(int64_t limit)
{
	int64_t gap = limit >> ROOM_GAP_SHIFT;

	return MT_MAX(ROOM_GAP_MIN_PAGES, MT_MIN(gap, ROOM_GAP_MAX_PAGES));
}

uint64_t mt_room_left_pages(struct mt_pager *pager)
{
	int64_t left = room_grant(pager) - (int64_t)mt_room_held_pages(pager);

	return left > 0 ? (uint64_t)left : 0;
}

bool mt_room_for(struct mt_pager *pager, uint64_t pages)
{
	return mt_room_left_pages(pager) >= pages;
}

uint64_t mt_room_excess_pages(struct mt_pager *pager)
{
	int64_t limit = MT_MIN(room_target(pager), room_grant(pager));
	int64_t excess = (int64_t)mt_room_held_pages(pager) - (limit - room_gap(limit));

	return excess > 0 ? (uint64_t)excess : 0;
}

bool mt_room_shrinking(const struct mt_pager *pager)
{
	return room_target(pager) < room_grant(pager);
}

uint64_t mt_room_around_pages(struct mt_pager *pager)
{
	uint64_t left = mt_room_left_pages(pager);

	/* What is being taken away must not come back along with a neighbour. */
	return mt_room_shrinking(pager) ? MT_MIN(left, 1U) : left;
}

void mt_room_return_grant(struct mt_pager *pager)
{
	int64_t target = room_target(pager);
	int64_t grant = room_grant(pager);
	int64_t keep = MT_MAX(target, (int64_t)mt_room_held_pages(pager));
	int64_t give = grant - keep;
	uint64_t returned;

	if (pager->leaving || give <= 0)
		return;
	/*
	 * Each page at once: a guest in need would take it again before the next one is free. But
	 * the daemon hears of it in pieces that are worth a message.
	 */
	returned =
		(uint64_t)give + atomic_load_explicit(&pager->returned_pages, memory_order_relaxed);
	atomic_store_explicit(&pager->returned_pages, returned, memory_order_release);
	if (keep != target && returned - pager->returned_notified_pages < ROOM_RETURN_TELL_PAGES)
		return;
	pager->returned_notified_pages = returned;
	pager->notify(pager->notify_ctx);
}

/*
 * Half of what is left for guest pages when a VM has little: compressed pages must not take all
 * of it, or there would be nothing to give up for the page that the guest wants now.
 */
static uint64_t room_zip_share_bytes(const struct mt_pager *pager)
{
	int64_t fixed =
		(int64_t)mt_pages_of_bytes(mt_room_overhead_bytes(pager)) + ROOM_RESERVE_PAGES;
	int64_t limit = MT_MIN(room_target(pager), room_grant(pager));
	int64_t share = (limit - room_gap(limit) - fixed) / 2;

	return share > 0 ? (uint64_t)MT_MIN(share, INT64_MAX >> MT_PAGE_SHIFT) << MT_PAGE_SHIFT : 0;
}

uint64_t mt_room_zip_max_bytes(const struct mt_pager *pager)
{
	uint64_t pages = mt_regions_pages(&pager->regions), max_bytes;

	max_bytes = (pages << MT_PAGE_SHIFT) / 100 *
		    atomic_load_explicit(&pager->zip_max_pct, memory_order_relaxed);
	/* Without swap there is no other place to put a page: then better this than nothing. */
	return mt_swap_usable(pager) ? MT_MIN(max_bytes, room_zip_share_bytes(pager)) : max_bytes;
}
