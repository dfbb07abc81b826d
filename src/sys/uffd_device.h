/* SPDX-License-Identifier: MIT */
/*
 * uffd_device.h - /dev/userfaultfd, opened by the daemon for its monitors
 *
 * Only the device gives an unprivileged process a userfaultfd that also serves faults taken inside
 * the kernel (KVM, read(2) into guest memory). It is usually root's, so the daemon opens it and
 * passes the descriptor on.
 */
#ifndef MT_SYS_UFFD_DEVICE_H
#define MT_SYS_UFFD_DEVICE_H

#include "base/err.h"

/**
 * mt_uffd_device_open() - open the device and see that the kernel can move pages
 *
 * Return: descriptor; -errno with what is missing and how to get it in @err, -EOPNOTSUPP when it
 * is UFFDIO_MOVE.
 */
int mt_uffd_device_open(struct mt_err *err);

#endif
