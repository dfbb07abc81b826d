/* SPDX-License-Identifier: MIT */
/*
 * share_table.c - entries in a hash table, frames in an array, uses in one array for each VM
 *
 * Entries lie in one growing array and are chained from a table of heads that doubles with them.
 * A hint's entry is named by its VM's ring of hints, oldest first: what leaves the ring leaves the
 * table. A frame's entry is named by the frame's record. Nothing moves once it is placed, so
 * indices stay good.
 *
 * All arrays grow by doubling, and growing is what the limit refuses.
 */
#include "host/share_table_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TABLE_FIRST 256U /* entries and heads of an empty table */
/* A run of frames starts where so many in a row may be free, so that it can grow. */
#define TABLE_RUN 16U
/* Places looked at for the start of a run. */
#define TABLE_LOOKS 256U

int share_table_grow(struct mt_share_table *table, void *array, uint32_t *room, uint32_t want,
		     uint32_t size)
{
	uint64_t more, count = MT_MAX(*room, TABLE_FIRST);
	void *grown, *old;

	if (want <= *room)
		return 0;
	while (count < want)
		count *= 2;
	more = (count - *room) * size;
	if (count > UINT32_MAX)
		return -ENOSPC;
	if (table->bytes + more > table->limit_bytes) {
		table->missed_bytes = table->bytes + more - table->limit_bytes;
		return -ENOSPC;
	}
	memcpy(&old, array, sizeof(old));
	grown = realloc(old, count * size);
	if (!grown)
		return -ENOSPC;
	memset((uint8_t *)grown + (uint64_t)*room * size, 0xff, more);
	memcpy(array, &grown, sizeof(grown));
	table->bytes += more;
	*room = (uint32_t)count;
	return 0;
}

static void table_chain(struct mt_share_table *table, uint32_t index)
{
	uint32_t *head = share_head(table, table->entry[index].hash);

	table->entry[index].next = *head;
	*head = index;
}

/* As many heads as there is room for entries; with fewer, chains are only longer. */
static void table_spread(struct mt_share_table *table)
{
	uint32_t old = table->heads;

	if (table->heads >= table->entries_room ||
	    share_table_grow(table, &table->head, &table->heads, old * 2, sizeof(*table->head)))
		return;
	memset(table->head, 0xff, (uint64_t)table->heads * sizeof(*table->head));
	for (uint32_t i = 0; i < table->entries_made; i++)
		if (table->entry[i].member != MEMBER_FREE)
			table_chain(table, i);
}

uint32_t share_find(const struct mt_share_table *table, uint64_t hash)
{
	uint32_t index = *share_head(table, hash);

	while (index != MT_NONE32 && table->entry[index].hash != hash)
		index = table->entry[index].next;
	return index;
}

uint32_t share_entry_new(struct mt_share_table *table, uint64_t hash, uint16_t member,
			 uint32_t place)
{
	uint32_t index = table->free_entry;

	if (index != MT_NONE32) {
		table->free_entry = table->entry[index].next;
	} else {
		index = table->entries_made;
		if (share_table_grow(table, &table->entry, &table->entries_room, index + 1,
				     sizeof(*table->entry)))
			return MT_NONE32;
		table_spread(table);
		table->entries_made++;
	}
	table->entry[index] = (struct share_entry){.hash = hash, .place = place, .member = member};
	table_chain(table, index);
	return index;
}

void share_entry_del(struct mt_share_table *table, uint32_t index)
{
	uint32_t *link = share_head(table, table->entry[index].hash);

	while (*link != index) {
		MT_ASSERT(*link != MT_NONE32);
		link = &table->entry[*link].next;
	}
	*link = table->entry[index].next;
	table->entry[index].member = MEMBER_FREE;
	table->entry[index].next = table->free_entry;
	table->free_entry = index;
}

struct mt_share_table *mt_share_table_new(uint64_t limit_bytes)
{
	struct mt_share_table *table = calloc(1, sizeof(*table));

	if (!table)
		return NULL;
	table->limit_bytes = limit_bytes;
	table->bytes = sizeof(*table);
	table->free_entry = MT_NONE32;
	if (share_table_grow(table, &table->head, &table->heads, TABLE_FIRST,
			     sizeof(*table->head))) {
		free(table);
		return NULL;
	}
	return table;
}

