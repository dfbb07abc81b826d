/* SPDX-License-Identifier: MIT */
/* share_table_impl.h - the table's insides, for share_table.c and its audit */
#ifndef MT_HOST_SHARE_TABLE_IMPL_H
#define MT_HOST_SHARE_TABLE_IMPL_H

#include "host/share_table.h"

#define SHARE_MEMBERS_MAX 1024U

struct share_entry {
	uint64_t hash;
	uint32_t next;   /* in its chain, or in the list of free entries */
	uint32_t place;  /* a hint's page; a frame's number */
	uint16_t member; /* of a hint; MEMBER_FRAME; MEMBER_FREE */
	bool large;      /* of a hint: its page is part of a large page */
	uint8_t pad[5];
};

/* Instead of a VM's index. */
#define MEMBER_FRAME UINT16_MAX
#define MEMBER_FREE  (UINT16_MAX - 1)

struct share_frame {
	uint32_t uses; /* 0: free */
	uint32_t entry;
};

struct mt_share_member {
	struct mt_share_table *table;
	void *ctx;
	uint16_t index;
	uint32_t pages;
	uint32_t used;
	uint32_t *uses; /* by frame */
	uint32_t uses_room;
	/* While it tells anew what it uses: uses told of so far, by frame. */
	uint32_t *told;
	uint32_t told_room;
	bool telling;
	/* Entries of its hints, oldest first; some may have become something else since. */
	uint32_t *ring;
	uint32_t ring_room, ring_first, ring_count;
	/* The frame made last: the next page's goes behind it. */
	mt_gpn_t made_gpn;
	mt_frame_t made_frame;
};

struct mt_share_table {
	uint64_t limit_bytes;
	uint64_t bytes;
	uint64_t missed_bytes;
	struct share_entry *entry;
	uint32_t entries_room, entries_made; /* made: used at least once */
	uint32_t free_entry;
	uint32_t *head;
	uint32_t heads; /* a power of two */
	struct share_frame *frame;
	uint32_t frames_room, frames_high;
	uint32_t floor;
	uint32_t cursor; /* where to look for the start of a run of frames */
	uint64_t frames, hints;
	struct mt_share_member *member[SHARE_MEMBERS_MAX];
	uint32_t members;
};

static inline uint32_t *share_head(const struct mt_share_table *table, uint64_t hash)
{
	return &table->head[(hash ^ hash >> 32) & (table->heads - 1)];
}

/* share_table.c */

/** share_table_grow() - has *@array @room elements? If not, room for @want, the new ones all-ones.
 *
 * Return: 0, or -ENOSPC at the table's limit.
 */
int share_table_grow(struct mt_share_table *table, void *array, uint32_t *room, uint32_t want,
		     uint32_t size);

/** share_find() - the entry with that hash, or MT_NONE32 */
uint32_t share_find(const struct mt_share_table *table, uint64_t hash);

/** share_entry_new() - a new entry, in its chain; MT_NONE32 at the limit */
uint32_t share_entry_new(struct mt_share_table *table, uint64_t hash, uint16_t member,
			 uint32_t place);

/** share_entry_del() - take an entry away */
void share_entry_del(struct mt_share_table *table, uint32_t index);

/* share_hints.c */

/** share_hint_new() - remember page @gpn of a member. Return: HINTED or REFUSED. */
enum mt_share_verdict share_hint_new(struct mt_share_table *table, struct mt_share_member *member,
				     mt_gpn_t gpn, uint64_t hash, bool large);

/** share_hint_drop_oldest() - the oldest hint leaves the ring, and the table if it still is one */
void share_hint_drop_oldest(struct mt_share_table *table, struct mt_share_member *member);

/** share_hint_is_of() - is the entry a hint of this very page? */
bool share_hint_is_of(const struct share_entry *entry, const struct mt_share_member *member,
		      mt_gpn_t gpn);

#endif
