/* SPDX-License-Identifier: MIT */
/* process.c - the guest kernel's processes and their mappings; see kernel.h */
#include "lab/kernel_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAPPING_PAGES_MAX (1ULL << 24)
#define KERNEL_SLOT       273u /* of the root: 0xffff888000000000 */

struct lab_process *lab_find(struct lab_kernel *kernel, uint32_t pid)
{
	if (pid == LAB_NO_PID || pid >= LAB_PROCESSES_MAX)
		return NULL;
	return kernel->processes[pid].pid ? &kernel->processes[pid] : NULL;
}

struct lab_mapping *lab_mapping_of(struct lab_process *process, uint64_t page)
{
	for (unsigned int i = 0; i < process->count; i++)
		if (page - process->mappings[i].first < process->mappings[i].count)
			return &process->mappings[i];
	return NULL;
}

static int no_process(struct lab_kernel *kernel)
{
	return mt_err_set(&kernel->err, -ESRCH, "no process is running");
}

static int new_process(struct lab_kernel *kernel, uint32_t pid, struct lab_process **ret)
{
	struct lab_process *process;
	uint32_t root;

	if (pid == LAB_NO_PID || pid >= LAB_PROCESSES_MAX)
		return mt_err_set(&kernel->err, -EINVAL, "processes have numbers from 1 to %u",
				  LAB_PROCESSES_MAX - 1);
	process = &kernel->processes[pid];
	if (process->pid)
		return mt_err_set(&kernel->err, -EEXIST, "there is a process %u already", pid);
	root = lab_frame_take(kernel, LAB_USE_TABLE, 0);
	if (root == LAB_NO_FRAME)
		return mt_err_set(&kernel->err, -ENOMEM, "no memory for process %u", pid);
	lab_store(kernel, lab_gpa(root) + 8 * KERNEL_SLOT,
		  kernel->kernel_half.a | MT_PTE_P | MT_PTE_RW | MT_PTE_A);
	*process = (struct lab_process){.pid = pid, .root = MT_GPA(lab_gpa(root))};
	*ret = process;
	return 0;
}

int lab_spawn(struct lab_kernel *kernel, uint32_t pid)
{
	struct lab_process *process;

	return new_process(kernel, pid, &process);
}

static int load_root(struct lab_kernel *kernel, mt_gpa_t root)
{
	return mt_mmu_set_cr3(&kernel->vm->mmu, root.a, false, &kernel->err);
}

int lab_switch(struct lab_kernel *kernel, uint32_t pid)
{
	struct lab_process *process = lab_find(kernel, pid);

	if (!process)
		return mt_err_set(&kernel->err, -ESRCH, "there is no process %u", pid);
	kernel->current = process;
	kernel->stats.switches++;
	return load_root(kernel, process->root);
}

/* Room for one more mapping. Return: it, not yet counted, or NULL */
static struct lab_mapping *mapping_room(struct lab_process *process)
{
	if (process->count == process->room) {
		unsigned int room = process->room ? process->room * 2 : 16;
		struct lab_mapping *more =
			realloc(process->mappings, room * sizeof(*process->mappings));

		if (!more)
			return NULL;
		process->mappings = more;
		process->room = room;
	}
	return &process->mappings[process->count];
}

static int add_mapping(struct lab_process *process, const struct lab_mapping *like, uint64_t first,
		       uint64_t count)
{
	struct lab_mapping *mapping = mapping_room(process);
	uint32_t *version = calloc(count, sizeof(*version));

	if (!mapping || !version) {
		free(version);
		return -ENOMEM;
	}
	*mapping = *like;
	mapping->first = first;
	mapping->count = count;
	mapping->version = version;
	if (like->version)
		memcpy(version, like->version + (first - like->first), count * sizeof(*version));
	process->count++;
	return 0;
}

