/* SPDX-License-Identifier: MIT */
/*
 * test_sharing.c - the daemon's side of page sharing, tried by monitors that lie
 *
 * The monitors are the test itself. What one does wrong may cost it its connection, and nobody
 * else anything.
 */
#include "common/mt_test.h"
#include "host/rig.h"
#include "sys/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <xxhash.h>

#define HOST         "{\"cmd\":\"host\"}"
#define SHOW(name)   "{\"cmd\":\"show\",\"vm\":\"" name "\"}"
#define FRAMES_BYTES ((size_t)MT_FRAMES_MAX << MT_PAGE_SHIFT)

static uint8_t page[MT_PAGE_SIZE];

static uint64_t fill(unsigned int value)
{
	for (unsigned int i = 0; i < sizeof(page); i++)
		page[i] = (uint8_t)(value + i * 7);
	memcpy(page, &value, sizeof(value));
	return XXH3_64bits(page, sizeof(page));
}

/* Says @hello and adds 64 MiB. */
static void join_with(struct peer *peer, union mt_wire_msg *hello)
{
	MT_CHECK_EQ(peer_hello_msg(peer, hello), 0);
	MT_CHECK_EQ(peer_region(peer, 64 * MIB), 0);
	peer_drain(peer, 50);
	MT_CHECK_EQ(peer->share_start, MT_SHARE_START_FRESH);
	MT_CHECK(peer->frames_fd >= 0);
}

/* Says hello as a VM of @group with 64 MiB. */
static void join(const struct rig *rig, struct peer *peer, const char *name, const char *group)
{
	union mt_wire_msg hello;

	peer_connect(rig, peer);
	mt_wire_init(&hello, MT_WIRE_HELLO, 1);
	snprintf(hello.hello.name, sizeof(hello.hello.name), "%s", name);
	snprintf(hello.hello.share_group, sizeof(hello.hello.share_group), "%s", group);
	join_with(peer, &hello);
}

/* The same as a user who needs a token. */
static void join_token(const struct rig *rig, struct peer *peer, int ctl, const char *name,
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
	join_with(peer, &hello);
}

/* The answer for one page; MT_WIRE_SHARE_NONE - 100 when the daemon hangs up. */
static uint32_t answer(struct peer *peer)
{
	union mt_wire_msg msg;

	while (peer_next(peer, &msg, 3000))
		if (msg.head.type == MT_WIRE_SHARE_ANSWER)
			return msg.share_answer.frame[0];
	return MT_WIRE_SHARE_NONE - 100;
}

static uint32_t offer(struct peer *peer, uint32_t gpn, uint64_t hash)
{
	union mt_wire_msg msg;

	mt_wire_init(&msg, MT_WIRE_SHARE_OFFER, 0);
	msg.share_offer.count = 1;
	msg.share_offer.gpn[0] = gpn;
	msg.share_offer.hash[0] = hash;
	peer_send(peer, &msg);
	return answer(peer);
}

static uint32_t send_page(struct peer *peer, uint32_t gpn, uint64_t hash)
{
	union mt_wire_msg msg;

	mt_wire_init(&msg, MT_WIRE_SHARE_PAGE, 0);
	msg.share_page.gpn = gpn;
	msg.share_page.hash = hash;
	memcpy(msg.share_page.content, page, sizeof(page));
	peer_send(peer, &msg);
	return answer(peer);
}

static void release(struct peer *peer, uint32_t frame)
{
	union mt_wire_msg msg;

	mt_wire_init(&msg, MT_WIRE_SHARE_RELEASE, 0);
	msg.share_release.count = 1;
	msg.share_release.frame[0] = frame;
	peer_send(peer, &msg);
}

/* A page of @peer becomes a frame: its like is a hint of @other first. */
static uint32_t share(struct peer *other, struct peer *peer, uint32_t gpn, unsigned int value)
{
	uint64_t hash = fill(value);

	MT_CHECK_EQ(offer(other, gpn, hash), MT_WIRE_SHARE_NONE);
	MT_CHECK_EQ(offer(peer, gpn, hash), MT_WIRE_SHARE_WANTED);
	return send_page(peer, gpn, hash);
}

static uint64_t frames(int ctl)
{
	return ctl_number(ctl, HOST, "host", "sharedcommon") / 4;
}

/* Waits until there are so many frames. */
static bool frames_become(int ctl, uint64_t count)
{
	for (int i = 0; i < 100; i++) {
		if (frames(ctl) == count)
			return true;
		usleep(20000);
	}
	return false;
}

/* Memory behind the frames. */
static uint64_t blocks(const struct peer *peer)
{
	struct stat st;

	MT_CHECK(!fstat(peer->frames_fd, &st));
	return (uint64_t)st.st_blocks * 512 / MT_PAGE_SIZE;
}