void mt_share_table_free(struct mt_share_table *table)
{
	if (!table)
		return;
	MT_ASSERT(!table->members && !table->frames && !table->hints);
	free(table->entry);
	free(table->head);
	free(table->frame);
	free(table);
}

void mt_share_table_limit(struct mt_share_table *table, uint64_t limit_bytes)
{
	table->limit_bytes = limit_bytes;
}

uint64_t mt_share_table_missed(struct mt_share_table *table)
{
	uint64_t missed = table->missed_bytes;

	table->missed_bytes = 0;
	return missed;
}

uint64_t mt_share_table_bytes(const struct mt_share_table *table)
{
	return table->bytes;
}

uint64_t mt_share_table_frames(const struct mt_share_table *table)
{
	return table->frames;
}

uint64_t mt_share_table_hints(const struct mt_share_table *table)
{
	return table->hints;
}

struct mt_share_member *mt_share_join(struct mt_share_table *table, void *ctx)
{
	struct mt_share_member *member;
	uint32_t index = 0;

	while (index < SHARE_MEMBERS_MAX && table->member[index])
		index++;
	if (index == SHARE_MEMBERS_MAX)
		return NULL;
	member = calloc(1, sizeof(*member));
	if (!member)
		return NULL;
	member->table = table;
	member->ctx = ctx;
	member->index = (uint16_t)index;
	member->made_gpn = MT_GPN_NONE;
	table->member[index] = member;
	table->members++;
	return member;
}

void *mt_share_ctx(const struct mt_share_member *member)
{
	return member->ctx;
}

void mt_share_set_pages(struct mt_share_member *member, uint64_t pages)
{
	member->pages = (uint32_t)MT_MIN(pages, UINT32_MAX - 1);
}

/* Room for element @index in an array of counts; what is new is zero. */
static int room_zeroed(struct mt_share_table *table, uint32_t **counts, uint32_t *room,
		       uint32_t index)
{
	uint32_t old = *room;
	int rc = share_table_grow(table, counts, room, index + 1, sizeof(**counts));

	if (!rc && *room > old)
		memset(*counts + old, 0, (uint64_t)(*room - old) * sizeof(**counts));
	return rc;
}

/* May the member use @frame once more? Makes room for it on its account. */
static int use_room(struct mt_share_table *table, struct mt_share_member *member, mt_frame_t frame)
{
	if (member->used >= member->pages)
		return -ENOSPC;
	return room_zeroed(table, &member->uses, &member->uses_room, frame.n);
}

static void use_add(struct mt_share_table *table, struct mt_share_member *member, mt_frame_t frame)
{
	member->uses[frame.n]++;
	member->used++;
	table->frame[frame.n].uses++;
}

enum mt_share_verdict mt_share_offer(struct mt_share_table *table, struct mt_share_member *member,
				     mt_gpn_t gpn, uint64_t hash, mt_frame_t *ret_frame)
{
	uint32_t index = share_find(table, hash);
	struct share_entry *entry;

	if (index == MT_NONE32)
		return share_hint_new(table, member, gpn, hash, false);
	entry = &table->entry[index];
	if (entry->member != MEMBER_FRAME) {
		if (share_hint_is_of(entry, member, gpn)) {
			entry->large = false;
			return MT_SHARE_SAME;
		}
		/* A page in a large page can't be shared: this one takes its place. */
		if (entry->large) {
			share_entry_del(table, index);
			table->hints--;
			return share_hint_new(table, member, gpn, hash, false);
		}
		return member->used < member->pages ? MT_SHARE_WANTED : MT_SHARE_REFUSED;
	}
	if (use_room(table, member, MT_FRAME(entry->place)))
		return MT_SHARE_REFUSED;
	*ret_frame = MT_FRAME(entry->place);
	use_add(table, member, *ret_frame);
	return MT_SHARE_FOUND;
}

static bool frame_free(const struct mt_share_table *table, uint32_t number)
{
	return number < MT_FRAMES_MAX && number >= table->floor &&
	       (number >= table->frames_high || !table->frame[number].uses);
}

/*
 * The start of a run: where several in a row are likely to be free, from the cursor on. Numbers
 * grow only when half of those below are in use, or the arrays would grow for ever.
 */
