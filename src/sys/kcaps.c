/* SPDX-License-Identifier: MIT */
/* kcaps.c - probes of kernel features; see kcaps.h */
#include "sys/kcaps.h"
#include "base/cleanup.h"
#include "base/types.h"
#include "sys/linux_compat.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define KCAPS_FLAGS        (O_CLOEXEC | O_NONBLOCK)
#define KCAPS_NO_MOVE_HINT "the kernel has no UFFDIO_MOVE; it came with Linux 6.8"

/* Two pages of our own, registered with one userfaultfd: where a page is and where it may go. */
struct kcaps_area {
	int uffd;
	uint8_t *src;
	uint8_t *dst;
};

const char *mt_kcap_state_name(enum mt_kcap_state state)
{
	static const char *const names[] = {"absent", "forbidden", "broken", "ok"};

	return (unsigned int)state < MT_ARRAY_SIZE(names) ? names[state] : "unknown";
}

static void kcap_set(struct mt_kcap *cap, enum mt_kcap_state state, const char *fmt, ...)
	MT_PRINTF(3, 4);

static void kcap_set(struct mt_kcap *cap, enum mt_kcap_state state, const char *fmt, ...)
{
	va_list ap;

	cap->state = state;
	va_start(ap, fmt);
	vsnprintf(cap->reason, sizeof(cap->reason), fmt, ap);
	va_end(ap);
}

/* Sorts the -errno of a probe that tried to get at a feature. */
static enum mt_kcap_state kcap_state_of(int rc)
{
	switch (-rc) {
	case ENOSYS:
	case ENOENT:
	case ENODEV:
	case ENXIO:
	case EOPNOTSUPP:
	case ENOTTY:
		return MT_KCAP_ABSENT;
	case EPERM:
	case EACCES:
		return MT_KCAP_FORBIDDEN;
	default:
		return MT_KCAP_BROKEN;
	}
}

/* UFFDIO_API refuses features it does not know with EINVAL, as a whole. */
static int kcaps_handshake(int uffd, uint64_t features, struct mt_err *err)
{
	struct uffdio_api api = {.api = UFFD_API, .features = features};

	if (!ioctl(uffd, UFFDIO_API, &api))
		return 0;
	if (errno == EINVAL)
		return mt_err_set(err, -EOPNOTSUPP, "%s", KCAPS_NO_MOVE_HINT);
	return mt_err_set(err, -errno, "UFFDIO_API: %s", strerror(errno));
}

static int kcaps_register(int uffd, const void *page, struct mt_err *err)
{
	struct uffdio_register reg = {.range = {(uintptr_t)page, MT_PAGE_SIZE},
				      .mode = UFFDIO_REGISTER_MODE_MISSING};

	if (ioctl(uffd, UFFDIO_REGISTER, &reg))
		return mt_err_set(err, -errno, "UFFDIO_REGISTER: %s", strerror(errno));
	return 0;
}

/* Unmapping comes first: closing would let absent pages read as zeros, unmapping wakes waiters. */
static void kcaps_area_close(struct kcaps_area *area)
{
	if (area->src)
		munmap(area->src, MT_PAGE_SIZE);
	if (area->dst)
		munmap(area->dst, MT_PAGE_SIZE);
	if (area->uffd >= 0)
		close(area->uffd);
}

static uint8_t *kcaps_page(void)
{
	void *page = mmap(NULL, MT_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);

	return page == MAP_FAILED ? NULL : page;
}

/* Takes @uffd over, also when it fails. The source page is filled with a pattern. */
static int kcaps_area_open(struct kcaps_area *area, int uffd, uint64_t features, struct mt_err *err)
{
	int rc;

	*area = (struct kcaps_area){.uffd = uffd, .src = kcaps_page(), .dst = kcaps_page()};
	if (!area->src || !area->dst) {
		rc = mt_err_set(err, -ENOMEM, "no memory for two test pages");
		goto fail;
	}
	for (size_t i = 0; i < MT_PAGE_SIZE; i++)
		area->src[i] = (uint8_t)(i * 7 + 1);
	rc = kcaps_handshake(uffd, features, err);
	if (!rc)
		rc = kcaps_register(uffd, area->src, err);
	if (!rc)
		rc = kcaps_register(uffd, area->dst, err);
	if (!rc)
		return 0;
fail:
	kcaps_area_close(area);
	return rc;
}

