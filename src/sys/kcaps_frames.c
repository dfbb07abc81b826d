/* SPDX-License-Identifier: MIT */
/*
 * kcaps_frames.c - can shared frames be mapped into guest memory? see kcaps.h
 *
 * Tried out with the very functions the pager uses: a page of a memory file is mapped over watched
 * memory and read, given up with madvise(), and written to. The read must give the file's content,
 * the write must be reported even then, and after the frame was taken away the page must be like
 * any other.
 */
#include "base/cleanup.h"
#include "sys/kcaps.h"
#include "sys/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FRAMES_BEFORE 0x5a
#define FRAMES_AFTER  0xa5

struct frames_try {
	struct mt_uffd uffd;
	struct mt_mem_ops mem;
	int frames_fd;
	uint8_t *area; /* three pages; the one in the middle gets the frame */
	uint8_t *page;
	_Atomic uint8_t read;
};

/* The guest's part. */
static void *frames_guest(void *arg)
{
	struct frames_try *try = arg;
	volatile uint8_t *page = try->page;

	try->read = *page;
	madvise(try->page, MT_PAGE_SIZE, MADV_DONTNEED);
	*page = FRAMES_AFTER;
	return NULL;
}

/* The pager's part. Ends with the guest woken. */
static int frames_serve(struct frames_try *try, const uint8_t *content, struct mt_err *err)
{
	struct pollfd pfd = {.fd = try->uffd.fd, .events = POLLIN};
	struct mt_fault fault = {.addr = 0};
	uint64_t bytes;

	if (poll(&pfd, 1, MT_KCAPS_WAIT_MS) != 1 ||
	    try->mem.read_faults(try->mem.ctx, &fault, 1) != 1)
		return mt_err_set(err, -EIO, "a write to a mapped frame was not reported");
	if (!fault.write || try->read != FRAMES_BEFORE)
		return mt_err_set(err, -EIO, "a mapped frame could not be read");
	if (try->mem.unmap_frames(try->mem.ctx, try->page, 1) != MT_MEM_DONE ||
	    try->mem.copy(try->mem.ctx, try->page, content, MT_PAGE_SIZE, &bytes) != MT_MEM_DONE)
		return mt_err_set(err, -EIO, "a mapped frame could not be taken away");
	return 0;
}

static int frames_run(struct frames_try *try, const uint8_t *content, struct mt_err *err)
{
	pthread_t guest;
	int rc;

	if (try->mem.map_frames(try->mem.ctx, try->page, try->frames_fd, MT_FRAME(0), 1) !=
	    MT_MEM_DONE)
		return mt_err_set(err, -EOPNOTSUPP, "a frame could not be mapped");
	rc = pthread_create(&guest, NULL, frames_guest, try);
	if (rc)
		return mt_err_set(err, -rc, "no thread for a test: %s", strerror(rc));
	rc = frames_serve(try, content, err);
	/* Whatever it waits for, it waits no longer. */
	if (rc)
		mt_uffd_unregister(&try->uffd, try->area, 3 * MT_PAGE_SIZE);
	pthread_join(guest, NULL);
	if (!rc && (try->page[0] != FRAMES_AFTER || try->page[1] != FRAMES_BEFORE))
		return mt_err_set(err, -EIO, "a page that had a frame got wrong content");
	return rc;
}

static int frames_open(struct frames_try *try, const uint8_t *content, struct mt_err *err)
{
	MT_AUTO_CLOSE int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	int rc;

	if (device < 0)
		return mt_err_set(err, -errno, "/dev/userfaultfd: %s", strerror(errno));
	rc = mt_uffd_open(&try->uffd, device, true, err);
	if (rc)
		return rc;
	mt_uffd_mem_ops(&try->uffd, &try->mem);
	if (!try->mem.map_frames)
		return mt_err_set(err, -EOPNOTSUPP,
				  "the kernel protects no pages of files; that came with 5.19");
	try->frames_fd = memfd_create("memtide-try", MFD_CLOEXEC);
	if (try->frames_fd < 0 || pwrite(try->frames_fd, content, MT_PAGE_SIZE, 0) < 0)
		return mt_err_set(err, -errno, "no memory file: %s", strerror(errno));
	try->area = mmap(NULL, 3 * MT_PAGE_SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (try->area == MAP_FAILED)
		return mt_err_set(err, -ENOMEM, "no memory for test pages");
	try->page = try->area + MT_PAGE_SIZE;
	return mt_uffd_register(&try->uffd, try->area, 3 * MT_PAGE_SIZE, err);
}

int mt_kcaps_frames(struct mt_err *err)
{
	struct frames_try try = {.uffd = {.fd = -1, .pagemap_fd = -1, .mem_fd = -1},
				 .frames_fd = -1};
	uint8_t content[MT_PAGE_SIZE];
	int rc;

	mt_remap_init(&try.uffd.remap);
	memset(content, FRAMES_BEFORE, sizeof(content));
	rc = frames_open(&try, content, err);
	if (!rc)
		rc = frames_run(&try, content, err);
	if (try.area && try.area != MAP_FAILED)
		munmap(try.area, 3 * MT_PAGE_SIZE);
	if (try.frames_fd >= 0)
		close(try.frames_fd);
	mt_uffd_close(&try.uffd);
	return rc;
}
