/* SPDX-License-Identifier: MIT */
/* test_daemon.c - the daemon and its monitors: hello, grants, regions, and monitors that misbehave
 */
#include "host/rig.h"

#include "common/mt_test.h"
#include "sys/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define HOST "{\"cmd\":\"host\"}"

/* Everybody obeys; the sum of grants is in bounds. Return: does nothing move any more? */
static bool settled(struct peer *peers, unsigned int count, uint64_t pool_pages)
{
	bool moved = false;
	uint64_t sum = 0;

	for (unsigned int i = 0; i < count; i++) {
		uint64_t before = peers[i].grant;

		peer_drain(&peers[i], 20);
		moved |= peers[i].grant != before;
		sum += peers[i].grant;
	}
	MT_CHECK(sum <= pool_pages);
	for (unsigned int i = 0; i < count; i++)
		moved |= peer_obey(&peers[i]) > 0;
	return !moved;
}

/* Until nothing moves any more, and what is to come has come: a slow daemon moves later. */
#define SETTLE(peers, count, pool_pages, condition)                              \
	do {                                                                     \
		if (!RIG_WAIT(settled(peers, count, pool_pages) && (condition))) \
			MT_FAIL("does not come true: %s", #condition);           \
	} while (0)

MT_TEST("a VM that says hello gets a userfaultfd device, a secret, settings and a number")
{
	struct rig rig;
	struct peer peer;
	struct stat st, device;

	rig_make(&rig);
	rig_start(&rig, "256M", "zip_max_pct = 33\n");
	peer_join(&rig, &peer, "web");
	PEER_UNTIL(&peer, peer.zip_known);
	MT_CHECK(peer.vmid > 0);
	MT_CHECK_EQ(strlen(peer.secret), 32);
	MT_CHECK_EQ(peer.zip_max_pct, 33);
	MT_CHECK_EQ(fstat(peer.uffd, &st), 0);
	MT_CHECK_EQ(stat("/dev/userfaultfd", &device), 0);
	MT_CHECK_EQ(st.st_rdev, device.st_rdev);
	MT_CHECK_EQ(peer.grant, 0);
	rig_stop(&rig);
}

MT_TEST("the first region comes with a swap file that nobody else can open, as large as the memory")
{
	struct rig rig;
	struct peer peer;
	struct stat st;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	peer_connect(&rig, &peer);
	MT_CHECK_EQ(peer_hello(&peer, "web", 16 * MIB, 0), 0);
	MT_CHECK_EQ(peer_region(&peer, 64 * MIB), 0);
	MT_CHECK(peer.grant >= MIB_PAGES(16));
	MT_CHECK_EQ(peer.swap_bytes, 48 * MIB);
	MT_CHECK_EQ(fstat(peer.swap_fd, &st), 0);
	MT_CHECK_EQ(st.st_size, 48 * MIB);
	MT_CHECK(st.st_blocks * 512 >= (off_t)(48 * MIB));
	MT_CHECK_EQ(st.st_nlink, 0);
	MT_CHECK_EQ(st.st_mode & 07777, 0);
	close(peer.swap_fd);
	peer.swap_fd = -1;
	/* the second one grows it and brings no descriptor */
	MT_CHECK_EQ(peer_region(&peer, 32 * MIB), 0);
	MT_CHECK_EQ(peer.swap_bytes, 80 * MIB);
	MT_CHECK_EQ(peer.swap_fd, -1);
	rig_stop(&rig);
}

MT_TEST("with room for everybody each VM is granted its memory and overhead")
{
	struct rig rig;
	struct peer peers[2];

	rig_make(&rig);
	rig_start(&rig, "512M", NULL);
	peer_join(&rig, &peers[0], "a");
	peer_join(&rig, &peers[1], "b");
	MT_CHECK_EQ(peer_region(&peers[0], 128 * MIB), 0);
	MT_CHECK_EQ(peer_region(&peers[1], 64 * MIB), 0);
	SETTLE(peers, 2, MIB_PAGES(512 - 8),
	       peers[0].grant == MIB_PAGES(128 + 1 + 12) &&
		       peers[1].grant == MIB_PAGES(64) + 128 + MIB_PAGES(12));
	MT_CHECK_EQ(peers[0].target, MIB_PAGES(128 + 1 + 12));
	rig_stop(&rig);
}

MT_TEST("three VMs with twice the pool's memory share it in proportion and never exceed it")
{
	struct rig rig;
	struct peer p[3];
	static const char *const names[] = {"a", "b", "c"};
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "264M", NULL);
	ctl = ctl_open(&rig);
	for (unsigned int i = 0; i < 3; i++) {
		peer_join(&rig, &p[i], names[i]);
		/* the answer comes in SETTLE() */
		peer_region_send(&p[i], i == 1 ? 256 * MIB : 128 * MIB);
		SETTLE(p, i + 1, MIB_PAGES(264 - 8), p[i].grant >= MIB_PAGES(16));
	}
	/* 264 less 8 for the daemon and 16 to start another VM: 240 as 1:2:1 */
	SETTLE(p, 3, MIB_PAGES(264 - 8),
	       p[0].grant == MIB_PAGES(60) && p[1].grant == MIB_PAGES(120) &&
		       p[2].grant == MIB_PAGES(60));
	MT_CHECK_EQ(ctl_number(ctl, HOST, "host", "granted_out"), 240 * 1024);
	MT_CHECK_EQ(ctl_number(ctl, HOST, "host", "ungranted"), 16 * 1024);
	MT_CHECK_EQ(ctl_number(ctl, HOST, "host", "overcommit_pct"), 93);
	rig_stop(&rig);
}

