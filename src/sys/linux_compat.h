/* SPDX-License-Identifier: MIT */
/*
 * linux_compat.h - kernel interfaces newer than the headers we are built with
 *
 * Debian 12 builds with headers of Linux 6.1 and may run any kernel, so these say how to ask, not
 * that the kernel will answer: whether it does is for the run-time probes of kcaps.h. Each entry
 * names the kernel it came with. Include this instead of <linux/userfaultfd.h>.
 */
#ifndef MT_SYS_LINUX_COMPAT_H
#define MT_SYS_LINUX_COMPAT_H

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

/* 5.11: flag of userfaultfd(2); such a descriptor serves no faults taken inside the kernel */
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

/* 5.18 */
#ifndef UFFD_FEATURE_EXACT_ADDRESS
#define UFFD_FEATURE_EXACT_ADDRESS (1 << 11)
#endif

/* 6.1: ioctl of /dev/userfaultfd; the argument is the flags of userfaultfd(2) */
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC     0xAA
#define USERFAULTFD_IOC_NEW _IO(USERFAULTFD_IOC, 0x00)
#endif

/* 6.4: write-protect absent anonymous pages too */
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif

/* 6.6: a page that raises SIGBUS (in KVM: a machine check) when touched */
#ifndef UFFD_FEATURE_POISON
#define UFFD_FEATURE_POISON (1 << 14)
#endif
#ifndef UFFDIO_POISON
#define _UFFDIO_POISON (0x08)
struct uffdio_poison {
	struct uffdio_range range;
#define UFFDIO_POISON_MODE_DONTWAKE ((__u64)1 << 0)
	__u64 mode;
	__s64 updated; /* written by the kernel: bytes done or -errno */
};
#define UFFDIO_POISON _IOWR(UFFDIO, _UFFDIO_POISON, struct uffdio_poison)
#endif

/* 6.7: write protection that the kernel lifts by itself, for dirty tracking */
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif

/* 6.7: what pages of a range are like */
#ifndef PAGEMAP_SCAN
struct page_region {
	__u64 start;
	__u64 end;
	__u64 categories;
};
struct pm_scan_arg {
	__u64 size;
	__u64 flags;
	__u64 start;
	__u64 end;
	__u64 walk_end;
	__u64 vec;
	__u64 vec_len;
	__u64 max_pages;
	__u64 category_inverted;
	__u64 category_mask;
	__u64 category_anyof_mask;
	__u64 return_mask;
};
#define PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)
#define PAGE_IS_HUGE (1 << 6)
#endif

/* 6.8: move pages of private anonymous memory, atomically and without a copy */
#ifndef UFFD_FEATURE_MOVE
#define UFFD_FEATURE_MOVE (1 << 16)
#endif
#ifndef UFFDIO_MOVE
#define _UFFDIO_MOVE (0x05)
struct uffdio_move {
	__u64 dst;
	__u64 src;
	__u64 len;
#define UFFDIO_MOVE_MODE_DONTWAKE        ((__u64)1 << 0)
#define UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES ((__u64)1 << 1)
	__u64 mode;
	__s64 move; /* written by the kernel: bytes moved or -errno */
};
#define UFFDIO_MOVE _IOWR(UFFDIO, _UFFDIO_MOVE, struct uffdio_move)
#endif

/* 6.8: the number of a mount that no other ever gets */
#ifndef STATX_MNT_ID_UNIQUE
#define STATX_MNT_ID_UNIQUE 0x00004000U
#endif

/* 6.5 and 6.12: which mount a descriptor is on, without a word from its file system */
#ifndef AT_HANDLE_FID
#define AT_HANDLE_FID 0x200
#endif
#ifndef AT_HANDLE_MNT_ID_UNIQUE
#define AT_HANDLE_MNT_ID_UNIQUE 0x001
#endif

/* A wrong layout would change the ioctl numbers: these are the kernel's own. */
_Static_assert(UFFDIO_MOVE == 0xc028aa05U, "struct uffdio_move must match the kernel's");
_Static_assert(UFFDIO_POISON == 0xc020aa08U, "struct uffdio_poison must match the kernel's");

#endif
