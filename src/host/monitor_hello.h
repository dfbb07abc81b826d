/* SPDX-License-Identifier: MIT */
/*
 * monitor_hello.h - a monitor says who it is: for the first time, with a token, or again
 *
 * Who may: with a token, whoever was given it; without, root and the daemon's own user; again,
 * the same process that had the name, with the secret it was given. A daemon that was restarted
 * knows names and processes from its state file; it has forgotten the secrets, so there the
 * process, which the kernel vouches for, decides.
 */
#ifndef MT_HOST_MONITOR_HELLO_H
#define MT_HOST_MONITOR_HELLO_H

#include "host/monitor_link.h"

/**
 * mt_monitor_hello() - WELCOME, or REFUSED and the link closes
 * @swap_fd: what it says is its swap file (borrowed), or -1
 */
void mt_monitor_hello(struct mt_link *link, const struct mt_wire_hello *hello, int swap_fd);

/** mt_monitor_send_settings() - tell @vm's monitor, if it is there, its settings */
void mt_monitor_send_settings(const struct mt_vmrec *vm);

/** mt_monitor_send_settings_all() - tell everybody */
void mt_monitor_send_settings_all(const struct mt_server *server);

#endif
