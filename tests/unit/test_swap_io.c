/* SPDX-License-Identifier: MIT */
/*
 * test_swap_io.c - both ways of page I/O on real files, and the fake that stands in for them
 *
 * Every test of behaviour runs against io_uring, the thread, and the fake: what the pager is
 * tested with must behave as what it will meet.
 */
#include "monitor/swap_io.h"
#include "monitor/swap_sum.h"
#include "sys/swap_crypt.h"
#include "sys/swap_io.h"

#include "common/fake_swap_io.h"
#include "common/mt_test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <linux/filter.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

enum { SLOTS = 1024, DEPTH = 16, RUN = 8 };

enum kind {
	URING_DIRECT,
	URING_BUFFERED,
	THREAD_DIRECT,
	THREAD_BUFFERED,
	URING_TMPFS,
	URING_CRYPT,
	THREAD_CRYPT,
	FAKE,
	KINDS,
};

static uint64_t random_state;

static uint32_t random_below(uint32_t limit)
{
	uint64_t z = (random_state += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return (uint32_t)((z ^ (z >> 31)) % limit);
}

static int open_file(const char *dir, uint32_t slots)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0)
		MT_SKIP("no temporary file in %s", dir);
	MT_CHECK(!ftruncate(fd, slots * (long)MT_PAGE_SIZE));
	return fd;
}

/* Return: false when this kind can't be had here. */
static bool open_kind(enum kind kind, uint32_t slots, int event_fd, struct mt_swap_io *io)
{
	bool uring = kind == URING_DIRECT || kind == URING_BUFFERED || kind == URING_TMPFS ||
		     kind == URING_CRYPT;
	struct mt_err err;
	int fd;

	if (kind == FAKE) {
		struct mt_fake_swap *fake = mt_fake_swap_new(slots, DEPTH, event_fd, io);

		*mt_fake_swap_faults(fake) =
			(struct mt_fake_swap_faults){.seed = 1, .delay_max = 5, .reorder = true};
		return true;
	}
	fd = open_file(kind == URING_TMPFS ? "/dev/shm" : "/tmp", slots);
	if ((kind == URING_DIRECT || kind == THREAD_DIRECT) && !mt_swap_io_set_direct(fd))
		return false;
	if ((uring ? mt_swap_io_new_uring : mt_swap_io_new_thread)(fd, DEPTH, event_fd, io, &err)) {
		printf("# %s\n", err.msg);
		return false;
	}
	if (kind == URING_CRYPT || kind == THREAD_CRYPT)
		MT_CHECK_EQ(mt_swap_crypt_new(io, DEPTH, RUN, &err), 0);
	return true;
}