static uint32_t frame_run_start(struct mt_share_table *table)
{
	uint32_t number = (uint32_t)mt_align_up(table->cursor, TABLE_RUN);
	bool dense = table->frames * 2 >= table->frames_high;

	for (uint32_t i = 0; i < TABLE_LOOKS; i++, number += TABLE_RUN) {
		if (number < table->floor || number >= table->frames_high)
			number = (uint32_t)mt_align_up(
				dense ? MT_MAX(table->frames_high, table->floor) : table->floor,
				TABLE_RUN);
		if (frame_free(table, number) && frame_free(table, number + TABLE_RUN / 2))
			return number;
	}
	return MT_NONE32;
}

/* Any free frame, from the cursor on. */
static uint32_t frame_anywhere(const struct mt_share_table *table)
{
	uint32_t end = MT_MAX(table->frames_high, table->floor) + 1;

	for (uint32_t i = table->floor; i < end; i++) {
		uint32_t number = table->cursor + (i - table->floor);

		if (number >= end)
			number = table->floor + (number - end) % (end - table->floor);
		if (frame_free(table, number))
			return number;
	}
	return MT_NONE32;
}

static uint32_t frame_pick(struct mt_share_table *table, const struct mt_share_member *member,
			   mt_gpn_t gpn)
{
	uint32_t number;

	if (!mt_gpn_is_none(member->made_gpn) && gpn.n == member->made_gpn.n + 1 &&
	    frame_free(table, member->made_frame.n + 1))
		return member->made_frame.n + 1;
	number = frame_run_start(table);
	if (number == MT_NONE32)
		number = frame_anywhere(table);
	if (number != MT_NONE32)
		table->cursor = number + TABLE_RUN;
	return number;
}

/* Room for frame @number in the array; those between are free. */
static int frame_room(struct mt_share_table *table, uint32_t number)
{
	int rc = share_table_grow(table, &table->frame, &table->frames_room, number + 1,
				  sizeof(*table->frame));

	if (rc)
		return rc;
	for (; table->frames_high <= number; table->frames_high++)
		table->frame[table->frames_high] = (struct share_frame){.entry = MT_NONE32};
	return 0;
}

/* The hint becomes the entry of frame @number; its owner's ring finds out when it gets there. */
static void hint_to_frame(struct mt_share_table *table, uint32_t index, uint32_t number,
			  struct mt_share_hint *ret_hint)
{
	struct share_entry *entry = &table->entry[index];
	struct mt_share_member *owner = table->member[entry->member];

	*ret_hint = (struct mt_share_hint){.member = owner, .gpn = MT_GPN(entry->place)};
	table->hints--;
	entry->member = MEMBER_FRAME;
	entry->place = number;
	table->frame[number] = (struct share_frame){.entry = index};
	table->frames++;
}

int mt_share_make(struct mt_share_table *table, struct mt_share_member *member, mt_gpn_t gpn,
		  uint64_t hash, mt_frame_t *ret_frame, bool *ret_fresh,
		  struct mt_share_hint *ret_hint)
{
	uint32_t index = share_find(table, hash);
	uint32_t number;
	mt_frame_t frame;

	*ret_fresh = false;
	*ret_hint = (struct mt_share_hint){.member = NULL};
	if (index == MT_NONE32)
		return -ENOENT;
	if (table->entry[index].member == MEMBER_FRAME)
		return mt_share_offer(table, member, gpn, hash, ret_frame) == MT_SHARE_FOUND
			       ? 0
			       : -ENOSPC;
	if (share_hint_is_of(&table->entry[index], member, gpn) || table->entry[index].large)
		return -ENOENT;
	number = frame_pick(table, member, gpn);
	if (number == MT_NONE32 || frame_room(table, number))
		return -ENOSPC;
	frame = MT_FRAME(number);
	if (use_room(table, member, frame))
		return -ENOSPC;
	hint_to_frame(table, index, number, ret_hint);
	use_add(table, member, frame);
	member->made_gpn = gpn;
	member->made_frame = frame;
	*ret_frame = frame;
	*ret_fresh = true;
	return 0;
}

int mt_share_release(struct mt_share_table *table, struct mt_share_member *member, mt_frame_t frame,
		     bool *ret_freed)
{
	*ret_freed = false;
	if (frame.n >= member->uses_room || !member->uses[frame.n])
		return -EINVAL;
	member->uses[frame.n]--;
	member->used--;
	if (frame.n < member->told_room && member->told[frame.n] > member->uses[frame.n])
		member->told[frame.n]--;
	if (--table->frame[frame.n].uses)
		return 0;
	share_entry_del(table, table->frame[frame.n].entry);
	table->frame[frame.n].entry = MT_NONE32;
	table->frames--;
	*ret_freed = true;
	return 0;
}