static bool within_5_pct(uint64_t value, uint64_t want)
{
	return value >= want * 95 / 100 && value <= want * 105 / 100;
}

MT_TEST("with everybody saturated, memory is held as 1:2:4 like the shares")
{
	static const char *const names[] = {"a", "b", "c"};
	static const unsigned int mib[] = {240 / 7, 480 / 7, 960 / 7};
	struct rig rig;
	struct peer p[3];
	char text[128];
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "264M", NULL);
	ctl = ctl_open(&rig);
	for (unsigned int i = 0; i < 3; i++) {
		peer_join(&rig, &p[i], names[i]);
		peer_region_send(&p[i], 256 * MIB);
		SETTLE(p, i + 1, MIB_PAGES(264 - 8), p[i].grant >= MIB_PAGES(16));
		snprintf(text, sizeof(text),
			 "{\"cmd\":\"set\",\"vm\":\"%s\",\"settings\":{\"shares\":%u}}", names[i],
			 1000U << i);
		MT_CHECK_STR(ctl_code(ctl, text), "");
	}
	SETTLE(p, 3, MIB_PAGES(264 - 8),
	       within_5_pct(p[0].grant, MIB_PAGES(mib[0])) &&
		       within_5_pct(p[1].grant, MIB_PAGES(mib[1])) &&
		       within_5_pct(p[2].grant, MIB_PAGES(mib[2])) &&
		       p[0].grant + p[1].grant + p[2].grant == MIB_PAGES(240));
	MT_CHECK(ctl_event_seen(ctl, "a", "shares/page below the next"));
	MT_CHECK(ctl_event_seen(ctl, "", "memory state high -> "));
	rig_stop(&rig);
}

