/* SPDX-License-Identifier: MIT */
/*
 * share_msgs.c - what monitors say about sharing, and the answers
 *
 * Nothing a monitor says is believed: the hash of a page's content is computed here before the
 * content becomes a frame; a frame is released only by who uses it; numbers are those of the VM's
 * own group because no others can be said.
 */
#include "host/monitor_link.h"
#include "host/share_group.h"

#include <errno.h>
#include <string.h>
#include <xxhash.h>

/* A monitor that reads slowly hears less of pages worth offering again, and loses nothing else. */
#define SHARE_QUEUE_MAX 32U

/* Is the VM one that may offer and release now? Says no by itself. */
static bool share_ready(struct mt_link *link, const char *what)
{
	struct mt_vmrec *vm = link->vm;

	if (vm->sharer && !vm->share_pending && !mt_share_keeping(vm->sharer)) {
		mt_share_set_pages(vm->sharer, mt_vm_memsize_pages(vm));
		return true;
	}
	mt_link_break(link, "dropped: it sent %s before it was told to start sharing", what);
	return false;
}

static uint32_t share_verdict(struct mt_vmrec *vm, mt_gpn_t gpn, uint64_t hash, bool large)
{
	struct mt_share_group *group = vm->share_group;
	mt_frame_t frame = MT_FRAME_NONE;
	enum mt_share_verdict verdict;

	do
		verdict = large ? mt_share_offer_large(group->table, vm->sharer, gpn, hash)
				: mt_share_offer(group->table, vm->sharer, gpn, hash, &frame);
	while (verdict == MT_SHARE_REFUSED && mt_share_group_feed(vm->server, group));
	/* An older hint may have had to go for this one: the next shall find room. */
	if (verdict == MT_SHARE_HINTED)
		mt_share_group_feed(vm->server, group);
	switch (verdict) {
	case MT_SHARE_FOUND:
		return frame.n;
	case MT_SHARE_WANTED:
		return mt_share_group_room(vm->server, group) ? MT_WIRE_SHARE_WANTED
							      : MT_WIRE_SHARE_FULL;
	case MT_SHARE_SAME:
		return MT_WIRE_SHARE_SAME;
	case MT_SHARE_REFUSED:
		return MT_WIRE_SHARE_FULL;
	case MT_SHARE_LIKE:
		return MT_WIRE_SHARE_LIKE;
	case MT_SHARE_HINTED:
		break;
	}
	return MT_WIRE_SHARE_NONE;
}

void mt_share_offered(struct mt_link *link, const struct mt_wire_share_offer *msg)
{
	union mt_wire_msg answer;

	if (!share_ready(link, "SHARE_OFFER"))
		return;
	mt_wire_init(&answer, MT_WIRE_SHARE_ANSWER, 0);
	answer.share_answer.batch = msg->batch;
	answer.share_answer.count = msg->count;
	for (uint32_t i = 0; i < msg->count; i++)
		answer.share_answer.frame[i] =
			share_verdict(link->vm, MT_GPN(msg->gpn[i]), msg->hash[i], false);
	mt_link_send(link, &answer, -1);
}

void mt_share_looked(struct mt_link *link, const struct mt_wire_share_look *msg)
{
	union mt_wire_msg answer;

	if (!share_ready(link, "SHARE_LOOK"))
		return;
	mt_wire_init(&answer, MT_WIRE_SHARE_LOOKED, 0);
	answer.share_looked.batch = msg->batch;
	answer.share_looked.count = msg->count;
	for (uint32_t i = 0; i < msg->count; i++)
		answer.share_looked.frame[i] = share_verdict(link->vm, MT_GPN(msg->gpn[i]),
							     msg->hash[i], msg->large[i] != 0);
	mt_link_send(link, &answer, -1);
}

static void share_say_again(struct mt_link *link)
{
	uint32_t count = link->share_again.count;
	union mt_wire_msg msg;

	link->share_again.count = 0;
	if (!count || link->queued > SHARE_QUEUE_MAX)
		return;
	mt_wire_init(&msg, MT_WIRE_SHARE_AGAIN, 0);
	msg.share_again.count = count;
	memcpy(msg.share_again.gpn, link->share_again.gpn, count * sizeof(uint32_t));
	mt_link_send(link, &msg, -1);
}

void mt_share_say(struct mt_server *server)
{
	if (!server->share_to_say)
		return;
	server->share_to_say = false;
	for (struct mt_link *link = server->links; link; link = link->next)
		share_say_again(link);
}

/* Has the page's first owner look at it again. */
static void share_again(const struct mt_share_hint *hint)
{
	struct mt_vmrec *vm = hint->member ? mt_share_ctx(hint->member) : NULL;
	struct mt_link *link = vm ? vm->link : NULL;

	if (!link)
		return;
	if (link->share_again.count == MT_WIRE_SHARE_PAGES)
		share_say_again(link);
	link->share_again.gpn[link->share_again.count++] = hint->gpn.n;
	link->server->share_to_say = true;
}

