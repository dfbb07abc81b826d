/* SPDX-License-Identifier: MIT */
/* test_peek.c - peeks through the daemon: forwarded, answered, refused; monitors that lie */
#include "common/mt_test.h"
#include "rig.h"

#include <errno.h>

#define PEEK(addr, bytes) "{\"cmd\":\"peek\",\"vm\":\"a\",\"addr\":" #addr ",\"bytes\":" #bytes "}"

/* The PEEK that the daemon forwards to @peer. */
static struct mt_wire_peek forwarded(struct peer *peer)
{
	union mt_wire_msg msg;

	do
		MT_CHECK(peer_next(peer, &msg, RIG_PATIENCE_MS));
	while (msg.head.type != MT_WIRE_PEEK);
	return msg.peek;
}

MT_TEST("a peek is forwarded to the VM's monitor, and its answer to who asked")
{
	struct rig rig;
	struct peer peer;
	union mt_wire_msg msg;
	struct mt_wire_peek peek;
	struct json_object *answer;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	peer_join(&rig, &peer, "a");
	ctl_send(ctl, PEEK(4096, 3));
	peek = forwarded(&peer);
	MT_CHECK_EQ(peek.addr, 4096);
	MT_CHECK_EQ(peek.count, 3);
	MT_CHECK_EQ(peek.what, MT_PEEK_BYTES);
	mt_wire_init(&msg, MT_WIRE_PEEKED, peek.head.serial + 1);
	peer_send(&peer, &msg); /* nobody's */
	mt_wire_init(&msg, MT_WIRE_PEEKED, peek.head.serial);
	msg.peeked.count = 3;
	msg.peeked.state = 5;
	msg.peeked.place = 77;
	msg.peeked.length = 900;
	memcpy(msg.peeked.data, "\x00\xff\x1a", 3);
	peer_send(&peer, &msg);
	answer = ctl_line(ctl, RIG_PATIENCE_MS);
	MT_CHECK(answer);
	MT_CHECK_STR(json_object_get_string(json_object_object_get(answer, "data")), "00ff1a");
	MT_CHECK_EQ(json_object_get_int64(json_object_object_get(answer, "place")), 77);
	MT_CHECK_EQ(json_object_get_int64(json_object_object_get(answer, "length")), 900);
	json_object_put(answer);
	ctl_send(ctl, "{\"cmd\":\"states\",\"vm\":\"a\",\"addr\":0,\"pages\":512}");
	peek = forwarded(&peer);
	MT_CHECK_EQ(peek.what, MT_PEEK_STATES);
	mt_wire_init(&msg, MT_WIRE_PEEKED, peek.head.serial);
	msg.peeked.code = -EFAULT;
	peer_send(&peer, &msg);
	answer = ctl_line(ctl, RIG_PATIENCE_MS);
	MT_CHECK_STR(json_object_get_string(json_object_object_get(answer, "code")), "EFAULT");
	json_object_put(answer);
	ctl_send(ctl, "{\"cmd\":\"frame_pages\",\"vm\":\"a\",\"frame\":9,\"from\":4096}");
	peek = forwarded(&peer);
	MT_CHECK_EQ(peek.what, MT_PEEK_FRAME);
	MT_CHECK_EQ(peek.frame, 9);
	MT_CHECK_EQ(peek.addr, 4096);
	rig_stop(&rig);
}

MT_TEST("senseless peeks are refused before they reach a monitor")
{
	struct rig rig;
	struct peer peer;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	MT_CHECK_STR(ctl_code(ctl, PEEK(0, 8)), "ENOENT");
	peer_join(&rig, &peer, "a");
	MT_CHECK_STR(ctl_code(ctl, PEEK(0, 0)), "EINVAL");
	MT_CHECK_STR(ctl_code(ctl, PEEK(0, 513)), "EINVAL");
	MT_CHECK_STR(ctl_code(ctl, PEEK(-1, 8)), "EINVAL");
	MT_CHECK_STR(ctl_code(ctl, PEEK("x", 8)), "EINVAL");
	MT_CHECK_STR(ctl_code(ctl, "{\"cmd\":\"peek\",\"vm\":\"a\"}"), "EINVAL");
	peer_close(&peer);
	rig_stop(&rig);
}

MT_TEST("a monitor that answers a peek with too much is dropped, and who asked is told")
{
	struct rig rig;
	struct peer peer;
	union mt_wire_msg msg;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	peer_join(&rig, &peer, "a");
	ctl_send(ctl, PEEK(0, 8));
	mt_wire_init(&msg, MT_WIRE_PEEKED, forwarded(&peer).head.serial);
	msg.peeked.count = MT_PEEK_MAX + 1;
	peer_send(&peer, &msg);
	MT_CHECK(peer_dropped(&peer, RIG_PATIENCE_MS));
	MT_CHECK_STR(json_object_get_string(
			     json_object_object_get(ctl_line(ctl, RIG_PATIENCE_MS), "code")),
		     "ENOTCONN");
	rig_stop(&rig);
}

MT_TEST_MAIN