static int kcaps_move_once(const struct kcaps_area *area)
{
	struct uffdio_move move = {
		.dst = (uintptr_t)area->dst, .src = (uintptr_t)area->src, .len = MT_PAGE_SIZE};

	/* EAGAIN: the address space is changing; another thread's business, it passes. */
	for (int i = 0; i < 1000; i++) {
		move.move = 0;
		if (!ioctl(area->uffd, UFFDIO_MOVE, &move))
			return 0;
		if (errno != EAGAIN)
			return -errno;
	}
	return -EAGAIN;
}

static int kcaps_try_move(const struct kcaps_area *area, struct mt_err *err)
{
	unsigned char resident = 0;
	int rc = kcaps_move_once(area);

	if (rc == -EINVAL || rc == -ENOTTY)
		return mt_err_set(err, -EOPNOTSUPP, "%s", KCAPS_NO_MOVE_HINT);
	if (rc)
		return mt_err_set(err, rc, "UFFDIO_MOVE of a test page: %s", strerror(-rc));
	/* A look at the source itself would wait for a page that nobody brings. */
	if (mincore(area->src, MT_PAGE_SIZE, &resident) || (resident & 1))
		return mt_err_set(err, -EIO, "UFFDIO_MOVE left the page where it was");
	for (size_t i = 0; i < MT_PAGE_SIZE; i++)
		if (area->dst[i] != (uint8_t)(i * 7 + 1))
			return mt_err_set(err, -EIO, "UFFDIO_MOVE changed byte %zu of a page", i);
	return 0;
}

struct kcaps_writer {
	const uint8_t *page;
	int pipe_fd;
	int rc;
};

/* write(2) reads the absent page from inside the kernel, as KVM would. */
static void *kcaps_writer_main(void *arg)
{
	struct kcaps_writer *writer = arg;
	ssize_t done = write(writer->pipe_fd, writer->page, 1);

	writer->rc = done == 1 ? 0 : done < 0 ? -errno : -EIO;
	return NULL;
}

/* Waits for the fault and serves it. Without one, the page's end of registration wakes the writer.
 */
static int kcaps_serve_one(int uffd, const uint8_t *page, uint8_t *filler, int timeout_ms)
{
	struct pollfd pfd = {.fd = uffd, .events = POLLIN};
	struct uffdio_copy copy = {
		.dst = (uintptr_t)page, .src = (uintptr_t)filler, .len = MT_PAGE_SIZE};
	struct uffdio_range range = {(uintptr_t)page, MT_PAGE_SIZE};
	struct uffd_msg msg;

	if (poll(&pfd, 1, timeout_ms) == 1 && read(uffd, &msg, sizeof(msg)) == sizeof(msg) &&
	    msg.event == UFFD_EVENT_PAGEFAULT && !ioctl(uffd, UFFDIO_COPY, &copy))
		return 0;
	ioctl(uffd, UFFDIO_UNREGISTER, &range);
	return -ETIMEDOUT;
}

static int kcaps_run_writer(const struct kcaps_area *area, int fds[2], uint8_t *filler,
			    struct mt_err *err)
{
	struct kcaps_writer writer = {.page = area->dst, .pipe_fd = fds[1], .rc = -EIO};
	pthread_t thread;
	uint8_t got = 0;
	int served, rc = pthread_create(&thread, NULL, kcaps_writer_main, &writer);

