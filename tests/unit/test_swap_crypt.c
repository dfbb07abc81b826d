/* SPDX-License-Identifier: MIT */
/*
 * test_swap_crypt.c - what lies in an encrypted swap file, and what becomes of it when that changes
 *
 * The disk is the fake one, whose slots can be looked at. That pages come back as written is tried
 * in test_swap_io.c, on real files.
 */
#include "monitor/swap_sum.h"
#include "sys/swap_crypt.h"

#include "common/fake_swap_io.h"
#include "common/mt_test.h"

#include <errno.h>
#include <malloc.h>
#include <time.h>

enum { SLOTS = 64, DEPTH = 8, WRITES = 2, RUN = 4, ROUNDS = 20000 };

static const char text[] = "nobody but its owner is to read this; ";

struct disk {
	struct mt_fake_swap *fake;
	struct mt_swap_io io;
};

static void disk_new(struct disk *disk)
{
	disk->fake = mt_fake_swap_new(SLOTS, DEPTH, -1, &disk->io);
	MT_CHECK(!mt_swap_crypt_new(&disk->io, WRITES, RUN, NULL));
	MT_CHECK(disk->io.encrypted && disk->io.buffers_bytes >= WRITES * RUN * MT_PAGE_SIZE);
}

/* Return: the transfer's result. */
static int transfer(struct disk *disk, bool write, uint32_t slot, uint8_t *pages, uint32_t count)
{
	struct mt_swap_done done = {.cookie = 0};

	MT_CHECK_EQ(write ? mt_swap_io_write(&disk->io, MT_SLOT(slot), pages, count, 1234567)
			  : mt_swap_io_read(&disk->io, MT_SLOT(slot), count, pages, 1234567),
		    0);
	mt_swap_io_submit(&disk->io);
	while (!mt_swap_io_reap(&disk->io, &done, 1))
		;
	MT_CHECK_EQ(done.cookie, 1234567);
	return done.result;
}

static uint8_t *text_pages(uint32_t count)
{
	uint8_t *pages = aligned_alloc(MT_PAGE_SIZE, count * MT_PAGE_SIZE);

	MT_CHECK(pages);
	for (size_t i = 0; i < count * MT_PAGE_SIZE; i++)
		pages[i] = (uint8_t)text[i % (sizeof(text) - 1)];
	return pages;
}

static const void *raw(struct disk *disk, uint32_t slot)
{
	return mt_fake_swap_page(disk->fake, MT_SLOT(slot));
}

MT_TEST("no word of a page lies in the file, and the page's own memory stays as it is")
{
	uint8_t *pages = text_pages(RUN), *same = text_pages(RUN);
	struct disk disk;

	disk_new(&disk);
	MT_CHECK_EQ(transfer(&disk, true, 8, pages, RUN), 0);
	MT_CHECK(!memcmp(pages, same, RUN * MT_PAGE_SIZE));
	for (uint32_t i = 0; i < RUN; i++)
		for (size_t at = 0; at < MT_PAGE_SIZE - 8; at++)
			MT_CHECK(!memmem(raw(&disk, 8 + i), MT_PAGE_SIZE, text + at % 24, 8));
	mt_swap_io_free(&disk.io);
}

MT_TEST("the same page looks different in each slot and in each file")
{
	uint8_t *page = text_pages(1);
	struct disk one, two;

	disk_new(&one);
	disk_new(&two);
	MT_CHECK_EQ(transfer(&one, true, 1, page, 1), 0);
	MT_CHECK_EQ(transfer(&one, true, 2, page, 1), 0);
	MT_CHECK_EQ(transfer(&two, true, 1, page, 1), 0);
	MT_CHECK(memcmp(raw(&one, 1), raw(&one, 2), MT_PAGE_SIZE));
	MT_CHECK(memcmp(raw(&one, 1), raw(&two, 1), MT_PAGE_SIZE));
	mt_swap_io_free(&one.io);
	mt_swap_io_free(&two.io);
}

MT_TEST("a page read past the transfers is revealed for who looks, in its own slot only")
{
	uint8_t *page = text_pages(1), *copy = text_pages(1);
	struct disk disk;

	disk_new(&disk);
	MT_CHECK_EQ(transfer(&disk, true, 5, page, 1), 0);
	memcpy(copy, raw(&disk, 5), MT_PAGE_SIZE);
	mt_swap_io_reveal(&disk.io, MT_SLOT(5), copy);
	MT_CHECK(!memcmp(copy, page, MT_PAGE_SIZE));
	memcpy(copy, raw(&disk, 5), MT_PAGE_SIZE);
	mt_swap_io_reveal(&disk.io, MT_SLOT(6), copy);
	MT_CHECK(memcmp(copy, page, MT_PAGE_SIZE));
	mt_swap_io_free(&disk.io);
}

