/* SPDX-License-Identifier: MIT */
/*
 * broker.h - which VM is which domain, and a line for each pair
 *
 * The daemon tells its VMs and their processes; libvirt tells its domains, and writes the number of
 * each one's process into a file that only root can write. What both have is one pair, and nothing
 * that a VM says about itself is needed for it.
 */
#ifndef MT_LIBVIRT_BROKER_H
#define MT_LIBVIRT_BROKER_H

#include "cli/client.h"

#include <libvirt/libvirt.h>

struct lv_broker;

/**
 * lv_broker_new() - without any pair, and for as long as the program runs: libvirt may bring an
 * event after it was told to bring none
 * @dir: where lines have their sockets; made when it is needed
 * @pid_dir: where libvirt writes NAME.pid
 *
 * Both must stay. Return: NULL with @err
 */
struct lv_broker *lv_broker_new(const char *dir, const char *pid_dir, struct mt_err *err);

/** lv_broker_begin() - from now on, domains are those of @connection (borrowed) */
void lv_broker_begin(struct lv_broker *broker, virConnectPtr connection);
/** lv_broker_end() - hang up on all lines and use the connection no more */
void lv_broker_end(struct lv_broker *broker);

/**
 * lv_broker_scan() - find pairs that are new, tell the daemon, and drop those that are gone
 * Return: 0; -errno with @err when the daemon or libvirt can't be asked any more
 */
MT_MUST_CHECK int lv_broker_scan(struct lv_broker *broker, struct client *client,
				 struct mt_err *err);

/** lv_pid_read() - the number in the file DIR/NAME.pid; 0: none */
pid_t lv_pid_read(const char *dir, const char *name);

#endif
