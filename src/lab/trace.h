/* SPDX-License-Identifier: MIT */
/*
 * trace.h - what programs do to memory, as text; and having a lab do it
 *
 *	memtide-trace 1          the first line
 *	# comment
 *	map FIRST COUNT [ro]     the running process may use COUNT pages from page FIRST on
 *	unmap FIRST COUNT        and no longer
 *	a rPAGE wPAGE xPAGE …    accesses, one in each page: read, write, fetch
 *	hit N                    N accesses to pages that were used a moment ago
 *	fork PID                 the running process forks
 *	run PID                  a context switch
 *	loop                     what follows is what passes repeat (at most once; without it: all)
 *	exec                     the running process drops all its mappings
 *	exit                     and ends; "run" must follow
 *
 * Page numbers (addresses / 4096) and counts of map and unmap are hexadecimal, PID and N decimal.
 * The file may be compressed (LZ4 frames, as by "lz4"). A trace begins in process 1. "hit" stands
 *for accesses that no TLB of 16 entries or more would miss; recorders leave them out, which keeps
 *traces small and changes no count of misses (trace stripping; Puzak, 1985).
 */
#ifndef MT_LAB_TRACE_H
#define MT_LAB_TRACE_H

#include "lab/kernel.h"

enum lab_op_kind {
	LAB_OP_MAP,
	LAB_OP_UNMAP,
	LAB_OP_READ,
	LAB_OP_WRITE,
	LAB_OP_FETCH,
	LAB_OP_HIT,
	LAB_OP_FORK,
	LAB_OP_RUN,
	LAB_OP_EXEC,
	LAB_OP_EXIT
};

struct lab_op {
	uint8_t kind;
	bool read_only;
	uint32_t line;
	uint64_t first; /* page, pid, or number of accesses */
	uint64_t count;
};

struct lab_trace {
	char name[64];    /* of the file, without folder and ending */
	const char *path; /* borrowed */
	struct lab_op *ops;
	size_t count, room;
	size_t loop; /* where passes begin; 0: at the start, with a process of their own */
};

/** lab_trace_read() - Return: 0; -errno with a message that has file and line */
int lab_trace_read(struct lab_trace *trace, const char *path, struct mt_err *err);
void lab_trace_free(struct lab_trace *trace);

/*
 * A run of a trace. Every page touched has a marked word; each write gives it a number never used
 * before, and each access finds the number that its own process left there, or zero.
 */
struct lab_run {
	struct lab_kernel *kernel;
	uint64_t version;  /* the last number written */
	uint64_t checked;  /* words looked at */
	uint64_t wrong;    /* words that were not what they had to be */
	struct mt_err err; /* about the first of these */
};

/** lab_touch() - one access to @page of the running process, checked. Return: 0 or -errno */
int lab_touch(struct lab_run *run, uint64_t page, unsigned int access);

#define LAB_TRACE_PIDS 1024u

/* A trace that is being run. */
struct lab_pass {
	const struct lab_trace *trace;
	struct lab_run *run;
	bool alive[LAB_TRACE_PIDS];
	uint32_t current; /* 0: none */
};

/*
 * lab_pass_begin(): what stands before "loop"; lab_pass_once(): a pass; lab_pass_end(): all
 * processes end. Return: as lab_trace_run()
 */
int lab_pass_begin(struct lab_pass *pass, const struct lab_trace *trace, struct lab_run *run,
		   struct mt_err *err);
int lab_pass_once(struct lab_pass *pass, struct mt_err *err);
int lab_pass_end(struct lab_pass *pass, struct mt_err *err);

/**
 * lab_trace_run() - all of @trace once, in processes of its own: they are gone at the end
 *
 * Return: 0; -EIO when a word was wrong; -errno with a message that has file and line
 */
int lab_trace_run(const struct lab_trace *trace, struct lab_run *run, struct mt_err *err);

#endif