static uint8_t *new_pages(uint32_t count)
{
	void *pages = mmap(NULL, count * MT_PAGE_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	MT_CHECK(pages != MAP_FAILED);
	return pages;
}

static void fill(uint8_t *page, uint32_t slot, uint32_t version)
{
	uint32_t *words = (uint32_t *)(void *)page;

	for (uint32_t i = 0; i < MT_PAGE_SIZE / 4; i++)
		words[i] = slot * 2654435761U + version * 40503U + i;
}

static void wait_event(int event_fd)
{
	struct pollfd poll_fd = {.fd = event_fd, .events = POLLIN};

	MT_CHECK_EQ(poll(&poll_fd, 1, 20000), 1);
}

/* Wait for one more end at least, as the pager does: never reaps without having been told to. */
static uint32_t reap_some(struct mt_swap_io *io, struct mt_swap_done *done, uint32_t max)
{
	uint32_t count;

	do {
		wait_event(io->event_fd);
		count = mt_swap_io_reap(io, done, max);
	} while (count == 0);
	return count;
}

/* A transfer of the model test below. */
struct model_op {
	bool busy;
	bool write;
	uint32_t first;
	uint32_t count;
	uint8_t *pages;
};

static void model_end(struct model_op *op, struct mt_swap_done done, uint32_t *version,
		      uint8_t *slot_busy)
{
	uint8_t *expected = new_pages(1);

	MT_CHECK(op->busy);
	MT_CHECK_EQ(done.result, 0);
	for (uint32_t i = 0; i < op->count; i++) {
		slot_busy[op->first + i] = 0;
		if (op->write || version[op->first + i] == 0)
			continue;
		fill(expected, op->first + i, version[op->first + i]);
		MT_CHECK(!memcmp(expected, op->pages + i * MT_PAGE_SIZE, MT_PAGE_SIZE));
	}
	op->busy = false;
	munmap(expected, MT_PAGE_SIZE);
}

static void model_start(struct mt_swap_io *io, struct model_op *op, uint64_t cookie,
			uint32_t *version, uint8_t *slot_busy)
{
	op->count = 1 + random_below(RUN);
	op->first = random_below(SLOTS - RUN);
	op->write = random_below(2);
	for (uint32_t i = 0; i < op->count; i++)
		if (slot_busy[op->first + i])
			return;
	op->busy = true;
	memset(slot_busy + op->first, 1, op->count);
	for (uint32_t i = 0; op->write && i < op->count; i++)
		fill(op->pages + i * MT_PAGE_SIZE, op->first + i, ++version[op->first + i]);
	if (op->write)
		MT_CHECK_EQ(mt_swap_io_write(io, MT_SLOT(op->first), op->pages, op->count, cookie),
			    0);
	else
		MT_CHECK_EQ(mt_swap_io_read(io, MT_SLOT(op->first), op->count, op->pages, cookie),
			    0);
}

static void run_model(enum kind kind, uint32_t rounds)
{
	static uint32_t version[SLOTS];
	static uint8_t slot_busy[SLOTS];
	struct model_op op[DEPTH] = {{0}};
	uint32_t left = rounds, busy = 0;
	struct mt_swap_io io;

	if (!open_kind(kind, SLOTS, -1, &io))
		MT_SKIP("kind %d is not to be had here", kind);
	random_state = kind;
	for (uint32_t i = 0; i < DEPTH; i++)
		op[i].pages = new_pages(RUN);
	while (left || busy) {
		struct mt_swap_done done[5];
		uint32_t count;

		for (uint32_t i = 0; i < DEPTH && left; i++) {
			if (op[i].busy || random_below(3) == 0)
				continue;
			model_start(&io, &op[i], i, version, slot_busy);
			busy += op[i].busy;
			left--;
		}
		mt_swap_io_submit(&io);
		count = busy ? reap_some(&io, done, MT_ARRAY_SIZE(done)) : 0;
		for (uint32_t i = 0; i < count; i++)
			model_end(&op[done[i].cookie], done[i], version, slot_busy);
		busy -= count;
	}
	printf("# %s, %s\n", io.name, io.direct ? "direct" : "buffered");
	mt_swap_io_free(&io);
}

MT_TEST("pages come back as written: io_uring, direct")
{
	run_model(URING_DIRECT, 20000);
}
MT_TEST("pages come back as written: io_uring, buffered")
{
	run_model(URING_BUFFERED, 20000);
}
MT_TEST("pages come back as written: io_uring on tmpfs")
{
	run_model(URING_TMPFS, 20000);
}
MT_TEST("pages come back as written: thread, direct")
{
	run_model(THREAD_DIRECT, 20000);
}
MT_TEST("pages come back as written: thread, buffered")
{
	run_model(THREAD_BUFFERED, 20000);
}
MT_TEST("pages come back as written: encrypted, io_uring")
{
	run_model(URING_CRYPT, 10000);
}
MT_TEST("pages come back as written: encrypted, thread")
{
	run_model(THREAD_CRYPT, 10000);
}
MT_TEST("pages come back as written: the fake, delayed and reordered")
{
	run_model(FAKE, 20000);
}

static void run_depth(enum kind kind)
{
	uint8_t *pages = new_pages(DEPTH);
	struct mt_swap_done done[DEPTH];
	struct mt_swap_io io;
	uint32_t ended = 0;
	uint64_t seen = 0;

	if (!open_kind(kind, SLOTS, -1, &io))
		return;
	MT_CHECK_EQ(io.depth, DEPTH);
	for (uint32_t round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < DEPTH; i++)
			MT_CHECK_EQ(
				mt_swap_io_write(&io, MT_SLOT(i), pages + i * MT_PAGE_SIZE, 1, i),
				0);
		MT_CHECK_EQ(mt_swap_io_write(&io, MT_SLOT(DEPTH), pages, 1, 0), -EBUSY);
		MT_CHECK_EQ(mt_swap_io_read(&io, MT_SLOT(DEPTH), 1, pages, 0), -EBUSY);
		/* Nothing starts before submit. */
		MT_CHECK_EQ(mt_swap_io_reap(&io, done, DEPTH), 0);
		mt_swap_io_submit(&io);
		/* One at a time: the eventfd must stay readable until all have been reaped. */
		for (ended = 0, seen = 0; ended < DEPTH; ended++) {
			MT_CHECK_EQ(reap_some(&io, done, 1), 1);
			MT_CHECK_EQ(done[0].result, 0);
			MT_CHECK(!(seen & 1ULL << done[0].cookie));
			seen |= 1ULL << done[0].cookie;
		}
		MT_CHECK_EQ(mt_swap_io_reap(&io, done, DEPTH), 0);
	}
	mt_swap_io_free(&io);
	munmap(pages, DEPTH * MT_PAGE_SIZE);
}

