/* SPDX-License-Identifier: MIT */
/* uffd_rig.h - a real userfaultfd for a test, or the test is skipped */
#ifndef MT_TESTS_UFFD_RIG_H
#define MT_TESTS_UFFD_RIG_H

#include "common/mt_test.h"
#include "sys/uffd.h"

#include <fcntl.h>
#include <unistd.h>

/* Opens @uffd, to map frames if @frames, and fills @ret_mem with what it can do. */
static inline void uffd_rig_open(struct mt_uffd *uffd, bool frames, struct mt_mem_ops *ret_mem)
{
	int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	struct mt_err err = {0};

	if (device < 0)
		MT_SKIP("/dev/userfaultfd can't be opened");
	MT_CHECK_EQ(mt_uffd_open(uffd, device, frames, &err), 0);
	close(device);
	mt_uffd_mem_ops(uffd, ret_mem);
}

#endif
