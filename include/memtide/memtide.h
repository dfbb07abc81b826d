/* SPDX-License-Identifier: MIT */
/*
 * memtide.h - put a VM's memory under Memtide's management, for authors of VMMs
 *
 * A VMM makes one mt_vm, adds its guest RAM as regions of private anonymous memory, says when it
 * gives ranges up, and leaves. Everything else happens behind its back: pages go out and come
 * back on touch. Unmodified VMMs need none of this; see memtide-run(1).
 *
 * Threads: every function may be called from any thread. None may be called from a signal handler.
 * The library starts threads of its own (names "memtide-…") with all signals blocked. It never
 * exits, aborts, writes to standard output or error, or touches signal dispositions.
 *
 * Files: the library has descriptors of its own, with high numbers. A VMM closes none that it did
 * not open: pages that are out would never come back. A file on NFS, Ceph or their like that is
 * open for O_DIRECT stays open until its transfers have ended: while it is, the library leaves all
 * pages in their places.
 *
 * Errors: functions return 0 or a negative errno value and leave a message for people in
 * @err (which may be NULL).
 */
#ifndef MEMTIDE_MEMTIDE_H
#define MEMTIDE_MEMTIDE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What the library offers; everything else in it is hidden. */
#define MEMTIDE_API __attribute__((visibility("default")))

#define MEMTIDE_NAME_MAX  64  /* longest name of a VM, with its ending NUL */
#define MEMTIDE_ERROR_MAX 320 /* longest message, with its ending NUL */

/** A VM under management; opaque. */
struct mt_vm;

/** What went wrong, in words. Caller-owned. */
struct mt_vm_error {
	int code; /* negative errno, 0 when nothing went wrong */
	char message[MEMTIDE_ERROR_MAX];
};

/** Options of mt_vm_new(). Zero the whole and set @struct_size; zero means "the default". */
struct mt_vm_options {
	size_t struct_size;         /* sizeof(struct mt_vm_options) */
	const char *name;           /* 1 to 63 of a-z A-Z 0-9 . _ - ; must be free on this daemon */
	const char *socket;         /* the daemon's socket; NULL: $MEMTIDE_SOCKET or the default */
	const char *token;          /* handed out by "memtide run"; NULL: register without one */
	uint64_t reservation_bytes; /* memory never taken away once used */
	uint64_t limit_bytes;       /* most machine memory it may hold; 0: no limit */
	uint64_t shares;            /* weight in contention; 0: normal (10 for each MiB) */
	const char *share_group; /* equal pages are shared with VMs of this group; NULL: only among
				  * the VM's own pages */
};

/** What mt_vm_stats() tells. Sizes in bytes, counts since the start. */
struct mt_vm_stats {
	size_t struct_size;        /* set by the caller: sizeof(struct mt_vm_stats) */
	uint64_t memsize_bytes;    /* guest memory in all regions */
	uint64_t held_bytes;       /* machine memory held: guest pages, stores, bookkeeping */
	uint64_t resident_bytes;   /* guest pages in place */
	uint64_t nominated_bytes;  /* guest pages waiting in staging */
	uint64_t zero_bytes;       /* guest pages known to be all zeros, not held */
	uint64_t zipped_bytes;     /* guest pages compressed (their uncompressed size) */
	uint64_t zip_held_bytes;   /* machine memory the compressed pages take */
	uint64_t zip_stored_bytes; /* compressed bytes in the store */
	uint64_t swapped_bytes;    /* guest pages in the swap file */
	uint64_t released_bytes;   /* guest pages given up by the VMM */
	uint64_t overhead_bytes;   /* bookkeeping */
	uint64_t grant_bytes;      /* machine memory this VM may hold now */
	uint64_t target_bytes;     /* machine memory it is steered to */
	uint64_t faults;           /* guest faults served */
	uint64_t fault_p50_ns;     /* service time, from reading the fault to waking the guest */
	uint64_t fault_p99_ns;
	uint64_t failed_pages; /* pages whose only copy was lost: the VM is stopped */
};

/**
 * mt_vm_new() - register a VM with the daemon and start its monitor
 * @options: borrowed for the call
 * @ret_vm: the VM, owned by the caller until mt_vm_leave()
 *
 * Return: 0; -ECONNREFUSED or -ENOENT without a daemon; -EEXIST when the name is taken; -EINVAL
 * for bad options; -EOPNOTSUPP when the kernel lacks something; -EACCES or -EPERM without the
 * right to use userfaultfd; -ENOSPC when the pool or the swap directory has no room.
 */
MEMTIDE_API int mt_vm_new(const struct mt_vm_options *options, struct mt_vm **ret_vm,
			  struct mt_vm_error *err);

/**
 * mt_vm_region_add() - put a range of guest RAM under management
 * @addr: start, page-aligned; private anonymous memory, readable and writable, not locked
 * @bytes: length, page-aligned
 *
 * What the range holds already is kept, and counts at once: if it is more than the VM's grant, it
 * is given up from here on. The range is marked MADV_DONTFORK and MADV_UNMERGEABLE, since pages
 * shared with a child or merged by KSM can't be moved. From here on only mt_vm_region_discard() may
 * be used to drop pages of it, and mt_vm_region_remove() must come before munmap().
 *
 * Return: 0; -EINVAL for a bad or overlapping range; -EMEDIUMTYPE when it is not private anonymous
 * memory throughout; -ENOSPC when the daemon has no swap space or no memory for it.
 */
MEMTIDE_API int mt_vm_region_add(struct mt_vm *vm, void *addr, size_t bytes,
				 struct mt_vm_error *err);

/**
 * mt_vm_region_discard() - give up the content of a range; it reads as zeros from now on
 *
 * The range must lie in one region, page-aligned. Safe against concurrent touches by the guest:
 * a write that starts after the return is kept. Return: 0 or -EINVAL.
 */
MEMTIDE_API int mt_vm_region_discard(struct mt_vm *vm, void *addr, size_t bytes);

/**
 * mt_vm_region_remove() - end the management of a region that is about to be unmapped
 *
 * Its content is lost: pages that were out are not brought back. Return: 0 or -EINVAL.
 */
MEMTIDE_API int mt_vm_region_remove(struct mt_vm *vm, void *addr, size_t bytes);

/** mt_vm_stats_read() - fill @stats; cheap, may lag by one event. Return: 0 or -EINVAL. */
MEMTIDE_API int mt_vm_stats_read(struct mt_vm *vm, struct mt_vm_stats *stats);

/**
 * mt_vm_leave() - end the management and free @vm (NULL is fine)
 *
 * Every page is brought back into its place first, whatever the grant, so that the VMM can go on
 * unmanaged with its memory intact.
 *
 * Return: 0; -EIO when a page could not be brought back: then the VM stays managed, and its
 * memory protected, until the process ends.
 */
MEMTIDE_API int mt_vm_leave(struct mt_vm *vm, struct mt_vm_error *err);

#ifdef __cplusplus
}
#endif
#endif
