/* SPDX-License-Identifier: MIT */
/*
 * process.h - hold on to a process, so that its end is seen and its number can't fool us
 *
 * A process number may be given to another process the moment its owner is reaped. A pidfd can't,
 * and becomes readable when the process has ended, its memory with it.
 */
#ifndef MT_SYS_PROCESS_H
#define MT_SYS_PROCESS_H

#include "base/compiler.h"

#include <stdbool.h>
#include <sys/types.h>

/** mt_pidfd_of_peer() - of the process that made the connection @sock. Return: descriptor or
 * -errno. */
int mt_pidfd_of_peer(int sock);

/** mt_pidfd_open() - of @pid. Return: descriptor or -errno (-ESRCH). */
int mt_pidfd_open(pid_t pid);

/** mt_process_has_kvm() - does this process run a virtual machine with KVM? */
bool mt_process_has_kvm(void);

/** mt_pidfd_ended() - has the process ended? */
bool mt_pidfd_ended(int pidfd);

/** mt_pid_start_time() - when @pid was started, in clock ticks since boot; with its number unique.
 * 0 or -errno */
int mt_pid_start_time(pid_t pid, uint64_t *ret_ticks);

#endif
