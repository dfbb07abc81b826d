/* SPDX-License-Identifier: MIT */
/*
 * pagemap_process.c - which page tables of a guest map how much of its memory, and where that is
 *
 * The roots are found without knowing the guest's kernel: all address spaces of a 64-bit kernel
 * have the same upper half, so pages whose upper half equals that of the root in use are roots.
 * Accessed and dirty bits are left out of the comparison. A page that was a root once and is free
 * now may still look like one; tables that lead nowhere make it map nothing, and it is not shown.
 *
 * A kernel with page-table isolation (Linux: PTI) has two roots for each process, side by side: its
 * own, and behind it one with nearly no upper half, for the time in user space. Both have the same
 * lower half, but for NX; that is how a pair is known. It is one process.
 */
#include "cli/pagemap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PROCESSES_MAX 4096
#define HALF          (MT_ENTRIES_PER_TABLE / 2)
#define SAME_BITS     (~(MT_PTE_A | MT_PTE_D))
#define PAIR_BIT      0x1000ULL /* set in the address of a pair's second root */
#define TABLES_MAX    65536u    /* of one process: tables may point in circles */

struct search {
	struct guest_mem *mem;
	const struct pagemap *map;
	struct mt_memory memory;
	unsigned int levels;
	uint64_t upper[HALF];
	unsigned int first, last; /* entries of the upper half that are in use */
};

static int read_upper(struct search *search, uint64_t root, struct mt_err *err)
{
	search->first = HALF;
	for (unsigned int i = HALF; i-- > 0;) {
		uint64_t entry;

		if (search->memory.load(search->mem, root + 8 * (HALF + i), &entry))
			return mt_err_set(err, -ENXIO,
					  "CR3 points to where the guest has no memory");
		search->upper[i] = entry & SAME_BITS;
		if (!(entry & MT_PTE_P))
			continue;
		if (search->first == HALF)
			search->last = i;
		search->first = i;
	}
	return search->first == HALF
		       ? mt_err_set(err, -EINVAL, "the guest has no kernel half in its tables now")
		       : 0;
}

static bool is_root(struct search *search, uint64_t gpa)
{
	uint64_t entry;

	for (unsigned int i = search->first; i < HALF; i++)
		if (search->memory.load(search->mem, gpa + 8 * (HALF + i), &entry) ||
		    (entry & SAME_BITS) != search->upper[i])
			return false;
	return true;
}

/* Is there a second root behind the one at @root? They have user mappings, and the same ones. */
static bool is_pair(struct search *search, uint64_t root)
{
	bool any = false;

	for (unsigned int i = 0; i < HALF; i++) {
		uint64_t ours, theirs;

		if (search->memory.load(search->mem, root + 8 * i, &ours) ||
		    search->memory.load(search->mem, (root | PAIR_BIT) + 8 * i, &theirs) ||
		    ((ours ^ theirs) & SAME_BITS & ~MT_PTE_NX))
			return false;
		any |= (ours & MT_PTE_P) && (ours & MT_PTE_US);
	}
	return any;
}

static void count_pages(struct search *search, struct pagemap_process *process, uint64_t gpa,
			uint64_t pages)
{
	for (uint64_t i = 0; i < pages; i++) {
		const struct guest_layout *layout = &search->mem->layout;
		uint64_t addr;

		if (guest_layout_address(layout, MT_GPA(gpa + (i << MT_PAGE_SHIFT)), &addr))
			continue; /* a device */
		process->counts[search->map->classes[guest_layout_page(layout, addr)]]++;
	}
}

static void count_table(struct search *search, struct pagemap_process *process, uint64_t table,
			unsigned int level, unsigned int entries)
{
	MT_ASSERT(level > 0);
	if (++process->tables > TABLES_MAX)
		return;
	for (unsigned int i = 0; i < entries; i++) {
		uint64_t entry, gpa;
		int rc = search->memory.load(search->mem, table + 8 * i, &entry);

		if (rc) {
			process->unread += rc != -ENXIO; /* no memory: not a table either */
			return;
		}
		if (!(entry & MT_PTE_P) ||
		    !(entry & MT_PTE_US)) /* some kernels map all memory low */
			continue;
		gpa = entry & MT_PTE_ADDRESS;
		if (level == 1 || (level <= 3 && (entry & MT_PTE_PS)))
			count_pages(search, process,
				    mt_align_down(gpa, 1ULL << mt_level_shift(level)),
				    1ULL << (mt_level_shift(level) - MT_PAGE_SHIFT));
		else
			count_table(search, process, gpa, level - 1, MT_ENTRIES_PER_TABLE);
	}
}

