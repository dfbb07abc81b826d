/* SPDX-License-Identifier: MIT */
/* rights.c - the rules of rights.h, one function for each question */
#include "host/rights.h"
#include "host/monitor_link.h"
#include "host/registry.h"

#include <errno.h>
#include <unistd.h>

bool mt_rights_all(uid_t uid)
{
	return uid == 0 || uid == geteuid();
}

bool mt_rights_vm(const struct mt_client *client, const struct mt_vmrec *vm)
{
	return mt_rights_all(client->uid) || (vm->owner_known && vm->owner == client->uid);
}

bool mt_rights_event(const struct mt_client *client, const struct mt_event *event)
{
	const struct mt_vmrec *vm;

	if (mt_rights_all(client->uid))
		return true;
	vm = event->vm[0] ? mt_registry_find(client->server, event->vm) : NULL;
	return vm && mt_rights_vm(client, vm);
}

static int rights_refuse(uid_t uid, const char *what, struct mt_err *err)
{
	return mt_err_set(err, -EPERM, "user %u may not %s; ask root", (unsigned int)uid, what);
}

static unsigned int rights_vms(const struct mt_server *server, uid_t uid)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < server->vm_count; i++)
		count += server->vms[i]->owner_known && server->vms[i]->owner == uid;
	return count;
}

int mt_rights_create(const struct mt_server *server, uid_t uid,
		     const struct mt_vm_settings *settings, struct mt_err *err)
{
	if (mt_rights_all(uid))
		return 0;
	if (settings->reservation_bytes)
		return rights_refuse(uid, "reserve memory", err);
	if (settings->shares || settings->shares_per_mib > MT_SHARES_NORMAL)
		return rights_refuse(uid, "give a VM more shares than normal", err);
	if (rights_vms(server, uid) >= MT_USER_VMS_MAX)
		return mt_err_set(err, -EMFILE, "user %u has %u VMs already, the most there can be",
				  (unsigned int)uid, MT_USER_VMS_MAX);
	return 0;
}

int mt_rights_change(const struct mt_client *client, const struct mt_vm_settings *before,
		     const struct mt_vm_settings *after, struct mt_err *err)
{
	if (mt_rights_all(client->uid))
		return 0;
	if (after->reservation_bytes != before->reservation_bytes)
		return rights_refuse(client->uid, "change a reservation", err);
	if (after->shares != before->shares || after->shares_per_mib != before->shares_per_mib)
		return rights_refuse(client->uid, "change shares", err);
	/* A limit that root gave is not his to lift. */
	if (before->limit_bytes &&
	    (!after->limit_bytes || after->limit_bytes > before->limit_bytes))
		return rights_refuse(client->uid, "raise a limit", err);
	return 0;
}

int mt_rights_host(const struct mt_client *client, struct mt_err *err)
{
	return mt_rights_all(client->uid)
		       ? 0
		       : rights_refuse(client->uid, "change the host's settings", err);
}

int mt_rights_qmp(const struct mt_client *client, struct mt_err *err)
{
	return mt_rights_all(client->uid)
		       ? 0
		       : rights_refuse(client->uid, "speak for another's VM", err);
}

bool mt_rights_client_fits(const struct mt_server *server, uid_t uid)
{
	unsigned int count = 0;

	for (const struct mt_client *client = server->clients; client; client = client->next)
		count += client->uid == uid;
	return mt_rights_all(uid) || count < MT_USER_CLIENTS_MAX;
}

bool mt_rights_link_fits(const struct mt_server *server, uid_t uid)
{
	unsigned int count = 0;

	for (const struct mt_link *link = server->links; link; link = link->next)
		count += !link->vm && link->uid == uid;
	return mt_rights_all(uid) || count < MT_USER_LINKS_MAX;
}
