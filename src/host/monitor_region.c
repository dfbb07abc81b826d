/* SPDX-License-Identifier: MIT */
/* monitor_region.c - REGION_ADD, REGION_DEL, UNMANAGED; see monitor_region.h */
#include "host/monitor_region.h"
#include "base/size.h"
#include "host/balance.h"
#include "host/monitor_hello.h"
#include "host/registry.h"
#include "host/state_file.h"
#include "sys/swap_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* Messages about memory that are on their way have come by then. */
#define REGION_LESS_NS (5 * MT_NS_PER_S)

static struct mt_vm_region *region_find(struct mt_vmrec *vm, uint64_t addr, uint64_t bytes)
{
	for (unsigned int i = 0; i < vm->region_count; i++)
		if (vm->regions[i].addr == addr && vm->regions[i].bytes == bytes)
			return &vm->regions[i];
	return NULL;
}

static void region_remove(struct mt_vmrec *vm, struct mt_vm_region *region)
{
	size_t place = (size_t)(region - vm->regions);

	vm->region_count--;
	memmove(region, region + 1, (vm->region_count - place) * sizeof(*region));
}

static int region_check_range(const struct mt_vmrec *vm, uint64_t addr, uint64_t bytes,
			      struct mt_err *err)
{
	if (!bytes || (addr | bytes) % MT_PAGE_SIZE || bytes > MT_VM_BYTES_MAX ||
	    addr > UINT64_MAX - bytes)
		return mt_err_set(
			err, -EINVAL,
			"region at 0x%llx of %llu bytes is empty, not whole pages, or too large",
			(unsigned long long)addr, (unsigned long long)bytes);
	for (unsigned int i = 0; i < vm->region_count; i++)
		if (addr < vm->regions[i].addr + vm->regions[i].bytes &&
		    vm->regions[i].addr < addr + bytes)
			return mt_err_set(err, -EEXIST,
					  "region at 0x%llx overlaps one that is there already",
					  (unsigned long long)addr);
	if (vm->region_count == MT_VM_REGIONS_MAX)
		return mt_err_set(err, -EMFILE,
				  "the VM has %u regions already, the most there can be",
				  MT_VM_REGIONS_MAX);
	if (mt_vm_memsize_pages(vm) + bytes / MT_PAGE_SIZE > MT_VM_PAGES_MAX)
		return mt_err_set(err, -EINVAL, "a VM can have at most 16T of memory");
	return 0;
}

int mt_region_swap_grow(struct mt_server *server, struct mt_vmrec *vm, uint64_t reservation_bytes,
			struct mt_err *err)
{
	uint64_t bytes = mt_vm_swap_bytes_wanted(vm, reservation_bytes);
	int rc;

	if (vm->swap_unknown)
		return mt_err_set(err, -EOPNOTSUPP,
				  "the VM's swap file is an earlier daemon's and can't grow; "
				  "restart the VM to change its memory or lower its reservation");
	if (vm->swap_fd < 0) {
		rc = mt_swap_file_open(server->config.swap_dir, err);
		if (rc < 0)
			return rc;
		vm->swap_fd = rc;
	}
	if (bytes <= vm->swap_bytes)
		return 0;
	rc = mt_swap_file_resize(vm->swap_fd, vm->swap_bytes, bytes, err);
	if (rc) {
		mt_err_prefix(err, "swap directory '%s'", server->config.swap_dir);
		return rc;
	}
	vm->swap_bytes = bytes;
	return 0;
}

int mt_region_swap_adopt(struct mt_server *server, struct mt_vmrec *vm, int fd, struct mt_err *err)
{
	uint64_t bytes = 0;
	int rc = mt_swap_file_check(server->config.swap_dir, fd, &bytes, err);

	if (rc)
		return rc;
	vm->swap_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (vm->swap_fd < 0)
		return mt_err_set(err, -errno, "keep its descriptor: %s", strerror(errno));
	vm->swap_bytes = bytes;
	vm->swap_unknown = false;
	vm->swap_passed = true;
	return 0;
}

static void region_refuse(struct mt_server *server, struct mt_vmrec *vm, uint32_t serial,
			  const struct mt_err *err)
{
	vm->refused = true;
	snprintf(vm->reason, sizeof(vm->reason), "%s", err->msg);
	mt_server_event_limited(server, &vm->rate, MT_EVENT_ERROR, vm->name, err->msg);
	mt_link_refuse(vm->link, serial, err);
}

static void region_send_ok(struct mt_vmrec *vm, uint32_t serial, bool with_fd)
{
	union mt_wire_msg msg;

	mt_wire_init(&msg, MT_WIRE_REGION_OK, serial);
	msg.region_ok.swap_bytes = vm->swap_bytes;
	msg.region_ok.swap_encrypt = vm->server->config.swap_encrypt;
	mt_link_send(vm->link, &msg, with_fd ? vm->swap_fd : -1);
}

