/* SPDX-License-Identifier: MIT */
/* sim_mem.c - memory of the simulated VM and the pager's operations on it; see sim_mem.h */
#include "sim/sim_mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct sim_state sim_only;
struct sim_state *sim_now = &sim_only;

int __real_madvise(void *addr, size_t bytes, int advice);

uint64_t sim_random(void)
{
	uint64_t z = (sim.random += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

uint32_t sim_below(uint32_t limit)
{
	return (uint32_t)(sim_random() % limit);
}

bool sim_chance(uint32_t permille)
{
	return sim_below(1000) < permille;
}

uint64_t sim_value(void)
{
	/* a few contents come again and again, so that pages are equal */
	if (sim.config.alike && sim_chance(700))
		return 1 + sim_below(sim.config.alike);
	sim.next_value = MT_MAX(sim.next_value, sim.config.alike) + 1;
	return sim.config.all_shrinks ? sim.next_value * 4 + 1 : sim.next_value;
}

/* Every word differs from page to page, so that no part of one page passes for another's. */
static uint64_t word_of(uint64_t value, uint32_t i)
{
	uint32_t noise = (uint32_t)(value % 4) * 160; /* words that do not shrink */
	uint64_t x = value * 0x9e3779b97f4a7c15ULL;

	if (!value)
		return 0;
	/* All zeros but for the very end. */
	if (value % 16 == 8)
		return i == MT_PAGE_SIZE / 8 - 1 ? value : 0;
	if (i >= noise)
		return x;
	x = (x ^ i) * 0xbf58476d1ce4e5b9ULL;
	return x ^ (x >> 29);
}

void sim_fill(uint8_t *page, uint64_t value)
{
	uint64_t *word = (uint64_t *)(void *)page;

	for (uint32_t i = 0; i < MT_PAGE_SIZE / 8; i++)
		word[i] = word_of(value, i);
}

bool sim_is(const uint8_t *page, uint64_t value)
{
	const uint64_t *word = (const uint64_t *)(const void *)page;

	for (uint32_t i = 0; i < MT_PAGE_SIZE / 8; i++)
		if (word[i] != word_of(value, i))
			return false;
	return true;
}

struct sim_region *sim_region_of(const void *addr, uint32_t *ret_page)
{
	for (uint32_t i = 0; i < SIM_REGIONS; i++) {
		uint64_t offset = (uintptr_t)addr - (uintptr_t)sim.region[i].base;

		*ret_page = (uint32_t)(offset >> MT_PAGE_SHIFT);
		if ((uintptr_t)addr >= (uintptr_t)sim.region[i].base &&
		    offset >> MT_PAGE_SHIFT < SIM_REGION_PAGES)
			return &sim.region[i];
	}
	return NULL;
}

uint32_t sim_page_id(const struct sim_region *region, uint32_t page)
{
	return (uint32_t)(region - sim.region) * SIM_REGION_PAGES + page;
}

static bool is_staging(const void *addr, uint32_t *ret_slot)
{
	uint64_t offset = (uintptr_t)addr - (uintptr_t)sim.staging;

	*ret_slot = (uint32_t)(offset >> MT_PAGE_SHIFT);
	return (uintptr_t)addr >= (uintptr_t)sim.staging &&
	       offset >> MT_PAGE_SHIFT < sim.staging_slots;
}

bool sim_in_flux(uint32_t region, uint32_t page)
{
	return sim.flux_pages && region == sim.flux_region && page >= sim.flux_first &&
	       page - sim.flux_first < sim.flux_pages;
}

/* Other threads of the VMM run while the pager is in its turn. */
static void others_run(void)
{
	if (!sim.in_step || sim.calm)
		return;
	if (sim_chance(150))
		sim_guest_step();
	if (sim_chance(50))
		sim_share_step();
	if (sim.unseen_open)
		sim_unseen_some();
	if (sim_discard_active() && sim_chance(300))
		sim_discard_resume();
	else if (sim_chance(2))
		sim_discard_somewhere();
}

/* Is all of the range registered, and in one mapping? */
static bool in_one_mapping(const struct sim_region *region, uint32_t page, uint32_t count)
{
	if (page + count > region->pages)
		return false;
	return !region->split || page >= region->split || page + count <= region->split;
}

/* Trouble at a random page of the next @count; DONE for none. */
static enum mt_mem_outcome trouble(uint32_t *count, bool pinned)
{
	static const enum mt_mem_outcome kinds[] = {MT_MEM_RETRY, MT_MEM_FAILED, MT_MEM_GONE,
						    MT_MEM_PINNED};
	enum mt_mem_outcome kind;

	if (sim.calm || !sim_chance(sim.config.trouble_permille))
		return MT_MEM_DONE;
	kind = kinds[sim_below(pinned ? 4 : 3)];
	*count = kind == MT_MEM_GONE ? 0 : sim_below(*count);
	return kind;
}

static enum mt_mem_outcome sim_copy(void *ctx, void *to, const void *from, uint64_t bytes,
				    uint64_t *ret_done)
{
	uint32_t count = (uint32_t)(bytes >> MT_PAGE_SHIFT), page, slot, done = 0;
	struct sim_region *region = sim_region_of(to, &page);
	enum mt_mem_outcome stop;

	(void)ctx;
	others_run();
	*ret_done = 0;
	if (!region || !in_one_mapping(region, page, count))
		return MT_MEM_GONE;
	if (is_staging(from, &slot) && !sim.staged[slot])
		SIM_FAIL("copy from staging slot %u, which is empty: the pager would hang", slot);
	stop = trouble(&count, false);
	for (; done < count; done++) {
		if (region->mapped[page + done])
			SIM_FAIL("a copy over a mapped frame at page %u", page + done);
		if (region->present[page + done]) {
			stop = MT_MEM_EXISTS;
			break;
		}
		if (region->incoming[page + done] &&
		    !sim_in_flux((uint32_t)(region - sim.region), page + done))
			SIM_FAIL("page %u is copied while a transfer into it is under way",
				 page + done);
		memcpy((uint8_t *)to + done * MT_PAGE_SIZE,
		       (const uint8_t *)from + done * MT_PAGE_SIZE, MT_PAGE_SIZE);
		region->present[page + done] = true;
		/* What is left there is nobody's. */
		if (is_staging(from, &slot))
			sim.staged_page[slot + done] = MT_NONE32;
	}
	sim_guest_wake((uint32_t)(region - sim.region), page, done);
	*ret_done = (uint64_t)done << MT_PAGE_SHIFT;
	others_run();
	return stop;
}

/* Takes a page out of its place. Return: why not. */
static enum mt_mem_outcome take_source(uint8_t *from, uint8_t *to)
{
	uint32_t page, slot = 0;
	struct sim_region *region = sim_region_of(from, &page);

	if (region && !region->present[page])
		return MT_MEM_ABSENT;
	if (region && region->pinned[page])
		return MT_MEM_PINNED;
	if (!region && !is_staging(from, &slot)) {
		/* The nursery: zeros, unless the helper got no memory for all of it. */
		if (!sim.calm && sim_below(3000) == 0)
			return MT_MEM_ABSENT;
		memcpy(to, from, MT_PAGE_SIZE);
		__real_madvise(from, MT_PAGE_SIZE, MADV_DONTNEED);
		return MT_MEM_DONE;
	}
	if (!region && !sim.staged[slot])
		return MT_MEM_ABSENT;
	memcpy(to, from, MT_PAGE_SIZE);
	/* Whoever still uses it finds rubbish. */
	memset(from, 0xdd, MT_PAGE_SIZE);
	if (region)
		region->present[page] = false;
	else
		sim.staged[slot] = false;
	return MT_MEM_DONE;
}

static enum mt_mem_outcome move_one(uint8_t *to, uint8_t *from)
{
	uint32_t page, slot = 0;
	struct sim_region *region = sim_region_of(to, &page);
	enum mt_mem_outcome outcome;

	if (region && region->mapped[page])
		SIM_FAIL("a move over a mapped frame at page %u", page);
	if (region ? region->present[page] : is_staging(to, &slot) && sim.staged[slot])
		return MT_MEM_EXISTS;
	outcome = take_source(from, to);
	if (outcome == MT_MEM_DONE && region)
		region->present[page] = true;
	else if (outcome == MT_MEM_DONE)
		sim.staged[slot] = true;
	if (outcome == MT_MEM_DONE && !region && (region = sim_region_of(from, &page)))
		sim.staged_page[slot] = sim_page_id(region, page);
	return outcome;
}

static enum mt_mem_outcome sim_move(void *ctx, void *to, void *from, uint64_t bytes, bool wake,
				    uint64_t *ret_done)
{
	uint32_t count = (uint32_t)(bytes >> MT_PAGE_SHIFT), page, done = 0, at;
	struct sim_region *target = sim_region_of(to, &page);
	struct sim_region *region = target ? target : sim_region_of(from, &page);
	enum mt_mem_outcome stop, outcome;

	(void)ctx;
	others_run();
	*ret_done = 0;
	if (!target && sim.pager->in_place)
		SIM_FAIL("page %u of a region leaves its place under direct I/O", page);
	if (!region || !in_one_mapping(region, page, count) || region->locked)
		return MT_MEM_GONE;
	stop = trouble(&count, true);
	for (; done < count; done++) {
		outcome = move_one((uint8_t *)to + done * MT_PAGE_SIZE,
				   (uint8_t *)from + done * MT_PAGE_SIZE);
		if (outcome != MT_MEM_DONE) {
			stop = outcome;
			break;
		}
	}
	if (wake && target && sim_region_of(to, &at))
		sim_guest_wake((uint32_t)(target - sim.region), at, done);
	*ret_done = (uint64_t)done << MT_PAGE_SHIFT;
	others_run();
	return stop;
}

/* Of the mappings there may be, the second half is for pages that don't stand alone. */
static void check_not_alone(const struct sim_region *region, uint32_t page, uint32_t frame)
{
	const struct mt_share *share = &sim.pager->share;
	bool before = page > 0 && region->mapped[page - 1] && region->mapped[page - 1] == frame;
	bool behind = page + 1 < region->pages && region->mapped[page + 1] == frame + 2;

	if (!before && !behind && share->maps >= share->maps_max / 2)
		SIM_FAIL("page %u stands alone and is mapped, the %luth of %lu mappings", page,
			 (unsigned long)share->maps + 1, (unsigned long)share->maps_max);
}

static enum mt_mem_outcome sim_map_frames(void *ctx, void *to, int frames_fd, mt_frame_t first,
					  uint32_t pages)
{
	uint32_t page;
	struct sim_region *region = sim_region_of(to, &page);

	(void)ctx;
	(void)frames_fd;
	others_run();
	if (!region || page + pages > region->pages)
		SIM_FAIL("frames are mapped outside of guest memory");
	if (pages == 1)
		check_not_alone(region, page, first.n);
	if (!sim.calm && sim_chance(sim.config.trouble_permille))
		return MT_MEM_FAILED;
	for (uint32_t i = 0; i < pages; i++) {
		if (region->present[page + i] || region->mapped[page + i])
			SIM_FAIL("a frame is mapped over page %u", page + i);
		region->mapped[page + i] = first.n + i + 1;
	}
	others_run();
	return MT_MEM_DONE;
}

/* Whom the empty place from @page on is joined with before a page comes there. */
static uint32_t piece_of_place(struct sim_region *region, uint32_t page, uint32_t pages)
{
	if (page > 0 && !region->mapped[page - 1])
		return region->piece[page - 1];
	if (page + pages < region->pages && !region->mapped[page + pages])
		return region->piece[page + pages];
	return ++region->last_piece;
}

static enum mt_mem_outcome sim_unmap_frames(void *ctx, void *to, uint32_t pages)
{
	uint32_t page, piece;
	struct sim_region *region = sim_region_of(to, &page);

	(void)ctx;
	others_run();
	if (!region || page + pages > region->pages)
		SIM_FAIL("frames are unmapped outside of guest memory");
	if (!sim.calm && !region->leaving && sim_chance(sim.config.trouble_permille)) {
		for (uint32_t i = page; i < page + pages; i++)
			sim.unmap_failures += sim_in_flux((uint32_t)(region - sim.region), i);
		return MT_MEM_FAILED;
	}
	piece = piece_of_place(region, page, pages);
	for (uint32_t i = page; i < page + pages; i++) {
		region->piece[i] = piece;
		region->mapped[i] = 0;
		region->present[i] = region->pinned[i] = false;
		sim_unseen_given_up(sim_page_id(region, i));
	}
	others_run();
	return MT_MEM_DONE;
}

static void sim_wake(void *ctx, void *addr, uint64_t bytes)
{
	uint32_t page;
	struct sim_region *region = sim_region_of(addr, &page);

	(void)ctx;
	if (region)
		sim_guest_wake((uint32_t)(region - sim.region), page,
			       (uint32_t)(bytes >> MT_PAGE_SHIFT));
}

static void sim_drop(void *ctx, void *addr, uint64_t bytes)
{
	uint32_t slot;

	(void)ctx;
	if (!is_staging(addr, &slot)) {
		__real_madvise(addr, bytes, MADV_DONTNEED);
		return;
	}
	for (uint32_t i = 0; i < bytes >> MT_PAGE_SHIFT; i++)
		sim_unseen_given_up(sim.staged_page[slot + i]);
	memset(addr, 0xdd, bytes);
	memset(&sim.staged[slot], 0, bytes >> MT_PAGE_SHIFT);
}

static int sim_present(void *ctx, void *addr, uint32_t pages, bool *present)
{
	uint32_t page;
	struct sim_region *region = sim_region_of(addr, &page);

	(void)ctx;
	if (!region || (sim.in_step && !sim.calm && sim_chance(sim.config.trouble_permille)))
		return -EIO;
	memcpy(present, &region->present[page], pages * sizeof(*present));
	others_run();
	return 0;
}

static bool sim_read(void *ctx, void *to, const void *from, uint32_t pages)
{
	uint32_t page;
	struct sim_region *region = sim_region_of(from, &page);

	(void)ctx;
	others_run();
	for (uint32_t i = 0; i < pages; i++)
		if (!region || !region->present[page + i])
			return false;
	memcpy(to, from, (uint64_t)pages << MT_PAGE_SHIFT);
	return true;
}

static bool sim_large(void *ctx, const void *addr)
{
	(void)ctx;
	(void)addr;
	/* Only who looks before he moves asks, and he need not be told the same twice. */
	return sim.in_step && !sim.calm && sim_chance(50);
}

static bool sim_mapped(void *ctx, const void *addr)
{
	uint32_t page;

	(void)ctx;
	return sim_region_of(addr, &page);
}

static void sim_place(void *ctx, uint32_t tid)
{
	(void)ctx;
	(void)tid;
}

static int sim_read_faults(void *ctx, struct mt_fault *faults, uint32_t max)
{
	uint32_t count = 0;

	(void)ctx;
	while (count < max && sim.fault_head != sim.fault_tail)
		faults[count++] = sim.fault[sim.fault_head++ % MT_ARRAY_SIZE(sim.fault)];
	others_run();
	return (int)count;
}

void sim_mem_areas(void)
{
	uint64_t bytes = (uint64_t)SIM_REGION_PAGES << MT_PAGE_SHIFT;
	uint8_t *area = mmap(NULL, (SIM_REGIONS + 2) * bytes, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	MT_ASSERT(area != MAP_FAILED);
	area = (uint8_t *)(uintptr_t)mt_align_up((uintptr_t)area, MT_HUGE_SIZE);
	__real_madvise(area, (SIM_REGIONS + 1) * bytes, MADV_NOHUGEPAGE);
	for (uint32_t i = 0; i < SIM_REGIONS; i++)
		sim.region[i].base = area + i * bytes;
	sim.staging = area + SIM_REGIONS * bytes;
	sim.staging_slots = SIM_STAGING;
}

void sim_mem_ops(struct mt_mem_ops *ret_ops)
{
	*ret_ops = (struct mt_mem_ops){.copy = sim_copy,
				       .move = sim_move,
				       .map_frames = sim_map_frames,
				       .unmap_frames = sim_unmap_frames,
				       .wake = sim_wake,
				       .drop = sim_drop,
				       .present = sim_present,
				       .read = sim_read,
				       .large = sim_large,
				       .unseen_io = sim_unseen_io,
				       .mapped = sim_mapped,
				       .place = sim_place,
				       .read_faults = sim_read_faults};
}
