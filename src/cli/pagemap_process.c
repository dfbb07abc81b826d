/* SPDX-License-Identifier: MIT */
/*
 * pagemap_process.c - which page tables of a guest map how much of its memory, and where that is
 *
 * The roots are found without knowing the guest's kernel: all address spaces of a 64-bit kernel
 * have the same upper half, so pages whose upper half equals that of the root in use are roots.
 * Accessed and dirty bits are left out of the comparison. A page that was a root once and is free
 * now may still look like one; tables that lead nowhere make it map nothing, and it is not shown.
 */
#include "cli/pagemap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PROCESSES_MAX 4096
#define HALF          (MT_ENTRIES_PER_TABLE / 2)
#define SAME_BITS     (~(MT_PTE_A | MT_PTE_D))
#define TABLES_MAX    65536u /* of one process: tables may point in circles */

struct search {
	struct guest_mem *mem;
	const struct pagemap *map;
	struct mt_memory memory;
	uint64_t upper[HALF];
	unsigned int first; /* entry of the upper half that is in use */
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
		if (entry & MT_PTE_P)
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

static void count_pages(struct search *search, struct pagemap_process *process, uint64_t gpa,
			uint64_t pages)
{
	for (uint64_t i = 0; i < pages; i++) {
		uint64_t addr, page;

		if (guest_mem_host_address(search->mem, MT_GPA(gpa + (i << MT_PAGE_SHIFT)), &addr))
			continue; /* a device */
		page = (addr - search->mem->addr) >> MT_PAGE_SHIFT;
		process->counts[search->map->classes[page]]++;
	}
}

static void count_table(struct search *search, struct pagemap_process *process, uint64_t table,
			unsigned int level, unsigned int entries)
{
	if (++process->tables > TABLES_MAX)
		return;
	for (unsigned int i = 0; i < entries; i++) {
		uint64_t entry, gpa;

		if (search->memory.load(search->mem, table + 8 * i, &entry))
			return;
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

static bool maps_anything(const struct pagemap_process *process)
{
	for (unsigned int i = 0; i < PAGEMAP_CLASSES; i++)
		if (process->counts[i])
			return true;
	return false;
}

int pagemap_processes(struct guest_mem *mem, const struct pagemap *map, const struct mt_regs *regs,
		      struct pagemap_process **ret, struct mt_err *err)
{
	struct search search = {.mem = mem, .map = map, .memory = guest_mem_memory(mem)};
	struct pagemap_process *found = calloc(PROCESSES_MAX, sizeof(*found));
	unsigned int levels = mt_regs_levels(regs);
	int count = 0, rc;

	*ret = found;
	if (!found)
		return mt_err_set(err, -ENOMEM, "no memory");
	if (levels < 4)
		return mt_err_set(err, -EOPNOTSUPP, "--by-process knows 64-bit guests only");
	rc = read_upper(&search, mt_regs_table(regs), err);
	if (rc)
		return rc;
	for (uint64_t i = 0; i < map->pages && count < PROCESSES_MAX; i++) {
		uint64_t gpa = guest_mem_gpa(mem, i << MT_PAGE_SHIFT).a;
		struct pagemap_process *process = &found[count];

		if (map->classes[i] == PAGEMAP_ZERO || map->classes[i] == PAGEMAP_UNTOUCHED ||
		    map->classes[i] == PAGEMAP_RELEASED || map->classes[i] == PAGEMAP_LOST ||
		    !is_root(&search, gpa))
			continue;
		*process = (struct pagemap_process){.cr3 = gpa};
		count_table(&search, process, gpa, levels, HALF);
		count += maps_anything(process);
	}
	return count;
}
