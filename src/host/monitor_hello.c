/* SPDX-License-Identifier: MIT */
/* monitor_hello.c - who is this? see monitor_hello.h */
#include "host/monitor_hello.h"
#include "base/cleanup.h"
#include "base/size.h"
#include "host/balance.h"
#include "host/balloon.h"
#include "host/monitor_region.h"
#include "host/registry.h"
#include "host/rights.h"
#include "host/share.h"
#include "host/state_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void mt_monitor_send_settings(const struct mt_vmrec *vm)
{
	union mt_wire_msg msg;

	if (!vm->link)
		return;
	mt_wire_init(&msg, MT_WIRE_SETTINGS, 0);
	msg.settings.zip_max_pct = vm->settings.zip_max_pct;
	msg.settings.sample_period_s = vm->server->sched_config.sample_period_s;
	msg.settings.sample_pages = vm->server->sched_config.sample_pages;
	msg.settings.share_pages_per_ks = mt_share_pages_per_ks(vm);
	mt_link_send(vm->link, &msg, -1);
}

void mt_monitor_send_settings_all(const struct mt_server *server)
{
	for (unsigned int i = 0; i < server->vm_count; i++)
		mt_monitor_send_settings(server->vms[i]);
}

static int hello_settings(const struct mt_link *link, const struct mt_wire_hello *hello,
			  struct mt_vm_settings *ret, struct mt_err *err)
{
	*ret = (struct mt_vm_settings){.reservation_bytes = hello->reservation_bytes,
				       .limit_bytes = hello->limit_bytes,
				       .shares = hello->shares,
				       .shares_per_mib = MT_SHARES_NORMAL,
				       .zip_max_pct = link->server->config.zip_max_pct};
	if (hello->share_group[0] && !mt_wire_name_ok(hello->share_group))
		return mt_err_set(err, -EINVAL, "the share group's name is not one");
	snprintf(ret->share_group, sizeof(ret->share_group), "%s", hello->share_group);
	return mt_rights_create(link->server, link->uid, ret, err);
}

/* First time: by token, or with settings of its own. */
static int hello_first(struct mt_link *link, const struct mt_wire_hello *hello,
		       struct mt_vmrec **ret_vm, struct mt_err *err)
{
	struct mt_vm_settings settings;
	struct mt_vmrec *vm;
	int rc;

	if (hello->token[0]) {
		vm = mt_registry_find_token(link->server, hello->token);
		if (!vm)
			return mt_err_set(err, -ENOENT,
					  "the token is not known or was used; "
					  "start the VM with 'memtide run' again");
		*ret_vm = vm;
		return 0;
	}
	rc = hello_settings(link, hello, &settings, err);
	return rc ? rc : mt_registry_add(link->server, hello->name, &settings, ret_vm, err);
}

/* The VM that says it was here before: the same process, and what it says it has is possible. */
static int hello_known(struct mt_link *link, const struct mt_wire_hello *hello, struct mt_vmrec *vm,
		       struct mt_err *err)
{
	uint64_t pages = mt_account_pages(vm->account);

	if (vm->pid != link->pid || (vm->secret[0] && strcmp(vm->secret, hello->secret)))
		return mt_err_set(err, -EPERM, "VM '%s' belongs to another process", vm->name);
	if (hello->grant_pages > pages)
		return mt_err_set(err, -EPROTO,
				  "VM '%s' says it was granted %llu pages, it was %llu", vm->name,
				  (unsigned long long)hello->grant_pages,
				  (unsigned long long)pages);
	if (mt_registry_returned(vm, pages - hello->grant_pages))
		return mt_err_set(err, -EPROTO, "VM '%s': grant can't be set", vm->name);
	if (vm->swap_unknown)
		vm->base_pages = hello->memsize_pages;
	return 0;
}

/* From before this daemon, and not in its state file: believed within reason. */
static int hello_unrecorded(struct mt_link *link, const struct mt_wire_hello *hello,
			    struct mt_vmrec **ret_vm, struct mt_err *err)
{
	const struct mt_policy_vm most = {.memsize_pages = hello->memsize_pages,
					  .limit_pages = MT_POLICY_NO_LIMIT,
					  .target_max_pages = MT_POLICY_NO_LIMIT};
	struct mt_server *server = link->server;
	struct mt_vm_settings settings;
	int rc = 0;

	/* anybody else could claim the whole pool like this */
	if (!mt_rights_all(link->uid))
		rc = mt_err_set(err, -EPERM,
				"VM '%s' is not known from before, and user %u's word on what it "
				"holds is not enough",
				hello->name, (unsigned int)link->uid);
	if (!rc)
		rc = hello_settings(link, hello, &settings, err);
	if (!rc && hello->grant_pages > mt_policy_cap(&most))
		rc = mt_err_set(err, -EPROTO,
				"VM '%s' says it was granted more than its memory can need",
				hello->name);
	if (!rc)
		rc = mt_registry_add(server, hello->name, &settings, ret_vm, err);
	if (rc)
		return rc;
	mt_ledger_adopt(server->ledger, (*ret_vm)->account, hello->grant_pages);
	(*ret_vm)->swap_unknown = true;
	(*ret_vm)->base_pages = hello->memsize_pages;
	return 0;
}

static int hello_again(struct mt_link *link, const struct mt_wire_hello *hello,
		       struct mt_vmrec **ret_vm, struct mt_err *err)
{
	struct mt_vmrec *vm = mt_registry_find(link->server, hello->name);

