/* SPDX-License-Identifier: MIT */
/*
 * doctor_swap.c - can the swap directory hold swap files, and enough of them?
 *
 * Does with a nameless file of one MiB what the daemon and monitors do: O_TMPFILE, fallocate(),
 * O_DIRECT writes and reads. Nothing is left behind.
 */
#include "cli/doctor.h"
#include "base/cleanup.h"
#include "base/size.h"
#include "base/types.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#define SWAP_TEST_BYTES (1U << 20)

/* Return: false after reporting that there is no directory to test. */
static bool swap_dir_there(struct doctor *doctor)
{
	const char *dir = doctor->swap_dir;
	struct stat st;
	char fix[600];

	if (!stat(dir, &st) && S_ISDIR(st.st_mode))
		return true;
	snprintf(fix, sizeof(fix),
		 "mkdir -p -m 700 '%s' on a fast disk, or give another with "
		 "--swap-dir",
		 dir);
	doctor_report(doctor, doctor->swap_dir_given ? DOCTOR_FAIL : DOCTOR_WARN, "swap-dir", fix,
		      "swap directory '%s' is not there", dir);
	return false;
}

static void swap_space(struct doctor *doctor)
{
	char room[MT_SIZE_TEXT_MAX], pool[MT_SIZE_TEXT_MAX];
	struct statfs fs;
	uint64_t bytes;

	if (statfs(doctor->swap_dir, &fs))
		return;
	bytes = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
	mt_size_text(bytes, room);
	mt_size_text(doctor->pool_bytes, pool);
	if (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC)
		doctor_report(doctor, DOCTOR_WARN, "swap-medium",
			      "use a directory on a disk, with --swap-dir",
			      "'%s' is in memory (tmpfs): swapping there frees nothing",
			      doctor->swap_dir);
	if (!doctor->pool_bytes)
		doctor_report(doctor, DOCTOR_OK, "swap-space", NULL, "%s free in '%s'", room,
			      doctor->swap_dir);
	else if (bytes < doctor->pool_bytes)
		doctor_report(
			doctor, DOCTOR_WARN, "swap-space",
			"VMs get swap files as large as what they are promised: use a larger disk",
			"%s free in '%s', less than the pool of %s", room, doctor->swap_dir, pool);
	else
		doctor_report(doctor, DOCTOR_OK, "swap-space", NULL,
			      "%s free in '%s', the pool is %s", room, doctor->swap_dir, pool);
}

static void swap_direct_io(struct doctor *doctor, int fd)
{
	uint8_t *page = mmap(NULL, 2 * MT_PAGE_SIZE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool ok;

	if (page == MAP_FAILED)
		return;
	memset(page, 0xa5, MT_PAGE_SIZE);
	ok = pwrite(fd, page, MT_PAGE_SIZE, MT_PAGE_SIZE) == (ssize_t)MT_PAGE_SIZE &&
	     pread(fd, page + MT_PAGE_SIZE, MT_PAGE_SIZE, MT_PAGE_SIZE) == (ssize_t)MT_PAGE_SIZE &&
	     !memcmp(page, page + MT_PAGE_SIZE, MT_PAGE_SIZE);
	if (ok)
		doctor_report(doctor, DOCTOR_OK, "swap-direct", NULL,
			      "O_DIRECT works in '%s': 4 KiB written and read back",
			      doctor->swap_dir);
	else
		doctor_report(doctor, DOCTOR_WARN, "swap-direct",
			      "use ext4 or xfs on a local disk with blocks of at most 4 KiB",
			      "O_DIRECT of 4 KiB fails in '%s': %s", doctor->swap_dir,
			      strerror(errno));
	munmap(page, 2 * MT_PAGE_SIZE);
}

static void swap_file(struct doctor *doctor)
{
	MT_AUTO_CLOSE int fd =
		open(doctor->swap_dir, O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
	MT_AUTO_CLOSE int plain = -1;

	if (fd < 0) {
		plain = open(doctor->swap_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
		if (plain < 0) {
			doctor_report(doctor, DOCTOR_FAIL, "swap-file",
				      "use a writable directory on ext4, xfs or btrfs",
				      "no nameless file (O_TMPFILE) in '%s': %s", doctor->swap_dir,
				      strerror(errno));
			return;
		}
		doctor_report(doctor, DOCTOR_WARN, "swap-direct", "use ext4 or xfs on a local disk",
			      "no O_DIRECT in '%s': swapped pages would fill the page cache",
			      doctor->swap_dir);
	}
	if (fallocate(fd >= 0 ? fd : plain, 0, 0, SWAP_TEST_BYTES))
		doctor_report(
			doctor, DOCTOR_FAIL, "swap-file",
			"use ext4 or xfs with free space: room is set aside before it is needed",
			"no room can be set aside (fallocate) in '%s': %s", doctor->swap_dir,
			strerror(errno));
	else
		doctor_report(doctor, DOCTOR_OK, "swap-file", NULL,
			      "O_TMPFILE and fallocate work in '%s'", doctor->swap_dir);
	if (fd >= 0)
		swap_direct_io(doctor, fd);
}

void doctor_swap(struct doctor *doctor)
{
	if (!swap_dir_there(doctor))
		return;
	swap_file(doctor);
	swap_space(doctor);
}
