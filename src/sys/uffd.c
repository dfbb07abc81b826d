/* SPDX-License-Identifier: MIT */
/*
 * uffd.c - thin wrappers of userfaultfd's ioctls; errno ends here
 *
 * Any of them may do part of a range: the kernel then says how much and EAGAIN, and only asking
 * again for the rest tells why it stopped. So each operation loops until all is done or an error
 * stands alone.
 */
#include "sys/uffd.h"
#include "base/own_fds.h"
#include "sys/linux_compat.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The thread annotations of fault service: the kernel's wake-up orders the two sides. */
#if defined(__SANITIZE_THREAD__)
#define UFFD_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UFFD_TSAN 1
#endif
#endif
#ifdef UFFD_TSAN
void __tsan_release(void *addr);
#define uffd_publish(addr) __tsan_release(addr)
#else
#define uffd_publish(addr) ((void)(addr))
#endif

/* Times an EAGAIN without progress is taken for a passing one. */
#define UFFD_RETRIES 64

static enum mt_mem_outcome uffd_outcome(int error)
{
	switch (error) {
	case 0:
		return MT_MEM_DONE;
	case EEXIST:
		return MT_MEM_EXISTS;
	case EBUSY:
		return MT_MEM_PINNED;
	case ENOENT:
		return MT_MEM_ABSENT;
	case EAGAIN:
		return MT_MEM_RETRY;
	case ESRCH:
	case EINVAL:
	case EFAULT:
		return MT_MEM_GONE;
	default:
		return MT_MEM_FAILED;
	}
}

static enum mt_mem_outcome uffd_op_copy(void *ctx, void *to, const void *from, uint64_t bytes,
					uint64_t *ret_done)
{
	const struct mt_uffd *uffd = ctx;
	uint64_t done = 0;
	int retries = 0, error = 0;

	uffd_publish(to);
	while (done < bytes && retries < UFFD_RETRIES) {
		struct uffdio_copy copy = {.dst = (uintptr_t)to + done,
					   .src = (uintptr_t)from + done,
					   .len = bytes - done};

		error = ioctl(uffd->fd, UFFDIO_COPY, &copy) ? errno : 0;
		if (copy.copy > 0) {
			done += (uint64_t)copy.copy;
			error = 0;
		} else if (error == EAGAIN) {
			retries++;
		} else if (error) {
			break;
		}
	}
	*ret_done = done;
	/* Here ENOENT is not about a page: nothing that we watch is mapped all over the range. */
	return error == ENOENT ? MT_MEM_GONE : uffd_outcome(error);
}

static void uffd_op_wake(void *ctx, void *addr, uint64_t bytes)
{
	const struct mt_uffd *uffd = ctx;
	struct uffdio_range range = {.start = (uintptr_t)addr, .len = bytes};

	uffd_publish(addr);
	/* Fails only for a range that is not there any more; then nobody waits in it. */
	(void)ioctl(uffd->fd, UFFDIO_WAKE, &range);
}

static int uffd_op_present(void *ctx, void *addr, uint32_t pages, bool *present)
{
	const struct mt_uffd *uffd = ctx;
	uint64_t entry[64];
	uint64_t at = (uint64_t)(uintptr_t)addr >> MT_PAGE_SHIFT;

	for (uint32_t done = 0; done < pages;) {
		uint32_t count = pages - done < 64 ? pages - done : 64;
		ssize_t want = (ssize_t)(count * sizeof(*entry));

		if (pread(uffd->pagemap_fd, entry, (size_t)want,
			  (off_t)((at + done) * sizeof(*entry))) != want)
			return -EIO;
		/* Bit 63: in memory; bit 62: in the kernel's swap. */
		for (uint32_t i = 0; i < count; i++)
			present[done + i] = (entry[i] >> 62) != 0;
		done += count;
	}
	return 0;
}

/*
 * Pages from the first on that were moved although the kernel says otherwise.
 *
 * The loop of Linux 6.18 over the pages of a move does not forget a passing failure (EAGAIN: an
 * entry changed under its hands, because the guest touched the page just then). Its next attempt
 * moves pages, is taken for a failure as well, and the one after that finds their places taken:
 * EEXIST is all we are told, or ENOENT if the old places' page table went meanwhile. Places that we
 * move to were empty, and nobody else fills them. So what is in its new place and not in its old
 * one was moved.
 */
static uint64_t uffd_moved_unsaid(struct mt_uffd *uffd, uint8_t *to, uint8_t *from, uint64_t bytes)
{
	bool there, here;
	uint64_t moved = 0;

	while (moved < bytes && !uffd_op_present(uffd, to + moved, 1, &there) && there &&
	       !uffd_op_present(uffd, from + moved, 1, &here) && !here)
		moved += MT_PAGE_SIZE;
	return moved;
}

