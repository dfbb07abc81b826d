/* SPDX-License-Identifier: MIT */
/*
 * share_table.h - which pages of a share group are equal, and who uses which frame
 *
 * The table of one share group. It knows pages by the hash of their content and never sees the
 * content itself; that is checked by whoever calls mt_share_make(). An entry is one of two things:
 *
 *   hint    hash → one page of one VM. Nothing is promised: the VM may have changed the page since.
 *           It may be part of a large page, and then it only tells others like it that it is there.
 *   frame   hash → a frame of the group's memory, and how many guest pages use it.
 *
 * A second page with the hash of a hint is wanted: its content, once checked, becomes a frame, and
 * the hint's owner is to look at its page again. Each use of a frame is on its VM's account, so
 * that a VM can release only what it has, and its end releases all of it.
 *
 * Memory is bounded: a VM has at most as many hints, and uses at most as many frames, as it has
 * pages; the oldest of its hints make room for new ones; and the whole table stays below the
 * limit it is told. No clock, no I/O, no system calls.
 */
#ifndef MT_HOST_SHARE_TABLE_H
#define MT_HOST_SHARE_TABLE_H

#include "base/compiler.h"
#include "base/types.h"

struct mt_share_table;
struct mt_share_member; /* one VM in the group */

/* What the table says to a page that is offered. */
enum mt_share_verdict {
	MT_SHARE_HINTED,  /* no page like it so far; remembered */
	MT_SHARE_SAME,    /* this very page is remembered with this hash */
	MT_SHARE_WANTED,  /* another page had this hash: send the content */
	MT_SHARE_FOUND,   /* there is a frame, and the page may use it */
	MT_SHARE_REFUSED, /* the VM or the table is at its limit */
	MT_SHARE_LIKE,    /* part of a large page: a like is known, a frame or another page */
};

/* A page that was a hint when its like became a frame. */
struct mt_share_hint {
	struct mt_share_member *member; /* NULL: none, or it has left */
	mt_gpn_t gpn;
};

/** mt_share_table_new() - an empty table that may take @limit_bytes; NULL without memory */
struct mt_share_table *mt_share_table_new(uint64_t limit_bytes);

/** mt_share_table_free() - all members must have left; NULL is fine */
void mt_share_table_free(struct mt_share_table *table);

/** mt_share_table_limit() - from now on the table may take @limit_bytes; what it has it keeps */
void mt_share_table_limit(struct mt_share_table *table, uint64_t limit_bytes);

/** mt_share_table_missed() - bytes by which the limit was too low last time; 0 from then on */
uint64_t mt_share_table_missed(struct mt_share_table *table);

/** mt_share_table_bytes() - memory the table takes */
uint64_t mt_share_table_bytes(const struct mt_share_table *table);

/** mt_share_table_frames() - frames in use */
uint64_t mt_share_table_frames(const struct mt_share_table *table);

/** mt_share_table_hints() - hints remembered */
uint64_t mt_share_table_hints(const struct mt_share_table *table);

/** mt_share_join() - a VM comes in; @ctx comes back from mt_share_ctx(). NULL without memory. */
struct mt_share_member *mt_share_join(struct mt_share_table *table, void *ctx);

/** mt_share_ctx() - what the member joined with */
void *mt_share_ctx(const struct mt_share_member *member);

/** mt_share_set_pages() - the VM has @pages pages: most hints and uses it may have */
void mt_share_set_pages(struct mt_share_member *member, uint64_t pages);

/** mt_share_release_all() - drop every use the VM has; calls @freed for frames nobody uses now */
void mt_share_release_all(struct mt_share_table *table, struct mt_share_member *member,
			  void (*freed)(void *ctx, mt_frame_t frame), void *ctx);

/** mt_share_leave() - the VM is gone, its uses and hints with it; as mt_share_release_all() */
void mt_share_leave(struct mt_share_table *table, struct mt_share_member *member,
		    void (*freed)(void *ctx, mt_frame_t frame), void *ctx);

