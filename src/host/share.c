/* SPDX-License-Identifier: MIT */
/* share.c - groups come and go, frames and tables on the ledger; see share.h */
#include "host/balance.h"
#include "host/monitor_link.h"
#include "host/share_group.h"
#include "host/state_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A table starts with this much, which is part of the daemon's own memory, as a VM's record is. */
#define GROUP_TABLE_PAGES 4U
/* So many frames more or fewer are reason to balance anew. */
#define GROUP_BALANCE_PAGES 256U
#define MIB_PAGES           256U

struct mt_share_group *mt_share_group_named(struct mt_server *server, const char *name, bool own)
{
	struct mt_share_group *group = server->share_groups;

	while (group && (group->own != own || strcmp(group->name, name)))
		group = group->next;
	return group;
}

struct mt_share_group *mt_share_group_new(struct mt_server *server, const char *name, bool own)
{
	struct mt_share_group *group = calloc(1, sizeof(*group));

	if (!group)
		return NULL;
	group->table = mt_share_table_new(GROUP_TABLE_PAGES << MT_PAGE_SHIFT);
	if (!group->table) {
		free(group);
		return NULL;
	}
	memcpy(group->name, name, strnlen(name, sizeof(group->name) - 1));
	group->own = own;
	mt_frames_init(&group->frames);
	group->next = server->share_groups;
	server->share_groups = group;
	return group;
}

void mt_share_group_free(struct mt_server *server, struct mt_share_group *group)
{
	struct mt_share_group **place = &server->share_groups;

	while (*place != group)
		place = &(*place)->next;
	*place = group->next;
	mt_ledger_drop(server->ledger, group->frame_pages + group->table_pages);
	mt_frames_close(&group->frames);
	mt_share_table_free(group->table);
	free(group);
}

struct mt_share_group *mt_share_group_get(struct mt_vmrec *vm)
{
	const char *name = vm->settings.share_group;
	bool own = !name[0];
	struct mt_share_group *group;

	name = own ? vm->name : name;
	group = mt_share_group_named(vm->server, name, own);
	return group ? group : mt_share_group_new(vm->server, name, own);
}

int mt_share_group_join(struct mt_vmrec *vm, struct mt_share_group *group)
{
	vm->sharer = mt_share_join(group->table, vm);
	if (!vm->sharer)
		return -ENOMEM;
	vm->share_group = group;
	group->vms++;
	return 0;
}

static void group_feed(struct mt_share_group *group, uint64_t pages)
{
	group->table_pages += pages;
	mt_share_table_limit(group->table, (GROUP_TABLE_PAGES + group->table_pages)
						   << MT_PAGE_SHIFT);
}

bool mt_share_group_feed(struct mt_server *server, struct mt_share_group *group)
{
	uint64_t pages = mt_pages_of_bytes(mt_share_table_missed(group->table));

	if (!pages || mt_ledger_take(server->ledger, pages))
		return false;
	group_feed(group, pages);
	return true;
}

bool mt_share_group_feed_known(struct mt_server *server, struct mt_share_group *group)
{
	uint64_t pages = mt_pages_of_bytes(mt_share_table_missed(group->table));

	if (!pages)
		return false;
	mt_ledger_take_over(server->ledger, pages);
	group_feed(group, pages);
	return true;
}

/* May frame numbers and counts go beyond what the state file says? Writes it first. */
static bool group_record(struct mt_server *server, struct mt_share_group *group)
{
	/* a new frame may be the start of a run */
	uint64_t high = MT_MIN(mt_share_high(group->table) + 64ULL, MT_FRAMES_MAX);

	if (high <= group->recorded_high && group->frame_pages < group->recorded_frames)
		return true;
	return !mt_state_file_rewrite(server) && high <= group->recorded_high;
}

bool mt_share_group_room(struct mt_server *server, struct mt_share_group *group)
{
	if (!mt_ledger_ungranted(server->ledger))
		return false;
	return group_record(server, group);
}

