/* SPDX-License-Identifier: MIT */
/*
 * uffd.h - userfaultfd: the pager's memory operations, for real
 *
 * Implements monitor/mem_ops.h on one userfaultfd. A closed userfaultfd makes the pages that are
 * out read as zeros, so mt_uffd_close() belongs to the very end.
 */
#ifndef MT_SYS_UFFD_H
#define MT_SYS_UFFD_H

#include "base/err.h"
#include "monitor/mem_ops.h"
#include "sys/direct_io.h"
#include "sys/placement.h"
#include "sys/remap.h"

/* Faults that can be read while the pager waits for a mapping; more are woken to fault anew. */
#define MT_UFFD_EARLY 1024U

/* Ranges whose marks are remembered. */
#define MT_UFFD_RANGES 64

struct mt_uffd {
	int fd;
	int pagemap_fd;                /* /proc/self/pagemap */
	int mem_fd;                    /* /proc/self/mem; -1: pages can't be read in their places */
	struct mt_direct_lists direct; /* for the pager */
	struct mt_placement placement; /* of the thread that serves the faults */
	struct mt_remap remap;         /* not started when the kernel can't */
	struct {
		uintptr_t start;
		uintptr_t end; /* 0: not used */
		struct mt_mapping_flags flags;
	} like[MT_UFFD_RANGES];
	struct mt_fault early[MT_UFFD_EARLY];
	uint32_t early_first, early_end;
};

/**
 * mt_uffd_open() - make this process's userfaultfd
 * @device_fd: /dev/userfaultfd, opened by whoever may (borrowed)
 * @frames: frames are to be mapped, if the kernel can: that takes a thread
 *
 * Frames can be mapped only if the kernel protects pages of files against writes and reports
 * moves (Linux 5.19); if not, all else works. Return: 0; -EOPNOTSUPP when the kernel can't move
 * pages; another -errno.
 */
MT_MUST_CHECK int mt_uffd_open(struct mt_uffd *uffd, int device_fd, bool frames,
			       struct mt_err *err);

void mt_uffd_close(struct mt_uffd *uffd);

/** mt_uffd_register() - from now on, touches of absent pages in the range are faults for us */
MT_MUST_CHECK int mt_uffd_register(struct mt_uffd *uffd, void *addr, uint64_t bytes,
				   struct mt_err *err);

/** mt_uffd_unregister() - absent pages read as zeros again, waiting threads are woken */
int mt_uffd_unregister(struct mt_uffd *uffd, void *addr, uint64_t bytes);

/**
 * mt_uffd_like() - what replaces frames in a range from now on is marked as guest memory there is
 *
 * Asked again for the same start, it replaces what was said before. Pager thread.
 */
void mt_uffd_like(struct mt_uffd *uffd, const void *addr, uint64_t bytes,
		  const struct mt_mapping_flags *flags);

/** mt_uffd_mem_ops() - the table; @uffd is borrowed for as long as it is used */
void mt_uffd_mem_ops(struct mt_uffd *uffd, struct mt_mem_ops *ret_ops);

#endif