MT_TEST("memory that a VM holds and nobody needs stays with it, and goes when another needs it")
{
	struct rig rig;
	struct peer p[2];
	union mt_wire_msg stats;

	rig_make(&rig);
	rig_start(&rig, "264M", NULL);
	peer_join(&rig, &p[0], "idle");
	MT_CHECK_EQ(peer_region(&p[0], 256 * MIB), 0);
	SETTLE(p, 1, MIB_PAGES(256), p[0].grant == MIB_PAGES(240));
	mt_wire_init(&stats, MT_WIRE_STATS, 0);
	stats.stats.count = MT_COUNTER_MAX;
	stats.stats.value[MT_C_MEMSIZE] = stats.stats.value[MT_C_RESIDENT] = MIB_PAGES(200);
	stats.stats.value[MT_C_HELD] = MIB_PAGES(200);
	peer_send(&p[0], &stats);
	peer_join(&rig, &p[1], "busy");
	MT_CHECK_EQ(peer_region(&p[1], 256 * MIB), 0);
	/* it uses little of what it was given to start with */
	stats.stats.value[MT_C_MEMSIZE] = MIB_PAGES(256);
	stats.stats.value[MT_C_UNTOUCHED] = MIB_PAGES(255);
	stats.stats.value[MT_C_RESIDENT] = MIB_PAGES(1);
	stats.stats.value[MT_C_HELD] = MIB_PAGES(2);
	peer_send(&p[1], &stats);
	/* until that was heard it seemed to need all it was given: a decision or two */
	usleep(600000);
	PEER_UNTIL(&p[0], (peer_send(&p[1], &stats), p[0].target >= MIB_PAGES(200)));
	peer_obey(&p[0]);
	MT_CHECK(p[0].grant >= MIB_PAGES(200));
	/* now it has used it up and waits */
	peer_drain(&p[1], 100);
	stats.stats.value[MT_C_UNTOUCHED] = MIB_PAGES(100);
	stats.stats.value[MT_C_RESIDENT] = p[1].grant;
	stats.stats.value[MT_C_HELD] = p[1].grant;
	stats.stats.value[MT_C_FAULT_WAITED] = 10;
	peer_send(&p[1], &stats);
	PEER_UNTIL(&p[0], p[0].target <= MIB_PAGES(125));
	SETTLE(p, 2, MIB_PAGES(256), p[1].grant >= MIB_PAGES(115));
	rig_stop(&rig);
}

MT_TEST("what a leaving VM had goes to those below their target")
{
	struct rig rig;
	struct peer p[2];
	union mt_wire_msg bye;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "152M", NULL);
	ctl = ctl_open(&rig);
	peer_join(&rig, &p[0], "a");
	peer_join(&rig, &p[1], "b");
	MT_CHECK_EQ(peer_region(&p[0], 128 * MIB), 0);
	peer_region_send(&p[1], 128 * MIB);
	SETTLE(p, 2, MIB_PAGES(144), p[0].grant == MIB_PAGES(64));
	mt_wire_init(&bye, MT_WIRE_BYE, 0);
	peer_send(&p[1], &bye);
	MT_CHECK(peer_dropped(&p[1], RIG_PATIENCE_MS));
	SETTLE(p, 1, MIB_PAGES(144), p[0].grant == MIB_PAGES(128));
	MT_CHECK_STR(ctl_code(ctl, "{\"cmd\":\"show\",\"vm\":\"b\"}"), "ENOENT");
	MT_CHECK(ctl_event_seen(ctl, "b", "left management"));
	rig_stop(&rig);
}

MT_TEST("a starting VM waits until others have returned memory, and then gets its grant first")
{
	struct rig rig;
	struct peer p[3];
	uint32_t serial;

	rig_make(&rig);
	rig_start(&rig, "96M", NULL);
	peer_join(&rig, &p[0], "a");
	MT_CHECK_EQ(peer_region(&p[0], 256 * MIB), 0);
	PEER_UNTIL(&p[0], p[0].grant == MIB_PAGES(72));
	peer_join(&rig, &p[1], "b");
	MT_CHECK_EQ(peer_region(&p[1], 64 * MIB), 0); /* from the starter reserve */
	peer_join(&rig, &p[2], "c");
	serial = peer_region_send(&p[2], 64 * MIB);
	MT_CHECK_EQ(peer_region_wait(&p[2], serial, 300), 1);
	PEER_UNTIL(&p[0], p[0].target < MIB_PAGES(72));
	MT_CHECK(peer_obey(&p[0]) > 0);
	MT_CHECK_EQ(peer_region_wait(&p[2], serial, RIG_PATIENCE_MS), 0);
	MT_CHECK(p[2].grant >= MIB_PAGES(16));
	SETTLE(p, 3, MIB_PAGES(88), true);
	rig_stop(&rig);
}

