/* SPDX-License-Identifier: MIT */
/* share_peer.h - a monitor, played by a test, that shares pages */
#ifndef MT_TESTS_HOST_SHARE_PEER_H
#define MT_TESTS_HOST_SHARE_PEER_H

#include "host/rig.h"

#define HOST "{\"cmd\":\"host\"}"

/* What the next page that is offered or sent holds. */
extern uint8_t share_content[MT_PAGE_SIZE];

/** share_fill() - share_content becomes that of page @value. Return: its hash */
uint64_t share_fill(unsigned int value);
/** share_join_with() - say @hello and add 64 MiB */
void share_join_with(struct peer *peer, union mt_wire_msg *hello);
/** share_join() - say hello as a VM of @group with 64 MiB */
void share_join(const struct rig *rig, struct peer *peer, const char *name, const char *group);
/** share_pair() - a daemon with 256 MiB, VMs a and b of group g. Return: a client's connection */
int share_pair(struct rig *rig, struct peer *a, struct peer *b);
/** share_join_token() - the same as a user who needs a token */
void share_join_token(const struct rig *rig, struct peer *peer, int ctl, const char *name,
		      const char *group);
/** share_answer() - for one page; MT_WIRE_SHARE_NONE - 100 when the daemon hangs up */
uint32_t share_answer(struct peer *peer);
/** share_offer() - offer a page by its hash. Return: the answer */
uint32_t share_offer(struct peer *peer, uint32_t gpn, uint64_t hash);
/** share_look() - as share_offer(), of a page in its place; is it in a large page? */
uint32_t share_look(struct peer *peer, uint32_t gpn, uint64_t hash, bool large);
/** share_put() - share_content becomes that of page @i of a SHARE_PAGE */
void share_put(struct mt_wire_share_page *msg, uint32_t i, uint32_t gpn, uint64_t hash);
/** share_send_page() - send share_content. Return: the answer */
uint32_t share_send_page(struct peer *peer, uint32_t gpn, uint64_t hash);
/** share_release() - say that @frame is not used any more */
void share_release(struct peer *peer, uint32_t frame);
/** share_frame() - a page of @peer becomes a frame: its like is a hint of @other first. Return: it
 */
uint32_t share_frame(struct peer *other, struct peer *peer, uint32_t gpn, unsigned int value);
/** share_frames() - how many frames there are */
uint64_t share_frames(int ctl);
/** share_frames_become() - wait until there are so many. False when there never are */
bool share_frames_become(int ctl, uint64_t count);
/** share_blocks() - pages of memory behind the frames */
uint64_t share_blocks(const struct peer *peer);
/** share_blocks_become() - wait until there are so many. False when there never are */
bool share_blocks_become(const struct peer *peer, uint64_t count);

#endif