int lab_map(struct lab_kernel *kernel, uint64_t first, uint64_t count, bool read_only)
{
	const struct lab_mapping like = {.first = first, .read_only = read_only, .large = true};
	struct lab_process *process = kernel->current;

	if (!process)
		return no_process(kernel);
	if (!count || count > MAPPING_PAGES_MAX || first > LAB_USER_PAGES - count)
		return mt_err_set(&kernel->err, -EINVAL,
				  "%llu pages from page %llx on are no place for a process",
				  (unsigned long long)count, (unsigned long long)first);
	for (unsigned int i = 0; i < process->count; i++) {
		const struct lab_mapping *other = &process->mappings[i];

		if (first < other->first + other->count && other->first < first + count)
			return mt_err_set(&kernel->err, -EINVAL, "page %llx is mapped already",
					  (unsigned long long)MT_MAX(first, other->first));
	}
	if (add_mapping(process, &like, first, count))
		return mt_err_set(&kernel->err, -ENOMEM, "no memory to note a mapping");
	return 0;
}

static void drop_mapping(struct lab_process *process, unsigned int index)
{
	free(process->mappings[index].version);
	process->mappings[index] = process->mappings[--process->count];
}

/* Cut a range out of a mapping: what is left on both sides are mappings of their own. */
static int cut_mapping(struct lab_process *process, unsigned int index, uint64_t first,
		       uint64_t end)
{
	struct lab_mapping was = process->mappings[index];
	int rc = 0;

	if (was.first < first)
		rc = add_mapping(process, &was, was.first, first - was.first);
	if (!rc && end < was.first + was.count)
		rc = add_mapping(process, &was, end, was.first + was.count - end);
	if (!rc)
		drop_mapping(process, index);
	return rc;
}

int lab_unmap(struct lab_kernel *kernel, uint64_t first, uint64_t count)
{
	struct lab_process *process = kernel->current;
	int rc = 0;

	if (!process)
		return no_process(kernel);
	if (!count || count > MAPPING_PAGES_MAX || first > LAB_USER_PAGES - count)
		return mt_err_set(&kernel->err, -EINVAL, "no pages to unmap there");
	if (first % MT_HUGE_PAGES)
		rc = lab_split(kernel, process->root, first);
	if (!rc && (first + count) % MT_HUGE_PAGES)
		rc = lab_split(kernel, process->root, first + count);
	if (rc)
		return rc;
	for (unsigned int i = process->count; i-- > 0;) {
		const struct lab_mapping *mapping = &process->mappings[i];

		if (first < mapping->first + mapping->count && mapping->first < first + count &&
		    cut_mapping(process, i, first, first + count))
			return mt_err_set(&kernel->err, -ENOMEM, "no memory to note a mapping");
	}
	lab_tables_clear(kernel, process->root, first, count);
	return 0;
}

int lab_fork(struct lab_kernel *kernel, uint32_t pid)
{
	struct lab_process *parent = kernel->current, *child;
	int rc;

	if (!parent)
		return no_process(kernel);
	rc = new_process(kernel, pid, &child);
	if (rc)
		return rc;
	kernel->stats.forks++;
	for (unsigned int i = 0; !rc && i < parent->count; i++)
		rc = add_mapping(child, &parent->mappings[i], parent->mappings[i].first,
				 parent->mappings[i].count);
	if (!rc)
		rc = lab_tables_copy(kernel, parent->root, child->root);
	/* The parent's pages are read-only now. */
	if (load_root(kernel, parent->root))
		rc = -ENOMEM;
	return rc ? mt_err_set(&kernel->err, rc, "no memory to fork process %u", parent->pid) : 0;
}

int lab_exec(struct lab_kernel *kernel)
{
	struct lab_process *process = kernel->current;

	if (!process)
		return no_process(kernel);
	while (process->count)
		drop_mapping(process, process->count - 1);
	lab_tables_free(kernel, process->root);
	return load_root(kernel, process->root);
}

int lab_exit(struct lab_kernel *kernel)
{
	struct lab_process *process = kernel->current;
	int rc = lab_exec(kernel);

	if (rc)
		return rc;
	kernel->current = NULL;
	rc = load_root(kernel, MT_GPA(kernel->kernel_half.a - MT_PAGE_SIZE));
	lab_frame_put(kernel, (uint32_t)(process->root.a >> MT_PAGE_SHIFT));
	free(process->mappings);
	memset(process, 0, sizeof(*process));
	return rc;
}