/* The last region of the record goes, and the swap file back to what it was. */
static void region_undo(struct mt_vmrec *vm, struct mt_vm_region *region)
{
	uint64_t before = region->swap_before;

	region_remove(vm, region);
	if (before < vm->swap_bytes &&
	    mt_vm_swap_bytes_wanted(vm, vm->settings.reservation_bytes) <= before &&
	    !mt_swap_file_resize(vm->swap_fd, vm->swap_bytes, before, NULL))
		vm->swap_bytes = before;
}

void mt_region_add(struct mt_link *link, const struct mt_wire_region_add *msg)
{
	struct mt_server *server = link->server;
	struct mt_vmrec *vm = link->vm;
	struct mt_vm_region *region = region_find(vm, msg->addr, msg->bytes);
	struct mt_err err = {0};
	int rc;

	/* asked again after a lost connection: our answer got lost with it */
	if (region && vm->reconnected && !region->pending && !region->unmanaged) {
		region_send_ok(vm, msg->head.serial, true);
		return;
	}
	rc = region_check_range(vm, msg->addr, msg->bytes, &err);
	if (rc) {
		region_refuse(server, vm, msg->head.serial, &err);
		return;
	}
	region = &vm->regions[vm->region_count++];
	*region = (struct mt_vm_region){.addr = msg->addr,
					.bytes = msg->bytes,
					.pending = true,
					.serial = msg->head.serial,
					.deadline_ns = mt_server_now_ns(server) +
						       server->config.region_wait_ms * MT_NS_PER_MS,
					.swap_before = vm->swap_bytes};
	/* judged with the region already in the record */
	rc = mt_registry_admit(server, vm, &vm->settings, &err);
	if (!rc)
		rc = mt_region_swap_grow(server, vm, vm->settings.reservation_bytes, &err);
	if (rc) {
		region_undo(vm, region);
		region_refuse(server, vm, msg->head.serial, &err);
		return;
	}
	mt_server_arm(server, region->deadline_ns);
	mt_balance_want(server);
}

void mt_region_del(struct mt_link *link, const struct mt_wire_region_del *msg)
{
	struct mt_server *server = link->server;
	struct mt_vmrec *vm = link->vm;
	struct mt_vm_region *region = region_find(vm, msg->addr, msg->bytes);
	uint64_t pages = msg->bytes / MT_PAGE_SIZE;
	char size[MT_SIZE_TEXT_MAX];

	if (region) {
		region_remove(vm, region);
	} else if (vm->base_pages && pages <= vm->base_pages) {
		vm->base_pages -= pages;
	} else {
		mt_server_event_limited(server, &vm->rate, MT_EVENT_WARNING, vm->name,
					"it removed a region that it does not have");
		return;
	}
	mt_size_text(msg->bytes, size);
	mt_events_add(server->events, MT_EVENT_INFO, vm->name, "memory of %s removed", size);
	mt_state_file_touch(server);
	mt_balance_want(server);
}

/* Which of its regions it has not, nobody says: all are counted as those of an earlier daemon. */
static void region_believe(struct mt_vmrec *vm, uint64_t pages)
{
	char known[MT_SIZE_TEXT_MAX], says[MT_SIZE_TEXT_MAX];

	mt_events_add(vm->server->events, MT_EVENT_WARNING, vm->name,
		      "it has memory of %s, not %s: a message was lost with a connection",
		      mt_size_text(pages * MT_PAGE_SIZE, says),
		      mt_size_text(mt_vm_memsize_pages(vm) * MT_PAGE_SIZE, known));
	for (unsigned int i = vm->region_count; i-- > 0;)
		if (!vm->regions[i].unmanaged)
			region_remove(vm, &vm->regions[i]);
	vm->base_pages = pages;
	mt_state_file_touch(vm->server);
	mt_balance_want(vm->server);
}

void mt_region_compare(struct mt_vmrec *vm, uint64_t pages)
{
	uint64_t now_ns = mt_server_now_ns(vm->server);

	if (pages >= mt_vm_memsize_pages(vm) || mt_region_waiting(vm)) {
		vm->less_since_ns = 0;
	} else if (!vm->less_since_ns || pages != vm->less_pages) {
		vm->less_pages = pages;
		vm->less_since_ns = now_ns;
	} else if (now_ns - vm->less_since_ns > REGION_LESS_NS) {
		vm->less_since_ns = 0;
		region_believe(vm, pages);
	}
}

static const char *region_why_text(uint32_t why)
{
	switch (why) {
	case MT_UNMANAGED_SHARED:
		return "guest RAM is shared memory (memory-backend with share=on): "
		       "pages cannot be moved out; balloon only";
	case MT_UNMANAGED_FILE:
		return "guest RAM is a private mapping of a file: only anonymous memory can be "
		       "managed; use QEMU's default RAM";
	case MT_UNMANAGED_HUGETLB:
		return "guest RAM is in hugetlbfs: its pages cannot be moved out; "
		       "use QEMU's default RAM";
	case MT_UNMANAGED_LOCKED:
		return "guest RAM is locked in memory: the VMM wants all of it resident; "
		       "start it without mlock (-overcommit mem-lock=off)";
	default:
		return "guest RAM is of a kind that cannot be managed";
	}
}

