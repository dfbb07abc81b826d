/* SPDX-License-Identifier: MIT */
/* test_share_restart.c - a daemon that is started anew, and monitors that come back with frames */
#include "common/mt_test.h"
#include "host/share_peer.h"
#include "sys/sock.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <xxhash.h>

#define SHOW(name)   "{\"cmd\":\"show\",\"vm\":\"" name "\"}"
#define FRAMES_BYTES ((size_t)MT_FRAMES_MAX << MT_PAGE_SHIFT)

/* Says hello again as a VM that has @shared pages in frames. */
static void hello_again(const struct rig *rig, struct peer *peer, const char *name,
			const char *group, uint64_t shared)
{
	union mt_wire_msg msg;
	struct peer old = *peer;

	peer_connect(rig, peer);
	memcpy(peer->secret, old.secret, sizeof(old.secret));
	peer->grant = old.grant;
	mt_wire_init(&msg, MT_WIRE_HELLO, 1);
	snprintf(msg.hello.name, sizeof(msg.hello.name), "%s", name);
	snprintf(msg.hello.share_group, sizeof(msg.hello.share_group), "%s", group);
	memcpy(msg.hello.secret, old.secret, sizeof(old.secret));
	msg.hello.grant_pages = old.grant;
	msg.hello.memsize_pages = MIB_PAGES(64);
	msg.hello.shared_pages = shared;
	MT_CHECK_EQ(peer_hello_msg(peer, &msg), 0);
	peer_drain(peer, 50);
}

/* ... and tells of these frames, with their descriptor. */
static void bring(const struct rig *rig, struct peer *peer, const char *name, const char *group,
		  const uint32_t *frame, uint32_t count)
{
	int frames_fd = peer->frames_fd;
	union mt_wire_msg msg;

	hello_again(rig, peer, name, group, count);
	PEER_UNTIL(peer, peer->share_start == MT_SHARE_START_KEEP);
	mt_wire_init(&msg, MT_WIRE_SHARE_KEEP, 0);
	msg.share_keep.count = count;
	memcpy(msg.share_keep.frame, frame, count * sizeof(*frame));
	MT_CHECK_EQ(mt_sock_send(peer->fd, &msg, msg.head.length, frames_fd), 0);
}

/* The same, and it is believed. */
static void come_back_with(const struct rig *rig, struct peer *peer, const char *name,
			   const char *group, const uint32_t *frame, uint32_t count)
{
	bring(rig, peer, name, group, frame, count);
	PEER_UNTIL(peer, peer->share_start == MT_SHARE_START_FRESH);
}

static void come_back(const struct rig *rig, struct peer *peer, const char *name, const char *group,
		      uint32_t frame)
{
	come_back_with(rig, peer, name, group, &frame, 1);
}

MT_TEST("a restarted daemon gets the frames back from the VMs, counts them right, and goes on")
{
	struct rig rig;
	struct peer a, b;
	uint32_t frame, other;
	int ctl;

	ctl = share_pair(&rig, &a, &b);
	frame = share_frame(&a, &b, 5, 1);
	other = share_frame(&a, &b, 9, 2);
	MT_CHECK_EQ(share_offer(&a, 5, share_fill(1)), frame);
	MT_CHECK(other < MT_FRAMES_MAX);
	MT_CHECK(share_blocks_become(&a, 2));
	rig_kill(&rig);
	peer_drain(&a, 0);
	peer_drain(&b, 0);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	/* nobody knows yet who uses what: nothing may go */
	MT_CHECK_EQ(share_blocks(&a), 2);
	come_back(&rig, &a, "a", "g", frame);
	MT_CHECK_EQ(share_blocks(&a), 2);
	come_back(&rig, &b, "b", "g", frame);
	MT_CHECK(share_frames_become(ctl, 1));
	/* what nobody uses any more has gone */
	MT_CHECK(share_blocks_become(&a, 1));
	MT_CHECK_EQ(share_offer(&b, 77, share_fill(1)), frame);
	MT_CHECK(share_frame(&a, &b, 30, 3) < MT_FRAMES_MAX);
	rig_stop(&rig);
}

MT_TEST("room for frames that the state file had is not counted for long")
{
	struct rig rig;
	struct peer a, b;
	int ctl = share_pair(&rig, &a, &b);

	share_frame(&a, &b, 5, 1);
	share_frame(&a, &b, 9, 2);
	MT_CHECK_EQ(share_frames(ctl), 2);
	MT_CHECK(RIG_WAIT(rig_state_frames(&rig) == 2));
	rig_stop(&rig);
}

