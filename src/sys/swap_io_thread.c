/* SPDX-License-Identifier: MIT */
/*
 * swap_io_thread.c - page transfers by a thread that reads and writes
 *
 * For hosts that forbid io_uring. The caller must not wait, not even for a lock, so the two
 * threads talk through two rings with one writer and one reader each: the caller puts numbers of
 * requests into `todo`, the worker does them one by one and puts the numbers into `ended`. The
 * request itself belongs to whoever holds its number. There are no more requests than ring
 * entries, so a ring is never found full. The worker sleeps in a read of its eventfd.
 *
 * The worker blocks all signals: those that come to the process are for the VMM's threads.
 */
#include "sys/swap_io.h"
#include "base/own_fds.h"
#include "base/thread.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Little is needed, but the VMM's thread-local variables come out of a stack too. */
#define MT_SWAP_STACK_BYTES (256UL << 10)

struct mt_swap_request {
	uint64_t cookie;
	uint64_t offset;
	uint8_t *data;
	uint32_t bytes;
	int result;
	bool write;
};

/* Numbers of requests on their way from one thread to the other; positions only ever grow. */
struct mt_swap_ring {
	uint32_t *number;
	uint32_t mask;
	_Alignas(64) _Atomic uint32_t put;
	_Alignas(64) _Atomic uint32_t taken;
};

struct mt_swap_thread {
	pthread_t thread;
	int fd;
	int event_fd; /* to the caller: something has ended */
	int work_fd;  /* to the worker: something is to do */
	bool owns_event_fd;
	uint32_t depth;
	uint32_t idle;     /* entries of idle_request */
	uint32_t prepared; /* put position of todo that submit() will publish */
	struct mt_swap_request *request;
	uint32_t *idle_request;
	_Atomic bool stop;
	struct mt_swap_ring todo;
	struct mt_swap_ring ended;
};

static bool ring_take(struct mt_swap_ring *ring, uint32_t *ret_number)
{
	uint32_t taken = atomic_load_explicit(&ring->taken, memory_order_relaxed);

	if (taken == atomic_load_explicit(&ring->put, memory_order_acquire))
		return false;
	*ret_number = ring->number[taken & ring->mask];
	atomic_store_explicit(&ring->taken, taken + 1, memory_order_release);
	return true;
}

static bool ring_is_empty(const struct mt_swap_ring *ring)
{
	return atomic_load_explicit(&ring->taken, memory_order_relaxed) ==
	       atomic_load_explicit(&ring->put, memory_order_acquire);
}

/* The worker's side. Return: 0 or -errno. */
static int transfer(int fd, const struct mt_swap_request *request)
{
	uint32_t done = 0;

	while (done < request->bytes) {
		off_t at = (off_t)(request->offset + done);
		uint32_t left = request->bytes - done;
		ssize_t rc = request->write ? pwrite(fd, request->data + done, left, at)
					    : pread(fd, request->data + done, left, at);

		if (rc < 0 && errno == EINTR)
			continue;
		if (rc < 0)
			return -errno;
		/* Whole pages only: direct I/O can't go on from elsewhere. */
		if (rc < (ssize_t)left)
			rc = (ssize_t)mt_align_down((uint64_t)rc, MT_PAGE_SIZE);
		if (rc == 0)
			return -EIO;
		done += (uint32_t)rc;
	}
	return 0;
}

static void *worker(void *arg)
{
	struct mt_swap_thread *thread = arg;
	struct mt_swap_ring *ended = &thread->ended;
	uint32_t put = 0, number;
	eventfd_t ignored;

	mt_thread_enter("memtide-swap");
	for (;;) {
		while (ring_take(&thread->todo, &number)) {
			struct mt_swap_request *request = &thread->request[number];

			request->result = transfer(thread->fd, request);
			ended->number[put & ended->mask] = number;
			atomic_store_explicit(&ended->put, ++put, memory_order_release);
			eventfd_write(thread->event_fd, 1);
		}
		if (atomic_load(&thread->stop) && ring_is_empty(&thread->todo))
			return NULL;
		/* Blocks; what was put since the last look has made it readable. */
		if (eventfd_read(thread->work_fd, &ignored) && errno == EBADF)
			return NULL;
	}
}

static int start(struct mt_swap_thread *thread, bool write, mt_slot_t first, void *pages,
		 uint32_t count, uint64_t cookie)
{
	struct mt_swap_ring *todo = &thread->todo;
	uint32_t number;

	MT_ASSERT(count > 0 && count <= UINT32_MAX >> (MT_PAGE_SHIFT + 1));
	MT_ASSERT(((uintptr_t)pages & (MT_PAGE_SIZE - 1)) == 0);
	if (thread->idle == 0)
		return -EBUSY;
	number = thread->idle_request[--thread->idle];
	thread->request[number] =
		(struct mt_swap_request){.cookie = cookie,
					 .offset = (uint64_t)first.n << MT_PAGE_SHIFT,
					 .data = pages,
					 .bytes = count << MT_PAGE_SHIFT,
					 .write = write};
	todo->number[thread->prepared++ & todo->mask] = number;
	return 0;
}

static int thread_write(void *ctx, mt_slot_t first, const void *pages, uint32_t count,
			uint64_t cookie)
{
	return start(ctx, true, first, (void *)(uintptr_t)pages, count, cookie);
}

