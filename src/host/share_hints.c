/* SPDX-License-Identifier: MIT */
/*
 * share_hints.c - pages that are known by their hash alone
 *
 * Each VM has a ring of its hints, so that the oldest can make room. An entry of the table may
 * become a frame, or another page's hint, without the ring being told: what leaves the ring leaves
 * the table only if it is still this VM's.
 */
#include "host/share_table_impl.h"

#include <stdlib.h>

/*
 * If its entry stands for a newer hint of the same VM by now, that one goes early: a hint is no
 * promise.
 */
void share_hint_drop_oldest(struct mt_share_table *table, struct mt_share_member *member)
{
	uint32_t index = member->ring[member->ring_first];

	member->ring_first = (member->ring_first + 1) % member->ring_room;
	member->ring_count--;
	if (table->entry[index].member != member->index)
		return;
	share_entry_del(table, index);
	table->hints--;
}

/* A ring twice the size, straightened. */
static int ring_grow(struct mt_share_table *table, struct mt_share_member *member)
{
	uint32_t room = 0, *ring = NULL;
	int rc = share_table_grow(table, &ring, &room, member->ring_room + 1, sizeof(*ring));

	if (rc)
		return rc;
	for (uint32_t i = 0; i < member->ring_count; i++)
		ring[i] = member->ring[(member->ring_first + i) % member->ring_room];
	free(member->ring);
	table->bytes -= (uint64_t)member->ring_room * sizeof(*ring);
	member->ring = ring;
	member->ring_room = room;
	member->ring_first = 0;
	return 0;
}

enum mt_share_verdict share_hint_new(struct mt_share_table *table, struct mt_share_member *member,
				     mt_gpn_t gpn, uint64_t hash, bool large)
{
	uint32_t index;

	if (!member->pages)
		return MT_SHARE_REFUSED;
	while (member->ring_count >= member->pages)
		share_hint_drop_oldest(table, member);
	if (member->ring_count == member->ring_room && ring_grow(table, member)) {
		if (!member->ring_count)
			return MT_SHARE_REFUSED;
		share_hint_drop_oldest(table, member);
	}
	index = share_entry_new(table, hash, member->index, gpn.n);
	if (index == MT_NONE32)
		return MT_SHARE_REFUSED;
	table->entry[index].large = large;
	member->ring[(member->ring_first + member->ring_count++) % member->ring_room] = index;
	table->hints++;
	return MT_SHARE_HINTED;
}

bool share_hint_is_of(const struct share_entry *entry, const struct mt_share_member *member,
		      mt_gpn_t gpn)
{
	return entry->member == member->index && entry->place == gpn.n;
}

enum mt_share_verdict mt_share_offer_large(struct mt_share_table *table,
					   struct mt_share_member *member, mt_gpn_t gpn,
					   uint64_t hash)
{
	uint32_t index = share_find(table, hash);

	if (index == MT_NONE32)
		return share_hint_new(table, member, gpn, hash, true);
	if (!share_hint_is_of(&table->entry[index], member, gpn))
		return MT_SHARE_LIKE;
	/* It was not in one when it was looked at last. */
	table->entry[index].large = true;
	return MT_SHARE_SAME;
}
