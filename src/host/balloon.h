/* SPDX-License-Identifier: MIT */
/*
 * balloon.h - one VM's balloon: find it, listen to its guest, drive it
 *
 * Over the VM's QMP socket: find the virtio balloon in QEMU's tree of devices, have the guest's
 * driver report every second while there is something to decide and every five otherwise, ask for
 * the balloon's size with it, and tell the balloon the size that policy/balloon.h wants. Everything
 * is asked and taken in the daemon's loop; a VM whose QMP hangs just has an old report, and its
 * balloon counts as not working.
 *
 * When the guest starts anew its balloon is let go, and driven again only after the new driver has
 * reported.
 */
#ifndef MT_HOST_BALLOON_H
#define MT_HOST_BALLOON_H

#include "host/server.h"
#include "policy/balloon.h"

#include <json-c/json.h>

struct mt_balloon;

/* What the scheduler's decision means for one VM's balloon. */
struct mt_balloon_order {
	enum mt_balloon_drive drive;
	uint64_t fit_pages;
	uint64_t spare_pages;
};

/** mt_balloon_start() - @vm has a process now: if it has a QMP socket, use it; else nothing */
void mt_balloon_start(struct mt_server *server, struct mt_vmrec *vm);

/** mt_balloon_stop() - the VM is gone; the balloon, if there still is one, stays as it is */
void mt_balloon_stop(struct mt_vmrec *vm);

/** mt_balloon_expire() - ask, connect, give up waiting: what is due, for all VMs */
void mt_balloon_expire(struct mt_server *server);

/** mt_balloon_drive() - a new order for @vm; decides at once with what is known */
void mt_balloon_drive(struct mt_vmrec *vm, const struct mt_balloon_order *order);

/** mt_balloon_works() - does it bring what the host needs, so that nothing must be paged out? */
bool mt_balloon_works(const struct mt_vmrec *vm);

/** mt_balloon_most() - pages of managed memory that it takes at its largest, by what its guest
 * reports now; it may take all others first */
uint64_t mt_balloon_most(const struct mt_vmrec *vm);

/** mt_balloon_guest_short() - is the guest, with its balloon, short of memory itself? */
bool mt_balloon_guest_short(const struct mt_vmrec *vm);

/** mt_balloon_qmp() - the connection, for others who have something to ask; NULL: no QMP socket */
struct mt_qmp *mt_balloon_qmp(const struct mt_vmrec *vm);

/** mt_balloon_size() - size of the balloon as last known. Return: false when nothing is known. */
bool mt_balloon_size(const struct mt_vmrec *vm, uint64_t *ret_pages);

/** mt_balloon_json() - what is known of the balloon and the guest, into the VM's object */
void mt_balloon_json(const struct mt_vmrec *vm, struct json_object *object);

#endif