MT_TEST("a bit that changes in the file changes the page's checksum")
{
	uint8_t *page = text_pages(1);
	uint64_t sum = mt_swap_sum(page, MT_GPN(3), MT_SLOT(9));
	struct disk disk;

	disk_new(&disk);
	for (uint32_t bit = 0; bit < 8 * MT_PAGE_SIZE; bit += 997) {
		MT_CHECK_EQ(transfer(&disk, true, 9, page, 1), 0);
		((uint8_t *)mt_fake_swap_page(disk.fake, MT_SLOT(9)))[bit / 8] ^=
			(uint8_t)(1 << bit % 8);
		MT_CHECK_EQ(transfer(&disk, false, 9, page, 1), 0);
		MT_CHECK(mt_swap_sum(page, MT_GPN(3), MT_SLOT(9)) != sum);
		free(page);
		page = text_pages(1);
	}
	mt_swap_io_free(&disk.io);
}

MT_TEST("a write too many for the buffers is refused until one has ended; reads are not")
{
	uint8_t *pages = text_pages(DEPTH);
	struct mt_swap_done done[DEPTH];
	uint32_t ended = 0;
	struct disk disk;

	disk_new(&disk);
	for (uint32_t i = 0; i < WRITES; i++)
		MT_CHECK_EQ(mt_swap_io_write(&disk.io, MT_SLOT(i), pages, 1, i), 0);
	MT_CHECK_EQ(mt_swap_io_write(&disk.io, MT_SLOT(9), pages, 1, 9), -EBUSY);
	for (uint32_t i = WRITES; i < DEPTH; i++)
		MT_CHECK_EQ(
			mt_swap_io_read(&disk.io, MT_SLOT(20 + i), 1, pages + i * MT_PAGE_SIZE, i),
			0);
	MT_CHECK_EQ(mt_swap_io_read(&disk.io, MT_SLOT(40), 1, pages, 9), -EBUSY);
	mt_swap_io_submit(&disk.io);
	while (ended < DEPTH)
		ended += mt_swap_io_reap(&disk.io, done, DEPTH);
	MT_CHECK_EQ(transfer(&disk, true, 9, pages, 1), 0);
	mt_swap_io_free(&disk.io);
}

MT_TEST("a transfer that fails, or can't start, gives its place and its buffer back")
{
	uint8_t *pages = text_pages(RUN);
	struct disk disk;

	disk_new(&disk);
	for (uint64_t i = 1; i <= 3 * DEPTH; i++) {
		mt_fake_swap_faults(disk.fake)->eio_write = i;
		mt_fake_swap_faults(disk.fake)->eio_read = i;
		MT_CHECK_EQ(transfer(&disk, true, 4, pages, RUN), -EIO);
		MT_CHECK_EQ(transfer(&disk, false, 4, pages, RUN), -EIO);
		mt_fake_swap_faults(disk.fake)->busy = true;
		MT_CHECK_EQ(mt_swap_io_write(&disk.io, MT_SLOT(1), pages, 1, 1), -EBUSY);
		MT_CHECK_EQ(mt_swap_io_read(&disk.io, MT_SLOT(1), 1, pages, 1), -EBUSY);
		mt_fake_swap_faults(disk.fake)->busy = false;
	}
	mt_swap_io_free(&disk.io);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* Of each of ROUNDS transfers of a page, there and back. */
static void cost(struct disk *disk, const char *what)
{
	uint8_t *page = text_pages(1);
	uint64_t before_ns = now_ns();

	for (uint32_t i = 0; i < ROUNDS; i++) {
		MT_CHECK_EQ(transfer(disk, true, i % SLOTS, page, 1), 0);
		MT_CHECK_EQ(transfer(disk, false, i % SLOTS, page, 1), 0);
	}
	printf("# %s: %lu ns for a page written and read\n", what,
	       (unsigned long)((now_ns() - before_ns) / ROUNDS));
	free(page);
}

MT_TEST("encryption allocates nothing while it works, and says what it costs")
{
	struct mallinfo2 before;
	struct disk disk, plain;

	disk_new(&disk);
	plain.fake = mt_fake_swap_new(SLOTS, DEPTH, -1, &plain.io);
	cost(&plain, "plain");
	before = mallinfo2();
	cost(&disk, "encrypted");
	MT_CHECK_EQ(mallinfo2().uordblks, before.uordblks);
	mt_swap_io_free(&disk.io);
	mt_swap_io_free(&plain.io);
}

MT_TEST_MAIN
