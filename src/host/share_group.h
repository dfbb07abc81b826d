/* SPDX-License-Identifier: MIT */
/* share_group.h - a group's frames and books, for share.c, share_msgs.c and share_state.c */
#ifndef MT_HOST_SHARE_GROUP_H
#define MT_HOST_SHARE_GROUP_H

#include "host/share.h"

/** mt_share_group_get() - the group of @vm, made if need be; NULL without memory */
struct mt_share_group *mt_share_group_get(struct mt_vmrec *vm);

/** mt_share_group_named() - the group of this name; NULL: there is none */
struct mt_share_group *mt_share_group_named(struct mt_server *server, const char *name, bool own);

/** mt_share_group_new() - an empty one without frames; NULL without memory */
struct mt_share_group *mt_share_group_new(struct mt_server *server, const char *name, bool own);

/** mt_share_group_free() - no VM is in it */
void mt_share_group_free(struct mt_server *server, struct mt_share_group *group);

/** mt_share_group_feed() - the table asked for more memory. Return: has it got it? */
bool mt_share_group_feed(struct mt_server *server, struct mt_share_group *group);

/**
 * mt_share_group_feed_known() - the same, for what is known of frames that VMs use already
 *
 * Without it a VM could not come back, and so give nothing back, while the pool is used up.
 */
bool mt_share_group_feed_known(struct mt_server *server, struct mt_share_group *group);

/** mt_share_group_room() - is there memory for one more frame, and has the state file room? */
bool mt_share_group_room(struct mt_server *server, struct mt_share_group *group);

/** mt_share_group_count() - the ledger follows the number of frames */
void mt_share_group_count(struct mt_server *server, struct mt_share_group *group);

/** mt_share_group_freed() - callback of the table; @group: nobody uses @frame any more */
void mt_share_group_freed(void *group, mt_frame_t frame);

/** mt_share_group_flush() - drop what was freed, and count */
void mt_share_group_flush(struct mt_server *server, struct mt_share_group *group);

/** mt_share_group_join() - @vm becomes a member. Return: 0 or -ENOMEM. */
MT_MUST_CHECK int mt_share_group_join(struct mt_vmrec *vm, struct mt_share_group *group);

#endif
