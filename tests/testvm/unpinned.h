/* SPDX-License-Identifier: MIT */
/* unpinned.h - a file as on a file system that does not pin the pages it reads into:
 * memtide-mapper's
 */
#ifndef MT_TESTVM_UNPINNED_H
#define MT_TESTVM_UNPINNED_H

/*
 * Open such a file for direct I/O: @how is "open", "fcntl" or "raw", where nobody sees it happen.
 * Return: descriptor or -1.
 */
int unpinned_open(const char *how);

#endif
