/* SPDX-License-Identifier: MIT */
/*
 * run.c - a lab carries out a trace, and checks what every access finds
 *
 * Process numbers of a trace are made fresh numbers of the lab's, so that a trace can be run again
 * and again: each pass ends with all its processes gone.
 */
#include "lab/trace.h"

#include <errno.h>
#include <string.h>

#define MARK 0x9e3779b97f4a7c15ULL /* odd: numbers stay distinct when multiplied by it */

static struct lab_mapping *find_mapping(struct lab_process *process, uint64_t page)
{
	for (unsigned int i = 0; process && i < process->count; i++)
		if (page - process->mappings[i].first < process->mappings[i].count)
			return &process->mappings[i];
	return NULL;
}

int lab_touch(struct lab_run *run, uint64_t page, unsigned int access)
{
	struct lab_process *process = run->kernel->current;
	struct lab_mapping *mapping = find_mapping(process, page);
	mt_gva_t gva = MT_GVA((page << MT_PAGE_SHIFT) + page * 13 % MT_ENTRIES_PER_TABLE * 8);
	uint64_t value = 0, want;
	int rc;

	rc = lab_access(run->kernel, gva, access & ~MT_PF_W, &value);
	if (rc)
		return rc;
	MT_ASSERT(mapping);
	want = mapping->version[page - mapping->first] * MARK;
	run->checked++;
	if (value != want && !run->wrong++)
		mt_err_set(&run->err, -EIO, "process %u, page %llx: found %016llx, not %016llx",
			   process->pid, (unsigned long long)page, (unsigned long long)value,
			   (unsigned long long)want);
	if (!(access & MT_PF_W))
		return 0;
	run->version++;
	value = (uint32_t)run->version * MARK;
	rc = lab_access(run->kernel, gva, access, &value);
	if (!rc)
		mapping->version[page - mapping->first] = (uint32_t)run->version;
	return rc;
}

static int need_pid(struct lab_pass *pass, uint64_t pid, bool alive)
{
	if (pid && pid < LAB_TRACE_PIDS && pass->alive[pid] == alive)
		return 0;
	return mt_err_set(&pass->run->kernel->err, -EINVAL, "process %llu is %s",
			  (unsigned long long)pid,
			  !pid || pid >= LAB_TRACE_PIDS ? "out of range"
			  : alive                       ? "not there"
							: "there already");
}

static int do_op(struct lab_pass *pass, const struct lab_op *op)
{
	struct lab_kernel *kernel = pass->run->kernel;
	int rc;

	switch ((enum lab_op_kind)op->kind) {
	case LAB_OP_MAP:
		return lab_map(kernel, op->first, op->count, op->read_only);
	case LAB_OP_UNMAP:
		return lab_unmap(kernel, op->first, op->count);
	case LAB_OP_READ:
		return lab_touch(pass->run, op->first, 0);
	case LAB_OP_WRITE:
		return lab_touch(pass->run, op->first, MT_PF_W);
	case LAB_OP_FETCH:
		return lab_touch(pass->run, op->first, MT_PF_I);
	case LAB_OP_HIT:
		kernel->vm->mmu.stats.accesses += op->first;
		return 0;
	case LAB_OP_FORK:
		rc = need_pid(pass, op->first, false);
		if (!rc)
			rc = lab_fork(kernel, (uint32_t)op->first);
		if (!rc)
			pass->alive[op->first] = true;
		return rc;
	case LAB_OP_RUN:
		rc = need_pid(pass, op->first, true);
		if (rc)
			return rc;
		pass->current = (uint32_t)op->first;
		return lab_switch(kernel, (uint32_t)op->first);
	case LAB_OP_EXEC:
		return lab_exec(kernel);
	case LAB_OP_EXIT:
		rc = lab_exit(kernel);
		if (!rc)
			pass->alive[pass->current] = false;
		return rc;
	}
	MT_UNREACHABLE("the reader knows no other");
}

static int spawn_first(struct lab_pass *pass, struct mt_err *err)
{
	struct lab_kernel *kernel = pass->run->kernel;
	int rc = lab_spawn(kernel, 1);

	pass->alive[1] = !rc;
	pass->current = 1;
	if (!rc)
		rc = lab_switch(kernel, 1);
	return rc ? mt_err_set(err, rc, "%s: %s", pass->trace->path, kernel->err.msg) : 0;
}

static int do_ops(struct lab_pass *pass, size_t from, size_t to, struct mt_err *err)
{
	const struct lab_trace *trace = pass->trace;

	for (size_t i = from; i < to; i++) {
		int rc = do_op(pass, &trace->ops[i]);

		if (rc)
			return mt_err_set(err, rc, "%s:%u: %s", trace->path, trace->ops[i].line,
					  pass->run->kernel->err.msg);
	}
	if (pass->run->wrong)
		return mt_err_set(err, -EIO, "%s: %s", trace->path, pass->run->err.msg);
	return 0;
}

int lab_pass_begin(struct lab_pass *pass, const struct lab_trace *trace, struct lab_run *run,
		   struct mt_err *err)
{
	int rc = 0;

	*pass = (struct lab_pass){.trace = trace, .run = run};
	if (trace->loop)
		rc = spawn_first(pass, err);
	return rc ? rc : do_ops(pass, 0, trace->loop, err);
}

int lab_pass_once(struct lab_pass *pass, struct mt_err *err)
{
	int rc = pass->trace->loop ? 0 : spawn_first(pass, err);

	if (!rc)
		rc = do_ops(pass, pass->trace->loop, pass->trace->count, err);
	if (!rc && !pass->trace->loop)
		rc = lab_pass_end(pass, err);
	return rc;
}

int lab_pass_end(struct lab_pass *pass, struct mt_err *err)
{
	struct lab_kernel *kernel = pass->run->kernel;

	for (uint32_t pid = 1; pid < LAB_TRACE_PIDS; pid++) {
		int rc;

		if (!pass->alive[pid])
			continue;
		rc = lab_switch(kernel, pid);
		if (!rc)
			rc = lab_exit(kernel);
		if (rc)
			return mt_err_set(err, rc, "%s: %s", pass->trace->path, kernel->err.msg);
		pass->alive[pid] = false;
	}
	pass->current = 0;
	return 0;
}

int lab_trace_run(const struct lab_trace *trace, struct lab_run *run, struct mt_err *err)
{
	struct lab_pass pass;
	int rc = lab_pass_begin(&pass, trace, run, err), ended;

	if (!rc)
		rc = lab_pass_once(&pass, err);
	ended = lab_pass_end(&pass, rc ? NULL : err); /* whatever happened */
	return rc ? rc : ended;
}
