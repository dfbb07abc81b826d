/* SPDX-License-Identifier: MIT */
/* uffd_device.c - open the device, try it out; see uffd_device.h */
#include "sys/uffd_device.h"
#include "base/cleanup.h"
#include "sys/kcaps.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define UFFD_DEVICE "/dev/userfaultfd"

int mt_uffd_device_open(struct mt_err *err)
{
	MT_AUTO_CLOSE int fd = open(UFFD_DEVICE, O_RDWR | O_CLOEXEC);
	int rc;

	if (fd < 0 && errno == ENOENT)
		return mt_err_set(
			err, -ENOENT,
			"%s is missing; run a kernel with CONFIG_USERFAULTFD, Linux 6.8 or newer",
			UFFD_DEVICE);
	if (fd < 0)
		return mt_err_set(err, -errno,
				  "%s: %s; run memtided as root or give it access to the device",
				  UFFD_DEVICE, strerror(errno));
	rc = mt_kcaps_uffd_move(fd, err);
	return rc ? rc : mt_steal_fd(&fd);
}