MT_TEST("a starting VM is refused with numbers when nobody returns memory in time")
{
	struct rig rig;
	struct peer p[3];
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "96M", "region-wait-ms = 300\n");
	ctl = ctl_open(&rig);
	peer_join(&rig, &p[0], "a");
	MT_CHECK_EQ(peer_region(&p[0], 256 * MIB), 0);
	peer_join(&rig, &p[1], "b");
	MT_CHECK_EQ(peer_region(&p[1], 64 * MIB), 0);
	peer_join(&rig, &p[2], "c");
	MT_CHECK_EQ(peer_region(&p[2], 64 * MIB), -ENOSPC);
	MT_CHECK(strstr(p[2].text, "16M") && strstr(p[2].text, "96M"));
	MT_CHECK_STR(ctl_string(ctl, "{\"cmd\":\"show\",\"vm\":\"c\"}", "vm", "state"), "refused");
	/* and at once when it can never be */
	MT_CHECK_STR(ctl_code(ctl, "{\"cmd\":\"vm_create\",\"name\":\"d\","
				   "\"reservation_bytes\":67108864}"),
		     "ENOMEM");
	rig_stop(&rig);
}

MT_TEST("names that are taken, bad, or of a stranger are refused with the reason")
{
	static const char *const bad[] = {"", ".web", "-web", "a b", "a/b", "\xc3\xa4"};
	struct rig rig;
	struct peer first, peer;
	union mt_wire_msg bye;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	peer_join(&rig, &first, "web");
	peer_connect(&rig, &peer);
	MT_CHECK_EQ(peer_hello(&peer, "web", 0, 0), -EEXIST);
	MT_CHECK(strstr(peer.text, "web"));
	MT_CHECK(peer_dropped(&peer, RIG_PATIENCE_MS));
	for (unsigned int i = 0; i < MT_ARRAY_SIZE(bad); i++) {
		peer_connect(&rig, &peer);
		MT_CHECK_EQ(peer_hello(&peer, bad[i], 0, 0), -EINVAL);
		peer_close(&peer);
	}
	/* the name is free at once when its VM has said goodbye */
	mt_wire_init(&bye, MT_WIRE_BYE, 0);
	peer_send(&first, &bye);
	peer_join(&rig, &peer, "web");
	rig_stop(&rig);
}

MT_TEST("reservations above the limit, the memory or the pool are refused")
{
	struct rig rig;
	struct peer peer;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	peer_connect(&rig, &peer);
	MT_CHECK_EQ(peer_hello(&peer, "a", 64 * MIB, 32 * MIB), -EINVAL);
	peer_connect(&rig, &peer);
	MT_CHECK_EQ(peer_hello(&peer, "a", 300 * MIB, 0), -ENOMEM);
	peer_connect(&rig, &peer);
	MT_CHECK_EQ(peer_hello(&peer, "a", 0, 4096), -EINVAL);
	peer_connect(&rig, &peer);
	MT_CHECK_EQ(peer_hello(&peer, "a", UINT64_MAX, 0), -EINVAL);
	peer_connect(&rig, &peer);
	MT_CHECK_EQ(peer_hello(&peer, "a", 64 * MIB, 0), 0);
	MT_CHECK_EQ(peer_region(&peer, 32 * MIB), -EINVAL);
	MT_CHECK(strstr(peer.text, "64M") && strstr(peer.text, "32M"));
	MT_CHECK_EQ(peer_region(&peer, 64 * MIB), 0);
	rig_stop(&rig);
}

