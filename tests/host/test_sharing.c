/* SPDX-License-Identifier: MIT */
/*
 * test_sharing.c - the daemon's side of page sharing, tried by monitors that lie
 *
 * The monitors are the test itself. What one does wrong may cost it its connection, and nobody
 * else anything.
 */
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

MT_TEST("two equal pages of a group become one frame with their content, and a third finds it")
{
	struct rig rig;
	struct peer a, b;
	uint32_t frame;
	uint8_t *map;
	int ctl;

	ctl = share_pair(&rig, &a, &b);
	frame = share_frame(&a, &b, 5, 1);
	MT_CHECK(frame < MT_FRAMES_MAX);
	MT_CHECK_EQ(share_offer(&a, 5, share_fill(1)), frame);
	MT_CHECK_EQ(share_offer(&a, 6, share_fill(1)), frame);
	map = mmap(NULL, FRAMES_BYTES, PROT_READ, MAP_SHARED | MAP_NORESERVE, a.frames_fd, 0);
	MT_CHECK(map != MAP_FAILED);
	MT_CHECK(!memcmp(map + (size_t)frame * MT_PAGE_SIZE, share_content, MT_PAGE_SIZE));
	MT_CHECK(share_frames_become(ctl, 1));
	MT_CHECK(share_blocks_become(&a, 1));
	share_release(&a, frame);
	share_release(&b, frame);
	share_release(&a, frame);
	MT_CHECK(share_frames_become(ctl, 0));
	MT_CHECK(share_blocks_become(&a, 0));
	rig_stop(&rig);
}

MT_TEST("pages looked at in their places find frames, those in large pages only likes")
{
	struct rig rig;
	struct peer a, b;
	uint32_t frame;
	int ctl;

	ctl = share_pair(&rig, &a, &b);
	MT_CHECK_EQ(share_look(&a, 5, share_fill(1), false), MT_WIRE_SHARE_NONE);
	MT_CHECK_EQ(share_look(&a, 5, share_fill(1), false), MT_WIRE_SHARE_SAME);
	MT_CHECK_EQ(share_look(&b, 5, share_fill(1), true), MT_WIRE_SHARE_LIKE);
	MT_CHECK_EQ(share_look(&b, 5, share_fill(1), false), MT_WIRE_SHARE_WANTED);
	MT_CHECK_EQ(share_frames(ctl), 0);
	frame = share_send_page(&b, 5, share_fill(1));
	MT_CHECK(frame < MT_FRAMES_MAX);
	MT_CHECK_EQ(share_look(&a, 5, share_fill(1), false), frame);
	MT_CHECK_EQ(share_look(&a, 6, share_fill(1), true), MT_WIRE_SHARE_LIKE);
	share_release(&a, frame);
	share_release(&b, frame);
	MT_CHECK(share_frames_become(ctl, 0));
	rig_stop(&rig);
}

/* How many pages of @vm use the frame, by the daemon's answer; -1: it is not named. */
static int64_t sharer(struct json_object *answer, const char *vm)
{
	struct json_object *list = json_object_object_get(answer, "sharers");

	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *one = json_object_array_get_idx(list, i);

		if (!strcmp(json_object_get_string(json_object_object_get(one, "vm")), vm))
			return json_object_get_int64(json_object_object_get(one, "pages"));
	}
	return -1;
}

/* The answer to "sharers"; the caller puts it. */
static struct json_object *sharers(int ctl, const char *vm, uint32_t frame)
{
	char request[128];

	snprintf(request, sizeof(request), "{\"cmd\":\"sharers\",\"vm\":\"%s\",\"frame\":%u}", vm,
		 frame);
	ctl_send(ctl, request);
	return ctl_line(ctl, RIG_PATIENCE_MS);
}

