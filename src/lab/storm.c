/* SPDX-License-Identifier: MIT */
/* storm.c - a random guest; see storm.h */
#include "lab/storm.h"

#include <errno.h>

#define HEAP  0x400ULL
#define PIDS  6u
#define STEPS 5000u /* weights below add up to this */

void lab_storm_init(struct lab_storm *storm, struct lab_run *run, uint64_t seed)
{
	*storm = (struct lab_storm){.run = run, .random = seed, .heap_pages = 0x800};
}

static uint32_t below(struct lab_storm *storm, uint64_t limit)
{
	storm->random = storm->random * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)((storm->random >> 33) % limit);
}

/* What does not look at memory. */
static int storm_call(struct lab_storm *storm, unsigned int kind, uint32_t pid, uint64_t page)
{
	struct lab_kernel *kernel = storm->run->kernel;
	int rc;

	if (!kernel->current || kind < 20) {
		rc = lab_spawn(kernel, pid);
		return !rc || rc == -EEXIST ? lab_switch(kernel, pid) : rc;
	}
	if (kind < 25)
		return lab_fork(kernel, pid);
	if (kind < 28)
		return lab_exit(kernel);
	if (kind < 30)
		return lab_exec(kernel);
	if (kind < 60)
		return lab_map(kernel, page, 1 + below(storm, kind < 45 ? 0x80 : 0x600),
			       below(storm, 8) == 0);
	if (kind < 75)
		return lab_unmap(kernel, page, 1 + below(storm, 0x100));
	if (kind < 78)
		lab_inflate(kernel, below(storm, 60));
	else
		lab_deflate(kernel, below(storm, 60));
	return 0;
}

/* Mostly a page that is mapped; @other now and then. */
static uint64_t mapped_page(struct lab_storm *storm, uint64_t other)
{
	const struct lab_process *process = storm->run->kernel->current;
	const struct lab_mapping *mapping;

	if (!process->count || !below(storm, 20))
		return other;
	mapping = &process->mappings[below(storm, process->count)];
	return mapping->first + below(storm, mapping->count);
}

int lab_storm_step(struct lab_storm *storm)
{
	struct lab_kernel *kernel = storm->run->kernel;
	unsigned int kind = below(storm, STEPS);
	uint32_t pid = 1 + below(storm, PIDS);
	uint64_t page = HEAP + below(storm, storm->heap_pages);
	int rc;

	if (!kernel->current || kind < 82)
		rc = storm_call(storm, kind, pid, page);
	else
		rc = lab_touch(storm->run, mapped_page(storm, page), below(storm, 2) ? MT_PF_W : 0);
	/* Refusals are fine. Out of memory, a kernel kills the process and takes the balloon back.
	 */
	if (rc == -ENOMEM && !lab_deflate(kernel, 200) && kernel->current)
		return lab_exit(kernel);
	if (rc == -EINVAL || rc == -EEXIST || rc == -EFAULT || rc == -ENOMEM)
		return 0;
	return rc;
}
