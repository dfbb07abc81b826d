/* SPDX-License-Identifier: MIT */
/*
 * swap_io_uring.c - page transfers through io_uring
 *
 * Each transfer under way has a request, taken from a free list of depth entries. The ring has at
 * least as many entries, and a request is in it at most once, so neither side of the ring can
 * overflow. A transfer that the kernel cut short is put back for the rest of it; only when nothing
 * more can be had it has failed.
 *
 * The ring holds the file, not its number: whatever the VMM closes and opens, nothing is ever
 * written to another file.
 *
 * The kernel signals the eventfd by itself at each completion. What it does not know of, what
 * reap() left over and what submit() could not start, is signalled by us.
 */
#include "sys/swap_io.h"
#include "base/own_fds.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Times that a transfer is tried again after EAGAIN or EINTR before it counts as failed. */
#define MT_SWAP_TRIES 16

struct mt_swap_request {
	uint64_t cookie;
	uint64_t offset; /* of what is left, in the file */
	uint8_t *data;   /* of what is left */
	uint32_t left_bytes;
	uint16_t tries;
	bool write;
};

struct mt_swap_uring {
	struct io_uring ring;
	int fd;
	int event_fd;
	bool owns_event_fd;
	bool fixed; /* the ring holds the file itself */
	bool stuck; /* the kernel did not take all that was submitted */
	uint32_t depth;
	uint32_t idle; /* entries of idle_request */
	struct mt_swap_request *request;
	uint32_t *idle_request;
};

static void exit_ring(struct mt_swap_uring *uring)
{
	mt_fd_disown(uring->ring.ring_fd);
	io_uring_queue_exit(&uring->ring);
}

static void signal_event(const struct mt_swap_uring *uring)
{
	eventfd_write(uring->event_fd, 1);
}

/* Put the rest of a transfer into the ring. */
static void prepare(struct mt_swap_uring *uring, struct mt_swap_request *request)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);
	int fd = uring->fixed ? 0 : uring->fd;

	MT_ASSERT(sqe);
	if (request->write)
		io_uring_prep_write(sqe, fd, request->data, request->left_bytes, request->offset);
	else
		io_uring_prep_read(sqe, fd, request->data, request->left_bytes, request->offset);
	if (uring->fixed)
		io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
	io_uring_sqe_set_data(sqe, request);
}

static int start(struct mt_swap_uring *uring, bool write, mt_slot_t first, void *pages,
		 uint32_t count, uint64_t cookie)
{
	struct mt_swap_request *request;

	MT_ASSERT(count > 0 && count <= UINT32_MAX >> (MT_PAGE_SHIFT + 1));
	MT_ASSERT(((uintptr_t)pages & (MT_PAGE_SIZE - 1)) == 0);
	if (uring->idle == 0)
		return -EBUSY;
	request = &uring->request[uring->idle_request[--uring->idle]];
	*request = (struct mt_swap_request){.cookie = cookie,
					    .offset = (uint64_t)first.n << MT_PAGE_SHIFT,
					    .data = pages,
					    .left_bytes = count << MT_PAGE_SHIFT,
					    .write = write};
	prepare(uring, request);
	return 0;
}

static int uring_write(void *ctx, mt_slot_t first, const void *pages, uint32_t count,
		       uint64_t cookie)
{
	return start(ctx, true, first, (void *)(uintptr_t)pages, count, cookie);
}

static int uring_read(void *ctx, mt_slot_t first, uint32_t count, void *pages, uint64_t cookie)
{
	return start(ctx, false, first, pages, count, cookie);
}

static int uring_submit(void *ctx)
{
	struct mt_swap_uring *uring = ctx;

	uring->stuck = false;
	while (io_uring_sq_ready(&uring->ring) > 0) {
		if (io_uring_submit(&uring->ring) <= 0) {
			uring->stuck = true;
			signal_event(uring);
			return -EAGAIN;
		}
	}
	return 0;
}

/* Take note of what the kernel did of @request. Return: 0 or -errno at its end, 1 to go on. */
static int advance(struct mt_swap_request *request, int bytes)
{
	uint32_t done;

	if (bytes == -EAGAIN || bytes == -EINTR)
		return ++request->tries < MT_SWAP_TRIES ? 1 : bytes;
	if (bytes < 0)
		return bytes;
	if ((uint32_t)bytes >= request->left_bytes)
		return 0;
	/* Whole pages only: direct I/O can't go on from elsewhere. */
	done = (uint32_t)mt_align_down((uint32_t)bytes, MT_PAGE_SIZE);
	if (done == 0)
		return -EIO;
	request->data += done;
	request->offset += done;
	request->left_bytes -= done;
	return 1;
}

