/* SPDX-License-Identifier: MIT */
/* test_uffd_frames.c - frames mapped into watched memory and taken away again, by the real kernel
 */
#include "common/uffd_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGES  512U
#define FRAMES 64U

struct watched {
	struct mt_uffd uffd;
	struct mt_mem_ops mem;
	int frames_fd;
	uint8_t *ram;
};

static void fill(uint8_t *page, unsigned int what)
{
	memset(page, (int)(what % 251 + 1), MT_PAGE_SIZE);
}

/* Guest memory as QEMU marks it, watched, every page with content. */
static void begin(struct watched *w, bool huge)
{
	uint64_t bytes = PAGES * MT_PAGE_SIZE, done;
	uint8_t page[MT_PAGE_SIZE];
	struct mt_mapping_flags flags;
	struct mt_err err = {0};

	memset(w, 0, sizeof(*w));
	uffd_rig_open(&w->uffd, true, &w->mem);
	if (!w->mem.map_frames)
		MT_SKIP("the kernel can't");
	w->frames_fd = memfd_create("test", MFD_CLOEXEC);
	for (unsigned int i = 0; i < FRAMES; i++) {
		fill(page, 100 + i);
		MT_CHECK(pwrite(w->frames_fd, page, sizeof(page), (off_t)(i * MT_PAGE_SIZE)) > 0);
	}
	w->ram = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	madvise(w->ram, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	madvise(w->ram, bytes, MADV_DONTDUMP);
	madvise(w->ram, bytes, MADV_DONTFORK);
	flags = mt_mapping_flags(w->ram);
	MT_CHECK(flags.no_dump && flags.huge == huge);
	MT_CHECK_EQ(mt_uffd_register(&w->uffd, w->ram, bytes, &err), 0);
	mt_uffd_like(&w->uffd, w->ram, bytes, &flags);
	for (unsigned int i = 0; i < PAGES; i++) {
		fill(page, i);
		MT_CHECK_EQ(w->mem.copy(w->mem.ctx, w->ram + i * MT_PAGE_SIZE, page, MT_PAGE_SIZE,
					&done),
			    MT_MEM_DONE);
	}
}

static void end(struct watched *w)
{
	munmap(w->ram, PAGES * MT_PAGE_SIZE);
	close(w->frames_fd);
	mt_uffd_close(&w->uffd);
}

/* Mappings that the guest's memory is in. */
static unsigned int mappings(const struct watched *w)
{
	uintptr_t first = (uintptr_t)w->ram, last = first + PAGES * MT_PAGE_SIZE;
	unsigned long from, to;
	unsigned int count = 0;
	char line[400];
	FILE *maps = fopen("/proc/self/maps", "re");

	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx", &from, &to) == 2)
			count += from < last && to > first;
	fclose(maps);
	return count;
}

/* A page must be away before a frame comes in its place: here it is dropped. */
static void put_frame(struct watched *w, unsigned int page, unsigned int frame, unsigned int pages)
{
	uint8_t *at = w->ram + page * MT_PAGE_SIZE;

	madvise(at, pages * MT_PAGE_SIZE, MADV_DONTNEED);
	MT_CHECK_EQ(w->mem.map_frames(w->mem.ctx, at, w->frames_fd, MT_FRAME(frame), pages),
		    MT_MEM_DONE);
	for (unsigned int i = 0; i < pages; i++)
		MT_CHECK_EQ(at[i * MT_PAGE_SIZE + 7], (100 + frame + i) % 251 + 1);
}

static void take_frame(struct watched *w, unsigned int page)
{
	uint8_t *at = w->ram + page * MT_PAGE_SIZE;
	uint8_t content[MT_PAGE_SIZE];
	uint64_t done;

	fill(content, page);
	MT_CHECK_EQ(w->mem.unmap_frames(w->mem.ctx, at, 1), MT_MEM_DONE);
	MT_CHECK_EQ(w->mem.copy(w->mem.ctx, at, content, MT_PAGE_SIZE, &done), MT_MEM_DONE);
}

static void come_and_go(bool huge)
{
	struct watched w;
	struct mt_fault fault;

	begin(&w, huge);
	MT_CHECK_EQ(mappings(&w), 1);
	for (unsigned int page = 1; page < PAGES; page += 2)
		put_frame(&w, page, page * 7 % FRAMES, 1);
	MT_CHECK(mappings(&w) > PAGES / 2);
	for (unsigned int i = 0; i < PAGES / 2; i++)
		take_frame(&w, (i * 97 % (PAGES / 2)) * 2 + 1);
	printf("# %u mappings when all frames are gone\n", mappings(&w));
	MT_CHECK(mappings(&w) <= 2);
	for (unsigned int i = 0; i < PAGES; i++)
		MT_CHECK_EQ(w.ram[i * MT_PAGE_SIZE + 99], i % 251 + 1);
	MT_CHECK_EQ(w.mem.read_faults(w.mem.ctx, &fault, 1), 0);
	end(&w);
}

MT_TEST("frames that come and go leave guest memory in one mapping, as it was")
{
	come_and_go(false);
}

MT_TEST("frames that come and go in memory for large pages leave it in one mapping, too")
{
	come_and_go(true);
}

MT_TEST("frames that come and go in memory bound to a node leave it in one mapping, and bound")
{
	struct watched w;
	unsigned long node = 1;
	int mode = 0;

	begin(&w, false);
	if (syscall(SYS_mbind, w.ram, PAGES * MT_PAGE_SIZE, 2 /* MPOL_BIND */, &node, 64UL, 0U))
		MT_SKIP("the kernel knows no nodes");
	for (unsigned int page = 1; page < PAGES - 1; page += 2) {
		put_frame(&w, page, page % FRAMES, 1);
		take_frame(&w, page);
	}
	MT_CHECK(mappings(&w) <= 2);
	MT_CHECK(!syscall(SYS_get_mempolicy, &mode, NULL, 0UL, w.ram + MT_PAGE_SIZE, 2UL));
	MT_CHECK_EQ(mode, 2);
	end(&w);
}

MT_TEST("with no mappings left no frame is mapped, and those that are can be taken away")
{
	static uint8_t *filler[70000];
	struct watched w;
	unsigned int count = 0;

	begin(&w, false);
	for (unsigned int page = 100; page < 130; page += 3)
		put_frame(&w, page, page % FRAMES, 1);
	/* Pages that differ in what may be done with them are mappings of their own. */
	while (count < 70000) {
		filler[count] = mmap(NULL, MT_PAGE_SIZE, count % 2 ? PROT_READ : PROT_NONE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (filler[count] == MAP_FAILED)
			break;
		count++;
	}
	if (count == 70000)
		MT_SKIP("more mappings are allowed than are tried here");
	madvise(w.ram, MT_PAGE_SIZE, MADV_DONTNEED);
	MT_CHECK(w.mem.map_frames(w.mem.ctx, w.ram, w.frames_fd, MT_FRAME(0), 1) != MT_MEM_DONE);
	for (unsigned int page = 100; page < 130; page += 3)
		take_frame(&w, page);
	while (count--)
		munmap(filler[count], MT_PAGE_SIZE);
	put_frame(&w, 200, 0, 1);
	MT_CHECK_EQ(w.ram[130 * MT_PAGE_SIZE], 130 % 251 + 1);
	end(&w);
}

MT_TEST("frames that lie side by side take one mapping")
{
	struct watched w;

	begin(&w, false);
	put_frame(&w, 10, 3, 1);
	put_frame(&w, 11, 4, 5);
	put_frame(&w, 16, 9, 1);
	MT_CHECK_EQ(mappings(&w), 3);
	end(&w);
}

MT_TEST("a page moved out can be replaced by a frame, and one behind frames can be moved out")
{
	struct watched w;
	uint8_t *staging;
	uint64_t done = 0;
	struct mt_err err;

	begin(&w, false);
	staging = mmap(NULL, 4 * MT_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);
	MT_CHECK_EQ(mt_uffd_register(&w.uffd, staging, 4 * MT_PAGE_SIZE, &err), 0);
	MT_CHECK_EQ(w.mem.move(w.mem.ctx, staging, w.ram, MT_PAGE_SIZE, false, &done), MT_MEM_DONE);
	MT_CHECK_EQ(w.mem.map_frames(w.mem.ctx, w.ram, w.frames_fd, MT_FRAME(0), 1), MT_MEM_DONE);
	MT_CHECK_EQ(w.mem.move(w.mem.ctx, staging + MT_PAGE_SIZE, w.ram + MT_PAGE_SIZE,
			       2 * MT_PAGE_SIZE, false, &done),
		    MT_MEM_DONE);
	MT_CHECK_EQ(staging[2 * MT_PAGE_SIZE], 2 + 1);
	/* A frame itself is nothing that can be moved. */
	MT_CHECK(w.mem.move(w.mem.ctx, staging + 3 * MT_PAGE_SIZE, w.ram, MT_PAGE_SIZE, false,
			    &done) == MT_MEM_GONE);
	MT_CHECK_EQ(w.ram[5], 100 + 1);
	munmap(staging, 4 * MT_PAGE_SIZE);
	end(&w);
}

MT_TEST("where all memory to come is locked, a frame that is taken away leaves nothing behind")
{
	struct watched w;
	bool present = true;

	begin(&w, false);
	if (mlockall(MCL_FUTURE))
		MT_SKIP("may not lock memory");
	put_frame(&w, 20, 1, 1);
	MT_CHECK_EQ(w.mem.unmap_frames(w.mem.ctx, w.ram + 20 * MT_PAGE_SIZE, 1), MT_MEM_DONE);
	MT_CHECK_EQ(w.mem.present(w.mem.ctx, w.ram + 20 * MT_PAGE_SIZE, 1, &present), 0);
	MT_CHECK(!present);
	end(&w);
}

MT_TEST("frames of a file that is not there are refused, and nothing has changed")
{
	struct watched w;

	begin(&w, false);
	MT_CHECK(w.mem.map_frames(w.mem.ctx, w.ram + MT_PAGE_SIZE, 9999, MT_FRAME(0), 1) !=
		 MT_MEM_DONE);
	MT_CHECK_EQ(w.ram[MT_PAGE_SIZE], 1 + 1);
	end(&w);
}

MT_TEST_MAIN