void mt_share_keep_begin(struct mt_share_table *table, struct mt_share_member *member)
{
	table->bytes -= (uint64_t)member->told_room * sizeof(*member->told);
	free(member->told);
	member->told = NULL;
	member->told_room = 0;
	member->telling = true;
}

bool mt_share_keeping(const struct mt_share_member *member)
{
	return member->telling;
}

/* A use that the table does not know of. */
static int keep_adopt(struct mt_share_table *table, struct mt_share_member *member,
		      mt_frame_t frame, uint64_t hash)
{
	uint32_t index;

	if (frame_room(table, frame.n) || use_room(table, member, frame))
		return -ENOSPC;
	if (!table->frame[frame.n].uses) {
		index = share_entry_new(table, hash, MEMBER_FRAME, frame.n);
		if (index == MT_NONE32)
			return -ENOSPC;
		table->frame[frame.n].entry = index;
		table->frames++;
	}
	use_add(table, member, frame);
	return 0;
}

int mt_share_keep(struct mt_share_table *table, struct mt_share_member *member, mt_frame_t frame,
		  bool adopt, uint64_t hash)
{
	bool known;
	int rc;

	if (!member->telling || frame.n >= MT_FRAMES_MAX)
		return -EINVAL;
	rc = room_zeroed(table, &member->told, &member->told_room, frame.n);
	if (rc)
		return rc;
	known = frame.n < member->uses_room && member->uses[frame.n] > member->told[frame.n];
	if (!known && !adopt)
		return -EINVAL;
	if (!known)
		rc = keep_adopt(table, member, frame, hash);
	if (!rc)
		member->told[frame.n]++;
	return rc;
}

void mt_share_keep_end(struct mt_share_table *table, struct mt_share_member *member,
		       void (*freed)(void *ctx, mt_frame_t frame), void *ctx)
{
	for (uint32_t i = 0; i < member->uses_room; i++) {
		uint32_t told = i < member->told_room ? member->told[i] : 0;
		bool gone = false;

		while (member->uses[i] > told)
			MT_ASSERT(!mt_share_release(table, member, MT_FRAME(i), &gone));
		if (gone)
			freed(ctx, MT_FRAME(i));
	}
	mt_share_keep_begin(table, member);
	member->telling = false;
}

bool mt_share_is_frame(const struct mt_share_table *table, mt_frame_t frame)
{
	return frame.n < table->frames_high && table->frame[frame.n].uses;
}

void mt_share_floor(struct mt_share_table *table, uint32_t floor)
{
	table->floor = floor;
}

uint32_t mt_share_high(const struct mt_share_table *table)
{
	return MT_MAX(table->frames_high, table->floor);
}

uint64_t mt_share_used(const struct mt_share_member *member)
{
	return member->used;
}

uint32_t mt_share_uses(const struct mt_share_member *member, mt_frame_t frame)
{
	return frame.n < member->uses_room ? member->uses[frame.n] : 0;
}

uint64_t mt_share_charge(const struct mt_share_table *table, const struct mt_share_member *member)
{
	double charge = 0;
	uint32_t end = MT_MIN(member->uses_room, table->frames_high);

	for (uint32_t i = 0; i < end; i++)
		if (member->uses[i])
			charge += (double)member->uses[i] / table->frame[i].uses;
	return (uint64_t)(charge + 0.5);
}

void mt_share_release_all(struct mt_share_table *table, struct mt_share_member *member,
			  void (*freed)(void *ctx, mt_frame_t frame), void *ctx)
{
	for (uint32_t i = 0; member->used && i < member->uses_room; i++) {
		bool gone = false;

		while (member->uses[i])
			MT_ASSERT(!mt_share_release(table, member, MT_FRAME(i), &gone));
		if (gone)
			freed(ctx, MT_FRAME(i));
	}
}

void mt_share_leave(struct mt_share_table *table, struct mt_share_member *member,
		    void (*freed)(void *ctx, mt_frame_t frame), void *ctx)
{
	mt_share_release_all(table, member, freed, ctx);
	while (member->ring_count)
		share_hint_drop_oldest(table, member);
	mt_share_keep_begin(table, member);
	table->bytes -= ((uint64_t)member->ring_room + member->uses_room) * sizeof(uint32_t);
	free(member->ring);
	free(member->uses);
	table->member[member->index] = NULL;
	table->members--;
	free(member);
}
