/* SPDX-License-Identifier: MIT */
/*
 * test_uffd_move.c - pages moved while the guest touches them, by the real kernel
 *
 * Linux 6.18 may move a page and say EEXIST, when the page's access bits changed just before. Here
 * they change all the time: a thread writes to the page, and we have the kernel forget that it did.
 */
#include "common/uffd_rig.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#define ROUNDS 300000U

struct moved {
	struct mt_uffd uffd;
	struct mt_mem_ops mem;
	uint8_t *ram;
	uint8_t *staging;
	uint32_t pages;
	_Atomic bool stop;
};

static uint8_t *area(struct moved *m)
{
	uint64_t bytes = (uint64_t)m->pages << MT_PAGE_SHIFT;
	uint8_t *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct mt_err err = {0};

	MT_CHECK(at != MAP_FAILED);
	madvise(at, bytes, MADV_NOHUGEPAGE);
	MT_CHECK_EQ(mt_uffd_register(&m->uffd, at, bytes, &err), 0);
	return at;
}

static void begin(struct moved *m, uint32_t pages)
{
	uint64_t done;

	memset(m, 0, sizeof(*m));
	m->pages = pages;
	uffd_rig_open(&m->uffd, false, &m->mem);
	m->ram = area(m);
	m->staging = area(m);
	for (uint32_t i = 0; i < pages; i++) {
		uint8_t page[MT_PAGE_SIZE];

		memset(page, (int)i + 1, sizeof(page));
		MT_CHECK_EQ(m->mem.copy(m->mem.ctx, m->ram + i * MT_PAGE_SIZE, page, MT_PAGE_SIZE,
					&done),
			    MT_MEM_DONE);
	}
}

static void end(struct moved *m)
{
	mt_uffd_close(&m->uffd);
	munmap(m->ram, (uint64_t)m->pages << MT_PAGE_SHIFT);
	munmap(m->staging, (uint64_t)m->pages << MT_PAGE_SHIFT);
}

static void *write_all(void *arg)
{
	struct moved *m = arg;

	while (!atomic_load_explicit(&m->stop, memory_order_relaxed))
		for (uint32_t i = 0; i < m->pages; i++)
			((volatile uint8_t *)m->ram)[i * MT_PAGE_SIZE + 1]++;
	return NULL;
}

/* Moves all pages; what is refused for the moment is asked for again. */
static void move_all(struct moved *m, uint8_t *to, uint8_t *from, bool wake)
{
	uint64_t bytes = (uint64_t)m->pages << MT_PAGE_SHIFT, at = 0, done;

	for (uint32_t tries = 0; at < bytes && tries < 1000; tries++) {
		enum mt_mem_outcome outcome =
			m->mem.move(m->mem.ctx, to + at, from + at, bytes - at, wake, &done);

		if (outcome != MT_MEM_DONE && outcome != MT_MEM_RETRY)
			MT_FAIL("outcome %d after %llu bytes", (int)outcome,
				(unsigned long long)(at + done));
		at += done;
	}
	MT_CHECK_EQ(at, bytes);
}

static void move_about(uint32_t pages, uint32_t rounds)
{
	struct moved m;
	pthread_t writer;

	begin(&m, pages);
	MT_CHECK_EQ(pthread_create(&writer, NULL, write_all, &m), 0);
	for (uint32_t i = 0; i < rounds; i++) {
		madvise(m.ram, (uint64_t)pages << MT_PAGE_SHIFT, MADV_COLD);
		move_all(&m, m.staging, m.ram, false);
		for (uint32_t page = 0; page < pages; page++)
			if (m.staging[page * MT_PAGE_SIZE] != page + 1)
				MT_FAIL("page %u has not its content", page);
		move_all(&m, m.ram, m.staging, true);
	}
	atomic_store(&m.stop, true);
	pthread_join(writer, NULL);
	end(&m);
}

MT_TEST("a page that is touched while it is moved is in one place, and the one that was said")
{
	move_about(1, ROUNDS);
}

MT_TEST("of pages moved together each is in one place, and the one that was said")
{
	move_about(8, ROUNDS / 8);
}

MT_TEST("pages are read in their places, and one that is elsewhere is not brought in")
{
	struct moved m;
	uint8_t copy[3 * MT_PAGE_SIZE];
	uint64_t done;

	begin(&m, 4);
	MT_CHECK(m.mem.read(m.mem.ctx, copy, m.ram, 3));
	for (uint32_t i = 0; i < sizeof(copy); i++)
		if (copy[i] != i / MT_PAGE_SIZE + 1)
			MT_FAIL("byte %u is %u", i, copy[i]);
	/* Nobody serves faults here: who touches it, or waits for it, is the end of this test. */
	MT_CHECK_EQ(
		m.mem.move(m.mem.ctx, m.staging, m.ram + MT_PAGE_SIZE, MT_PAGE_SIZE, false, &done),
		MT_MEM_DONE);
	MT_CHECK(!m.mem.read(m.mem.ctx, copy, m.ram, 3));
	MT_CHECK(!m.mem.read(m.mem.ctx, copy, m.ram + MT_PAGE_SIZE, 1));
	MT_CHECK(m.mem.read(m.mem.ctx, copy, m.ram + 2 * MT_PAGE_SIZE, 1));
	munmap(m.ram + 2 * MT_PAGE_SIZE, MT_PAGE_SIZE);
	MT_CHECK(!m.mem.read(m.mem.ctx, copy, m.ram + 2 * MT_PAGE_SIZE, 1));
	end(&m);
}

MT_TEST("a place that is taken is said to be, and nothing is moved")
{
	struct moved m;
	uint8_t page[MT_PAGE_SIZE];
	uint64_t done = 1;

	begin(&m, 4);
	memset(page, 77, sizeof(page));
	MT_CHECK_EQ(m.mem.copy(m.mem.ctx, m.staging + 2 * MT_PAGE_SIZE, page, MT_PAGE_SIZE, &done),
		    MT_MEM_DONE);
	MT_CHECK_EQ(m.mem.move(m.mem.ctx, m.staging, m.ram, 4 * MT_PAGE_SIZE, false, &done),
		    MT_MEM_EXISTS);
	MT_CHECK_EQ(done, 2 * MT_PAGE_SIZE);
	MT_CHECK_EQ(m.staging[2 * MT_PAGE_SIZE], 77);
	MT_CHECK_EQ(m.ram[2 * MT_PAGE_SIZE], 3);
	end(&m);
}

MT_TEST_MAIN