/* One attempt. Return: 0 or an errno, with what was moved before in any case. */
static int uffd_move_some(struct mt_uffd *uffd, uint8_t *to, uint8_t *from, uint64_t bytes,
			  bool wake, uint64_t *ret_moved)
{
	struct uffdio_move move = {.dst = (uintptr_t)to,
				   .src = (uintptr_t)from,
				   .len = bytes,
				   .mode = wake ? 0 : UFFDIO_MOVE_MODE_DONTWAKE};
	int error = ioctl(uffd->fd, UFFDIO_MOVE, &move) ? errno : 0;

	*ret_moved = move.move > 0 ? (uint64_t)move.move : 0;
	if (!*ret_moved && (error == EEXIST || error == ENOENT)) {
		*ret_moved = uffd_moved_unsaid(uffd, to, from, bytes);
		if (*ret_moved && wake)
			uffd_op_wake(uffd, to, *ret_moved);
	}
	return error;
}

static enum mt_mem_outcome uffd_op_move(void *ctx, void *to, void *from, uint64_t bytes, bool wake,
					uint64_t *ret_done)
{
	struct mt_uffd *uffd = ctx;
	uint64_t done = 0, moved;
	int retries = 0, error = 0;

	uffd_publish(to);
	while (done < bytes && retries < UFFD_RETRIES) {
		error = uffd_move_some(uffd, (uint8_t *)to + done, (uint8_t *)from + done,
				       bytes - done, wake, &moved);
		if (moved) {
			done += moved;
			error = 0;
		} else if (error == EAGAIN) {
			retries++;
		} else if (error) {
			break;
		}
	}
	*ret_done = done;
	return uffd_outcome(error);
}

static void uffd_op_drop(void *ctx, void *addr, uint64_t bytes)
{
	(void)ctx;
	(void)madvise(addr, bytes, MADV_DONTNEED);
}

/*
 * Through /proc/self/mem, as that never waits: where process_vm_readv() would have a page brought
 * in, this fails (its faults must not be retried, and so userfaultfd refuses them). The helper must
 * not wait for the pager, which may be waiting for it. What is unmapped meanwhile is an error, too.
 */
static bool uffd_op_read(void *ctx, void *to, const void *from, uint32_t pages)
{
	const struct mt_uffd *uffd = ctx;
	ssize_t bytes = (ssize_t)pages << MT_PAGE_SHIFT;

	return pread(uffd->mem_fd, to, (size_t)bytes, (off_t)(uintptr_t)from) == bytes;
}

static bool uffd_op_large(void *ctx, const void *addr)
{
	const struct mt_uffd *uffd = ctx;
	struct page_region found;
	struct pm_scan_arg scan = {.size = sizeof(scan),
				   .start = (uintptr_t)addr,
				   .end = (uintptr_t)addr + MT_PAGE_SIZE,
				   .vec = (uintptr_t)&found,
				   .vec_len = 1,
				   .category_mask = PAGE_IS_HUGE,
				   .return_mask = PAGE_IS_HUGE};

	return ioctl(uffd->pagemap_fd, PAGEMAP_SCAN, &scan) == 1;
}