MT_TEST("who uses a frame is told to who may know it: VMs of the group, each with its pages")
{
	struct rig rig;
	struct peer a, b, c;
	struct json_object *answer;
	uint32_t frame;
	int ctl, status = 0;
	pid_t pid;

	ctl = share_pair(&rig, &a, &b);
	share_join(&rig, &c, "c", "h");
	frame = share_frame(&a, &b, 5, 1);
	MT_CHECK_EQ(share_offer(&a, 5, share_fill(1)), frame);
	MT_CHECK_EQ(share_offer(&a, 6, share_fill(1)), frame);
	answer = sharers(ctl, "b", frame);
	MT_CHECK_EQ(json_object_array_length(json_object_object_get(answer, "sharers")), 2);
	MT_CHECK_EQ(sharer(answer, "a"), 2);
	MT_CHECK_EQ(sharer(answer, "b"), 1);
	json_object_put(answer);
	/* the same number in another group is another frame */
	answer = sharers(ctl, "c", frame);
	MT_CHECK_EQ(json_object_array_length(json_object_object_get(answer, "sharers")), 0);
	json_object_put(answer);
	MT_CHECK_STR(ctl_code(ctl, "{\"cmd\":\"sharers\",\"vm\":\"a\",\"frame\":-1}"), "EINVAL");
	MT_CHECK_STR(ctl_code(ctl, "{\"cmd\":\"sharers\",\"vm\":\"a\",\"frame\":16777216}"),
		     "EINVAL");
	MT_CHECK_STR(ctl_code(ctl, "{\"cmd\":\"sharers\",\"vm\":\"a\"}"), "EINVAL");
	MT_CHECK_STR(ctl_code(ctl, "{\"cmd\":\"frame_pages\",\"vm\":\"a\"}"), "EINVAL");
	MT_CHECK_STR(ctl_code(ctl, "{\"cmd\":\"frame_pages\",\"vm\":\"x\",\"frame\":1}"), "ENOENT");
	/* another user, whose VM is in the group too, hears of his own alone */
	MT_CHECK_EQ(chmod(rig.dir, 0755), 0);
	MT_CHECK_EQ(chmod(rig.vm_socket, 0666), 0);
	MT_CHECK_EQ(chmod(rig.socket, 0666), 0);
	pid = fork();
	MT_CHECK(pid >= 0);
	if (!pid) {
		struct peer mine;

		MT_CHECK_EQ(setresuid(65534, 65534, 65534), 0);
		ctl = ctl_open(&rig);
		share_join_token(&rig, &mine, ctl, "mine", "g");
		MT_CHECK_EQ(share_offer(&mine, 9, share_fill(1)), frame);
		answer = sharers(ctl, "mine", frame);
		MT_CHECK_EQ(json_object_array_length(json_object_object_get(answer, "sharers")), 1);
		MT_CHECK_EQ(sharer(answer, "mine"), 1);
		_exit(0);
	}
	MT_CHECK_EQ(waitpid(pid, &status, 0), pid);
	MT_CHECK_EQ(status, 0);
	rig_stop(&rig);
}

MT_TEST("a monitor can neither write its group's frames, nor make them larger or smaller")
{
	struct rig rig;
	struct peer a, b;
	uint32_t frame;
	char path[64];

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	share_join(&rig, &a, "a", "g");
	share_join(&rig, &b, "b", "g");
	frame = share_frame(&a, &b, 5, 1);
	MT_CHECK(frame < MT_FRAMES_MAX);
	MT_CHECK(pwrite(a.frames_fd, share_content, 1, 0) < 0);
	MT_CHECK(mmap(NULL, MT_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, a.frames_fd, 0) ==
		 MAP_FAILED);
	MT_CHECK(ftruncate(a.frames_fd, 0) < 0);
	MT_CHECK(ftruncate(a.frames_fd, (off_t)FRAMES_BYTES * 2) < 0);
	MT_CHECK(fallocate(a.frames_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			   MT_PAGE_SIZE) < 0);
	MT_CHECK(fcntl(a.frames_fd, F_ADD_SEALS, F_SEAL_WRITE) < 0);
	/* nor by opening it anew, as the user that a VMM should run as */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", a.frames_fd);
	if (!geteuid() && seteuid(65534))
		MT_FAIL("seteuid");
	MT_CHECK(open(path, O_RDWR | O_CLOEXEC) < 0);
	MT_CHECK(open(path, O_WRONLY | O_CLOEXEC) < 0);
	MT_CHECK(fchmod(a.frames_fd, 0600) < 0);
	if (seteuid(0))
		MT_FAIL("seteuid");
	MT_CHECK_EQ(share_offer(&a, 7, share_fill(1)), frame);
	rig_stop(&rig);
}