MT_TEST("regions that overlap, are empty or not whole pages are refused and the VM goes on")
{
	struct rig rig;
	struct peer peer;
	union mt_wire_msg msg;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	peer_join(&rig, &peer, "a");
	MT_CHECK_EQ(peer_region(&peer, 32 * MIB), 0);
	peer.addr -= 48 * MIB;
	MT_CHECK_EQ(peer_region(&peer, 32 * MIB), -EEXIST);
	MT_CHECK_EQ(peer_region(&peer, 0), -EINVAL);
	MT_CHECK_EQ(peer_region(&peer, 4097), -EINVAL);
	peer.addr = 1ULL << 41;
	MT_CHECK_EQ(peer_region(&peer, 1ULL << 47), -EINVAL);
	MT_CHECK_EQ(peer_region(&peer, 1ULL << 50), -EINVAL);
	peer.addr = UINT64_MAX - 4095;
	MT_CHECK_EQ(peer_region(&peer, 2 * MIB), -EINVAL);
	peer.addr = 1ULL << 40;
	MT_CHECK_EQ(peer_region(&peer, 2 * MIB), 0);
	/* removing it lowers the target; removing what is not there changes nothing */
	mt_wire_init(&msg, MT_WIRE_REGION_DEL, 0);
	msg.region_del.addr = 1ULL << 40;
	msg.region_del.bytes = 2 * MIB;
	peer_send(&peer, &msg);
	peer_send(&peer, &msg);
	PEER_UNTIL(&peer, peer.target == MIB_PAGES(32 + 12) + 64);
	rig_stop(&rig);
}

/* One way to break the rules; @variant chooses it. */
static void misbehave(const struct rig *rig, struct peer *peer, unsigned int variant)
{
	union mt_wire_msg msg;

	mt_wire_init(&msg, MT_WIRE_STATS, 1);
	switch (variant) {
	case 0: /* garbage */
		memset(&msg, 0x5a, sizeof(msg));
		MT_CHECK_EQ(mt_sock_send(peer->fd, &msg, 100, -1), 0);
		break;
	case 1: /* shorter than it says */
		MT_CHECK_EQ(mt_sock_send(peer->fd, &msg, msg.head.length - 8, -1), 0);
		break;
	case 2: /* longer than any message */
		MT_CHECK_EQ(send(peer->fd, calloc(1, 5000), 5000, MSG_NOSIGNAL), 5000);
		break;
	case 3: /* a descriptor where none belongs */
		MT_CHECK_EQ(mt_sock_send(peer->fd, &msg, msg.head.length, 0), 0);
		break;
	case 4: /* returns what it does not have */
		peer_return(peer, MIB_PAGES(1000));
		break;
	case 5: /* returns all and a little */
		peer_return(peer, UINT64_MAX);
		break;
	case 6: /* a daemon's message */
		mt_wire_init(&msg, MT_WIRE_GRANT_ADD, 1);
		peer_send(peer, &msg);
		break;
	case 7: /* hello twice */
		mt_wire_init(&msg, MT_WIRE_HELLO, 1);
		strcpy(msg.hello.name, "again");
		peer_send(peer, &msg);
		break;
	case 8: /* a string without an end */
		mt_wire_init(&msg, MT_WIRE_EVENT, 1);
		memset(msg.event.text, 'x', sizeof(msg.event.text));
		peer_send(peer, &msg);
		break;
	case 9: /* another version */
		msg.head.version++;
		peer_send(peer, &msg);
		break;
	default: /* not even a hello */
		peer_close(peer);
		peer_connect(rig, peer);
		peer_send(peer, &msg);
	}
}