MT_TEST("more than depth transfers are refused, and no end is missed however few are reaped")
{
	for (uint32_t kind = 0; kind < KINDS; kind++)
		run_depth(kind);
}

MT_TEST("a caller's own eventfd is signalled and left to the caller to empty")
{
	uint8_t *pages = new_pages(1);

	for (uint32_t kind = 0; kind < KINDS; kind++) {
		int event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		struct mt_swap_done done;
		struct mt_swap_io io;
		eventfd_t value;

		if (!open_kind(kind, SLOTS, event_fd, &io))
			continue;
		MT_CHECK_EQ(io.event_fd, event_fd);
		MT_CHECK_EQ(mt_swap_io_write(&io, MT_SLOT(7), pages, 1, 9), 0);
		mt_swap_io_submit(&io);
		do {
			wait_event(event_fd);
			MT_CHECK(!eventfd_read(event_fd, &value));
		} while (mt_swap_io_reap(&io, &done, 1) == 0);
		MT_CHECK_EQ(done.cookie, 9);
		MT_CHECK_EQ(done.result, 0);
		mt_swap_io_free(&io);
		MT_CHECK(!eventfd_write(event_fd, 1)); /* still ours */
		close(event_fd);
	}
}

static int transfer_one(struct mt_swap_io *io, bool write, uint32_t slot, uint8_t *pages,
			uint32_t count)
{
	struct mt_swap_done done;

	MT_CHECK_EQ(write ? mt_swap_io_write(io, MT_SLOT(slot), pages, count, 77)
			  : mt_swap_io_read(io, MT_SLOT(slot), count, pages, 77),
		    0);
	mt_swap_io_submit(io);
	MT_CHECK_EQ(reap_some(io, &done, 1), 1);
	MT_CHECK_EQ(done.cookie, 77);
	return done.result;
}

MT_TEST("a read past the end of the file is an error, even if its start is inside")
{
	uint8_t *pages = new_pages(4);

	for (uint32_t kind = 0; kind < FAKE; kind++) {
		struct mt_swap_io io;

		if (!open_kind(kind, 16, -1, &io))
			continue;
		MT_CHECK_EQ(transfer_one(&io, false, 12, pages, 4), 0);
		MT_CHECK_EQ(transfer_one(&io, false, 14, pages, 4), -EIO);
		MT_CHECK_EQ(transfer_one(&io, false, 16, pages, 1), -EIO);
		MT_CHECK_EQ(transfer_one(&io, false, 1000, pages, 1), -EIO);
		mt_swap_io_free(&io);
	}
}

MT_TEST("a write that the kernel cuts short is gone on with, and fails where it can't go on")
{
	uint8_t *pages = new_pages(8), *back = new_pages(8);
	/* The limit cuts a transfer of 8 pages after 5; the rest of it is refused. */
	struct rlimit limit = {13 * MT_PAGE_SIZE, 13 * MT_PAGE_SIZE};

	signal(SIGXFSZ, SIG_IGN);
	MT_CHECK(!setrlimit(RLIMIT_FSIZE, &limit));
	for (uint32_t i = 0; i < 8; i++)
		fill(pages + i * MT_PAGE_SIZE, i, 3);
	for (uint32_t kind = 0; kind < FAKE; kind++) {
		struct mt_swap_io io;

		if (!open_kind(kind, 13, -1, &io))
			continue;
		MT_CHECK_EQ(transfer_one(&io, true, 8, pages, 8), -EFBIG);
		MT_CHECK_EQ(transfer_one(&io, true, 0, pages, 8), 0);
		MT_CHECK_EQ(transfer_one(&io, false, 0, back, 8), 0);
		MT_CHECK(!memcmp(pages, back, 8 * MT_PAGE_SIZE));
		mt_swap_io_free(&io);
	}
}

MT_TEST("a bad descriptor is an error of the transfer")
{
	uint8_t *pages = new_pages(1);
	int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	struct mt_swap_io io;
	struct mt_err err;

	MT_CHECK_EQ(mt_swap_io_new_thread(fd, 1, -1, &io, &err), 0);
	MT_CHECK_EQ(transfer_one(&io, false, 0, pages, 1), -EBADF);
	mt_swap_io_free(&io);
	if (mt_swap_io_new_uring(fd, 1, -1, &io, &err) == 0) {
		MT_CHECK_EQ(transfer_one(&io, false, 0, pages, 1), -EBADF);
		mt_swap_io_free(&io);
	}
}