MT_TEST("another file instead of the frames is not believed")
{
	struct rig rig;
	struct peer a, b;
	uint32_t frame;
	int ctl, fake = memfd_create("memtide-frames", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	share_join(&rig, &a, "a", "g");
	share_join(&rig, &b, "b", "g");
	frame = share_frame(&a, &b, 5, 1);
	rig_kill(&rig);
	peer_drain(&a, 0);
	peer_drain(&b, 0);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	MT_CHECK(!ftruncate(fake, (off_t)FRAMES_BYTES) && !fchmod(fake, 0));
	MT_CHECK(!fcntl(fake, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL));
	dup2(fake, a.frames_fd);
	bring(&rig, &a, "a", "g", &frame, 1);
	MT_CHECK(peer_dropped(&a, RIG_PATIENCE_MS));
	MT_CHECK(ctl_event_seen(ctl, "a", "not the group's frames"));
	come_back(&rig, &b, "b", "g", frame);
	rig_stop(&rig);
}

/* Three VMs of a group with a frame that all use, and the daemon is killed and started again. */
static uint32_t share_and_restart(struct rig *rig, struct peer *a, struct peer *b, struct peer *c)
{
	uint32_t frame;

	rig_make(rig);
	rig_start(rig, "512M", NULL);
	share_join(rig, a, "a", "g");
	share_join(rig, b, "b", "g");
	share_join(rig, c, "c", "g");
	frame = share_frame(a, b, 5, 1);
	MT_CHECK_EQ(share_offer(a, 5, share_fill(1)), frame);
	MT_CHECK_EQ(share_offer(c, 5, share_fill(1)), frame);
	rig_kill(rig);
	peer_drain(a, 0);
	peer_drain(b, 0);
	peer_drain(c, 0);
	rig_start(rig, "512M", NULL);
	return frame;
}

MT_TEST("a VM that is back before its group's frames are shares again once they are there")
{
	struct rig rig;
	struct peer a, b, c;
	uint32_t frame = share_and_restart(&rig, &a, &b, &c);

	hello_again(&rig, &a, "a", "g", 0);
	MT_CHECK_EQ(a.share_start, 0);
	come_back(&rig, &b, "b", "g", frame);
	come_back(&rig, &c, "c", "g", frame);
	PEER_UNTIL(&a, a.share_start == MT_SHARE_START_FRESH);
	MT_CHECK_EQ(share_offer(&a, 5, share_fill(1)), frame);
	rig_stop(&rig);
}

MT_TEST("frames made while VMs are still to come back are known to the next daemon, too")
{
	struct rig rig;
	struct peer a, b, c;
	uint32_t frame[2] = {share_and_restart(&rig, &a, &b, &c)};
	int ctl;

	come_back(&rig, &a, "a", "g", frame[0]);
	come_back(&rig, &c, "c", "g", frame[0]);
	frame[1] = share_frame(&c, &a, 9, 2);
	MT_CHECK(frame[1] < MT_FRAMES_MAX && frame[1] != frame[0]);
	rig_kill(&rig);
	peer_drain(&a, 0);
	peer_drain(&c, 0);
	rig_start(&rig, "512M", NULL);
	ctl = ctl_open(&rig);
	come_back_with(&rig, &a, "a", "g", frame, 2);
	come_back(&rig, &c, "c", "g", frame[0]);
	come_back(&rig, &b, "b", "g", frame[0]);
	MT_CHECK(share_frames_become(ctl, 2));
	rig_stop(&rig);
}

MT_TEST("frames in a new file are known to the next daemon, however soon it comes")
{
	struct rig rig;
	struct peer a, b, c;
	uint32_t frame;

	share_and_restart(&rig, &a, &b, &c);
	hello_again(&rig, &a, "a", "g", 0);
	hello_again(&rig, &b, "b", "g", 0);
	hello_again(&rig, &c, "c", "g", 0);
	PEER_UNTIL(&a, a.share_start == MT_SHARE_START_FRESH);
	PEER_UNTIL(&b, b.share_start == MT_SHARE_START_FRESH);
	frame = share_frame(&a, &b, 5, 1);
	MT_CHECK(frame < MT_FRAMES_MAX);
	rig_kill(&rig);
	peer_drain(&b, 0);
	rig_start(&rig, "512M", NULL);
	come_back(&rig, &b, "b", "g", frame);
	rig_stop(&rig);
}

MT_TEST("a VM comes back with what it shares even when the pool is used up")
{
	static uint32_t frame[500];
	struct rig rig;
	struct peer a, b;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	share_join(&rig, &a, "a", "g");
	share_join(&rig, &b, "b", "g");
	for (unsigned int i = 0; i < MT_ARRAY_SIZE(frame); i++) {
		frame[i] = share_frame(&a, &b, i, i);
		MT_CHECK(frame[i] < MT_FRAMES_MAX);
	}
	rig_kill(&rig);
	peer_drain(&b, 0);
	/* what they were granted, and still have, is more than this */
	rig_start(&rig, "128M", NULL);
	ctl = ctl_open(&rig);
	MT_CHECK_EQ(ctl_number(ctl, HOST, "host", "ungranted"), 0);
	come_back_with(&rig, &b, "b", "g", frame, MT_ARRAY_SIZE(frame));
	rig_stop(&rig);
}

MT_TEST_MAIN
