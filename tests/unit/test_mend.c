/* SPDX-License-Identifier: MIT */
/* test_mend.c - large pages put together again, by the real kernel */
#include "common/uffd_rig.h"
#include "monitor/mend.h"

#include <sys/mman.h>
#include <unistd.h>

struct large {
	struct mt_uffd uffd;
	struct mt_mem_ops mem;
	uint8_t *area;    /* of three large pages' size */
	uint8_t *page;    /* the one in it */
	uint8_t *staging; /* for a small page */
};

/* A large page, watched, of which one small page is out. */
static void begin(struct large *large)
{
	struct mt_err err = {0};
	uint64_t done;

	memset(large, 0, sizeof(*large));
	uffd_rig_open(&large->uffd, false, &large->mem);
	large->area = mmap(NULL, 3 * MT_HUGE_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	large->staging = mmap(NULL, MT_PAGE_SIZE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MT_CHECK(large->area != MAP_FAILED && large->staging != MAP_FAILED);
	large->page = large->area + (-(uintptr_t)large->area & (MT_HUGE_SIZE - 1));
	madvise(large->page, MT_HUGE_SIZE, MADV_HUGEPAGE);
	memset(large->page, 7, MT_HUGE_SIZE);
	MT_CHECK_EQ(mt_uffd_register(&large->uffd, large->page, MT_HUGE_SIZE, &err), 0);
	MT_CHECK_EQ(mt_uffd_register(&large->uffd, large->staging, MT_PAGE_SIZE, &err), 0);
	if (!large->mem.large(large->mem.ctx, large->page))
		MT_SKIP("no large page to be had");
	MT_CHECK_EQ(large->mem.move(large->mem.ctx, large->staging, large->page + 5 * MT_PAGE_SIZE,
				    MT_PAGE_SIZE, false, &done),
		    MT_MEM_DONE);
	MT_CHECK(!large->mem.large(large->mem.ctx, large->page));
}

static void put_back(struct large *large)
{
	uint64_t done;

	MT_CHECK_EQ(large->mem.move(large->mem.ctx, large->page + 5 * MT_PAGE_SIZE, large->staging,
				    MT_PAGE_SIZE, false, &done),
		    MT_MEM_DONE);
}

static void end(struct large *large)
{
	mt_uffd_close(&large->uffd);
	munmap(large->area, 3 * MT_HUGE_SIZE);
	munmap(large->staging, MT_PAGE_SIZE);
}

MT_TEST("a large page with a page out is mended when it is asked for again and the page is back")
{
	static struct mt_mends mends;
	struct large large;
	bool whole = false;

	begin(&large);
	mends.addr[3] = (uintptr_t)large.page;
	MT_CHECK(!mt_mend_one(&mends));
	MT_CHECK_EQ(mends.mended, 0);
	put_back(&large);
	/* the kernel may be at one of the pages just now */
	for (int i = 0; i < 10 && !whole; i++) {
		whole = mt_mend_one(&mends);
		usleep(10000);
	}
	MT_CHECK(whole);
	MT_CHECK_EQ(mends.mended, 1);
	MT_CHECK_EQ(mends.addr[3], 0);
	MT_CHECK(large.mem.large(large.mem.ctx, large.page));
	MT_CHECK_EQ(large.page[5 * MT_PAGE_SIZE], 7);
	end(&large);
}

MT_TEST("a large page that can't be mended is given up after some tries")
{
	static struct mt_mends mends;
	struct large large;
	unsigned int tries = 0;

	begin(&large);
	mends.addr[0] = (uintptr_t)large.page;
	while (mends.addr[0] && tries++ < 100)
		mt_mend_one(&mends);
	MT_CHECK(tries > 1 && tries < 100);
	MT_CHECK_EQ(mends.mended, 0);
	end(&large);
}

MT_TEST("memory that is the VMM's alone again is not mended any more")
{
	static struct mt_mends mends;
	struct large large;

	begin(&large);
	mends.addr[0] = (uintptr_t)large.page;
	MT_CHECK(!mt_mend_one(&mends));
	mt_mend_forget(&mends, large.page + MT_HUGE_SIZE, MT_HUGE_SIZE);
	MT_CHECK(mends.addr[0]);
	mt_mend_forget(&mends, large.page, MT_HUGE_SIZE);
	MT_CHECK_EQ(mends.addr[0], 0);
	put_back(&large);
	MT_CHECK(!mt_mend_one(&mends));
	MT_CHECK(!large.mem.large(large.mem.ctx, large.page));
	end(&large);
}

MT_TEST_MAIN