/* Up to @max messages. Return: how many of them were faults; -EAGAIN: there was none at all. */
static int uffd_read(const struct mt_uffd *uffd, struct mt_fault *faults, uint32_t max)
{
	struct uffd_msg msg[16];
	uint32_t room = max < 16 ? max : 16;
	ssize_t got = read(uffd->fd, msg, room * sizeof(*msg));
	int count = 0;

	if (got < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	for (size_t i = 0; i < (size_t)got / sizeof(*msg); i++) {
		/* Moved mappings are our own: to have read of it is all they wait for. */
		if (msg[i].event != UFFD_EVENT_PAGEFAULT)
			continue;
		faults[count++] = (struct mt_fault){
			.addr = msg[i].arg.pagefault.address,
			.tid = msg[i].arg.pagefault.feat.ptid,
			.write = msg[i].arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE,
		};
	}
	return count;
}

static int uffd_op_read_faults(void *ctx, struct mt_fault *faults, uint32_t max)
{
	struct mt_uffd *uffd = ctx;
	uint32_t early = 0;
	int count;

	while (early < max && uffd->early_first < uffd->early_end)
		faults[early++] = uffd->early[uffd->early_first++];
	if (early)
		return (int)early;
	count = uffd_read(uffd, faults, max);
	return count == -EAGAIN ? 0 : count;
}

/* Keeps a fault that came while something else was waited for. */
static void uffd_keep(struct mt_uffd *uffd, const struct mt_fault *fault)
{
	if (uffd->early_first == uffd->early_end)
		uffd->early_first = uffd->early_end = 0;
	if (uffd->early_end < MT_UFFD_EARLY)
		uffd->early[uffd->early_end++] = *fault;
	else
		uffd_op_wake(uffd, (void *)(uintptr_t)mt_align_down(fault->addr, MT_PAGE_SIZE),
			     MT_PAGE_SIZE);
}

static struct mt_mapping_flags uffd_flags_of(const struct mt_uffd *uffd, const void *addr)
{
	for (int i = 0; i < MT_UFFD_RANGES; i++)
		if ((uintptr_t)addr >= uffd->like[i].start && (uintptr_t)addr < uffd->like[i].end)
			return uffd->like[i].flags;
	return (struct mt_mapping_flags){false};
}

/* Has a mapping made, and reads what the kernel says meanwhile: it waits for that. */
static enum mt_mem_outcome uffd_remap(struct mt_uffd *uffd, void *to, uint32_t pages, int frames_fd,
				      uint64_t offset)
{
	const struct mt_remap_ask ask = {.to = to,
					 .bytes = (uint64_t)pages << MT_PAGE_SHIFT,
					 .frames_fd = frames_fd,
					 .offset = offset,
					 .flags = uffd_flags_of(uffd, to),
					 .cpu = uffd->placement.cpu};
	struct pollfd fds[2] = {{.fd = uffd->fd, .events = POLLIN},
				{.fd = uffd->remap.done_fd, .events = POLLIN}};
	struct mt_fault fault[16] = {{.addr = 0}};
	int rc, count;

	mt_remap_ask(&uffd->remap, &ask);
	while (!mt_remap_done(&uffd->remap, &rc)) {
		if (poll(fds, 2, -1) <= 0)
			continue;
		/* Somebody has closed them: nobody is ever going to tell us more. */
		if ((fds[0].revents | fds[1].revents) & POLLNVAL)
			return MT_MEM_FAILED;
		if (!(fds[0].revents & POLLIN))
			continue;
		count = uffd_read(uffd, fault, MT_ARRAY_SIZE(fault));
		for (int i = 0; i < count; i++)
			uffd_keep(uffd, &fault[i]);
	}
	return rc ? MT_MEM_FAILED : MT_MEM_DONE;
}

static enum mt_mem_outcome uffd_op_map_frames(void *ctx, void *to, int frames_fd, mt_frame_t first,
					      uint32_t pages)
{
	return uffd_remap(ctx, to, pages, frames_fd, (uint64_t)first.n << MT_PAGE_SHIFT);
}

static enum mt_mem_outcome uffd_op_unmap_frames(void *ctx, void *to, uint32_t pages)
{
	return uffd_remap(ctx, to, pages, -1, 0);
}

static uint64_t uffd_op_count_maps(void *ctx)
{
	(void)ctx;
	return mt_mapping_count();
}

static void uffd_op_place(void *ctx, uint32_t tid)
{
	struct mt_uffd *uffd = ctx;

	if (tid)
		mt_placement_near(&uffd->placement, tid);
	else
		mt_placement_free(&uffd->placement);
}

static bool uffd_op_unseen_io(void *ctx)
{
	const struct mt_uffd *uffd = ctx;

	return !mt_direct_io_none(&uffd->direct);
}

static bool uffd_op_mapped(void *ctx, const void *addr)
{
	unsigned char in_core;

	(void)ctx;
	return !mincore((void *)(uintptr_t)addr, MT_PAGE_SIZE, &in_core) || errno != ENOMEM;
}

/* A descriptor that knows @features; a handshake that failed leaves it of no use. */
static int uffd_make(int device_fd, uint64_t features)
{
	struct uffdio_api api = {.api = UFFD_API, .features = features};
	int fd = ioctl(device_fd, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	int rc;

	if (fd < 0)
		return -errno;
	if (!ioctl(fd, UFFDIO_API, &api))
		return fd;
	rc = errno == EINVAL ? -EOPNOTSUPP : -errno;
	close(fd);
	return rc;
}

int mt_uffd_open(struct mt_uffd *uffd, int device_fd, bool frames, struct mt_err *err)
{
	const uint64_t needed = UFFD_FEATURE_MOVE | UFFD_FEATURE_THREAD_ID;
	const uint64_t for_frames = UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_PAGEFAULT_FLAG_WP |
				    UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
	int rc;

	uffd->pagemap_fd = uffd->mem_fd = uffd->direct.fds = uffd->direct.misc = -1;
	mt_remap_init(&uffd->remap);
	mt_placement_init(&uffd->placement);
	uffd->fd = frames ? mt_fd_own(uffd_make(device_fd, needed | for_frames)) : -EOPNOTSUPP;
	if (uffd->fd >= 0 && mt_remap_start(&uffd->remap, uffd->fd))
		mt_remap_stop(&uffd->remap);
	if (uffd->fd == -EOPNOTSUPP)
		uffd->fd = mt_fd_own(uffd_make(device_fd, needed));
	if (uffd->fd == -EOPNOTSUPP)
		return mt_err_set(err, -EOPNOTSUPP,
				  "this kernel cannot move pages (UFFDIO_MOVE): Linux 6.8 or newer "
				  "is needed");
	if (uffd->fd < 0)
		return mt_err_set(err, uffd->fd, "userfaultfd: %s", strerror(-uffd->fd));
	uffd->pagemap_fd = mt_fd_own(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
	if (uffd->pagemap_fd < 0) {
		rc = mt_err_set(err, -errno, "open /proc/self/pagemap: %s", strerror(errno));
		mt_uffd_close(uffd);
		return rc;
	}
	uffd->mem_fd = mt_fd_own(open("/proc/self/mem", O_RDONLY | O_CLOEXEC));
	rc = mt_direct_io_open(&uffd->direct);
	if (rc) {
		mt_err_set(err, rc, "open /proc/self/fd: %s", strerror(-rc));
		mt_uffd_close(uffd);
	}
	return rc;
}

void mt_uffd_close(struct mt_uffd *uffd)
{
	mt_remap_stop(&uffd->remap);
	mt_fd_close(uffd->fd);
	mt_fd_close(uffd->pagemap_fd);
	mt_fd_close(uffd->mem_fd);
	mt_direct_io_close(&uffd->direct);
	uffd->fd = -1;
	uffd->pagemap_fd = uffd->mem_fd = -1;
}

int mt_uffd_register(struct mt_uffd *uffd, void *addr, uint64_t bytes, struct mt_err *err)
{
	struct uffdio_register reg = {.range = {.start = (uintptr_t)addr, .len = bytes},
				      .mode = UFFDIO_REGISTER_MODE_MISSING};
	const uint64_t needed = (uint64_t)1 << _UFFDIO_COPY | (uint64_t)1 << _UFFDIO_MOVE |
				(uint64_t)1 << _UFFDIO_WAKE;

	if (ioctl(uffd->fd, UFFDIO_REGISTER, &reg))
		return mt_err_set(err, -errno, "register guest memory with userfaultfd: %s",
				  errno == EBUSY ? "somebody else watches it already"
						 : strerror(errno));
	if ((reg.ioctls & needed) == needed)
		return 0;
	mt_uffd_unregister(uffd, addr, bytes);
	return mt_err_set(err, -EMEDIUMTYPE,
			  "this kind of memory cannot be moved; private anonymous memory can");
}

int mt_uffd_unregister(struct mt_uffd *uffd, void *addr, uint64_t bytes)
{
	struct uffdio_range range = {.start = (uintptr_t)addr, .len = bytes};

	for (int i = 0; i < MT_UFFD_RANGES; i++)
		if (uffd->like[i].start == (uintptr_t)addr)
			uffd->like[i].end = 0;
	return ioctl(uffd->fd, UFFDIO_UNREGISTER, &range) ? -errno : 0;
}

void mt_uffd_like(struct mt_uffd *uffd, const void *addr, uint64_t bytes,
		  const struct mt_mapping_flags *flags)
{
	uintptr_t start = (uintptr_t)addr;
	int place = -1;

	for (int i = 0; i < MT_UFFD_RANGES; i++) {
		if (uffd->like[i].end && uffd->like[i].start == start) {
			place = i;
			break;
		}
		if (!uffd->like[i].end && place < 0)
			place = i;
	}
	/* Without a place for it, mappings are not joined: no more than that. */
	if (place < 0)
		return;
	uffd->like[place].start = start;
	uffd->like[place].end = start + bytes;
	uffd->like[place].flags = *flags;
}

void mt_uffd_mem_ops(struct mt_uffd *uffd, struct mt_mem_ops *ret_ops)
{
	*ret_ops = (struct mt_mem_ops){
		.copy = uffd_op_copy,
		.move = uffd_op_move,
		.wake = uffd_op_wake,
		.drop = uffd_op_drop,
		.place = uffd_op_place,
		.present = uffd_op_present,
		.read = uffd->mem_fd >= 0 ? uffd_op_read : NULL,
		.large = uffd_op_large,
		.unseen_io = uffd_op_unseen_io,
		.mapped = uffd_op_mapped,
		.read_faults = uffd_op_read_faults,
		.ctx = uffd,
	};
	if (!uffd->remap.started)
		return;
	ret_ops->map_frames = uffd_op_map_frames;
	ret_ops->unmap_frames = uffd_op_unmap_frames;
	ret_ops->count_maps = uffd_op_count_maps;
}