MT_TEST("VMs of different groups with equal pages share nothing, not even their frames' file")
{
	struct rig rig;
	struct peer a, b, c;
	struct stat one, two;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	share_join(&rig, &a, "a", "one");
	share_join(&rig, &b, "b", "two");
	share_join(&rig, &c, "c", ""); /* its own */
	for (uint32_t i = 0; i < 50; i++) {
		uint64_t hash = share_fill(i);

		MT_CHECK_EQ(share_offer(&a, i, hash), MT_WIRE_SHARE_NONE);
		MT_CHECK_EQ(share_offer(&b, i, hash), MT_WIRE_SHARE_NONE);
		MT_CHECK_EQ(share_offer(&c, i, hash), MT_WIRE_SHARE_NONE);
		MT_CHECK_EQ(share_send_page(&b, i, hash), MT_WIRE_SHARE_NONE);
	}
	MT_CHECK_EQ(share_frames(ctl), 0);
	MT_CHECK(!fstat(a.frames_fd, &one) && !fstat(b.frames_fd, &two));
	MT_CHECK(one.st_ino != two.st_ino);
	/* a VM shares with itself */
	MT_CHECK_EQ(share_offer(&c, 1000, share_fill(1)), MT_WIRE_SHARE_WANTED);
	MT_CHECK(share_send_page(&c, 1000, share_fill(1)) < MT_FRAMES_MAX);
	MT_CHECK(share_frames_become(ctl, 1));
	rig_stop(&rig);
}

MT_TEST("content that has not the hash it was offered with becomes no frame")
{
	struct rig rig;
	struct peer a, b;
	uint64_t hash;
	int ctl;

	ctl = share_pair(&rig, &a, &b);
	hash = share_fill(1);
	MT_CHECK_EQ(share_offer(&a, 1, hash), MT_WIRE_SHARE_NONE);
	MT_CHECK_EQ(share_offer(&b, 1, hash), MT_WIRE_SHARE_WANTED);
	share_fill(2);
	MT_CHECK_EQ(share_send_page(&b, 1, hash), MT_WIRE_SHARE_NONE);
	MT_CHECK(ctl_event_seen(ctl, "b", "is not what it said"));
	MT_CHECK_EQ(share_frames(ctl), 0);
	/* the right content is still wanted */
	share_fill(1);
	MT_CHECK(share_send_page(&b, 1, hash) < MT_FRAMES_MAX);
	/* content that nobody wants makes none either */
	MT_CHECK_EQ(share_send_page(&b, 9, share_fill(9)), MT_WIRE_SHARE_NONE);
	MT_CHECK(share_frames_become(ctl, 1));
	rig_stop(&rig);
}

/* Contents of @count pages that are wanted, numbered from 1 on, in one message. */
static void contents_fill(union mt_wire_msg *msg, uint32_t count)
{
	mt_wire_init(msg, MT_WIRE_SHARE_PAGE, 0);
	msg->share_page.first = 3;
	for (uint32_t i = 0; i < count; i++)
		share_put(&msg->share_page, i, i, share_fill(i + 1));
	mt_wire_contents(&msg->share_page, count);
}