/* Makes a frame of page @i's content, hash checked. Return: its number, or why there is none. */
static uint32_t share_make(struct mt_vmrec *vm, const struct mt_wire_share_page *msg, uint32_t i)
{
	struct mt_share_group *group = vm->share_group;
	struct mt_share_hint hint;
	mt_frame_t frame;
	bool fresh, gone;
	int rc;

	if (!mt_share_group_room(vm->server, group))
		return MT_WIRE_SHARE_FULL;
	do
		rc = mt_share_make(group->table, vm->sharer, MT_GPN(msg->gpn[i]), msg->hash[i],
				   &frame, &fresh, &hint);
	while (rc == -ENOSPC && mt_share_group_feed(vm->server, group));
	if (rc)
		return rc == -ENOENT ? MT_WIRE_SHARE_NONE : MT_WIRE_SHARE_FULL;
	if (fresh && mt_frames_write(&group->frames, frame, msg->content[i])) {
		MT_ASSERT(!mt_share_release(group->table, vm->sharer, frame, &gone));
		mt_share_group_freed(group, frame);
		mt_share_group_flush(vm->server, group);
		return MT_WIRE_SHARE_FULL;
	}
	mt_share_group_count(vm->server, group);
	if (fresh)
		share_again(&hint);
	return frame.n;
}

void mt_share_page(struct mt_link *link, const struct mt_wire_share_page *msg)
{
	struct mt_vmrec *vm = link->vm;
	union mt_wire_msg answer;

	if (!share_ready(link, "SHARE_PAGE"))
		return;
	mt_wire_init(&answer, MT_WIRE_SHARE_ANSWER, 0);
	answer.share_answer.batch = msg->batch;
	answer.share_answer.first = msg->first;
	answer.share_answer.count = msg->count;
	for (uint32_t i = 0; i < msg->count; i++) {
		answer.share_answer.frame[i] = MT_WIRE_SHARE_NONE;
		if (XXH3_64bits(msg->content[i], MT_PAGE_SIZE) == msg->hash[i])
			answer.share_answer.frame[i] = share_make(vm, msg, i);
		else
			mt_server_event_limited(
				link->server, &vm->rate, MT_EVENT_WARNING, vm->name,
				"offered a page for sharing that is not what it said");
	}
	mt_link_send(link, &answer, -1);
}

void mt_share_released(struct mt_link *link, const struct mt_wire_share_release *msg)
{
	struct mt_vmrec *vm = link->vm;

	if (!share_ready(link, "SHARE_RELEASE"))
		return;
	for (uint32_t i = 0; i < msg->count; i++) {
		mt_frame_t frame = MT_FRAME(msg->frame[i]);
		bool gone;

		if (mt_share_release(vm->share_group->table, vm->sharer, frame, &gone)) {
			mt_link_break(link, "dropped: it released frame 0x%x, which it did not use",
				      frame.n);
			break;
		}
		if (gone)
			mt_share_group_freed(vm->share_group, frame);
	}
	mt_share_group_flush(link->server, vm->share_group);
}

static void share_send_start(struct mt_vmrec *vm, enum mt_share_start what)
{
	const struct mt_share_group *group = vm->share_group;
	union mt_wire_msg msg;

	mt_wire_init(&msg, MT_WIRE_SHARE_START, 0);
	msg.share_start.what = what;
	mt_link_send(vm->link, &msg, what == MT_SHARE_START_FRESH ? group->frames.reader_fd : -1);
}

/* The group's memory, made when its first VM comes. */
static int share_frames_ready(struct mt_vmrec *vm)
{
	struct mt_share_group *group = vm->share_group;
	struct mt_err err = {0};
	int rc;

	if (group->frames.fd >= 0)
		return 0;
	rc = mt_frames_new(&group->frames, &err);
	if (rc)
		mt_server_event_limited(vm->server, &vm->rate, MT_EVENT_WARNING, vm->name, err.msg);
	/* The state file may name another file, of before: not a frame until it names this one. */
	group->recorded_high = 0;
	return rc;
}

static void share_start_lost(struct mt_vmrec *vm)
{
	mt_events_add(vm->server->events, MT_EVENT_WARNING, vm->name,
		      "its shared pages are in frames that this daemon does not know; it keeps "
		      "them, and shares no more until it has used them up");
	share_send_start(vm, MT_SHARE_START_LOST);
}

