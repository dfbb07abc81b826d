/* SPDX-License-Identifier: MIT */
/*
 * share.h - share groups: which VMs may have pages in common, and the frames these are in
 *
 * Every VM is in exactly one group: the one it was started with, or one of its own. A group has a
 * table (share_table.h) and the memory of its frames (sys/frames.h), which this daemon alone
 * writes; its VMs map it read-only, and no VM is ever passed another group's. What becomes a frame
 * was hashed here, from the daemon's own copy. Frames, and the tables, are on the ledger.
 *
 * A frame is filled once, when it is made, and never written again until nobody uses it; then it
 * becomes a hole before it is used anew. So what a VM sees through its mapping never changes.
 *
 * Frames outlive the daemon in the VMs' descriptors. The state file names each group's file; after
 * a restart the first VM to come back passes its descriptor, every VM tells which frames it uses,
 * and until all of them have, no frame from before is freed or made anew.
 */
#ifndef MT_HOST_SHARE_H
#define MT_HOST_SHARE_H

#include "host/server.h"
#include "host/share_table.h"
#include "sys/frames.h"

#include <stdio.h>

struct mt_share_group {
	struct mt_share_group *next;
	char name[MT_WIRE_NAME_MAX]; /* of the group, or of the one VM it belongs to */
	bool own;                    /* of one VM */
	unsigned int vms;
	struct mt_share_table *table;
	struct mt_frames frames;
	uint64_t frame_pages; /* on the ledger: frames */
	uint64_t table_pages; /* on the ledger: the table's own memory */
	/* As the state file has them: frames are below this, and at most so many. */
	uint32_t recorded_high;
	uint64_t recorded_frames;
	/* After a restart: VMs are still to tell what they use of file @inode, below @before_high.
	 */
	bool recovering;
	uint64_t inode;
	uint32_t before_high;
	/* Freed frames that follow each other, to be dropped at once. */
	mt_frame_t drop_first;
	uint32_t drop_count;
	bool drop_failed;
};

/** mt_share_pages_per_ks() - how fast @vm is to look at its pages; 0: not at all */
uint32_t mt_share_pages_per_ks(const struct mt_vmrec *vm);

/**
 * mt_share_start() - @vm's monitor has said hello: put it into its group, pass it the frames
 * @shared_pages: guest pages that it says are in frames
 */
void mt_share_start(struct mt_vmrec *vm, uint64_t shared_pages);

/** mt_share_forget() - @vm is gone, and its uses of frames with it */
void mt_share_forget(struct mt_vmrec *vm);

/** mt_share_offered(), ... - messages of a monitor; @passed: descriptor that came with it, or -1 */
void mt_share_offered(struct mt_link *link, const struct mt_wire_share_offer *msg);
void mt_share_looked(struct mt_link *link, const struct mt_wire_share_look *msg);
void mt_share_page(struct mt_link *link, const struct mt_wire_share_page *msg);
void mt_share_released(struct mt_link *link, const struct mt_wire_share_release *msg);
void mt_share_kept(struct mt_link *link, const struct mt_wire_share_keep *msg, int passed);

/** mt_share_say() - send what answers to one monitor's messages have been gathered, to whomever */
void mt_share_say(struct mt_server *server);

/** mt_share_frames() - frames in use, in all groups */
uint64_t mt_share_frames(const struct mt_server *server);

/** mt_share_vm_charge() - frames that @vm pays for, each divided among those who use it */
uint64_t mt_share_vm_charge(const struct mt_vmrec *vm);

/** mt_share_vm_used() - guest pages of @vm in frames, as the daemon counts them */
uint64_t mt_share_vm_used(const struct mt_vmrec *vm);

/** mt_share_vm_uses() - guest pages of @vm that use @frame of its group */
uint32_t mt_share_vm_uses(const struct mt_vmrec *vm, mt_frame_t frame);

/** mt_share_state_print() - lines for the state file; with @slack: with room for more frames */
void mt_share_state_print(const struct mt_server *server, FILE *file, bool slack);

/** mt_share_state_recorded() - what was printed is in the file now */
void mt_share_state_recorded(struct mt_server *server, bool slack);

/** mt_share_state_parse() - one such line of an earlier daemon. False when it is none. */
bool mt_share_state_parse(struct mt_server *server, const char *text);

/** mt_share_state_expect() - @vm, known from the state file, may use frames from before */
void mt_share_state_expect(struct mt_vmrec *vm);

/** mt_share_settle() - groups whose VMs have all told what they use forget the rest; in sweeps */
void mt_share_settle(struct mt_server *server);

/** mt_share_end() - the daemon ends: leave the frames to the VMs that use them */
void mt_share_end(struct mt_server *server);

/** mt_share_free_all() - when no VM is left */
void mt_share_free_all(struct mt_server *server);

#endif