static int thread_read(void *ctx, mt_slot_t first, uint32_t count, void *pages, uint64_t cookie)
{
	return start(ctx, false, first, pages, count, cookie);
}

static int thread_submit(void *ctx)
{
	struct mt_swap_thread *thread = ctx;
	struct mt_swap_ring *todo = &thread->todo;

	if (thread->prepared == atomic_load_explicit(&todo->put, memory_order_relaxed))
		return 0;
	atomic_store_explicit(&todo->put, thread->prepared, memory_order_release);
	eventfd_write(thread->work_fd, 1);
	return 0;
}

static uint32_t thread_reap(void *ctx, struct mt_swap_done *done, uint32_t max)
{
	struct mt_swap_thread *thread = ctx;
	uint32_t count = 0, number;
	eventfd_t ignored;

	/* Before looking: what ends from here on signals anew. */
	if (thread->owns_event_fd)
		eventfd_read(thread->event_fd, &ignored);
	while (count < max && ring_take(&thread->ended, &number)) {
		done[count++] = (struct mt_swap_done){thread->request[number].cookie,
						      thread->request[number].result};
		thread->idle_request[thread->idle++] = number;
	}
	if (!ring_is_empty(&thread->ended))
		eventfd_write(thread->event_fd, 1);
	return count;
}

static void release(struct mt_swap_thread *thread)
{
	if (thread->owns_event_fd)
		mt_fd_close(thread->event_fd);
	mt_fd_close(thread->work_fd);
	free(thread->todo.number);
	free(thread->ended.number);
	free(thread->idle_request);
	free(thread->request);
	free(thread);
}

static void thread_free(void *ctx)
{
	struct mt_swap_thread *thread = ctx;

	/* The worker does all that was prepared before it ends. */
	thread_submit(thread);
	atomic_store(&thread->stop, true);
	eventfd_write(thread->work_fd, 1);
	pthread_join(thread->thread, NULL);
	release(thread);
}

static const struct mt_swap_io_ops thread_ops = {.write = thread_write,
						 .read = thread_read,
						 .submit = thread_submit,
						 .reap = thread_reap,
						 .free = thread_free};

static int start_worker(struct mt_swap_thread *thread)
{
	pthread_attr_t attr;
	int rc;

	rc = pthread_attr_init(&attr);
	if (rc)
		return -rc;
	pthread_attr_setstacksize(&attr, MT_SWAP_STACK_BYTES);
	rc = mt_thread_start(&thread->thread, &attr, worker, thread);
	pthread_attr_destroy(&attr);
	return rc;
}

/* Everything but the worker. Return: 0 or -errno, with whatever was made left for release(). */
static int prepare_thread(struct mt_swap_thread *thread)
{
	uint32_t entries = 1;

	while (entries < thread->depth)
		entries *= 2;
	thread->todo.mask = entries - 1;
	thread->ended.mask = entries - 1;
	thread->request = calloc(thread->depth, sizeof(*thread->request));
	thread->idle_request = calloc(thread->depth, sizeof(*thread->idle_request));
	thread->todo.number = calloc(entries, sizeof(uint32_t));
	thread->ended.number = calloc(entries, sizeof(uint32_t));
	if (!thread->request || !thread->idle_request || !thread->todo.number ||
	    !thread->ended.number)
		return -ENOMEM;
	for (uint32_t i = 0; i < thread->depth; i++)
		thread->idle_request[thread->idle++] = thread->depth - 1 - i;
	thread->work_fd = mt_fd_own(eventfd(0, EFD_CLOEXEC));
	if (thread->work_fd < 0)
		return -errno;
	if (!thread->owns_event_fd)
		return 0;
	thread->event_fd = mt_fd_own(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
	return thread->event_fd < 0 ? -errno : 0;
}

int mt_swap_io_new_thread(int fd, uint32_t depth, int event_fd, struct mt_swap_io *ret_io,
			  struct mt_err *err)
{
	struct mt_swap_thread *thread;
	int rc;

	if (depth == 0 || depth > MT_SWAP_IO_DEPTH_MAX)
		return mt_err_set(err, -EINVAL, "swap I/O depth %u is not in 1..%u", depth,
				  MT_SWAP_IO_DEPTH_MAX);
	thread = aligned_alloc(_Alignof(struct mt_swap_thread), sizeof(*thread));
	if (!thread)
		return mt_err_set(err, -ENOMEM, "out of memory for swap I/O");
	memset(thread, 0, sizeof(*thread));
	thread->fd = fd;
	thread->event_fd = event_fd;
	thread->work_fd = -1;
	thread->owns_event_fd = event_fd < 0;
	thread->depth = depth;
	rc = prepare_thread(thread);
	if (rc == 0)
		rc = start_worker(thread);
	if (rc) {
		release(thread);
		return mt_err_set(err, rc, "can't start a thread for swap I/O: %s", strerror(-rc));
	}
	*ret_io = (struct mt_swap_io){.ops = &thread_ops,
				      .ctx = thread,
				      .name = "thread",
				      .event_fd = thread->event_fd,
				      .depth = depth,
				      .direct = mt_swap_io_is_direct(fd)};
	return 0;
}