void mt_share_start(struct mt_vmrec *vm, uint64_t shared_pages)
{
	struct mt_share_group *group = vm->share_group ? vm->share_group : mt_share_group_get(vm);

	if (!group || (!vm->share_group && mt_share_group_join(vm, group)))
		return;
	mt_share_set_pages(vm->sharer, mt_vm_memsize_pages(vm));
	vm->share_waits = false;
	if (shared_pages && (group->recovering || group->frames.fd >= 0)) {
		vm->share_pending = true;
		share_send_start(vm, MT_SHARE_START_KEEP);
	} else if (shared_pages) {
		share_start_lost(vm);
	} else {
		/* What it was given and never heard of is free again. */
		vm->share_pending = false;
		mt_share_release_all(group->table, vm->sharer, mt_share_group_freed, group);
		mt_share_group_flush(vm->server, group);
		vm->share_waits = group->recovering && group->frames.fd < 0;
		if (!vm->share_waits && !share_frames_ready(vm))
			share_send_start(vm, MT_SHARE_START_FRESH);
	}
}

/* With the first VM that comes back, the group gets its memory back. */
static bool kept_frames(struct mt_link *link, int passed)
{
	struct mt_vmrec *vm = link->vm;
	struct mt_share_group *group = vm->share_group;
	struct mt_err err = {0};

	if (group->frames.fd >= 0)
		return true;
	if (passed >= 0 && !mt_frames_adopt(&group->frames, passed, group->inode, &err)) {
		/* from here on it is known how many there are, not only how many there may be */
		mt_share_group_count(link->server, group);
		return true;
	}
	mt_link_break(link, "dropped: %s", err.msg[0] ? err.msg : "it kept its frames to itself");
	return false;
}

static int kept_one(struct mt_vmrec *vm, mt_frame_t frame)
{
	struct mt_share_group *group = vm->share_group;
	bool adopt = group->recovering && frame.n < group->before_high;
	uint8_t page[MT_PAGE_SIZE];
	uint64_t hash = 0;
	int rc;

	if (adopt && !mt_share_is_frame(group->table, frame)) {
		rc = mt_frames_read(&group->frames, frame, page);
		if (rc)
			return rc;
		hash = XXH3_64bits(page, sizeof(page));
	}
	do
		rc = mt_share_keep(group->table, vm->sharer, frame, adopt, hash);
	while (rc == -ENOSPC && mt_share_group_feed_known(vm->server, group));
	return rc;
}

void mt_share_kept(struct mt_link *link, const struct mt_wire_share_keep *msg, int passed)
{
	struct mt_vmrec *vm = link->vm;
	struct mt_share_group *group = vm->share_group;

	if (!vm->sharer || !vm->share_pending) {
		mt_link_break(link, "dropped: it told what it shares without being asked");
		return;
	}
	if (!kept_frames(link, passed))
		return;
	if (!mt_share_keeping(vm->sharer))
		mt_share_keep_begin(group->table, vm->sharer);
	for (uint32_t i = 0; i < msg->count; i++) {
		if (!kept_one(vm, MT_FRAME(msg->frame[i])))
			continue;
		mt_link_break(link, "dropped: it says it uses frame 0x%x, which can't be",
			      msg->frame[i]);
		return;
	}
	if (msg->more)
		return;
	mt_share_keep_end(group->table, vm->sharer, mt_share_group_freed, group);
	mt_share_group_flush(vm->server, group);
	vm->share_pending = false;
	share_send_start(vm, MT_SHARE_START_FRESH);
}

/* Does a VM of the group still have to tell what it uses? */
static bool settle_waits(const struct mt_server *server, const struct mt_share_group *group)
{
	for (unsigned int i = 0; i < server->vm_count; i++)
		if (server->vms[i]->share_group == group && server->vms[i]->share_pending)
			return true;
	return false;
}

/* Frames from before that nobody has told of are free. */
static void settle_drop(struct mt_server *server, struct mt_share_group *group)
{
	uint32_t end = MT_MAX(group->before_high, mt_share_high(group->table));

	group->recovering = false;
	mt_share_floor(group->table, 0);
	for (uint32_t i = 0; group->frames.fd >= 0 && i < end; i++)
		if (!mt_share_is_frame(group->table, MT_FRAME(i)))
			mt_share_group_freed(group, MT_FRAME(i));
	mt_share_group_flush(server, group);
}

static void settle(struct mt_server *server, struct mt_share_group *group)
{
	settle_drop(server, group);
	if (!group->vms) {
		mt_share_group_free(server, group);
		return;
	}
	for (unsigned int i = 0; i < server->vm_count; i++) {
		struct mt_vmrec *vm = server->vms[i];

		if (vm->share_group != group || !vm->share_waits)
			continue;
		vm->share_waits = false;
		if (vm->link && !share_frames_ready(vm))
			share_send_start(vm, MT_SHARE_START_FRESH);
	}
}

void mt_share_settle(struct mt_server *server)
{
	struct mt_share_group *group = server->share_groups, *next;

	for (; group; group = next) {
		next = group->next;
		if (group->recovering && !settle_waits(server, group))
			settle(server, group);
	}
}