/* As far as can be told. */
static bool maps_anything(const struct pagemap_process *process)
{
	for (unsigned int i = 0; i < PAGEMAP_CLASSES; i++)
		if (process->counts[i])
			return true;
	return process->unread;
}

/* May there be a page table in a page of this class? */
static bool holds_tables(uint8_t class)
{
	return class != PAGEMAP_ZERO && class != PAGEMAP_UNTOUCHED && class != PAGEMAP_RELEASED &&
	       class != PAGEMAP_LOST;
}

/* Adds the process whose root is at @gpa, if one is. Return: how many there are then. */
static int try_root(struct search *search, uint64_t gpa, struct pagemap_process *found, int count)
{
	struct pagemap_process *process = &found[count];

	if (count == PROCESSES_MAX || !is_root(search, gpa))
		return count;
	*process = (struct pagemap_process){.cr3 = gpa};
	count_table(search, process, gpa, search->levels, HALF);
	if (!(gpa & PAIR_BIT) && is_pair(search, gpa)) {
		process->user_cr3 = gpa | PAIR_BIT;
		process->tables++;
	}
	return count + maps_anything(process);
}

/*
 * Adds the processes whose roots lie in @range. Most pages are told from a root by one entry, so
 * that of many pages is asked for at once. Return: how many there are then, or -errno.
 */
static int find_in(struct search *search, const struct guest_range *range,
		   struct pagemap_process *found, int count)
{
	const struct pagemap *map = search->map;
	uint64_t first = guest_layout_page(map->layout, range->addr);
	uint64_t pages = range->bytes >> MT_PAGE_SHIFT;
	uint64_t words[GUEST_WORDS];

	for (uint64_t i = 0; i < pages;) {
		unsigned int batch = (unsigned int)MT_MIN(GUEST_WORDS, pages - i);
		uint64_t at = (i << MT_PAGE_SHIFT) + 8 * (HALF + search->last);
		int got;

		if (!holds_tables(map->classes[first + i])) {
			i++;
			continue;
		}
		got = guest_mem_words(search->mem, range->addr + at, batch, words);
		for (int k = 0; k < got; k++)
			if ((words[k] & SAME_BITS) == search->upper[search->last] &&
			    holds_tables(map->classes[first + i + (unsigned int)k]))
				count = try_root(search,
						 range->gpa +
							 ((i + (unsigned int)k) << MT_PAGE_SHIFT),
						 found, count);
		/* A page that is lost is passed over; a daemon that is gone is not. */
		if (got < 0 && got != -EIO && got != -EAGAIN && got != -EFAULT)
			return got;
		i += got > 0 ? (unsigned int)got : 1;
	}
	return count;
}

int pagemap_processes(struct guest_mem *mem, const struct pagemap *map, const struct mt_regs *regs,
		      struct pagemap_process **ret, struct mt_err *err)
{
	struct search search = {.mem = mem,
				.map = map,
				.memory = guest_mem_memory(mem),
				.levels = mt_regs_levels(regs)};
	struct pagemap_process *found = calloc(PROCESSES_MAX, sizeof(*found));
	uint64_t root = mt_regs_table(regs);
	int count = 0, rc;

	*ret = found;
	if (!found)
		return mt_err_set(err, -ENOMEM, "no memory");
	if (search.levels < 4)
		return mt_err_set(err, -EOPNOTSUPP, "--by-process knows 64-bit guests only");
	/* The second root of a pair, in use now, has not the upper half that the others have. */
	if ((root & PAIR_BIT) && is_pair(&search, root & ~PAIR_BIT))
		root &= ~PAIR_BIT;
	rc = read_upper(&search, root, err);
	if (rc)
		return rc;
	for (unsigned int i = 0; i < mem->layout.range_count && count >= 0; i++)
		count = find_in(&search, &mem->layout.ranges[i], found, count);
	return count < 0 ? mt_err_set(err, count, "%s", mem->err.msg) : count;
}