MT_TEST("free waits for what is under way")
{
	for (uint32_t kind = 0; kind < KINDS; kind++) {
		for (uint32_t round = 0; round < 20; round++) {
			uint8_t *pages = new_pages(DEPTH * RUN);
			struct mt_swap_io io;

			if (!open_kind(kind, SLOTS, -1, &io))
				continue;
			for (uint32_t i = 0; i < DEPTH; i++)
				MT_CHECK_EQ(mt_swap_io_read(&io, MT_SLOT(i * RUN), RUN,
							    pages + i * RUN * MT_PAGE_SIZE, i),
					    0);
			if (round % 2)
				mt_swap_io_submit(&io);
			mt_swap_io_free(&io);
			MT_CHECK(io.ops == NULL);
			mt_swap_io_free(&io);
			munmap(pages, DEPTH * RUN * MT_PAGE_SIZE);
		}
	}
}

/* Refuse io_uring_setup as a container's seccomp filter does. */
static void forbid_uring(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {MT_ARRAY_SIZE(code), code};

	MT_CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	MT_CHECK(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog));
}

MT_TEST("where io_uring is forbidden a thread does it")
{
	int fd = open_file("/tmp", SLOTS);
	uint8_t *pages = new_pages(1);
	struct mt_swap_io io;
	struct mt_err err;

	forbid_uring();
	MT_CHECK_EQ(mt_swap_io_new_uring(fd, DEPTH, -1, &io, &err), -EPERM);
	MT_CHECK(strstr(err.msg, "io_uring"));
	MT_CHECK_EQ(mt_swap_io_new(fd, DEPTH, -1, &io, &err), 0);
	MT_CHECK_STR(io.name, "thread");
	MT_CHECK_EQ(transfer_one(&io, true, 3, pages, 1), 0);
	mt_swap_io_free(&io);
}

MT_TEST("the best is chosen and says what it is; a depth out of range is refused")
{
	const char *dirs[] = {"/tmp", "/dev/shm"};

	for (uint32_t i = 0; i < MT_ARRAY_SIZE(dirs); i++) {
		int fd = open_file(dirs[i], SLOTS);
		struct mt_swap_io io;
		struct mt_err err;

		MT_CHECK_EQ(mt_swap_io_new(fd, 0, -1, &io, &err), -EINVAL);
		MT_CHECK_EQ(mt_swap_io_new(fd, 1U << 20, -1, &io, &err), -EINVAL);
		MT_CHECK_EQ(mt_swap_io_new(fd, DEPTH, -1, &io, &err), 0);
		printf("# %s: %s, %s\n", dirs[i], io.name, io.direct ? "direct" : "buffered");
		MT_CHECK_EQ(io.direct, mt_swap_io_is_direct(fd));
		mt_swap_io_free(&io);
		close(fd);
	}
}

MT_TEST("a file that can't do direct I/O stays buffered")
{
	int fd = open("/proc/self/comm", O_RDWR | O_CLOEXEC);

	MT_CHECK(fd >= 0);
	MT_CHECK(!mt_swap_io_set_direct(fd));
	MT_CHECK(!mt_swap_io_is_direct(fd));
	MT_CHECK(!mt_swap_io_set_direct(-1));
}

/* Faults of the fake, and that the checksum tells those that come without an error. */
static bool sum_tells(struct mt_fake_swap_faults faults)
{
	uint8_t *pages = new_pages(2);
	struct mt_swap_io io;
	struct mt_fake_swap *fake = mt_fake_swap_new(8, 4, -1, &io);
	uint64_t sum;

	*mt_fake_swap_faults(fake) = faults;
	fill(pages, 1, 1);
	sum = mt_swap_sum(pages, MT_GPN(5), MT_SLOT(3));
	MT_CHECK_EQ(transfer_one(&io, true, 3, pages, 1), 0);
	MT_CHECK_EQ(transfer_one(&io, false, 3, pages, 1), 0);
	mt_swap_io_free(&io);
	return sum != mt_swap_sum(pages, MT_GPN(5), MT_SLOT(3));
}

MT_TEST("the checksum tells every silent fault of the fake")
{
	MT_CHECK(!sum_tells((struct mt_fake_swap_faults){0}));
	MT_CHECK(sum_tells((struct mt_fake_swap_faults){.torn_write = 1}));
	MT_CHECK(sum_tells((struct mt_fake_swap_faults){.lost_write = 1}));
	MT_CHECK(sum_tells((struct mt_fake_swap_faults){.misdirected_write = 1}));
	for (uint64_t seed = 0; seed < 100; seed++)
		MT_CHECK(sum_tells((struct mt_fake_swap_faults){.rot_read = 1, .seed = seed}));
}

