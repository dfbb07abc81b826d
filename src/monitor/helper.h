/* SPDX-License-Identifier: MIT */
/*
 * helper.h - the thread that compresses, so that faults don't wait for it
 *
 * The pager hands over jobs: nominated pages in their staging slots. The helper looks whether a
 * page is all zeros, else hashes it or compresses it into the job's buffer, and hands the job back.
 * It reads staging and writes its own job, nothing else: what becomes of a page is the pager's
 * decision when it takes the job back. When there is no job the helper fills the nursery.
 *
 * The thread has descriptors of its own, and with them keeps the userfaultfd open whatever the VMM
 * closes.
 *
 * Two jobs go round, so that one can be worked on while the other is filled or taken in.
 */
#ifndef MT_MONITOR_HELPER_H
#define MT_MONITOR_HELPER_H

#include "base/compiler.h"
#include "base/types.h"
#include "monitor/zip_store.h"

#include <pthread.h>
#include <stdatomic.h>

#define MT_JOB_PAGES 32U
#define MT_JOBS      2U

enum mt_job_verdict {
	MT_JOB_ZERO,
	MT_JOB_SHRUNK,    /* to bytes[i], in out */
	MT_JOB_TOO_LARGE, /* would not shrink to half */
	MT_JOB_HASHED,
};

enum mt_job_kind {
	MT_JOB_ZIP,  /* zero? else compress */
	MT_JOB_HASH, /* zero? else hash, for sharing */
};

enum mt_job_phase { MT_JOB_IDLE, MT_JOB_QUEUED, MT_JOB_DONE };

struct mt_job {
	_Atomic int phase; /* enum mt_job_phase: the pager's unless QUEUED, then the helper's */
	enum mt_job_kind kind;
	uint32_t left; /* pager: pages of a hashed job that are to be compressed */
	uint32_t count;
	uint64_t ticket;
	mt_gpn_t gpn[MT_JOB_PAGES];
	mt_stage_t slot[MT_JOB_PAGES];
	const uint8_t *page[MT_JOB_PAGES];
	uint8_t verdict[MT_JOB_PAGES]; /* enum mt_job_verdict */
	uint16_t bytes[MT_JOB_PAGES];
	uint64_t hash[MT_JOB_PAGES];
	uint8_t *out; /* MT_JOB_PAGES * MT_ZIP_OBJECT_MAX */
};

struct mt_helper {
	struct mt_job job[MT_JOBS];
	pthread_t thread;
	bool started;
	bool by_hand; /* tests: there is no thread, mt_helper_run_one() is called instead */
	_Atomic bool stop;
	int wake_fd;  /* eventfd: the helper sleeps on it */
	int pager_fd; /* eventfd of the pager, written when a job is done (borrowed) */
	/* Borrowed, and kept open by the thread: the userfaultfd; what guest memory is read by. */
	int keep_fd;
	int read_fd;
	pthread_mutex_t lock;
	pthread_cond_t knows_files;
	int files; /* [lock] 1: the thread has its own descriptors; -errno: it can't have */
	void *lz4_state;
	/* Called when there is no job; may do a bounded piece of work. Return: true if it did any.
	 */
	bool (*idle_work)(void *ctx);
	void *idle_ctx;
};

/** mt_helper_start() - make buffers and start the thread. Return: 0 or -errno. */
MT_MUST_CHECK int mt_helper_start(struct mt_helper *helper, int pager_fd);

/** mt_helper_run_one() - the helper's work: one job, or one piece of idle work. False: no work. */
bool mt_helper_run_one(struct mt_helper *helper);

/** mt_helper_stop() - end the thread, free everything; a zeroed one is fine */
void mt_helper_stop(struct mt_helper *helper);

/** mt_helper_job() - a job in @phase, or NULL */
struct mt_job *mt_helper_job(struct mt_helper *helper, enum mt_job_phase phase);

/** mt_helper_submit() - hand a filled job over */
void mt_helper_submit(struct mt_helper *helper, struct mt_job *job);

/** mt_helper_wake() - let the helper look for idle work */
void mt_helper_wake(struct mt_helper *helper);

/** mt_helper_bytes() - memory the helper holds */
uint64_t mt_helper_bytes(void);

/** mt_page_is_zero() - is a page all zeros? */
bool mt_page_is_zero(const void *page);

#endif