MT_TEST("two equal pages of a group become one frame with their content, and a third finds it")
{
	struct rig rig;
	struct peer a, b;
	uint32_t frame;
	uint8_t *map;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	join(&rig, &a, "a", "g");
	join(&rig, &b, "b", "g");
	frame = share(&a, &b, 5, 1);
	MT_CHECK(frame < MT_FRAMES_MAX);
	MT_CHECK_EQ(offer(&a, 5, fill(1)), frame);
	MT_CHECK_EQ(offer(&a, 6, fill(1)), frame);
	map = mmap(NULL, FRAMES_BYTES, PROT_READ, MAP_SHARED | MAP_NORESERVE, a.frames_fd, 0);
	MT_CHECK(map != MAP_FAILED);
	MT_CHECK(!memcmp(map + (size_t)frame * MT_PAGE_SIZE, page, MT_PAGE_SIZE));
	MT_CHECK_EQ(frames(ctl), 1);
	MT_CHECK_EQ(blocks(&a), 1);
	release(&a, frame);
	release(&b, frame);
	release(&a, frame);
	MT_CHECK(frames_become(ctl, 0));
	MT_CHECK_EQ(blocks(&a), 0);
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
	return ctl_line(ctl, 2000);
}

MT_TEST("who uses a frame is told to who may know it: VMs of the group, each with its pages")
{
	struct rig rig;
	struct peer a, b, c;
	struct json_object *answer;
	uint32_t frame;
	int ctl, status = 0;
	pid_t pid;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	join(&rig, &a, "a", "g");
	join(&rig, &b, "b", "g");
	join(&rig, &c, "c", "h");
	frame = share(&a, &b, 5, 1);
	MT_CHECK_EQ(offer(&a, 5, fill(1)), frame);
	MT_CHECK_EQ(offer(&a, 6, fill(1)), frame);
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
		join_token(&rig, &mine, ctl, "mine", "g");
		MT_CHECK_EQ(offer(&mine, 9, fill(1)), frame);
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
	join(&rig, &a, "a", "g");
	join(&rig, &b, "b", "g");
	frame = share(&a, &b, 5, 1);
	MT_CHECK(frame < MT_FRAMES_MAX);
	MT_CHECK(pwrite(a.frames_fd, page, 1, 0) < 0);
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
	MT_CHECK_EQ(offer(&a, 7, fill(1)), frame);
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
	join(&rig, &a, "a", "one");
	join(&rig, &b, "b", "two");
	join(&rig, &c, "c", ""); /* its own */
	for (uint32_t i = 0; i < 50; i++) {
		uint64_t hash = fill(i);

		MT_CHECK_EQ(offer(&a, i, hash), MT_WIRE_SHARE_NONE);
		MT_CHECK_EQ(offer(&b, i, hash), MT_WIRE_SHARE_NONE);
		MT_CHECK_EQ(offer(&c, i, hash), MT_WIRE_SHARE_NONE);
		MT_CHECK_EQ(send_page(&b, i, hash), MT_WIRE_SHARE_NONE);
	}
	MT_CHECK_EQ(frames(ctl), 0);
	MT_CHECK(!fstat(a.frames_fd, &one) && !fstat(b.frames_fd, &two));
	MT_CHECK(one.st_ino != two.st_ino);
	/* a VM shares with itself */
	MT_CHECK_EQ(offer(&c, 1000, fill(1)), MT_WIRE_SHARE_WANTED);
	MT_CHECK(send_page(&c, 1000, fill(1)) < MT_FRAMES_MAX);
	MT_CHECK_EQ(frames(ctl), 1);
	rig_stop(&rig);
}

MT_TEST("content that has not the hash it was offered with becomes no frame")
{
	struct rig rig;
	struct peer a, b;
	uint64_t hash;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	join(&rig, &a, "a", "g");
	join(&rig, &b, "b", "g");
	hash = fill(1);
	MT_CHECK_EQ(offer(&a, 1, hash), MT_WIRE_SHARE_NONE);
	MT_CHECK_EQ(offer(&b, 1, hash), MT_WIRE_SHARE_WANTED);
	fill(2);
	MT_CHECK_EQ(send_page(&b, 1, hash), MT_WIRE_SHARE_NONE);
	MT_CHECK(ctl_event_seen(ctl, "b", "is not what it said"));
	MT_CHECK_EQ(frames(ctl), 0);
	/* the right content is still wanted */
	fill(1);
	MT_CHECK(send_page(&b, 1, hash) < MT_FRAMES_MAX);
	/* content that nobody wants makes none either */
	MT_CHECK_EQ(send_page(&b, 9, fill(9)), MT_WIRE_SHARE_NONE);
	MT_CHECK_EQ(frames(ctl), 1);
	rig_stop(&rig);
}