void mt_region_unmanaged(struct mt_link *link, const struct mt_wire_unmanaged *msg)
{
	struct mt_vmrec *vm = link->vm;
	const char *why = region_why_text(msg->why);
	bool news = !vm->unmanaged || strcmp(vm->reason, why);

	vm->unmanaged = true;
	snprintf(vm->reason, sizeof(vm->reason), "%s", why);
	if (news)
		mt_server_event_limited(link->server, &vm->rate, MT_EVENT_WARNING, vm->name, why);
	if (!region_check_range(vm, msg->addr, msg->bytes, NULL))
		vm->regions[vm->region_count++] = (struct mt_vm_region){
			.addr = msg->addr, .bytes = msg->bytes, .unmanaged = true};
}

uint64_t mt_region_waiting(const struct mt_vmrec *vm)
{
	uint64_t first_ns = 0;

	for (unsigned int i = 0; i < vm->region_count; i++)
		if (vm->regions[i].pending && (!first_ns || vm->regions[i].deadline_ns < first_ns))
			first_ns = vm->regions[i].deadline_ns;
	return first_ns;
}

static void region_confirm(struct mt_server *server, struct mt_vmrec *vm,
			   struct mt_vm_region *region)
{
	char size[MT_SIZE_TEXT_MAX], grant[MT_SIZE_TEXT_MAX], target[MT_SIZE_TEXT_MAX],
		swap[MT_SIZE_TEXT_MAX];

	region->pending = false;
	vm->refused = false;
	if (!vm->unmanaged && !vm->failed)
		vm->reason[0] = '\0';
	region_send_ok(vm, region->serial, !vm->swap_passed);
	vm->swap_passed = true;
	/* how fast it looks for pages to share follows from its size */
	mt_monitor_send_settings(vm);
	mt_state_file_touch(server);
	mt_events_add(server->events, MT_EVENT_INFO, vm->name,
		      "memory of %s added; grant %s, target %s, swap %s",
		      mt_size_text(region->bytes, size),
		      mt_size_text(mt_account_pages(vm->account) * MT_PAGE_SIZE, grant),
		      mt_size_text(vm->steer_pages * MT_PAGE_SIZE, target),
		      mt_size_text(vm->swap_bytes, swap));
}

void mt_region_answer(struct mt_server *server, struct mt_vmrec *vm)
{
	if (!vm->link || mt_account_pages(vm->account) < mt_vm_start_pages(vm))
		return;
	for (unsigned int i = 0; i < vm->region_count; i++)
		if (vm->regions[i].pending)
			region_confirm(server, vm, &vm->regions[i]);
}

static void region_refuse_late(struct mt_server *server, struct mt_vmrec *vm,
			       struct mt_vm_region *region)
{
	char need[MT_SIZE_TEXT_MAX], have[MT_SIZE_TEXT_MAX], pool[MT_SIZE_TEXT_MAX];
	uint64_t start = mt_vm_start_pages(vm), has = mt_account_pages(vm->account);
	uint32_t serial = region->serial;
	struct mt_err err = {0};

	mt_err_set(
		&err, -ENOSPC,
		"no memory to start with came free within %u s: the VM needs %s more and %s of the "
		"pool of %s are free; stop a VM or raise the pool",
		(server->config.region_wait_ms + 999) / 1000,
		mt_size_text(start > has ? (start - has) * MT_PAGE_SIZE : 0, need),
		mt_size_text(mt_ledger_ungranted(server->ledger) * MT_PAGE_SIZE, have),
		mt_size_text(mt_ledger_pool(server->ledger) * MT_PAGE_SIZE, pool));
	region_undo(vm, region);
	region_refuse(server, vm, serial, &err);
	mt_balance_want(server);
}

static void region_expire_vm(struct mt_server *server, struct mt_vmrec *vm)
{
	uint64_t now_ns = mt_server_now_ns(server);

	for (unsigned int i = vm->region_count; i-- > 0;) {
		if (!vm->regions[i].pending)
			continue;
		if (vm->regions[i].deadline_ns <= now_ns)
			region_refuse_late(server, vm, &vm->regions[i]);
		else
			mt_server_arm(server, vm->regions[i].deadline_ns);
	}
}

void mt_region_expire(struct mt_server *server)
{
	for (unsigned int i = 0; i < server->vm_count; i++)
		if (server->vms[i]->link)
			region_expire_vm(server, server->vms[i]);
}

void mt_region_forget_pending(struct mt_vmrec *vm)
{
	for (unsigned int i = vm->region_count; i-- > 0;)
		if (vm->regions[i].pending)
			region_undo(vm, &vm->regions[i]);
}
