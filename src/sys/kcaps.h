/* SPDX-License-Identifier: MIT */
/*
 * kcaps.h - what the running kernel can really do for us
 *
 * Every feature is found out by using it on a page of our own and looking at the result, never
 * from a version number: distributions carry features back, switch them off, and forbid them by
 * sysctl, seccomp or file mode. "memtide doctor" shows the results, the daemon checks what it
 * can't do without at its start.
 */
#ifndef MT_SYS_KCAPS_H
#define MT_SYS_KCAPS_H

#include "base/err.h"

/* A fault that does not come is waited for so long: only on a kernel without the feature, or a slow
 * host. */
#define MT_KCAPS_WAIT_MS 10000

enum mt_kcap_state {
	MT_KCAP_ABSENT,    /* the kernel does not know it */
	MT_KCAP_FORBIDDEN, /* it is there, but this process may not use it */
	MT_KCAP_BROKEN,    /* it may be used and does the wrong thing, or the probe failed */
	MT_KCAP_OK,
};

struct mt_kcap {
	enum mt_kcap_state state;
	char reason[160]; /* for people: what was seen; never empty */
};

struct mt_kcaps {
	struct mt_kcap uffd;        /* userfaultfd at all, of whatever kind */
	struct mt_kcap uffd_dev;    /* /dev/userfaultfd may be opened and makes descriptors */
	struct mt_kcap uffd_move;   /* UFFDIO_MOVE moved a page, content and all */
	struct mt_kcap uffd_kernel; /* faults taken inside the kernel (KVM, read(2)) are served */
	struct mt_kcap uffd_pinned; /* UFFDIO_MOVE refuses a page that is pinned for DMA */
	struct mt_kcap
		uffd_frames; /* shared frames can be mapped, and writes to them are reported */
	struct mt_kcap io_uring;
};

/** mt_kcaps_probe() - find out everything; takes milliseconds; see MT_KCAPS_WAIT_MS */
void mt_kcaps_probe(struct mt_kcaps *caps);

/**
 * mt_kcaps_frames() - map a frame into memory as the pager does, and write to it (kcaps_frames.c)
 *
 * Return: 0; -EOPNOTSUPP when the kernel can't, -EIO when a result was wrong, or another -errno.
 */
MT_MUST_CHECK int mt_kcaps_frames(struct mt_err *err);

/** mt_kcap_state_name() - "absent", "forbidden", "broken", "ok" */
const char *mt_kcap_state_name(enum mt_kcap_state state);

/**
 * mt_kcaps_uffd_move() - does a userfaultfd made from @dev_fd move pages and serve kernel faults?
 * @dev_fd: open /dev/userfaultfd, borrowed
 *
 * Return: 0; -EOPNOTSUPP when the kernel lacks UFFDIO_MOVE, -EPERM when the descriptor does not
 * serve faults taken inside the kernel, -EIO when a result was wrong, or another -errno.
 */
MT_MUST_CHECK int mt_kcaps_uffd_move(int dev_fd, struct mt_err *err);

#endif