	if (rc)
		return mt_err_set(err, -rc, "no thread for a test: %s", strerror(rc));
	served = kcaps_serve_one(area->uffd, area->dst, filler, MT_KCAPS_WAIT_MS);
	pthread_join(thread, NULL);
	if (writer.rc == -EFAULT)
		return mt_err_set(err, -EPERM,
				  "faults taken inside the kernel are not served: the "
				  "descriptor is for user mode only");
	if (served || writer.rc)
		return mt_err_set(err, -EIO, "a fault taken inside the kernel was not reported");
	if (read(fds[0], &got, 1) != 1 || got != filler[0])
		return mt_err_set(err, -EIO, "a fault taken inside the kernel got wrong content");
	return 0;
}

/* @area's destination page must be absent. */
static int kcaps_try_kernel_fault(const struct kcaps_area *area, struct mt_err *err)
{
	uint8_t *filler = kcaps_page();
	int fds[2];
	int rc;

	if (!filler)
		return mt_err_set(err, -ENOMEM, "no memory for a test page");
	memset(filler, 0x5a, MT_PAGE_SIZE);
	rc = pipe2(fds, O_CLOEXEC) ? -errno : 0;
	if (rc) {
		mt_err_set(err, rc, "pipe: %s", strerror(-rc));
	} else {
		rc = kcaps_run_writer(area, fds, filler, err);
		close(fds[0]);
		close(fds[1]);
	}
	munmap(filler, MT_PAGE_SIZE);
	return rc;
}

int mt_kcaps_uffd_move(int dev_fd, struct mt_err *err)
{
	struct kcaps_area area;
	int uffd = ioctl(dev_fd, USERFAULTFD_IOC_NEW, KCAPS_FLAGS);
	int rc;

	if (uffd < 0)
		return mt_err_set(err, -errno, "/dev/userfaultfd makes no descriptor: %s",
				  strerror(errno));
	rc = kcaps_area_open(&area, uffd, UFFD_FEATURE_MOVE, err);
	if (rc)
		return rc;
	rc = kcaps_try_kernel_fault(&area, err);
	if (!rc) {
		/* The test page must be absent again for the next test. */
		madvise(area.dst, MT_PAGE_SIZE, MADV_DONTNEED);
		rc = kcaps_try_move(&area, err);
	}
	kcaps_area_close(&area);
	return rc;
}

static int kcaps_uffd_syscall(int flags)
{
	int fd = (int)syscall(SYS_userfaultfd, flags);

	return fd < 0 ? -errno : fd;
}

static void kcaps_probe_dev(struct mt_kcap *cap)
{
	MT_AUTO_CLOSE int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	int uffd, rc;

	if (dev < 0) {
		rc = -errno;
		kcap_set(cap, kcap_state_of(rc), "/dev/userfaultfd: %s", strerror(-rc));
		return;
	}
	uffd = ioctl(dev, USERFAULTFD_IOC_NEW, KCAPS_FLAGS);
	if (uffd < 0) {
		rc = -errno;
		kcap_set(cap, kcap_state_of(rc),
			 "/dev/userfaultfd opens but makes no descriptor: %s", strerror(-rc));
		return;
	}
	close(uffd);
	kcap_set(cap, MT_KCAP_OK, "/dev/userfaultfd opens and makes descriptors");
}

/* The best userfaultfd this process can get: device, system call, or one for user mode only. */
static int kcaps_best_uffd(bool *ret_user_only)
{
	MT_AUTO_CLOSE int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	int uffd = dev >= 0 ? ioctl(dev, USERFAULTFD_IOC_NEW, KCAPS_FLAGS) : -1;

	*ret_user_only = false;
	if (uffd < 0)
		uffd = kcaps_uffd_syscall(KCAPS_FLAGS);
	if (uffd < 0) {
		*ret_user_only = true;
		uffd = kcaps_uffd_syscall(KCAPS_FLAGS | UFFD_USER_MODE_ONLY);
	}
	return uffd;
}

static void kcaps_probe_uffd(struct mt_kcap *cap)
{
	bool user_only;
	int uffd = kcaps_best_uffd(&user_only);

	if (uffd < 0) {
		kcap_set(cap, kcap_state_of(uffd), "userfaultfd: %s", strerror(-uffd));
		return;
	}
	close(uffd);
	kcap_set(cap, MT_KCAP_OK, "%s",
		 user_only ? "userfaultfd works, for user mode only" : "userfaultfd works");
}