	if (hello->memsize_pages > MT_VM_PAGES_MAX)
		return mt_err_set(err, -EPROTO, "VM says it has %llu pages of memory",
				  (unsigned long long)hello->memsize_pages);
	if (!vm)
		return hello_unrecorded(link, hello, ret_vm, err);
	*ret_vm = vm;
	return hello_known(link, hello, vm, err);
}

static void hello_welcome(struct mt_link *link, uint32_t serial)
{
	struct mt_vmrec *vm = link->vm;
	union mt_wire_msg msg;

	mt_wire_init(&msg, MT_WIRE_WELCOME, serial);
	msg.welcome.vmid = vm->id;
	memcpy(msg.welcome.secret, vm->secret, sizeof(msg.welcome.secret));
	mt_link_send(link, &msg, link->server->uffd);
	mt_monitor_send_settings(vm);
}

/* Binds link and VM. On failure a record made for this HELLO is gone again. */
static int hello_bind(struct mt_link *link, const struct mt_wire_hello *hello, struct mt_vmrec *vm,
		      bool again, struct mt_err *err)
{
	int rc = 0;

	if (!vm->secret[0])
		rc = mt_random_token(vm->secret, err);
	if (!rc && !vm->pidfd_source)
		rc = mt_registry_watch(link->server, vm, link->pid, mt_steal_fd(&link->pidfd), err);
	if (rc)
		return rc;
	if (vm->link) {
		/* it gave up the old connection; we have only not read the end of it yet */
		mt_link_forget_vm(vm->link);
		mt_region_forget_pending(vm);
	}
	link->vm = vm;
	vm->link = link;
	if (!vm->owner_known) {
		vm->owner = link->uid;
		vm->owner_known = true;
	}
	vm->creator = NULL;
	vm->token[0] = '\0';
	vm->away_event_ns = 0;
	vm->target_known = false;
	vm->stats_known = false;
	vm->pressing = false;
	vm->reconnected = again;
	memcpy(vm->vmm, hello->vmm, sizeof(vm->vmm));
	mt_text_clean(vm->vmm);
	return 0;
}

static void hello_refused(struct mt_link *link, const struct mt_wire_hello *hello,
			  const struct mt_err *err)
{
	char text[MT_WIRE_TEXT_MAX];

	snprintf(text, sizeof(text), "refused process %d: %.280s", (int)link->pid, err->msg);
	mt_server_event_limited(link->server, &link->server->rate, MT_EVENT_WARNING,
				mt_wire_name_ok(hello->name) ? hello->name : NULL, text);
	mt_link_refuse(link, hello->head.serial, err);
	mt_link_close(link);
}

static void hello_tell(struct mt_link *link, bool again)
{
	const struct mt_vmrec *vm = link->vm;
	char size[MT_SIZE_TEXT_MAX], grant[MT_SIZE_TEXT_MAX];

	if (again)
		mt_events_add(link->server->events, MT_EVENT_INFO, vm->name,
			      "connected again: process %d, memory %s, grant %s", (int)vm->pid,
			      mt_size_text(mt_vm_memsize_pages(vm) * MT_PAGE_SIZE, size),
			      mt_size_text(mt_account_pages(vm->account) * MT_PAGE_SIZE, grant));
	else
		mt_events_add(link->server->events, MT_EVENT_INFO, vm->name,
			      "connected: process %d (%s)", (int)vm->pid, vm->vmm);
}

/* A daemon that was restarted gets the VM's swap file back, so that it can grow with the VM. */
static void hello_swap(struct mt_link *link, const struct mt_wire_hello *hello, int swap_fd)
{
	struct mt_vmrec *vm = link->vm;
	char text[MT_WIRE_TEXT_MAX];
	struct mt_err err = {0};

	/* one that never had memory never had a swap file: it gets its first from us */
	if (swap_fd < 0 && !hello->memsize_pages)
		vm->swap_unknown = false;
	if (swap_fd < 0 || !vm->swap_unknown ||
	    !mt_region_swap_adopt(link->server, vm, swap_fd, &err))
		return;
	snprintf(text, sizeof(text), "its swap file can't grow any more: %.240s", err.msg);
	mt_server_event_limited(link->server, &vm->rate, MT_EVENT_WARNING, vm->name, text);
}

void mt_monitor_hello(struct mt_link *link, const struct mt_wire_hello *hello, int swap_fd)
{
	struct mt_vmrec *vm = NULL;
	struct mt_err err = {0};
	bool again = hello->secret[0];
	int rc = again ? hello_again(link, hello, &vm, &err) : hello_first(link, hello, &vm, &err);
	bool fresh = !rc && !vm->creator && !vm->pid;

	if (!rc) {
		rc = hello_bind(link, hello, vm, again, &err);
		if (rc && fresh)
			mt_registry_remove(link->server, vm, "its process could not be watched");
	}
	if (rc) {
		hello_refused(link, hello, &err);
		return;
	}
	if (again)
		hello_swap(link, hello, swap_fd);
	hello_welcome(link, hello->head.serial);
	mt_share_start(vm, again ? hello->shared_pages : 0);
	hello_tell(link, again);
	mt_balloon_start(link->server, vm);
	mt_state_file_touch(link->server);
	mt_balance_want(link->server);
}
