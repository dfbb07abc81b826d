/* SPDX-License-Identifier: MIT */
/*
 * frames.h - the memory of a share group's frames: one memfd that only the daemon writes
 *
 * VMs get a second descriptor of it, opened for reading only. The file has its full size from the
 * start and is sealed against any other; frames that are not in use are holes and cost nothing.
 * Nobody but its owner can open the file for writing by way of /proc: its mode is 0.
 */
#ifndef MT_SYS_FRAMES_H
#define MT_SYS_FRAMES_H

#include "base/err.h"
#include "base/types.h"

struct mt_frames {
	int fd;         /* to write; -1: there is none */
	int reader_fd;  /* to be passed to VMs */
	uint64_t inode; /* tells this file from any other that lives */
};

/** mt_frames_init() - none yet */
void mt_frames_init(struct mt_frames *frames);

/** mt_frames_new() - make the file. Return: 0 or -errno. */
MT_MUST_CHECK int mt_frames_new(struct mt_frames *frames, struct mt_err *err);

/**
 * mt_frames_adopt() - take over the file of an earlier daemon, which a VM had been passed
 * @reader_fd: as passed back by a VM (borrowed); trusted only as far as it proves what it is
 * @inode: what the file is known to have
 *
 * Return: 0; -EPERM when it is not that file, or not ours; another -errno.
 */
MT_MUST_CHECK int mt_frames_adopt(struct mt_frames *frames, int reader_fd, uint64_t inode,
				  struct mt_err *err);

/** mt_frames_close() - let go of it; none is fine */
void mt_frames_close(struct mt_frames *frames);

/** mt_frames_write() - fill @frame. Return: 0 or -errno: -ENOMEM or -ENOSPC without memory. */
MT_MUST_CHECK int mt_frames_write(const struct mt_frames *frames, mt_frame_t frame,
				  const void *page);

/** mt_frames_read() - what is in @frame. Return: 0 or -errno. */
MT_MUST_CHECK int mt_frames_read(const struct mt_frames *frames, mt_frame_t frame, void *page);

/** mt_frames_drop() - @count frames from @first on are free: zeros, without memory. 0 or -errno. */
MT_MUST_CHECK int mt_frames_drop(const struct mt_frames *frames, mt_frame_t first, uint32_t count);

/** mt_frames_pages() - memory behind all of them */
uint64_t mt_frames_pages(const struct mt_frames *frames);

#endif