MT_TEST("of contents that come together each is judged alone, and makes a frame of its own")
{
	struct rig rig;
	struct peer a, b;
	union mt_wire_msg msg;
	int ctl;

	ctl = share_pair(&rig, &a, &b);
	for (uint32_t i = 0; i < MT_WIRE_SHARE_CONTENTS; i++) {
		MT_CHECK_EQ(share_offer(&a, i, share_fill(i + 1)), MT_WIRE_SHARE_NONE);
		MT_CHECK_EQ(share_offer(&b, i, share_fill(i + 1)), MT_WIRE_SHARE_WANTED);
	}
	contents_fill(&msg, MT_WIRE_SHARE_CONTENTS);
	msg.share_page.content[4][100] ^= 1;
	peer_send(&b, &msg);
	while (peer_next(&b, &msg, RIG_PATIENCE_MS) && msg.head.type != MT_WIRE_SHARE_ANSWER)
		;
	MT_CHECK_EQ(msg.head.type, MT_WIRE_SHARE_ANSWER);
	MT_CHECK_EQ(msg.share_answer.first, 3);
	MT_CHECK_EQ(msg.share_answer.count, MT_WIRE_SHARE_CONTENTS);
	for (uint32_t i = 0; i < MT_WIRE_SHARE_CONTENTS; i++) {
		uint32_t frame = msg.share_answer.frame[i];

		MT_CHECK_EQ(frame < MT_FRAMES_MAX, i != 4);
		if (i != 4)
			MT_CHECK_EQ(share_offer(&a, i, share_fill(i + 1)), frame);
	}
	MT_CHECK(ctl_event_seen(ctl, "b", "is not what it said"));
	MT_CHECK(share_frames_become(ctl, MT_WIRE_SHARE_CONTENTS - 1));
	rig_stop(&rig);
}

/* A VM says that so many contents follow than it sends, or than one message has. */
static void contents_lie(struct rig *rig, const char *name, uint32_t sent, uint32_t said,
			 uint32_t first)
{
	union mt_wire_msg msg;
	struct peer peer;

	share_join(rig, &peer, name, "g");
	contents_fill(&msg, sent);
	msg.share_page.count = said;
	msg.share_page.first = first;
	peer_send(&peer, &msg);
	MT_CHECK(peer_dropped(&peer, RIG_PATIENCE_MS));
}

MT_TEST("contents that are not as many as is said, or go beyond the batch, cost the connection")
{
	struct rig rig;
	struct peer good;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "1G", NULL);
	ctl = ctl_open(&rig);
	share_join(&rig, &good, "good", "g");
	contents_lie(&rig, "more", 3, 4, 0);
	contents_lie(&rig, "less", 4, 3, 0);
	contents_lie(&rig, "none", 1, 0, 0);
	contents_lie(&rig, "full", MT_WIRE_SHARE_CONTENTS, 0, 0);
	contents_lie(&rig, "past", MT_WIRE_SHARE_CONTENTS, MT_WIRE_SHARE_CONTENTS + 1, 0);
	contents_lie(&rig, "huge", MT_WIRE_SHARE_CONTENTS, UINT32_MAX, 0);
	contents_lie(&rig, "beyond", 2, 2, MT_WIRE_SHARE_PAGES - 1);
	contents_lie(&rig, "far", 1, 1, UINT32_MAX);
	MT_CHECK_EQ(share_offer(&good, 1, share_fill(1)), MT_WIRE_SHARE_NONE);
	MT_CHECK_EQ(share_frames(ctl), 0);
	rig_stop(&rig);
}

