/* SPDX-License-Identifier: MIT */
/*
 * direct_io.h - direct I/O into guest memory that the kernel does not tell us of
 *
 * Direct I/O puts data into the VMM's pages while nobody's processor touches them. Where the kernel
 * pins these pages (FOLL_PIN), UFFDIO_MOVE refuses to move them. With Linux 6.8, the oldest that we
 * run on, that is so for block devices and all that sends bios or uses iomap (ext4, xfs, btrfs,
 * f2fs, gfs2, ocfs2 ...), for io_uring's buffers, FUSE, and what reads through netfslib (9p, afs)
 * or like it (cifs); tmpfs copies; ZFS pins, too. But some only take a reference (FOLL_GET), which
 * the kernel does not look at: NFS and Ceph call iov_iter_get_pages*(), and so do network file
 * systems that are not part of Linux, as far as can be known, and vhost-scsi for what a guest
 * reads. A page moved away under such a read is compressed as it was before it, and the data is
 * lost.
 *
 * An overlay hands I/O on to the file systems below it, and does not say which these are: it is
 * taken for one of these where the kernel knows any of them.
 *
 * What lies on which mount is asked once and remembered, by the number of the mount, which the
 * kernel never gives to another: a server may not answer one day.
 *
 * Not seen: a file that is in no list of descriptors, because it was closed while a transfer went
 * on, or after it was registered with io_uring; and what a FUSE file system in passthrough mode has
 * below it.
 */
#ifndef MT_SYS_DIRECT_IO_H
#define MT_SYS_DIRECT_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** mt_direct_io_takes() - is direct I/O to the file system with this number (statfs(2)) of that
 * kind?
 */
bool mt_direct_io_takes(uint64_t fs_magic);

/**
 * mt_direct_io_known() - does this kernel know a file system of that kind?
 * @filesystems: the text of /proc/filesystems
 */
bool mt_direct_io_known(const char *filesystems);

/**
 * mt_direct_io_risky() - can I/O through @fd be of that kind?
 *
 * May wait for the server of the file system. Any thread.
 */
bool mt_direct_io_risky(int fd);

/** Where the lists are that are looked at; used by one thread at a time. */
struct mt_direct_lists {
	int fds;  /* of this process's descriptors */
	int misc; /* of the kernel's devices; -1 where it can't be had */
};

/** mt_direct_io_open() - open both, with descriptors that are ours. Return: 0 or -errno. */
int mt_direct_io_open(struct mt_direct_lists *lists);
void mt_direct_io_close(struct mt_direct_lists *lists);

/**
 * mt_direct_io_find() - look for such a descriptor among those of this process
 * @name: its file's name, for people; cut if there is no room for it
 *
 * Ours (base/own_fds.h) don't count: they see no guest memory. May wait for the server of a file
 * system that was not asked before. Return: 1: there is one; 0: there is none; -EIO: the list can't
 * be read.
 */
int mt_direct_io_find(const struct mt_direct_lists *lists, char *name, size_t room);

/**
 * mt_direct_io_none() - is there surely no such descriptor in this process?
 *
 * Each that is open from before the call until its end is seen. Asks no file system (before Linux
 * 6.12 that of a file open for direct I/O, without waiting for its server) and allocates nothing,
 * so what was not asked before is not known: mt_direct_io_find() asks. 0.3 us for each descriptor.
 */
bool mt_direct_io_none(const struct mt_direct_lists *lists);

/** mt_direct_io_name() - the name of @fd's file, for people */
void mt_direct_io_name(int fd, char *name, size_t room);

#endif
