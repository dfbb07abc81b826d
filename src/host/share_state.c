/* SPDX-License-Identifier: MIT */
/*
 * share_state.c - groups in the state file
 *
 *	%group NAME OWN INODE HIGH FRAMES
 *
 * OWN is 1 for the group of one VM, INODE that of the frames' file, HIGH above all frames' numbers
 * and FRAMES no fewer than there are, both with some slack so that the file is written seldom.
 * These lines come before those of VMs.
 */
#include "host/share_group.h"

#include <inttypes.h>

#define STATE_SLACK_FRAMES 2048U
#define STATE_SLACK_HIGH   8192U

static uint32_t state_high(const struct mt_share_group *group)
{
	uint64_t high = (uint64_t)mt_share_high(group->table) + STATE_SLACK_HIGH;

	return (uint32_t)MT_MIN(MT_MAX(high, group->before_high), MT_FRAMES_MAX);
}

static uint64_t state_frames(const struct mt_share_group *group, bool slack)
{
	return group->frame_pages + (slack ? STATE_SLACK_FRAMES : 0);
}

static bool state_wanted(const struct mt_share_group *group)
{
	return group->frames.fd >= 0 || group->recovering;
}

void mt_share_state_print(const struct mt_server *server, FILE *file, bool slack)
{
	for (const struct mt_share_group *g = server->share_groups; g; g = g->next)
		if (state_wanted(g))
			fprintf(file, "%%group %s %d %" PRIu64 " %u %" PRIu64 "\n", g->name, g->own,
				g->frames.fd >= 0 ? g->frames.inode : g->inode, state_high(g),
				state_frames(g, slack));
}

void mt_share_state_recorded(struct mt_server *server, bool slack)
{
	for (struct mt_share_group *g = server->share_groups; g; g = g->next) {
		if (!state_wanted(g))
			continue;
		g->recorded_high = state_high(g);
		g->recorded_frames = state_frames(g, slack);
	}
}

bool mt_share_state_parse(struct mt_server *server, const char *text)
{
	struct mt_share_group *group;
	char name[MT_WIRE_NAME_MAX];
	uint64_t inode, frames;
	uint32_t high;
	int own;

	if (sscanf(text, "%%group %63s %d %" SCNu64 " %" SCNu32 " %" SCNu64, name, &own, &inode,
		   &high, &frames) != 5)
		return false;
	if (!mt_wire_name_ok(name) || high > MT_FRAMES_MAX || frames > 2ULL * MT_FRAMES_MAX ||
	    mt_share_group_named(server, name, own != 0))
		return false;
	group = mt_share_group_new(server, name, own != 0);
	if (!group)
		return false;
	group->recovering = true;
	group->inode = inode;
	group->before_high = group->recorded_high = high;
	group->recorded_frames = frames;
	mt_share_floor(group->table, high);
	/* at most so many are there; how many is known with the first VM's descriptor */
	group->frame_pages = frames;
	mt_ledger_take_over(server->ledger, group->frame_pages);
	return true;
}

void mt_share_state_expect(struct mt_vmrec *vm)
{
	bool own = !vm->settings.share_group[0];
	struct mt_share_group *group =
		mt_share_group_named(vm->server, own ? vm->name : vm->settings.share_group, own);

	if (group && group->recovering && !mt_share_group_join(vm, group))
		vm->share_pending = true;
}