static uint32_t uring_reap(void *ctx, struct mt_swap_done *done, uint32_t max)
{
	struct mt_swap_uring *uring = ctx;
	struct io_uring_cqe *cqe;
	bool again = uring->stuck;
	uint32_t count = 0;
	eventfd_t ignored;

	/* Before looking: what completes from here on signals anew. */
	if (uring->owns_event_fd)
		eventfd_read(uring->event_fd, &ignored);
	while (count < max && io_uring_peek_cqe(&uring->ring, &cqe) == 0) {
		struct mt_swap_request *request = io_uring_cqe_get_data(cqe);
		int rc = advance(request, cqe->res);

		io_uring_cqe_seen(&uring->ring, cqe);
		if (rc > 0) {
			prepare(uring, request);
			again = true;
			continue;
		}
		done[count++] = (struct mt_swap_done){request->cookie, rc};
		uring->idle_request[uring->idle++] = (uint32_t)(request - uring->request);
	}
	if (again)
		uring_submit(uring);
	if (io_uring_cq_ready(&uring->ring) > 0)
		signal_event(uring);
	return count;
}

static void uring_free(void *ctx)
{
	struct mt_swap_uring *uring = ctx;
	struct mt_swap_done done;

	/* The kernel may still write into pages that the caller is about to give away. */
	while (uring->idle < uring->depth) {
		io_uring_submit_and_wait(&uring->ring, 1);
		while (uring_reap(uring, &done, 1))
			;
	}
	exit_ring(uring);
	if (uring->owns_event_fd)
		mt_fd_close(uring->event_fd);
	free(uring->request);
	free(uring->idle_request);
	free(uring);
}

static const struct mt_swap_io_ops uring_ops = {.write = uring_write,
						.read = uring_read,
						.submit = uring_submit,
						.reap = uring_reap,
						.free = uring_free};

static int open_ring(struct mt_swap_uring *uring, struct mt_err *err)
{
	int rc = io_uring_queue_init(uring->depth, &uring->ring, 0);

	if (rc)
		return mt_err_set(err, rc, "can't set up io_uring for the swap file: %s",
				  strerror(-rc));
	uring->ring.ring_fd = mt_fd_own(uring->ring.ring_fd);
	uring->ring.enter_ring_fd = uring->ring.ring_fd;
	rc = io_uring_register_eventfd(&uring->ring, uring->event_fd);
	if (rc) {
		exit_ring(uring);
		return mt_err_set(err, rc, "can't connect io_uring to an eventfd: %s",
				  strerror(-rc));
	}
	uring->fixed = io_uring_register_files(&uring->ring, &uring->fd, 1) == 0;
	/* A child of the VMM must not play with its parent's ring. */
	io_uring_ring_dontfork(&uring->ring);
	return 0;
}

int mt_swap_io_new_uring(int fd, uint32_t depth, int event_fd, struct mt_swap_io *ret_io,
			 struct mt_err *err)
{
	struct mt_swap_uring *uring;
	int rc = -ENOMEM;

	if (depth == 0 || depth > MT_SWAP_IO_DEPTH_MAX)
		return mt_err_set(err, -EINVAL, "swap I/O depth %u is not in 1..%u", depth,
				  MT_SWAP_IO_DEPTH_MAX);
	uring = calloc(1, sizeof(*uring));
	if (!uring)
		return mt_err_set(err, -ENOMEM, "out of memory for swap I/O");
	*uring = (struct mt_swap_uring){
		.fd = fd, .event_fd = event_fd, .owns_event_fd = event_fd < 0, .depth = depth};
	uring->request = calloc(depth, sizeof(*uring->request));
	uring->idle_request = calloc(depth, sizeof(*uring->idle_request));
	if (!uring->request || !uring->idle_request) {
		mt_err_set(err, rc, "out of memory for swap I/O");
		goto fail;
	}
	if (uring->owns_event_fd)
		uring->event_fd = mt_fd_own(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
	if (uring->event_fd < 0) {
		rc = mt_err_set(err, -errno, "can't make an eventfd for swap I/O: %m");
		goto fail;
	}
	rc = open_ring(uring, err);
	if (rc)
		goto fail_event;
	for (uint32_t i = 0; i < depth; i++)
		uring->idle_request[uring->idle++] = depth - 1 - i;
	*ret_io = (struct mt_swap_io){.ops = &uring_ops,
				      .ctx = uring,
				      .name = "io_uring",
				      .event_fd = uring->event_fd,
				      .depth = depth,
				      .direct = mt_swap_io_is_direct(fd)};
	return 0;

fail_event:
	if (uring->owns_event_fd)
		mt_fd_close(uring->event_fd);
fail:
	free(uring->idle_request);
	free(uring->request);
	free(uring);
	return rc;
}