MT_TEST("who releases what he does not use is dropped, and the frame stays for the others")
{
	struct rig rig;
	struct peer a, b, c;
	uint32_t frame;
	int ctl;

	ctl = share_pair(&rig, &a, &b);
	share_join(&rig, &c, "c", "g");
	frame = share_frame(&a, &b, 5, 1);
	share_release(&c, frame); /* another VM's */
	MT_CHECK(peer_dropped(&c, RIG_PATIENCE_MS));
	MT_CHECK_EQ(share_offer(&a, 5, share_fill(1)), frame);
	share_release(&a, frame);
	share_release(&a, frame); /* twice */
	MT_CHECK(peer_dropped(&a, RIG_PATIENCE_MS));
	MT_CHECK(share_frames_become(ctl, 1));
	MT_CHECK_EQ(share_offer(&b, 6, share_fill(1)), frame);
	share_release(&b, MT_FRAMES_MAX + 5); /* none */
	MT_CHECK(peer_dropped(&b, RIG_PATIENCE_MS));
	rig_stop(&rig);
}

MT_TEST("a flood of offers costs others nothing and the pool only what the VM's size allows")
{
	struct rig rig;
	struct peer a, b;
	uint32_t frame, last = 0;
	uint64_t pool;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	pool = ctl_number(ctl, HOST, "host", "pool");
	share_join(&rig, &a, "a", "g");
	share_join(&rig, &b, "b", "g");
	frame = share_frame(&a, &b, 5, 1);
	for (uint32_t n = 0; n < 4000; n++) {
		union mt_wire_msg msg;

		mt_wire_init(&msg, MT_WIRE_SHARE_OFFER, 0);
		msg.share_offer.count = MT_WIRE_SHARE_PAGES;
		for (uint32_t i = 0; i < MT_WIRE_SHARE_PAGES; i++) {
			msg.share_offer.gpn[i] = i;
			msg.share_offer.hash[i] = 77ULL * (n * 32 + i);
		}
		peer_send(&b, &msg);
		last = share_answer(&b);
	}
	MT_CHECK_EQ(last, MT_WIRE_SHARE_NONE);
	MT_CHECK_EQ(share_offer(&a, 5, share_fill(1)), frame);
	MT_CHECK(ctl_number(ctl, HOST, "host", "granted_out") +
			 ctl_number(ctl, HOST, "host", "own") +
			 ctl_number(ctl, HOST, "host", "ungranted") <=
		 pool);
	rig_stop(&rig);
}

MT_TEST("a VM that offers before it is told to, or tells what nobody asked, is dropped")
{
	struct rig rig;
	struct peer a;
	union mt_wire_msg msg;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	share_join(&rig, &a, "a", "g");
	mt_wire_init(&msg, MT_WIRE_SHARE_KEEP, 0);
	peer_send(&a, &msg);
	MT_CHECK(peer_dropped(&a, RIG_PATIENCE_MS));
	peer_join(&rig, &a, "b");
	mt_wire_init(&msg, MT_WIRE_SHARE_OFFER, 0);
	msg.share_offer.count = MT_WIRE_SHARE_PAGES + 1;
	peer_send(&a, &msg);
	MT_CHECK(peer_dropped(&a, RIG_PATIENCE_MS));
	rig_stop(&rig);
}

MT_TEST("a VM's end frees the frames that only it used")
{
	struct rig rig;
	struct peer a, b;
	union mt_wire_msg bye;
	uint32_t frame;
	int ctl;

	ctl = share_pair(&rig, &a, &b);
	for (unsigned int i = 0; i < 20; i++) {
		frame = share_frame(&a, &b, i, i);
		MT_CHECK(frame < MT_FRAMES_MAX);
		if (i % 2)
			MT_CHECK_EQ(share_offer(&a, i, share_fill(i)), frame);
	}
	MT_CHECK(share_blocks_become(&a, 20));
	mt_wire_init(&bye, MT_WIRE_BYE, 0);
	peer_send(&b, &bye);
	MT_CHECK(share_frames_become(ctl, 10));
	MT_CHECK(share_blocks_become(&a, 10));
	peer_send(&a, &bye);
	MT_CHECK(share_frames_become(ctl, 0));
	rig_stop(&rig);
}

MT_TEST_MAIN
