/* SPDX-License-Identifier: MIT */
/* helper.c - the compressing thread; see helper.h */
#define LZ4_STATIC_LINKING_ONLY
#include "monitor/helper.h"
#include "base/own_fds.h"
#include "base/thread.h"
#include "monitor/share.h"

#include <errno.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

bool mt_page_is_zero(const void *page)
{
	const uint64_t *word = page;

	for (unsigned int i = 0; i < MT_PAGE_SIZE / sizeof(*word); i += 8) {
		if (word[i] | word[i + 1] | word[i + 2] | word[i + 3] | word[i + 4] | word[i + 5] |
		    word[i + 6] | word[i + 7])
			return false;
	}
	return true;
}

static void helper_compress(void *lz4_state, struct mt_job *job, uint32_t i)
{
	char *out = (char *)job->out + i * MT_ZIP_OBJECT_MAX;
	int bytes;

	if (mt_page_is_zero(job->page[i])) {
		job->verdict[i] = MT_JOB_ZERO;
		return;
	}
	bytes = LZ4_compress_fast_extState_fastReset(lz4_state, (const char *)job->page[i], out,
						     (int)MT_PAGE_SIZE, MT_ZIP_OBJECT_MAX, 1);
	job->verdict[i] = bytes > 0 ? MT_JOB_SHRUNK : MT_JOB_TOO_LARGE;
	job->bytes[i] = (uint16_t)bytes;
}

static void helper_hash(struct mt_job *job, uint32_t i)
{
	if (mt_page_is_zero(job->page[i])) {
		job->verdict[i] = MT_JOB_ZERO;
		return;
	}
	job->verdict[i] = MT_JOB_HASHED;
	job->hash[i] = mt_share_hash(job->page[i]);
}

bool mt_helper_run_one(struct mt_helper *helper)
{
	struct mt_job *job = mt_helper_job(helper, MT_JOB_QUEUED);

	MT_ASSERT(helper);
	if (!job)
		return helper->idle_work && helper->idle_work(helper->idle_ctx);
	for (uint32_t i = 0; i < job->count; i++) {
		if (job->kind == MT_JOB_HASH)
			helper_hash(job, i);
		else
			helper_compress(helper->lz4_state, job, i);
	}
	atomic_store_explicit(&job->phase, MT_JOB_DONE, memory_order_release);
	mt_thread_wake(helper->pager_fd);
	return true;
}

/*
 * The userfaultfd must outlive every other reference to it: when the last one goes, pages that are
 * out read as zeros. A VMM may close the process's by a raw system call; the one in this thread's
 * own table it can't reach, and the guest then waits for its pages. Nothing else of the VMM's is
 * kept: a socket that stays open here would never end for its peer.
 */
static void helper_keep_files(struct mt_helper *helper)
{
	const int keep[] = {helper->wake_fd, helper->pager_fd, helper->keep_fd, helper->read_fd};
	int rc = mt_thread_own_files(keep, MT_ARRAY_SIZE(keep));

	pthread_mutex_lock(&helper->lock);
	helper->files = rc ? rc : 1;
	pthread_cond_signal(&helper->knows_files);
	pthread_mutex_unlock(&helper->lock);
}

/* Until then it has everything of the VMM's open, too. */
static void helper_wait_files(struct mt_helper *helper)
{
	pthread_mutex_lock(&helper->lock);
	while (!helper->files)
		pthread_cond_wait(&helper->knows_files, &helper->lock);
	pthread_mutex_unlock(&helper->lock);
}

static void *helper_main(void *arg)
{
	struct mt_helper *helper = arg;
	uint64_t woken;

	mt_thread_enter("memtide-helper");
	helper_keep_files(helper);
	while (!atomic_load_explicit(&helper->stop, memory_order_acquire)) {
		if (mt_helper_run_one(helper))
			continue;
		if (read(helper->wake_fd, &woken, sizeof(woken)) < 0 && errno != EINTR)
			break;
	}
	return NULL;
}

static int helper_buffers(struct mt_helper *helper)
{
	uint64_t bytes = MT_JOB_PAGES * MT_ZIP_OBJECT_MAX;

	helper->lz4_state = calloc(1, (size_t)LZ4_sizeofState());
	if (!helper->lz4_state)
		return -ENOMEM;
	for (uint32_t i = 0; i < MT_JOBS; i++) {
		void *out = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				 -1, 0);

		if (out == MAP_FAILED)
			return -ENOMEM;
		madvise(out, bytes, MADV_DONTFORK);
		helper->job[i].out = out;
	}
	return 0;
}

int mt_helper_start(struct mt_helper *helper, int pager_fd)
{
	int rc;

	helper->pager_fd = pager_fd;
	pthread_mutex_init(&helper->lock, NULL);
	pthread_cond_init(&helper->knows_files, NULL);
	helper->wake_fd = mt_fd_own(eventfd(0, EFD_CLOEXEC));
	if (helper->wake_fd < 0)
		return -errno;
	rc = helper_buffers(helper);
	if (rc || helper->by_hand)
		return rc;
	rc = mt_thread_start(&helper->thread, NULL, helper_main, helper);
	helper->started = rc == 0;
	if (!rc)
		helper_wait_files(helper);
	return rc;
}

void mt_helper_stop(struct mt_helper *helper)
{
	if (helper->started) {
		atomic_store_explicit(&helper->stop, true, memory_order_release);
		mt_helper_wake(helper);
		pthread_join(helper->thread, NULL);
	}
	if (helper->wake_fd > 0)
		mt_fd_close(helper->wake_fd);
	for (uint32_t i = 0; i < MT_JOBS; i++)
		if (helper->job[i].out)
			munmap(helper->job[i].out, MT_JOB_PAGES * MT_ZIP_OBJECT_MAX);
	free(helper->lz4_state);
	memset(helper, 0, sizeof(*helper));
}

struct mt_job *mt_helper_job(struct mt_helper *helper, enum mt_job_phase phase)
{
	for (uint32_t i = 0; i < MT_JOBS; i++)
		if (atomic_load_explicit(&helper->job[i].phase, memory_order_acquire) == (int)phase)
			return &helper->job[i];
	return NULL;
}

void mt_helper_submit(struct mt_helper *helper, struct mt_job *job)
{
	atomic_store_explicit(&job->phase, MT_JOB_QUEUED, memory_order_release);
	mt_helper_wake(helper);
}

void mt_helper_wake(struct mt_helper *helper)
{
	mt_thread_wake(helper->wake_fd);
}

uint64_t mt_helper_bytes(void)
{
	return MT_JOBS * MT_JOB_PAGES * MT_ZIP_OBJECT_MAX + (uint64_t)LZ4_sizeofState();
}