/**
 * mt_share_offer() - page @gpn of a member has content with @hash
 * @ret_frame: with FOUND: the frame, one use of which is the member's from now on
 */
enum mt_share_verdict mt_share_offer(struct mt_share_table *table, struct mt_share_member *member,
				     mt_gpn_t gpn, uint64_t hash, mt_frame_t *ret_frame);

/**
 * mt_share_offer_large() - page @gpn of a member, part of a large page, has content with @hash
 *
 * It uses no frame, and none is made for it. Return: HINTED, SAME, LIKE or REFUSED.
 */
enum mt_share_verdict mt_share_offer_large(struct mt_share_table *table,
					   struct mt_share_member *member, mt_gpn_t gpn,
					   uint64_t hash);

/**
 * mt_share_make() - the content of page @gpn, which was WANTED, was checked: make a frame of it
 * @ret_frame: its number, close to that of the page before if that one has been made just now;
 *             one use of it is the member's. Of an equal frame, if there is one by now.
 * @ret_fresh: is the frame a new one, to be filled?
 * @ret_hint: whose page had the same hash
 *
 * Return: 0; -ENOENT when the content is not wanted (any more); -ENOSPC when the VM or the table
 * is at its limit.
 */
MT_MUST_CHECK int mt_share_make(struct mt_share_table *table, struct mt_share_member *member,
				mt_gpn_t gpn, uint64_t hash, mt_frame_t *ret_frame, bool *ret_fresh,
				struct mt_share_hint *ret_hint);

/**
 * mt_share_release() - the member uses @frame once less
 * @ret_freed: nobody uses it any more: it is free
 *
 * Return: 0, or -EINVAL when the member does not use it.
 */
MT_MUST_CHECK int mt_share_release(struct mt_share_table *table, struct mt_share_member *member,
				   mt_frame_t frame, bool *ret_freed);

/**
 * mt_share_keep_begin() - the member is about to tell of every use it has, by mt_share_keep()
 * mt_share_keep() - it uses @frame once
 * mt_share_keep_end() - that was all: uses not told of are dropped, as in mt_share_release_all()
 * @adopt: the table may not know of the use, nor of the frame, whose content has @hash
 *
 * Between these the member offers nothing. Return: 0; -EINVAL for a use it does not have, or a
 * frame that can't be; -ENOSPC at a limit.
 */
void mt_share_keep_begin(struct mt_share_table *table, struct mt_share_member *member);
MT_MUST_CHECK int mt_share_keep(struct mt_share_table *table, struct mt_share_member *member,
				mt_frame_t frame, bool adopt, uint64_t hash);
void mt_share_keep_end(struct mt_share_table *table, struct mt_share_member *member,
		       void (*freed)(void *ctx, mt_frame_t frame), void *ctx);

/** mt_share_keeping() - between begin and end? */
bool mt_share_keeping(const struct mt_share_member *member);

/** mt_share_is_frame() - is @frame in use? */
bool mt_share_is_frame(const struct mt_share_table *table, mt_frame_t frame);

/** mt_share_floor() - new frames get numbers from @floor on: what is below may be in use */
void mt_share_floor(struct mt_share_table *table, uint32_t floor);

/** mt_share_high() - all frames in use, and those that may be, have numbers below this */
uint32_t mt_share_high(const struct mt_share_table *table);

/** mt_share_used() - guest pages of the member that use frames */
uint64_t mt_share_used(const struct mt_share_member *member);

/** mt_share_uses() - guest pages of the member that use @frame; 0 for one that is none */
uint32_t mt_share_uses(const struct mt_share_member *member, mt_frame_t frame);

/** mt_share_charge() - frames the member pays for, each divided among its users; O(frames) */
uint64_t mt_share_charge(const struct mt_share_table *table, const struct mt_share_member *member);

/**
 * mt_share_audit() - recompute every count and check the structure; O(everything)
 * @text: first violation in words; @text_bytes its room
 *
 * Return: number of violations.
 */
uint64_t mt_share_audit(const struct mt_share_table *table, char *text, size_t text_bytes);

#endif