MT_TEST("who releases what he does not use is dropped, and the frame stays for the others")
{
	struct rig rig;
	struct peer a, b, c;
	uint32_t frame;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	join(&rig, &a, "a", "g");
	join(&rig, &b, "b", "g");
	join(&rig, &c, "c", "g");
	frame = share(&a, &b, 5, 1);
	release(&c, frame); /* another VM's */
	MT_CHECK(peer_dropped(&c, 2000));
	MT_CHECK_EQ(offer(&a, 5, fill(1)), frame);
	release(&a, frame);
	release(&a, frame); /* twice */
	MT_CHECK(peer_dropped(&a, 2000));
	MT_CHECK_EQ(frames(ctl), 1);
	MT_CHECK_EQ(offer(&b, 6, fill(1)), frame);
	release(&b, MT_FRAMES_MAX + 5); /* none */
	MT_CHECK(peer_dropped(&b, 2000));
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
	join(&rig, &a, "a", "g");
	join(&rig, &b, "b", "g");
	frame = share(&a, &b, 5, 1);
	for (uint32_t n = 0; n < 4000; n++) {
		union mt_wire_msg msg;

		mt_wire_init(&msg, MT_WIRE_SHARE_OFFER, 0);
		msg.share_offer.count = MT_WIRE_SHARE_PAGES;
		for (uint32_t i = 0; i < MT_WIRE_SHARE_PAGES; i++) {
			msg.share_offer.gpn[i] = i;
			msg.share_offer.hash[i] = 77ULL * (n * 32 + i);
		}
		peer_send(&b, &msg);
		last = answer(&b);
	}
	MT_CHECK_EQ(last, MT_WIRE_SHARE_NONE);
	MT_CHECK_EQ(offer(&a, 5, fill(1)), frame);
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
	join(&rig, &a, "a", "g");
	mt_wire_init(&msg, MT_WIRE_SHARE_KEEP, 0);
	peer_send(&a, &msg);
	MT_CHECK(peer_dropped(&a, 2000));
	peer_join(&rig, &a, "b");
	mt_wire_init(&msg, MT_WIRE_SHARE_OFFER, 0);
	msg.share_offer.count = MT_WIRE_SHARE_PAGES + 1;
	peer_send(&a, &msg);
	MT_CHECK(peer_dropped(&a, 2000));
	rig_stop(&rig);
}

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
static void come_back_with(const struct rig *rig, struct peer *peer, const char *name,
			   const char *group, const uint32_t *frame, uint32_t count)
{
	int frames_fd = peer->frames_fd;
	union mt_wire_msg msg;

	hello_again(rig, peer, name, group, count);
	MT_CHECK_EQ(peer->share_start, MT_SHARE_START_KEEP);
	mt_wire_init(&msg, MT_WIRE_SHARE_KEEP, 0);
	msg.share_keep.count = count;
	memcpy(msg.share_keep.frame, frame, count * sizeof(*frame));
	MT_CHECK_EQ(mt_sock_send(peer->fd, &msg, msg.head.length, frames_fd), 0);
	peer_drain(peer, 50);
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

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	join(&rig, &a, "a", "g");
	join(&rig, &b, "b", "g");
	frame = share(&a, &b, 5, 1);
	other = share(&a, &b, 9, 2);
	MT_CHECK_EQ(offer(&a, 5, fill(1)), frame);
	MT_CHECK(other < MT_FRAMES_MAX);
	MT_CHECK_EQ(blocks(&a), 2);
	peer_drain(&a, 1300);
	rig_kill(&rig);
	peer_drain(&a, 0);
	peer_drain(&b, 0);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	/* nobody knows yet who uses what: nothing may go */
	MT_CHECK_EQ(blocks(&a), 2);
	come_back(&rig, &a, "a", "g", frame);
	MT_CHECK_EQ(a.share_start, MT_SHARE_START_FRESH);
	MT_CHECK_EQ(blocks(&a), 2);
	come_back(&rig, &b, "b", "g", frame);
	MT_CHECK(frames_become(ctl, 1));
	/* what nobody uses any more has gone */
	MT_CHECK_EQ(blocks(&a), 1);
	MT_CHECK_EQ(offer(&b, 77, fill(1)), frame);
	MT_CHECK(share(&a, &b, 30, 3) < MT_FRAMES_MAX);
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
	join(&rig, &a, "a", "g");
	join(&rig, &b, "b", "g");
	frame = share(&a, &b, 5, 1);
	peer_drain(&a, 1300);
	rig_kill(&rig);
	peer_drain(&a, 0);
	peer_drain(&b, 0);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	MT_CHECK(!ftruncate(fake, (off_t)FRAMES_BYTES) && !fchmod(fake, 0));
	MT_CHECK(!fcntl(fake, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL));
	dup2(fake, a.frames_fd);
	come_back(&rig, &a, "a", "g", frame);
	MT_CHECK(peer_dropped(&a, 2000));
	MT_CHECK(ctl_event_seen(ctl, "a", "not the group's frames"));
	come_back(&rig, &b, "b", "g", frame);
	MT_CHECK_EQ(b.share_start, MT_SHARE_START_FRESH);
	rig_stop(&rig);
}

