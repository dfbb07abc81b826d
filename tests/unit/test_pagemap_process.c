/* SPDX-License-Identifier: MIT */
/* test_pagemap_process.c - processes found in a guest of 64 pages, of which some can't be read */
#include "cli/pagemap.h"
#include "common/mt_test.h"

#include <errno.h>

#define FAKE_PAGES 64U
#define FAKE_BASE  0x10000000ULL /* where the VMM has it */
#define FAKE_USER  (MT_PTE_P | MT_PTE_RW | MT_PTE_US)

static uint64_t fake_words[FAKE_PAGES][MT_ENTRIES_PER_TABLE];
static uint8_t fake_classes[FAKE_PAGES];
static uint64_t fake_broken; /* the page that nobody can read; 0: none */
static struct guest_mem fake_mem;

static int fake_load(void *ctx, uint64_t gpa, uint64_t *ret)
{
	(void)ctx;
	if (gpa >> MT_PAGE_SHIFT >= FAKE_PAGES)
		return -ENXIO;
	if (fake_broken && gpa >> MT_PAGE_SHIFT == fake_broken)
		return -EAGAIN;
	*ret = fake_words[gpa >> MT_PAGE_SHIFT][gpa % MT_PAGE_SIZE / 8];
	return 0;
}

struct mt_memory guest_mem_memory(struct guest_mem *mem)
{
	return (struct mt_memory){.ctx = mem, .load = fake_load};
}

int guest_mem_words(struct guest_mem *mem, uint64_t addr, unsigned int count, uint64_t *ret)
{
	for (unsigned int i = 0; i < count; i++)
		if (fake_load(mem, addr - FAKE_BASE + ((uint64_t)i << MT_PAGE_SHIFT), &ret[i]))
			return i ? (int)i : -EAGAIN;
	return (int)count;
}

int guest_layout_address(const struct guest_layout *layout, mt_gpa_t gpa, uint64_t *ret)
{
	(void)layout;
	*ret = FAKE_BASE + gpa.a;
	return gpa.a >> MT_PAGE_SHIFT < FAKE_PAGES ? 0 : -ENXIO;
}

uint64_t guest_layout_page(const struct guest_layout *layout, uint64_t addr)
{
	(void)layout;
	return (addr - FAKE_BASE) >> MT_PAGE_SHIFT;
}

static void fake_entry(unsigned int table, unsigned int index, uint64_t page, uint64_t bits)
{
	fake_words[table][index] = page << MT_PAGE_SHIFT | bits;
}

/* Process 2 maps pages 10 to 19 and 20 to 29 by tables 5 and 6, process 7 pages 30 and 31. */
static void fake_guest(void)
{
	struct guest_layout *layout = &fake_mem.layout;

	layout->pages = FAKE_PAGES;
	layout->range_count = 1;
	layout->ranges[0] = (struct guest_range){0, FAKE_PAGES << MT_PAGE_SHIFT, FAKE_BASE};
	memset(fake_classes, PAGEMAP_ACTIVE, sizeof(fake_classes));
	memset(fake_classes + 25, PAGEMAP_SWAPPED, 6);
	fake_entry(2, 511, 1, MT_PTE_P);
	fake_entry(7, 511, 1, MT_PTE_P | MT_PTE_A);
	fake_entry(2, 0, 3, FAKE_USER);
	fake_entry(3, 0, 4, FAKE_USER);
	fake_entry(4, 0, 5, FAKE_USER);
	fake_entry(4, 1, 6, FAKE_USER);
	fake_entry(7, 0, 8, FAKE_USER);
	fake_entry(8, 0, 9, FAKE_USER);
	fake_entry(9, 0, 33, FAKE_USER);
	for (unsigned int i = 0; i < 10; i++) {
		fake_entry(5, i, 10 + i, FAKE_USER);
		fake_entry(6, 100 + i, 20 + i, FAKE_USER);
	}
	fake_entry(33, 0, 30, FAKE_USER);
	fake_entry(33, 1, 31, FAKE_USER);
}

/* Both are found, whatever can't be read: page @broken. */
static struct pagemap_process *processes(uint64_t broken)
{
	const struct pagemap map = {
		.layout = &fake_mem.layout, .classes = fake_classes, .pages = FAKE_PAGES};
	const struct mt_regs regs = {
		.cr3 = 2 << MT_PAGE_SHIFT, .paging = MT_PAGING_4LEVEL, .phys_bits = 40};
	struct pagemap_process *found = NULL;
	struct mt_err err = {0};

	fake_broken = broken;
	MT_CHECK_EQ(pagemap_processes(&fake_mem, &map, &regs, &found, &err), 2);
	return found;
}

MT_TEST("processes are found by their roots, with where the pages are that they map")
{
	struct pagemap_process *found;

	fake_guest();
	found = processes(0);
	MT_CHECK_EQ(found[0].cr3, 2 << MT_PAGE_SHIFT);
	MT_CHECK_EQ(found[0].counts[PAGEMAP_ACTIVE], 15);
	MT_CHECK_EQ(found[0].counts[PAGEMAP_SWAPPED], 5);
	MT_CHECK_EQ(found[0].tables, 5);
	MT_CHECK_EQ(found[0].unread, 0);
	MT_CHECK_EQ(found[1].cr3, 7 << MT_PAGE_SHIFT);
	MT_CHECK_EQ(found[1].counts[PAGEMAP_ACTIVE], 1);
	MT_CHECK_EQ(found[1].counts[PAGEMAP_SWAPPED], 1);
	free(found);
}

MT_TEST("a page table that can't be read is counted, since what it maps is missing")
{
	struct pagemap_process *found;

	fake_guest();
	found = processes(6);
	MT_CHECK_EQ(found[0].counts[PAGEMAP_ACTIVE], 10);
	MT_CHECK_EQ(found[0].counts[PAGEMAP_SWAPPED], 0);
	MT_CHECK_EQ(found[0].unread, 1);
	MT_CHECK_EQ(found[1].unread, 0);
	free(found);
}

MT_TEST("a process none of whose pages is known is shown all the same")
{
	struct pagemap_process *found;

	fake_guest();
	found = processes(8);
	MT_CHECK_EQ(found[1].counts[PAGEMAP_ACTIVE], 0);
	MT_CHECK_EQ(found[1].unread, 1);
	free(found);
}

MT_TEST("an entry that points to where there is no memory maps nothing, and is no table either")
{
	struct pagemap_process *found;

	fake_guest();
	fake_entry(4, 2, 1000, FAKE_USER);
	found = processes(0);
	MT_CHECK_EQ(found[0].counts[PAGEMAP_ACTIVE], 15);
	MT_CHECK_EQ(found[0].unread, 0);
	free(found);
}

MT_TEST_MAIN
