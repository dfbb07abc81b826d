/* SPDX-License-Identifier: MIT */
/*
 * pin.c - direct I/O from and to guest pages
 *
 * A page under direct I/O is written or read by the kernel behind the page tables. A memory manager
 * that takes such a page away by content loses what the device writes. One round here: new contents
 * for a run of guest pages are prepared in private memory and written to a file; then the file is
 * read with O_DIRECT straight into the guest pages, by preadv or, with the pages registered for a
 * while (a long pin), by io_uring; the pages must hold the new contents. The other way: guest pages
 * are written to the file with O_DIRECT, and the file is read into private memory and checked.
 */
#include "pin.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define RUN_MAX       32u
#define LONG_PIN_USEC 20000u

struct pin {
	struct tv_guest *guest;
	struct tv_walker walker;
	struct io_uring ring;
	bool has_ring;
	int fd;
	unsigned char *bounce; /* RUN_MAX pages of private memory */
};

static void pin_trouble(struct pin *pin, const char *what, int rc)
{
	fprintf(stderr, "testvm %s: direct I/O: %s: %s\n", pin->guest->o->name, what,
		strerror(-rc));
	atomic_fetch_add(&pin->guest->counts.errors, 1);
}

static int pin_open(const char *dir)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/testvm-XXXXXX", dir);
	fd = mkostemp(path, O_DIRECT | O_CLOEXEC);
	if (fd >= 0)
		unlink(path);
	return fd;
}

/* The uring way: register, stay registered for a while, read or write, unregister. */
static int pin_uring(struct pin *pin, void *at, size_t bytes, bool to_file)
{
	struct iovec iov = {at, bytes};
	struct io_uring_cqe *cqe;
	struct io_uring_sqe *sqe;
	int rc = io_uring_register_buffers(&pin->ring, &iov, 1);

	if (rc)
		return rc;
	usleep((useconds_t)tv_walker_random(&pin->walker, LONG_PIN_USEC));
	sqe = io_uring_get_sqe(&pin->ring);
	if (to_file)
		io_uring_prep_write_fixed(sqe, pin->fd, at, (unsigned int)bytes, 0, 0);
	else
		io_uring_prep_read_fixed(sqe, pin->fd, at, (unsigned int)bytes, 0, 0);
	rc = io_uring_submit_and_wait(&pin->ring, 1);
	if (rc >= 0)
		rc = io_uring_wait_cqe(&pin->ring, &cqe);
	if (!rc) {
		rc = cqe->res;
		io_uring_cqe_seen(&pin->ring, cqe);
	}
	usleep((useconds_t)tv_walker_random(&pin->walker, LONG_PIN_USEC));
	io_uring_unregister_buffers(&pin->ring);
	return rc;
}

static int pin_transfer(struct pin *pin, void *at, size_t bytes, bool to_file)
{
	struct iovec iov[2] = {{at, bytes / 2 & ~(size_t)(CP_PAGE_SIZE - 1)}, {0}};
	ssize_t done;

	if (pin->has_ring && tv_walker_random(&pin->walker, 2)) {
		done = pin_uring(pin, at, bytes, to_file);
	} else {
		iov[1].iov_base = (char *)at + iov[0].iov_len;
		iov[1].iov_len = bytes - iov[0].iov_len;
		done = to_file ? pwritev(pin->fd, iov, 2, 0) : preadv(pin->fd, iov, 2, 0);
		if (done < 0)
			done = -errno;
	}
	if (done == (ssize_t)bytes)
		return 0;
	return done < 0 ? (int)done : -EIO;
}

/* New contents come in through the device. */
static void pin_read_round(struct pin *pin, uint64_t page, uint64_t count)
{
	struct tv_guest *guest = pin->guest;
	uint32_t words[RUN_MAX];
	int rc;

	for (uint64_t i = 0; i < count; i++) {
		words[i] = TV_LOCK | ((guest->words[page + i] + 1) & TV_VERSION);
		tv_fill(guest, pin->bounce + i * CP_PAGE_SIZE, page + i, words[i]);
	}
	if (pwrite(pin->fd, pin->bounce, count * CP_PAGE_SIZE, 0) !=
	    (ssize_t)(count * CP_PAGE_SIZE)) {
		pin_trouble(pin, "preparing the file", -errno);
		return;
	}
	rc = pin_transfer(pin, tv_guest_at(guest, page), count * CP_PAGE_SIZE, false);
	if (rc)
		pin_trouble(pin, "reading into guest pages", rc);
	for (uint64_t i = 0; i < count; i++) {
		guest->words[page + i] = words[i];
		tv_guest_verify(guest, page + i, "after a direct read");
	}
}

/* The device reads what the guest holds. */
static void pin_write_round(struct pin *pin, uint64_t page, uint64_t count)
{
	struct tv_guest *guest = pin->guest;
	int rc = pin_transfer(pin, tv_guest_at(guest, page), count * CP_PAGE_SIZE, true);

	if (rc) {
		pin_trouble(pin, "writing guest pages", rc);
		return;
	}
	if (pread(pin->fd, pin->bounce, count * CP_PAGE_SIZE, 0) !=
	    (ssize_t)(count * CP_PAGE_SIZE)) {
		pin_trouble(pin, "reading the file back", -errno);
		return;
	}
	for (uint64_t i = 0; i < count; i++) {
		struct tv_page page_out = {pin->bounce + i * CP_PAGE_SIZE, page + i,
					   guest->words[page + i]};

		tv_expect(guest, &page_out, "as written by direct I/O");
	}
}

static void pin_loop(struct pin *pin)
{
	struct tv_guest *guest = pin->guest;

	while (!guest->stop) {
		uint64_t page = tv_walker_next(&pin->walker, 0);
		uint64_t want = 1 + tv_walker_random(&pin->walker, RUN_MAX);
		uint64_t count = tv_guest_trylock_run(guest, page, want);

		if (!count)
			continue;
		if (tv_walker_random(&pin->walker, 2))
			pin_read_round(pin, page, count);
		else
			pin_write_round(pin, page, count);
		tv_guest_unlock_run(guest, page, count);
		atomic_fetch_add(&guest->counts.pinned, count);
	}
}

void tv_pin_run(struct tv_guest *guest, unsigned int number)
{
	struct pin pin = {.guest = guest};

	tv_walker_init(&pin.walker, TV_UNIFORM, 0, guest->pages, 100 + number, 200, guest->o->seed);
	pin.bounce = aligned_alloc(CP_PAGE_SIZE, RUN_MAX * CP_PAGE_SIZE);
	pin.fd = pin_open(guest->o->dir);
	if (pin.fd < 0 || !pin.bounce) {
		pin_trouble(&pin, "no file for it", -errno);
		return;
	}
	pin.has_ring = !io_uring_queue_init(4, &pin.ring, 0);
	pin_loop(&pin);
	if (pin.has_ring)
		io_uring_queue_exit(&pin.ring);
	close(pin.fd);
	free(pin.bounce);
}
