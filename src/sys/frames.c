/* SPDX-License-Identifier: MIT */
/* frames.c - a sealed memfd and its read-only twin; see frames.h */
#include "sys/frames.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FRAMES_BYTES ((off_t)MT_FRAMES_MAX << MT_PAGE_SHIFT)
#define FRAMES_SEALS (F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)

void mt_frames_init(struct mt_frames *frames)
{
	*frames = (struct mt_frames){.fd = -1, .reader_fd = -1};
}

/* The file behind @fd once more, by way of /proc. Return: descriptor or -errno. */
static int frames_reopen(int fd, int flags)
{
	char path[32];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, flags | O_CLOEXEC);
	return again < 0 ? -errno : again;
}

/* Gives the file its size, seals and mode, and makes the descriptor for reading. */
static int frames_prepare(struct mt_frames *frames)
{
	struct stat st;

	if (ftruncate(frames->fd, FRAMES_BYTES) || fcntl(frames->fd, F_ADD_SEALS, FRAMES_SEALS) ||
	    fchmod(frames->fd, 0400))
		return -errno;
	frames->reader_fd = frames_reopen(frames->fd, O_RDONLY);
	if (frames->reader_fd < 0)
		return frames->reader_fd;
	if (fchmod(frames->fd, 0) || fstat(frames->fd, &st))
		return -errno;
	frames->inode = st.st_ino;
	return 0;
}

int mt_frames_new(struct mt_frames *frames, struct mt_err *err)
{
	int rc;

	mt_frames_init(frames);
	frames->fd = memfd_create("memtide-frames", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	rc = frames->fd < 0 ? -errno : frames_prepare(frames);
	if (!rc)
		return 0;
	mt_frames_close(frames);
	return mt_err_set(err, rc, "memory for shared frames: %s", strerror(-rc));
}

/* Is this the sealed file of ours that it should be? A VM might pass anything. */
static bool frames_genuine(int fd, uint64_t inode)
{
	struct stat st;

	return !fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
	       st.st_ino == inode && st.st_size == FRAMES_BYTES && !(st.st_mode & 0777) &&
	       fcntl(fd, F_GET_SEALS) == FRAMES_SEALS;
}

int mt_frames_adopt(struct mt_frames *frames, int reader_fd, uint64_t inode, struct mt_err *err)
{
	int rc = 0;

	mt_frames_init(frames);
	if (!frames_genuine(reader_fd, inode))
		return mt_err_set(err, -EPERM, "what was passed is not the group's frames");
	/* The owner may change the mode; without it only root could open the file again. */
	if (fchmod(reader_fd, 0600))
		return mt_err_set(err, -errno, "frames: %s", strerror(errno));
	frames->fd = frames_reopen(reader_fd, O_RDWR);
	if (frames->fd >= 0)
		frames->reader_fd = frames_reopen(reader_fd, O_RDONLY);
	if (frames->fd < 0 || frames->reader_fd < 0)
		rc = frames->fd < 0 ? frames->fd : frames->reader_fd;
	if (fchmod(reader_fd, 0) && !rc)
		rc = -errno;
	frames->inode = inode;
	if (!rc)
		return 0;
	mt_frames_close(frames);
	return mt_err_set(err, rc, "open the group's frames again: %s", strerror(-rc));
}

void mt_frames_close(struct mt_frames *frames)
{
	if (frames->fd >= 0)
		close(frames->fd);
	if (frames->reader_fd >= 0)
		close(frames->reader_fd);
	mt_frames_init(frames);
}

int mt_frames_write(const struct mt_frames *frames, mt_frame_t frame, const void *page)
{
	off_t at = (off_t)frame.n << MT_PAGE_SHIFT;
	ssize_t done = pwrite(frames->fd, page, MT_PAGE_SIZE, at);

	if (done == (ssize_t)MT_PAGE_SIZE)
		return 0;
	return done < 0 ? -errno : -EIO;
}

int mt_frames_read(const struct mt_frames *frames, mt_frame_t frame, void *page)
{
	off_t at = (off_t)frame.n << MT_PAGE_SHIFT;
	ssize_t done = pread(frames->fd, page, MT_PAGE_SIZE, at);

	if (done == (ssize_t)MT_PAGE_SIZE)
		return 0;
	return done < 0 ? -errno : -EIO;
}

int mt_frames_drop(const struct mt_frames *frames, mt_frame_t first, uint32_t count)
{
	off_t at = (off_t)first.n << MT_PAGE_SHIFT;
	int rc;

	do
		rc = fallocate(frames->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at,
			       (off_t)count << MT_PAGE_SHIFT);
	while (rc && errno == EINTR);
	return rc ? -errno : 0;
}

uint64_t mt_frames_pages(const struct mt_frames *frames)
{
	struct stat st;

	if (frames->fd < 0 || fstat(frames->fd, &st))
		return 0;
	return (uint64_t)st.st_blocks * 512 / MT_PAGE_SIZE;
}