void mt_share_group_count(struct mt_server *server, struct mt_share_group *group)
{
	uint64_t frames = mt_share_table_frames(group->table);

	/* Frames that nobody has told of yet are there all the same. */
	if (group->recovering)
		frames =
			group->frames.fd < 0 ? group->frame_pages : mt_frames_pages(&group->frames);
	if (frames > group->frame_pages)
		mt_ledger_take_over(server->ledger, frames - group->frame_pages);
	else
		mt_ledger_drop(server->ledger, group->frame_pages - frames);
	group->frame_pages = frames;
	frames = mt_ledger_common(server->ledger);
	if (frames > server->common_balanced + GROUP_BALANCE_PAGES ||
	    frames + GROUP_BALANCE_PAGES < server->common_balanced) {
		server->common_balanced = frames;
		mt_balance_want(server);
	}
}

static void group_drop(struct mt_share_group *group)
{
	if (group->drop_count && group->frames.fd >= 0 && !group->recovering)
		group->drop_failed |=
			mt_frames_drop(&group->frames, group->drop_first, group->drop_count) != 0;
	group->drop_count = 0;
}

void mt_share_group_freed(void *ctx, mt_frame_t frame)
{
	struct mt_share_group *group = ctx;

	if (group->drop_count && frame.n == group->drop_first.n + group->drop_count) {
		group->drop_count++;
		return;
	}
	group_drop(group);
	group->drop_first = frame;
	group->drop_count = 1;
}

void mt_share_group_flush(struct mt_server *server, struct mt_share_group *group)
{
	group_drop(group);
	mt_share_group_count(server, group);
	if (group->drop_failed)
		mt_events_add(server->events, MT_EVENT_ERROR, NULL,
			      "memory of frames nobody uses could not be given back");
	group->drop_failed = false;
}

void mt_share_forget(struct mt_vmrec *vm)
{
	struct mt_share_group *group = vm->share_group;

	if (!group)
		return;
	mt_share_leave(group->table, vm->sharer, mt_share_group_freed, group);
	vm->share_group = NULL;
	vm->sharer = NULL;
	mt_share_group_flush(vm->server, group);
	if (!--group->vms)
		mt_share_group_free(vm->server, group);
}

void mt_share_end(struct mt_server *server)
{
	for (struct mt_share_group *group = server->share_groups; group; group = group->next)
		mt_frames_close(&group->frames);
}

void mt_share_free_all(struct mt_server *server)
{
	while (server->share_groups)
		mt_share_group_free(server, server->share_groups);
}

uint64_t mt_share_frames(const struct mt_server *server)
{
	uint64_t frames = 0;

	for (const struct mt_share_group *g = server->share_groups; g; g = g->next)
		frames += mt_share_table_frames(g->table);
	return frames;
}

uint64_t mt_share_vm_charge(const struct mt_vmrec *vm)
{
	return vm->share_group ? mt_share_charge(vm->share_group->table, vm->sharer) : 0;
}

uint64_t mt_share_vm_used(const struct mt_vmrec *vm)
{
	return vm->share_group ? mt_share_used(vm->sharer) : 0;
}

uint32_t mt_share_vm_uses(const struct mt_vmrec *vm, mt_frame_t frame)
{
	return vm->share_group ? mt_share_uses(vm->sharer, frame) : 0;
}

/*
 * All of a VM's memory in Mem.ShareScanTime, within Mem.ShareRateMax; and all VMs together within
 * what Mem.ShareScanGHz allows this host, each by its size.
 */
uint32_t mt_share_pages_per_ks(const struct mt_vmrec *vm)
{
	const struct mt_sched_config *config = &vm->server->sched_config;
	uint64_t pages = mt_vm_memsize_pages(vm), all = 0, rate, host;

	if (!config->share_scan_time_min || !pages)
		return 0;
	for (unsigned int i = 0; i < vm->server->vm_count; i++)
		all += mt_vm_memsize_pages(vm->server->vms[i]);
	rate = pages * 1000 / (config->share_scan_time_min * 60ULL);
	rate = MT_MIN(rate, config->share_rate_max * 1000ULL);
	host = (uint64_t)config->share_scan_ghz * MIB_PAGES * vm->server->host_mhz;
	rate = MT_MIN(rate, host * pages / MT_MAX(all, 1));
	return (uint32_t)MT_MIN(MT_MAX(rate, 1), UINT32_MAX);
}
