/* SPDX-License-Identifier: MIT */
/* share_audit.c - check a share table: every count anew, every pointer both ways */
#include "base/audit.h"
#include "host/share_table_impl.h"

/* Each entry is in the chain of its hash and points at what points back. */
static void audit_entries(const struct mt_share_table *table, struct mt_findings *found)
{
	uint64_t hints = 0, frames = 0;

	for (uint32_t h = 0; h < table->heads; h++) {
		for (uint32_t i = table->head[h]; i != MT_NONE32; i = table->entry[i].next) {
			const struct share_entry *entry = &table->entry[i];
			bool frame = entry->member == MEMBER_FRAME;

			frames += frame;
			hints += !frame;
			if (share_head(table, entry->hash) != &table->head[h])
				mt_finding(found, "entry %u is in a wrong chain", i);
			if (frame && table->frame[entry->place].entry != i)
				mt_finding(found, "frame %u has another entry", entry->place);
			if (!frame && !table->member[entry->member])
				mt_finding(found, "entry %u is a hint of nobody", i);
		}
	}
	if (hints != table->hints || frames != table->frames)
		mt_finding(found, "%lu hints and %lu frames, counted %lu and %lu",
			   (unsigned long)hints, (unsigned long)frames, (unsigned long)table->hints,
			   (unsigned long)table->frames);
}

/* Uses of each frame are those of all members, and no more. */
static void audit_uses(const struct mt_share_table *table, struct mt_findings *found)
{
	for (uint32_t i = 0; i < table->frames_high; i++) {
		uint64_t uses = 0;

		for (uint32_t m = 0; m < SHARE_MEMBERS_MAX; m++)
			if (table->member[m] && i < table->member[m]->uses_room)
				uses += table->member[m]->uses[i];
		if (uses != table->frame[i].uses)
			mt_finding(found, "frame %u has %u uses, its users have %lu", i,
				   table->frame[i].uses, (unsigned long)uses);
		if (!uses != (table->frame[i].entry == MT_NONE32))
			mt_finding(found, "frame %u is %s and has %s entry", i,
				   uses ? "used" : "free", uses ? "no" : "an");
	}
}

static bool audit_slot(const struct mt_share_table *table, const struct mt_share_member *member,
		       uint32_t i)
{
	uint32_t index = member->ring[(member->ring_first + i) % member->ring_room];

	return table->entry[index].member == member->index;
}

static void audit_members(const struct mt_share_table *table, struct mt_findings *found)
{
	uint64_t hints = 0;

	for (uint32_t m = 0; m < SHARE_MEMBERS_MAX; m++) {
		const struct mt_share_member *member = table->member[m];
		uint64_t used = 0;

		for (uint32_t i = 0; member && i < member->uses_room; i++)
			used += member->uses[i];
		if (member && used != member->used)
			mt_finding(found, "member %u uses %lu, counted %u", m, (unsigned long)used,
				   member->used);
		for (uint32_t i = 0; member && i < member->ring_count; i++)
			hints += audit_slot(table, member, i);
	}
	if (hints < table->hints)
		mt_finding(found, "%lu hints in rings, %lu in the table", (unsigned long)hints,
			   (unsigned long)table->hints);
}

uint64_t mt_share_audit(const struct mt_share_table *table, char *text, size_t text_bytes)
{
	struct mt_findings found = {.text = text, .text_bytes = text_bytes};

	text[0] = '\0';
	audit_entries(table, &found);
	audit_uses(table, &found);
	audit_members(table, &found);
	return found.violations;
}
