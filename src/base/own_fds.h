/* SPDX-License-Identifier: MIT */
/*
 * own_fds.h - which of the process's descriptors are the monitor's
 *
 * A VMM knows nothing of the monitor's descriptors, and some programs close all that they do not
 * know. The preload library stands in front of close() and its like and leaves alone what is listed
 * here. The monitor's own threads are not asked (thread.h); its calls in the VMM's threads go
 * through mt_fd_close(), which takes the descriptor off the list first.
 *
 * Descriptors are moved to high numbers: there a program that counts from 3 does not meet them, and
 * should one be closed after all, its number is not given to the next file that is opened. So a
 * descriptor that is gone is found to be gone, and never taken for another.
 *
 * Any thread, no locks.
 */
#ifndef MT_BASE_OWN_FDS_H
#define MT_BASE_OWN_FDS_H

#include <stdbool.h>

/** mt_fd_own() - @fd, just made, becomes ours. Return: the number it has now; a negative one as is
 */
int mt_fd_own(int fd);

/** mt_fd_disown() - it is ours no longer: for one that a library of ours is about to close */
void mt_fd_disown(int fd);

/** mt_fd_close() - close one of ours; fine for a negative one, and one that is not on the list */
void mt_fd_close(int fd);

/** mt_fd_is_own() - is @fd one of ours? Not in a child of the process, whose it is to close. */
bool mt_fd_is_own(int fd);

/** mt_fd_next_own() - the lowest of ours that is not below @from, or -1 */
int mt_fd_next_own(int from);

/** mt_fds_forget() - in a child: none is ours */
void mt_fds_forget(void);

#endif
