/* SPDX-License-Identifier: MIT */
/* share_peer.c - what tests of the daemon say as monitors that share; see share_peer.h */
#include "host/share_peer.h"
#include "common/mt_test.h"
#include "sys/sock.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <xxhash.h>

uint8_t share_content[MT_PAGE_SIZE];

uint64_t share_fill(unsigned int value)
{
	for (unsigned int i = 0; i < sizeof(share_content); i++)
		share_content[i] = (uint8_t)(value + i * 7);
	memcpy(share_content, &value, sizeof(value));
	return XXH3_64bits(share_content, sizeof(share_content));
}

/* Says @hello and adds 64 MiB. */
void share_join_with(struct peer *peer, union mt_wire_msg *hello)
{
	MT_CHECK_EQ(peer_hello_msg(peer, hello), 0);
	MT_CHECK_EQ(peer_region(peer, 64 * MIB), 0);
	PEER_UNTIL(peer, peer->share_start == MT_SHARE_START_FRESH);
	MT_CHECK(peer->frames_fd >= 0);
}

/* Says hello as a VM of @group with 64 MiB. */
void share_join(const struct rig *rig, struct peer *peer, const char *name, const char *group)
{
	union mt_wire_msg hello;

	peer_connect(rig, peer);
	mt_wire_init(&hello, MT_WIRE_HELLO, 1);
	snprintf(hello.hello.name, sizeof(hello.hello.name), "%s", name);
	snprintf(hello.hello.share_group, sizeof(hello.hello.share_group), "%s", group);
	share_join_with(peer, &hello);
}

int share_pair(struct rig *rig, struct peer *a, struct peer *b)
{
	int ctl;

	rig_make(rig);
	rig_start(rig, "256M", NULL);
	ctl = ctl_open(rig);
	share_join(rig, a, "a", "g");
	share_join(rig, b, "b", "g");
	return ctl;
}

/* The same as a user who needs a token. */
void share_join_token(const struct rig *rig, struct peer *peer, int ctl, const char *name,
		      const char *group)
{
	union mt_wire_msg hello;
	char request[256];

	snprintf(request, sizeof(request),
		 "{\"cmd\":\"vm_create\",\"name\":\"%s\",\"share_group\":\"%s\"}", name, group);
	mt_wire_init(&hello, MT_WIRE_HELLO, 1);
	snprintf(hello.hello.token, sizeof(hello.hello.token), "%s",
		 ctl_string(ctl, request, NULL, "token"));
	peer_connect(rig, peer);
	share_join_with(peer, &hello);
}

/* The answer for one page; MT_WIRE_SHARE_NONE - 100 when the daemon hangs up. */
uint32_t share_answer(struct peer *peer)
{
	union mt_wire_msg msg;

	while (peer_next(peer, &msg, RIG_PATIENCE_MS))
		if (msg.head.type == MT_WIRE_SHARE_ANSWER)
			return msg.share_answer.frame[0];
	return MT_WIRE_SHARE_NONE - 100;
}

uint32_t share_offer(struct peer *peer, uint32_t gpn, uint64_t hash)
{
	union mt_wire_msg msg;

	mt_wire_init(&msg, MT_WIRE_SHARE_OFFER, 0);
	msg.share_offer.count = 1;
	msg.share_offer.gpn[0] = gpn;
	msg.share_offer.hash[0] = hash;
	peer_send(peer, &msg);
	return share_answer(peer);
}

uint32_t share_look(struct peer *peer, uint32_t gpn, uint64_t hash, bool large)
{
	union mt_wire_msg msg;

	mt_wire_init(&msg, MT_WIRE_SHARE_LOOK, 0);
	msg.share_look.batch = 4711;
	/* the page asked about is the last of many */
	msg.share_look.count = MT_WIRE_SHARE_LOOKS;
	for (uint32_t i = 0; i < MT_WIRE_SHARE_LOOKS; i++) {
		msg.share_look.gpn[i] = 10000 + i;
		msg.share_look.hash[i] = ((uint64_t)peer->fd << 32) + i;
	}
	msg.share_look.gpn[MT_WIRE_SHARE_LOOKS - 1] = gpn;
	msg.share_look.hash[MT_WIRE_SHARE_LOOKS - 1] = hash;
	msg.share_look.large[MT_WIRE_SHARE_LOOKS - 1] = large;
	peer_send(peer, &msg);
	while (peer_next(peer, &msg, RIG_PATIENCE_MS))
		if (msg.head.type == MT_WIRE_SHARE_LOOKED && msg.share_looked.batch == 4711 &&
		    msg.share_looked.count == MT_WIRE_SHARE_LOOKS)
			return msg.share_looked.frame[MT_WIRE_SHARE_LOOKS - 1];
	return MT_WIRE_SHARE_NONE - 100;
}

void share_put(struct mt_wire_share_page *msg, uint32_t i, uint32_t gpn, uint64_t hash)
{
	msg->gpn[i] = gpn;
	msg->hash[i] = hash;
	memcpy(msg->content[i], share_content, sizeof(share_content));
}

uint32_t share_send_page(struct peer *peer, uint32_t gpn, uint64_t hash)
{
	union mt_wire_msg msg;

	mt_wire_init(&msg, MT_WIRE_SHARE_PAGE, 0);
	share_put(&msg.share_page, 0, gpn, hash);
	mt_wire_contents(&msg.share_page, 1);
	peer_send(peer, &msg);
	return share_answer(peer);
}

void share_release(struct peer *peer, uint32_t frame)
{
	union mt_wire_msg msg;

	mt_wire_init(&msg, MT_WIRE_SHARE_RELEASE, 0);
	msg.share_release.count = 1;
	msg.share_release.frame[0] = frame;
	peer_send(peer, &msg);
}

/* A page of @peer becomes a frame: its like is a hint of @other first. */
uint32_t share_frame(struct peer *other, struct peer *peer, uint32_t gpn, unsigned int value)
{
	uint64_t hash = share_fill(value);

	MT_CHECK_EQ(share_offer(other, gpn, hash), MT_WIRE_SHARE_NONE);
	MT_CHECK_EQ(share_offer(peer, gpn, hash), MT_WIRE_SHARE_WANTED);
	return share_send_page(peer, gpn, hash);
}

uint64_t share_frames(int ctl)
{
	return ctl_number(ctl, HOST, "host", "sharedcommon") / 4;
}

/* Waits until there are so many frames. */
bool share_frames_become(int ctl, uint64_t count)
{
	return RIG_WAIT(share_frames(ctl) == count);
}

/* Memory behind the frames. */
uint64_t share_blocks(const struct peer *peer)
{
	struct stat st;

	MT_CHECK(!fstat(peer->frames_fd, &st));
	return (uint64_t)st.st_blocks * 512 / MT_PAGE_SIZE;
}

/* Waits until there is memory behind so many. */
bool share_blocks_become(const struct peer *peer, uint64_t count)
{
	return RIG_WAIT(share_blocks(peer) == count);
}