/* Twenty descriptors in one packet. */
static void send_many_fds(int fd)
{
	char room[CMSG_SPACE(20 * sizeof(int))] __attribute__((aligned(16))) = {0};
	union mt_wire_msg msg;
	struct iovec iov = {.iov_base = &msg};
	struct msghdr out = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = room,
			     .msg_controllen = sizeof(room)};
	struct cmsghdr *head = CMSG_FIRSTHDR(&out);

	mt_wire_init(&msg, MT_WIRE_STATS, 1);
	iov.iov_len = msg.head.length;
	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(20 * sizeof(int));
	MT_CHECK_EQ(sendmsg(fd, &out, MSG_NOSIGNAL), msg.head.length);
}

MT_TEST("a monitor that breaks the rules is dropped, its grant stays counted, others go on")
{
	struct rig rig;
	struct peer good, bad;
	char name[16];
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "512M", NULL);
	ctl = ctl_open(&rig);
	peer_join(&rig, &good, "good");
	MT_CHECK_EQ(peer_region(&good, 16 * MIB), 0);
	for (unsigned int variant = 0; variant <= 11; variant++) {
		snprintf(name, sizeof(name), "bad%u", variant);
		peer_join(&rig, &bad, name);
		MT_CHECK_EQ(peer_region(&bad, 4 * MIB), 0);
		if (variant == 11)
			send_many_fds(bad.fd);
		else
			misbehave(&rig, &bad, variant);
		if (!peer_dropped(&bad, RIG_PATIENCE_MS))
			MT_FAIL("variant %u was not dropped", variant);
		if (variant != 10)
			MT_CHECK(ctl_event_seen(ctl, name, "dropped"));
	}
	/* this process plays all of them and lives: they are away and keep what they have */
	MT_CHECK_STR(ctl_string(ctl, "{\"cmd\":\"show\",\"vm\":\"bad4\"}", "vm", "state"), "away");
	MT_CHECK(ctl_number(ctl, "{\"cmd\":\"show\",\"vm\":\"bad4\"}", "vm", "grant") >= 16 * 1024);
	peer_return(&good, 1);
	peer_granted(&good);
	MT_CHECK_STR(ctl_string(ctl, "{\"cmd\":\"show\",\"vm\":\"good\"}", "vm", "state"),
		     "running");
	rig_stop(&rig);
}

MT_TEST("a monitor that reads nothing is dropped before the daemon holds much for it")
{
	struct rig rig;
	struct peer deaf, good;
	char text[128];
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "512M", NULL);
	ctl = ctl_open(&rig);
	peer_join(&rig, &deaf, "deaf");
	peer_join(&rig, &good, "good");
	for (unsigned int i = 0; i < 4000; i++) {
		snprintf(text, sizeof(text),
			 "{\"cmd\":\"set\",\"vm\":\"deaf\",\"settings\":{\"zip_max_pct\":%u}}",
			 i % 100);
		MT_CHECK_STR(ctl_code(ctl, text), "");
	}
	MT_CHECK(ctl_event_seen(ctl, "deaf", "unread"));
	MT_CHECK_STR(ctl_string(ctl, "{\"cmd\":\"show\",\"vm\":\"deaf\"}", "vm", "state"), "away");
	MT_CHECK_EQ(peer_region(&good, 16 * MIB), 0);
	rig_stop(&rig);
}

MT_TEST("messages from a guest-controlled monitor can't flood the events")
{
	struct rig rig;
	struct peer peer;
	union mt_wire_msg msg;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	peer_join(&rig, &peer, "loud");
	mt_wire_init(&msg, MT_WIRE_EVENT, 0);
	msg.event.level = 77;
	strcpy(msg.event.text, "evil \x1b[31m\n\"text\xff");
	for (unsigned int i = 0; i < 5000; i++)
		peer_send(&peer, &msg);
	/* when all these have been read, and a second later, it may say something again */
	strcpy(msg.event.text, "last");
	MT_CHECK(RIG_WAIT((peer_send(&peer, &msg), ctl_event_there(ctl, "loud", "last"))));
	MT_CHECK(ctl_event_seen(ctl, "loud", "left out"));
	MT_CHECK(ctl_event_seen(ctl, "loud", "connected"));
	MT_CHECK(ctl_event_seen(ctl, "loud", "evil ?[31m?\"text?"));
	rig_stop(&rig);
}

