/* SPDX-License-Identifier: MIT */
/*
 * rights.h - who may ask the daemon for what
 *
 * The sockets belong to root and to a group, so who can connect at all may run VMs. Among those,
 * root and the daemon's own user may do everything. Anybody else, told apart by the kernel's word
 * on who is at the other end, has the VMs he made: he sees, checks and holds down those, and no
 * others, and promises himself nothing at others' cost. And he gets a share of each of the daemon's
 * limits only, so that nobody can lock out the rest.
 */
#ifndef MT_HOST_RIGHTS_H
#define MT_HOST_RIGHTS_H

#include "host/client.h"

/* What one user may have of MT_CLIENTS_MAX, MT_VMS_MAX and of connections that said no hello. */
#define MT_USER_CLIENTS_MAX 64U
#define MT_USER_VMS_MAX     256U
#define MT_USER_LINKS_MAX   32U

/** mt_rights_all() - may @uid do everything? */
bool mt_rights_all(uid_t uid);

/** mt_rights_vm() - may @client see and change @vm? */
bool mt_rights_vm(const struct mt_client *client, const struct mt_vmrec *vm);

/** mt_rights_event() - may @client read @event? */
bool mt_rights_event(const struct mt_client *client, const struct mt_event *event);

/** mt_rights_create() - may @uid make another VM, with these settings? 0, -EPERM or -EMFILE. */
MT_MUST_CHECK int mt_rights_create(const struct mt_server *server, uid_t uid,
				   const struct mt_vm_settings *settings, struct mt_err *err);

/** mt_rights_change() - may @client turn a VM's settings @before into @after? 0 or -EPERM. */
MT_MUST_CHECK int mt_rights_change(const struct mt_client *client,
				   const struct mt_vm_settings *before,
				   const struct mt_vm_settings *after, struct mt_err *err);

/** mt_rights_host() - may @client change settings of the host? 0 or -EPERM. */
MT_MUST_CHECK int mt_rights_host(const struct mt_client *client, struct mt_err *err);

/** mt_rights_qmp() - may @client stand between the daemon and a VM's balloon? 0 or -EPERM. */
MT_MUST_CHECK int mt_rights_qmp(const struct mt_client *client, struct mt_err *err);

/** mt_rights_client_fits(), mt_rights_link_fits() - may @uid connect once more? */
bool mt_rights_client_fits(const struct mt_server *server, uid_t uid);
bool mt_rights_link_fits(const struct mt_server *server, uid_t uid);

#endif