typedef int (*kcaps_try_fn)(const struct kcaps_area *area, struct mt_err *err);

/* Runs one test on fresh pages with the best userfaultfd there is. */
static void kcaps_probe_with(struct mt_kcap *cap, uint64_t features, kcaps_try_fn try_it,
			     const char *success)
{
	struct mt_err err = {0};
	struct kcaps_area area;
	bool user_only;
	int uffd = kcaps_best_uffd(&user_only);
	int rc;

	if (uffd < 0) {
		kcap_set(cap, kcap_state_of(uffd), "userfaultfd: %s", strerror(-uffd));
		return;
	}
	rc = kcaps_area_open(&area, uffd, features, &err);
	if (!rc) {
		rc = try_it(&area, &err);
		kcaps_area_close(&area);
	}
	kcap_set(cap, rc ? kcap_state_of(rc) : MT_KCAP_OK, "%.150s", rc ? err.msg : success);
}

static int kcaps_ring(void)
{
	struct io_uring_params params = {0};
	int fd = (int)syscall(SYS_io_uring_setup, 2, &params);

	return fd < 0 ? -errno : fd;
}

static void kcaps_probe_ring(struct mt_kcap *cap)
{
	int ring = kcaps_ring();

	if (ring < 0) {
		kcap_set(cap, kcap_state_of(ring), "io_uring: %s", strerror(-ring));
		return;
	}
	close(ring);
	kcap_set(cap, MT_KCAP_OK, "io_uring works");
}

/* A registered buffer of io_uring is pinned the way a device's DMA pins guest memory. */
static int kcaps_try_pinned(const struct kcaps_area *area, struct mt_err *err)
{
	struct iovec iov = {.iov_base = area->src, .iov_len = MT_PAGE_SIZE};
	MT_AUTO_CLOSE int ring = kcaps_ring();
	int rc;

	if (ring < 0)
		return mt_err_set(err, ring, "not tried, as it takes io_uring to pin a page: %s",
				  strerror(-ring));
	if (syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &iov, 1))
		return mt_err_set(err, -errno, "not tried, as no page could be pinned: %s",
				  strerror(errno));
	rc = kcaps_move_once(area);
	if (rc == -EBUSY)
		return 0;
	if (rc == -EINVAL || rc == -ENOTTY)
		return mt_err_set(err, -EOPNOTSUPP, "%s", KCAPS_NO_MOVE_HINT);
	if (rc)
		return mt_err_set(err, rc, "UFFDIO_MOVE of a pinned page: %s", strerror(-rc));
	return mt_err_set(err, -EIO, "UFFDIO_MOVE took a page away that is pinned for DMA");
}

static void kcaps_probe_frames(struct mt_kcap *cap)
{
	struct mt_err err = {0};
	int rc = mt_kcaps_frames(&err);

	kcap_set(cap, rc ? kcap_state_of(rc) : MT_KCAP_OK, "%.150s",
		 rc ? err.msg : "a shared frame was mapped, and a write to it reported");
}

void mt_kcaps_probe(struct mt_kcaps *caps)
{
	memset(caps, 0, sizeof(*caps));
	kcaps_probe_uffd(&caps->uffd);
	kcaps_probe_dev(&caps->uffd_dev);
	kcaps_probe_with(&caps->uffd_move, UFFD_FEATURE_MOVE, kcaps_try_move,
			 "UFFDIO_MOVE moved a page, content intact");
	kcaps_probe_with(&caps->uffd_kernel, 0, kcaps_try_kernel_fault,
			 "a fault taken inside the kernel was served");
	kcaps_probe_with(&caps->uffd_pinned, UFFD_FEATURE_MOVE, kcaps_try_pinned,
			 "UFFDIO_MOVE refuses a page pinned for DMA");
	kcaps_probe_frames(&caps->uffd_frames);
	kcaps_probe_ring(&caps->io_uring);
}