MT_TEST("memory that can't be managed is said so with the reason")
{
	struct rig rig;
	struct peer peer;
	union mt_wire_msg msg;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	peer_join(&rig, &peer, "a");
	mt_wire_init(&msg, MT_WIRE_UNMANAGED, 0);
	msg.unmanaged.addr = 1ULL << 33;
	msg.unmanaged.bytes = 64 * MIB;
	msg.unmanaged.why = MT_UNMANAGED_SHARED;
	peer_send(&peer, &msg);
	MT_CHECK(ctl_event_seen(ctl, "a", "share=on"));
	MT_CHECK_STR(ctl_string(ctl, "{\"cmd\":\"show\",\"vm\":\"a\"}", "vm", "state"),
		     "unmanaged");
	MT_CHECK(strstr(ctl_string(ctl, "{\"cmd\":\"show\",\"vm\":\"a\"}", "vm", "reason"),
			"balloon"));
	MT_CHECK_EQ(peer_region(&peer, 16 * MIB), 0);
	MT_CHECK_STR(ctl_string(ctl, "{\"cmd\":\"show\",\"vm\":\"a\"}", "vm", "state"), "running");
	MT_CHECK(strstr(ctl_string(ctl, "{\"cmd\":\"show\",\"vm\":\"a\"}", "vm", "reason"),
			"share=on"));
	rig_stop(&rig);
}

MT_TEST("a swap directory too small for the VM refuses its memory and says both numbers")
{
	struct rig rig;
	struct peer peer;

	rig_make(&rig);
	MT_CHECK_EQ(mkdir(rig.swap, 0700), 0);
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", rig.swap, "tmpfs", 0, "size=24m"))
		MT_SKIP("can't mount: %s", strerror(errno));
	rig_start(&rig, "256M", NULL);
	peer_join(&rig, &peer, "a");
	MT_CHECK_EQ(peer_region(&peer, 32 * MIB), -ENOSPC);
	MT_CHECK(strstr(peer.text, "32M") && strstr(peer.text, "24M"));
	MT_CHECK_EQ(peer_region(&peer, 16 * MIB), 0);
	MT_CHECK_EQ(peer_region(&peer, 16 * MIB), -ENOSPC);
	MT_CHECK_EQ(peer.swap_bytes, 16 * MIB);
	MT_CHECK_EQ(peer_region(&peer, 8 * MIB), 0);
	rig_stop(&rig);
}

MT_TEST("lost pages and holding more than granted are said, and the VM is failed")
{
	struct rig rig;
	struct peer peer;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	peer_join(&rig, &peer, "a");
	MT_CHECK_EQ(peer_region(&peer, 16 * MIB), 0);
	peer_stats(&peer, MT_C_HELD, MIB_PAGES(100));
	MT_CHECK(ctl_event_seen(ctl, "a", "granted are"));
	MT_CHECK_EQ(ctl_number(ctl, HOST, "host", "heldMax"), 100 * 1024);
	peer_stats(&peer, MT_C_FAILED, 3);
	MT_CHECK(ctl_event_seen(ctl, "a", "3 pages were lost"));
	MT_CHECK_STR(ctl_string(ctl, "{\"cmd\":\"show\",\"vm\":\"a\"}", "vm", "state"), "failed");
	peer_stats(&peer, MT_C_HELD, UINT64_MAX);
	MT_CHECK(RIG_WAIT(!ctl_number(ctl, HOST, "host", "free")));
	rig_stop(&rig);
}

MT_TEST_MAIN
