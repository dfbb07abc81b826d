/* SPDX-License-Identifier: MIT */
/* registry.c - an array of records sorted by name; see registry.h */
#include "host/registry.h"
#include "base/size.h"
#include "host/balance.h"
#include "host/balloon.h"
#include "host/monitor_link.h"
#include "host/qmp_dir.h"
#include "host/share.h"
#include "host/state_file.h"
#include "sys/process.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

/* Place of @name in the array: where it is, or where it would go. */
static unsigned int registry_place(const struct mt_server *server, const char *name,
				   bool *ret_found)
{
	unsigned int low = 0, high = server->vm_count;

	*ret_found = false;
	while (low < high) {
		unsigned int middle = (low + high) / 2;
		int order = strcmp(server->vms[middle]->name, name);

		if (!order) {
			*ret_found = true;
			return middle;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct mt_vmrec *mt_registry_find(const struct mt_server *server, const char *name)
{
	bool found;
	unsigned int place = registry_place(server, name, &found);

	return found ? server->vms[place] : NULL;
}

struct mt_vmrec *mt_registry_find_id(const struct mt_server *server, uint32_t id)
{
	for (unsigned int i = 0; i < server->vm_count; i++)
		if (server->vms[i]->id == id)
			return server->vms[i];
	return NULL;
}

struct mt_vmrec *mt_registry_find_token(const struct mt_server *server, const char *token)
{
	for (unsigned int i = 0; token[0] && i < server->vm_count; i++)
		if (!strcmp(server->vms[i]->token, token))
			return server->vms[i];
	return NULL;
}

uint64_t mt_registry_promised_pages(const struct mt_server *server, const struct mt_vmrec *except)
{
	uint64_t pages = 0;

	for (unsigned int i = 0; i < server->vm_count; i++)
		if (server->vms[i] != except)
			pages += mt_vm_promise_pages(server->vms[i]);
	return pages;
}

int mt_registry_admit(const struct mt_server *server, const struct mt_vmrec *vm,
		      const struct mt_vm_settings *settings, struct mt_err *err)
{
	struct mt_admit_vm admission = mt_vm_admission(vm, settings);
	uint64_t pool = mt_ledger_pool(server->ledger);
	struct mt_admit_host host = {
		.pool_pages = pool,
		.own_pages = mt_ledger_own(server->ledger),
		/* on a small host a starting VM needs more than minFree */
		.minfree_pages =
			MT_MAX(mt_server_minfree_pages(server, pool), MT_STARTER_RESERVE_PAGES),
		.reserved_pages = mt_registry_promised_pages(server, vm),
		/* whoever sets the space aside finds out, and names the directory */
		.swap_free_pages = MT_POLICY_MAX};

	if (!admission.memsize_pages)
		return 0;
	return mt_admit_check(&host, &admission, vm ? vm->name : "the VM", err);
}

int mt_registry_check_promises(const struct mt_server *server, uint64_t pool_pages,
			       struct mt_err *err)
{
	uint64_t promised = mt_registry_promised_pages(server, NULL);
	uint64_t room = mt_server_room_pages(server, pool_pages);
	char want[MT_SIZE_TEXT_MAX], have[MT_SIZE_TEXT_MAX];

	if (promised <= room)
		return 0;
	return mt_err_set(
		err, -ENOSPC,
		"such a pool has %s for VMs, and %s are promised to them "
		"(reservations and overhead, at least 16M); lower reservations or stop VMs",
		mt_size_text(room * MT_PAGE_SIZE, have),
		mt_size_text(promised * MT_PAGE_SIZE, want));
}

int mt_registry_check_settings(const struct mt_server *server, const struct mt_vmrec *vm,
			       const struct mt_vm_settings *settings, struct mt_err *err)
{
	char reservation[MT_SIZE_TEXT_MAX], other[MT_SIZE_TEXT_MAX];
	uint64_t memsize = vm ? mt_vm_memsize_pages(vm) * MT_PAGE_SIZE : 0;
	uint64_t limit = settings->limit_bytes;

	mt_size_text(settings->reservation_bytes, reservation);
	if (settings->reservation_bytes > MT_VM_BYTES_MAX || limit > MT_VM_BYTES_MAX)
		return mt_err_set(err, -EINVAL, "reservation or limit is above 256T");
	if (limit && limit < MT_POLICY_START_PAGES * MT_PAGE_SIZE)
		return mt_err_set(err, -EINVAL,
				  "a limit of %s is too small for a VM to run; "
				  "the least is 16M",
				  mt_size_text(limit, other));
	if (limit && settings->reservation_bytes > limit)
		return mt_err_set(
			err, -EINVAL,
			"reservation %s is above the limit %s; lower it or raise the limit",
			reservation, mt_size_text(limit, other));
	if (memsize && settings->reservation_bytes > memsize)
		return mt_err_set(err, -EINVAL,
				  "reservation %s is more than the VM's memory of %s; lower it",
				  reservation, mt_size_text(memsize, other));
	if (vm && settings->reservation_bytes <= vm->settings.reservation_bytes)
		return 0;
	return mt_registry_admit(server, vm, settings, err);
}

int mt_random_token(char ret[static MT_WIRE_TOKEN_MAX], struct mt_err *err)
{
	uint8_t bits[(MT_WIRE_TOKEN_MAX - 1) / 2];

	if (getrandom(bits, sizeof(bits), 0) != (ssize_t)sizeof(bits))
		return mt_err_set(err, -EIO, "no random numbers: %s", strerror(errno));
	for (size_t i = 0; i < sizeof(bits); i++)
		snprintf(ret + 2 * i, 3, "%02x", bits[i]);
	return 0;
}

static int registry_insert(struct mt_server *server, struct mt_vmrec *vm, struct mt_err *err)
{
	bool found;
	unsigned int place = registry_place(server, vm->name, &found);

	if (found)
		return mt_err_set(err, -EEXIST,
				  "a VM named '%s' exists already; choose another name", vm->name);
	if (server->vm_count == MT_VMS_MAX)
		return mt_err_set(err, -EMFILE, "there are %u VMs already, the most there can be",
				  MT_VMS_MAX);
	memmove(&server->vms[place + 1], &server->vms[place],
		(server->vm_count - place) * sizeof(server->vms[0]));
	server->vms[place] = vm;
	server->vm_count++;
	vm->id = ++server->last_vm_id;
	return 0;
}

/* A process that is being started anew may be faster than the news of the old one's end. */
static void registry_reap(struct mt_server *server, const char *name)
{
	struct mt_vmrec *vm = mt_registry_find(server, name);

	if (vm && vm->pidfd >= 0 && mt_pidfd_ended(vm->pidfd))
		mt_registry_remove(server, vm, "its process has ended");
}

int mt_registry_add(struct mt_server *server, const char *name,
		    const struct mt_vm_settings *settings, struct mt_vmrec **ret_vm,
		    struct mt_err *err)
{
	struct mt_vmrec *vm;
	int rc;

	if (!mt_wire_name_ok(name))
		return mt_err_set(err, -EINVAL,
				  "this is no name for a VM; use 1 to 63 of "
				  "a-z A-Z 0-9 . _ - and no dot or dash in front");
	registry_reap(server, name);
	rc = mt_registry_check_settings(server, NULL, settings, err);
	if (rc)
		return rc;
	vm = calloc(1, sizeof(*vm));
	if (!vm)
		return mt_err_set(err, -ENOMEM, "no memory for another VM");
	snprintf(vm->name, sizeof(vm->name), "%s", name);
	vm->server = server;
	vm->settings = *settings;
	mt_active_init(&vm->touched);
	mt_active_init(&vm->written);
	vm->pidfd = -1;
	vm->swap_fd = -1;
	vm->account = mt_ledger_open(server->ledger);
	rc = vm->account ? registry_insert(server, vm, err)
			 : mt_err_set(err, -ENOMEM, "no memory for another VM");
	if (rc) {
		mt_ledger_close(server->ledger, vm->account);
		free(vm);
		return rc;
	}
	*ret_vm = vm;
	return 0;
}

int mt_registry_returned(struct mt_vmrec *vm, uint64_t pages)
{
	int rc = mt_ledger_return(vm->server->ledger, vm->account, pages);

	if (rc)
		return rc;
	/* It let go before it said so: older statistics must not be added to newer ones of others.
	 */
	vm->stats[MT_C_HELD] = MT_MIN(vm->stats[MT_C_HELD], mt_account_pages(vm->account));
	return 0;
}

void mt_registry_remove(struct mt_server *server, struct mt_vmrec *vm, const char *why)
{
	bool found;
	unsigned int place = registry_place(server, vm->name, &found);
	uint64_t pages = mt_account_pages(vm->account);
	char freed[MT_SIZE_TEXT_MAX];

	MT_ASSERT(found);
	mt_events_add(server->events, MT_EVENT_INFO, vm->name, "%s; grant of %s is free again", why,
		      mt_size_text(pages * MT_PAGE_SIZE, freed));
	mt_balance_want(server);
	mt_state_file_touch(server);
	/* whoever waits for an answer from it is told in the next turn */
	mt_server_arm(server, mt_server_now_ns(server));
	server->vm_count--;
	memmove(&server->vms[place], &server->vms[place + 1],
		(server->vm_count - place) * sizeof(server->vms[0]));
	if (vm->link)
		mt_link_forget_vm(vm->link);
	mt_balloon_stop(vm);
	/* VMs outlive the daemon: the next one wants it */
	if (!server->stop)
		mt_qmp_dir_remove(server, vm->qmp_path);
	mt_share_forget(vm);
	mt_loop_remove(vm->pidfd_source);
	if (vm->pidfd >= 0)
		close(vm->pidfd);
	if (vm->swap_fd >= 0)
		close(vm->swap_fd);
	mt_ledger_close(server->ledger, vm->account);
	free(vm);
}

/* The process has ended, and its memory with it. */
static void registry_on_ended(void *ctx, uint32_t events)
{
	struct mt_vmrec *vm = ctx;

	(void)events;
	if (mt_pidfd_ended(vm->pidfd))
		mt_registry_remove(vm->server, vm, "its process has ended");
}

int mt_registry_watch(struct mt_server *server, struct mt_vmrec *vm, pid_t pid, int pidfd,
		      struct mt_err *err)
{
	int rc = mt_pid_start_time(pid, &vm->start_ticks);

	if (!rc && mt_pidfd_ended(pidfd))
		rc = -ESRCH;
	if (!rc) {
		vm->pidfd_source = mt_loop_add(server->loop, pidfd, EPOLLIN, registry_on_ended, vm);
		rc = vm->pidfd_source ? 0 : -errno;
	}
	if (rc) {
		close(pidfd);
		return mt_err_set(err, rc, "watch process %d: %s", (int)pid, strerror(-rc));
	}
	vm->pidfd = pidfd;
	vm->pid = pid;
	return 0;
}

void mt_registry_client_gone(struct mt_server *server, const struct mt_client *client)
{
	for (unsigned int i = server->vm_count; i-- > 0;)
		if (server->vms[i]->creator == client)
			mt_registry_remove(server, server->vms[i],
					   "given up before its VMM said hello");
}

void mt_registry_expire(struct mt_server *server)
{
	uint64_t now_ns = mt_server_now_ns(server);

	for (unsigned int i = 0; i < server->vm_count; i++) {
		struct mt_vmrec *vm = server->vms[i];

		if (!vm->away_event_ns)
			continue;
		if (vm->away_event_ns > now_ns) {
			mt_server_arm(server, vm->away_event_ns);
			continue;
		}
		vm->away_event_ns = 0;
		mt_events_add(server->events, MT_EVENT_WARNING, vm->name,
			      "connection lost, process %d lives; its grant stays its own",
			      (int)vm->pid);
	}
}