/* Three VMs of a group with a frame that all use, and the daemon is killed and started again. */
static uint32_t share_and_restart(struct rig *rig, struct peer *a, struct peer *b, struct peer *c)
{
	uint32_t frame;

	rig_make(rig);
	rig_start(rig, "512M", NULL);
	join(rig, a, "a", "g");
	join(rig, b, "b", "g");
	join(rig, c, "c", "g");
	frame = share(a, b, 5, 1);
	MT_CHECK_EQ(offer(a, 5, fill(1)), frame);
	MT_CHECK_EQ(offer(c, 5, fill(1)), frame);
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
	MT_CHECK_EQ(b.share_start, MT_SHARE_START_FRESH);
	come_back(&rig, &c, "c", "g", frame);
	peer_drain(&a, 200);
	MT_CHECK_EQ(a.share_start, MT_SHARE_START_FRESH);
	MT_CHECK_EQ(offer(&a, 5, fill(1)), frame);
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
	frame[1] = share(&c, &a, 9, 2);
	MT_CHECK(frame[1] < MT_FRAMES_MAX && frame[1] != frame[0]);
	rig_kill(&rig);
	peer_drain(&a, 0);
	peer_drain(&c, 0);
	rig_start(&rig, "512M", NULL);
	ctl = ctl_open(&rig);
	come_back_with(&rig, &a, "a", "g", frame, 2);
	MT_CHECK_EQ(a.share_start, MT_SHARE_START_FRESH);
	come_back(&rig, &c, "c", "g", frame[0]);
	come_back(&rig, &b, "b", "g", frame[0]);
	MT_CHECK(frames_become(ctl, 2));
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
	peer_drain(&a, 50);
	MT_CHECK_EQ(a.share_start, MT_SHARE_START_FRESH);
	frame = share(&a, &b, 5, 1);
	MT_CHECK(frame < MT_FRAMES_MAX);
	rig_kill(&rig);
	peer_drain(&b, 0);
	rig_start(&rig, "512M", NULL);
	come_back(&rig, &b, "b", "g", frame);
	MT_CHECK_EQ(b.share_start, MT_SHARE_START_FRESH);
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
	join(&rig, &a, "a", "g");
	join(&rig, &b, "b", "g");
	for (unsigned int i = 0; i < MT_ARRAY_SIZE(frame); i++) {
		frame[i] = share(&a, &b, i, i);
		MT_CHECK(frame[i] < MT_FRAMES_MAX);
	}
	peer_drain(&b, 1300);
	rig_kill(&rig);
	peer_drain(&b, 0);
	/* what they were granted, and still have, is more than this */
	rig_start(&rig, "128M", NULL);
	ctl = ctl_open(&rig);
	MT_CHECK_EQ(ctl_number(ctl, HOST, "host", "ungranted"), 0);
	come_back_with(&rig, &b, "b", "g", frame, MT_ARRAY_SIZE(frame));
	MT_CHECK_EQ(b.share_start, MT_SHARE_START_FRESH);
	rig_stop(&rig);
}

MT_TEST("a VM's end frees the frames that only it used")
{
	struct rig rig;
	struct peer a, b;
	union mt_wire_msg bye;
	uint32_t frame;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	join(&rig, &a, "a", "g");
	join(&rig, &b, "b", "g");
	for (unsigned int i = 0; i < 20; i++) {
		frame = share(&a, &b, i, i);
		MT_CHECK(frame < MT_FRAMES_MAX);
		if (i % 2)
			MT_CHECK_EQ(offer(&a, i, fill(i)), frame);
	}
	MT_CHECK_EQ(blocks(&a), 20);
	mt_wire_init(&bye, MT_WIRE_BYE, 0);
	peer_send(&b, &bye);
	MT_CHECK(frames_become(ctl, 10));
	MT_CHECK_EQ(blocks(&a), 10);
	peer_send(&a, &bye);
	MT_CHECK(frames_become(ctl, 0));
	rig_stop(&rig);
}

MT_TEST_MAIN