MT_TEST("the checksum of a page depends on the page's number and its slot")
{
	uint8_t *page = new_pages(1);
	uint64_t sum = mt_swap_sum(page, MT_GPN(1), MT_SLOT(2));

	MT_CHECK(sum == mt_swap_sum(page, MT_GPN(1), MT_SLOT(2)));
	MT_CHECK(sum != mt_swap_sum(page, MT_GPN(2), MT_SLOT(2)));
	MT_CHECK(sum != mt_swap_sum(page, MT_GPN(1), MT_SLOT(3)));
	MT_CHECK(sum != mt_swap_sum(page, MT_GPN(2), MT_SLOT(1)));
	page[4095] ^= 1;
	MT_CHECK(sum != mt_swap_sum(page, MT_GPN(1), MT_SLOT(2)));
}

MT_TEST("the fake fails the transfers it was told to, and counts")
{
	uint8_t *pages = new_pages(2);
	struct mt_swap_io io;
	struct mt_fake_swap *fake = mt_fake_swap_new(8, 4, -1, &io);
	struct mt_swap_done done;

	*mt_fake_swap_faults(fake) = (struct mt_fake_swap_faults){.eio_write = 2, .eio_read = 1};
	MT_CHECK_EQ(transfer_one(&io, true, 0, pages, 2), 0);
	MT_CHECK_EQ(transfer_one(&io, true, 2, pages, 2), -EIO);
	MT_CHECK_EQ(transfer_one(&io, true, 2, pages, 2), 0);
	MT_CHECK_EQ(transfer_one(&io, false, 2, pages, 2), -EIO);
	MT_CHECK_EQ(transfer_one(&io, false, 2, pages, 2), 0);
	MT_CHECK_EQ(mt_fake_swap_counts(fake).failed, 2);
	MT_CHECK_EQ(mt_fake_swap_counts(fake).pages_written, 6);
	mt_fake_swap_faults(fake)->stuck = true;
	MT_CHECK_EQ(mt_swap_io_read(&io, MT_SLOT(0), 1, pages, 1), 0);
	mt_swap_io_submit(&io);
	for (uint32_t i = 0; i < 10; i++)
		MT_CHECK_EQ(mt_swap_io_reap(&io, &done, 1), 0);
	mt_fake_swap_faults(fake)->busy = true;
	MT_CHECK_EQ(mt_swap_io_read(&io, MT_SLOT(1), 1, pages, 1), -EBUSY);
	*mt_fake_swap_faults(fake) = (struct mt_fake_swap_faults){0};
	MT_CHECK_EQ(mt_swap_io_reap(&io, &done, 1), 1);
	mt_swap_io_free(&io);
}

static double now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

MT_TEST("starting transfers does not wait for them (figures only)")
{
	uint8_t *pages = new_pages(DEPTH * RUN);

	for (uint32_t kind = 0; kind < FAKE; kind++) {
		double start_ns, submit_ns, end_ns, worst_ns = 0, sum_ns = 0, submits_ns = 0;
		struct mt_swap_done done[DEPTH];
		struct mt_swap_io io;

		if (!open_kind(kind, 65536, -1, &io))
			continue;
		for (uint32_t round = 0; round < 100; round++) {
			start_ns = now_ns();
			for (uint32_t i = 0; i < DEPTH; i++)
				MT_CHECK_EQ(
					mt_swap_io_write(&io, MT_SLOT((round * DEPTH + i) * RUN),
							 pages + i * RUN * MT_PAGE_SIZE, RUN, i),
					0);
			mt_swap_io_submit(&io);
			submit_ns = now_ns() - start_ns;
			for (uint32_t ended = 0; ended < DEPTH;)
				ended += reap_some(&io, done, DEPTH);
			end_ns = now_ns() - start_ns;
			worst_ns = MT_MAX(worst_ns, submit_ns);
			submits_ns += submit_ns;
			sum_ns += end_ns;
		}
		printf("# %s, %s: 16 writes of 32 KiB submitted in %.0f us (worst %.0f), "
		       "done in %.0f us\n",
		       io.name, io.direct ? "direct" : "buffered", submits_ns / 1e5, worst_ns / 1e3,
		       sum_ns / 1e5);
		mt_swap_io_free(&io);
	}
}

MT_TEST_MAIN
