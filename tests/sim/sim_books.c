/* SPDX-License-Identifier: MIT */
/*
 * sim_books.c - the daemon's books against what the VMs really have; see sim_host.h
 *
 * At any time, whatever is on its way (I4): the sum of what monitors were granted, and the frames
 * that exist, do not exceed the pool; no VM has more than its account says. When nothing is on its
 * way, the books say what is: each grant, each frame's users, all of the ledger.
 */
#include "sim/sim_host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Frames' files seen, so that each counts once. */
struct files {
	ino_t inode[SIM_GUESTS_MAX * 4];
	uint32_t count;
	uint64_t pages;
};

static void files_add(struct files *files, int fd)
{
	struct stat st;

	if (fd < 0)
		return;
	MT_ASSERT(!fstat(fd, &st));
	for (uint32_t i = 0; i < files->count; i++)
		if (files->inode[i] == st.st_ino)
			return;
	if (files->count == MT_ARRAY_SIZE(files->inode))
		return;
	files->inode[files->count++] = st.st_ino;
	files->pages += (uint64_t)st.st_blocks * 512 / MT_PAGE_SIZE;
}

static uint64_t frames_that_exist(void)
{
	struct files files = {.count = 0};

	for (uint32_t i = 0; i < SIM_GUESTS_MAX; i++)
		if (world.guest[i].vm)
			files_add(&files, world.guest[i].vm->link.frames_fd);
	if (world.server)
		for (const struct mt_share_group *g = world.server->share_groups; g; g = g->next)
			files_add(&files, g->frames.fd);
	return files.pages;
}

static struct mt_vmrec *record_of(const struct sim_guest *guest)
{
	struct mt_vmrec *vm = mt_registry_find(world.server, guest->name);

	return vm && vm->pid == guest->pid ? vm : NULL;
}

static void check_account(const struct sim_guest *guest, uint64_t grant)
{
	const struct mt_vmrec *vm = record_of(guest);
	uint64_t pages = vm ? mt_account_pages(vm->account) : 0;

	if (pages < grant)
		HOST_FAIL("I4: %s has %lu pages granted, the daemon says %lu%s", guest->name,
			  (unsigned long)grant, (unsigned long)pages, vm ? "" : ", not knowing it");
}

void sim_books_check(void)
{
	uint64_t sum = mt_pages_of_bytes(world.daemon_config.own_bytes), grant, frames;

	for (uint32_t i = 0; i < SIM_GUESTS_MAX; i++) {
		const struct mt_pager *pager = sim_guest_pager(&world.guest[i]);

		grant = pager ? mt_room_grant_pages(pager) : 0;
		sum += grant;
		if (world.server && grant)
			check_account(&world.guest[i], grant);
	}
	if (sum > world.config.pool_pages)
		HOST_FAIL("I4: %lu pages are granted, the pool has %u", (unsigned long)sum,
			  world.config.pool_pages);
	if (world.step % 8)
		return;
	frames = frames_that_exist();
	if (sum + frames > world.config.pool_pages)
		HOST_FAIL("I4: %lu pages are granted, %lu in frames, the pool has %u",
			  (unsigned long)sum, (unsigned long)frames, world.config.pool_pages);
}

void sim_books_check_tables(void)
{
	char text[200];

	if (!world.server)
		return;
	for (const struct mt_share_group *g = world.server->share_groups; g; g = g->next)
		if (mt_share_audit(g->table, text, sizeof(text)))
			HOST_FAIL("group %s: %s", g->name, text);
}

/* Frames that pages of the VM are in, each as often as it is used. */
static void count_uses(const struct sim_guest *guest, uint32_t *uses, uint32_t room)
{
	const struct mt_pager *pager = &guest->vm->pager;

	for (uint32_t i = 0; i < SIM_REGIONS; i++) {
		const struct sim_region *region = &guest->state->region[i];

		for (uint32_t page = 0; page < region->pages; page++) {
			mt_gpn_t gpn = MT_GPN(region->first.n + page);

			if (mt_page_state(&pager->map, gpn) != MT_PAGE_SHARED)
				continue;
			if (mt_page_place(&pager->map, gpn) >= room)
				HOST_FAIL("%s: page 0x%x is in frame %lu, the daemon has %u",
					  guest->name, gpn.n,
					  (unsigned long)mt_page_place(&pager->map, gpn), room);
			uses[mt_page_place(&pager->map, gpn)]++;
		}
	}
}

static void check_uses(const struct sim_guest *guest, const struct mt_vmrec *vm)
{
	const struct mt_share_table *table = vm->share_group->table;
	uint32_t room = table->frames_high;
	uint32_t *uses = calloc(room + 1, sizeof(*uses));

	MT_ASSERT(uses);
	count_uses(guest, uses, room);
	for (uint32_t i = 0; i < room; i++) {
		uint32_t counted = i < vm->sharer->uses_room ? vm->sharer->uses[i] : 0;

		if (counted != uses[i])
			HOST_FAIL("%s: %u pages are in frame %u, the daemon says %u", guest->name,
				  uses[i], i, counted);
	}
	free(uses);
}

static void check_guest(const struct sim_guest *guest)
{
	const struct mt_vmrec *vm = record_of(guest);
	uint64_t grant;

	if (!guest->present)
		return;
	if (!vm)
		HOST_FAIL("the daemon does not know %s", guest->name);
	grant = mt_room_grant_pages(&guest->vm->pager);
	if (mt_account_pages(vm->account) != grant)
		HOST_FAIL("%s has %lu pages granted, the daemon says %lu", guest->name,
			  (unsigned long)grant, (unsigned long)mt_account_pages(vm->account));
	check_uses(guest, vm);
}

/* With a message lost the daemon finds out after a while. */
bool sim_books_sizes_agree(void)
{
	for (uint32_t i = 0; i < SIM_GUESTS_MAX; i++) {
		const struct mt_pager *pager = sim_guest_pager(&world.guest[i]);
		const struct mt_vmrec *vm = pager ? record_of(&world.guest[i]) : NULL;

		if (vm && mt_vm_memsize_pages(vm) != mt_regions_pages(&pager->regions))
			return false;
	}
	return true;
}

static void check_group(const struct mt_share_group *group)
{
	uint64_t frames = mt_share_table_frames(group->table), there = 0;
	struct stat st;

	if (group->recovering)
		HOST_FAIL("group %s is not whole again", group->name);
	if (group->frames.fd >= 0 && !fstat(group->frames.fd, &st))
		there = (uint64_t)st.st_blocks * 512 / MT_PAGE_SIZE;
	if (frames != there || frames != group->frame_pages)
		HOST_FAIL("group %s has %lu frames, %lu on the books, and %lu pages of memory",
			  group->name, (unsigned long)frames, (unsigned long)group->frame_pages,
			  (unsigned long)there);
}

void sim_books_check_rest(void)
{
	struct mt_server *server = world.server;
	uint64_t granted = 0, common = 0;

	for (uint32_t i = 0; i < SIM_GUESTS_MAX; i++)
		check_guest(&world.guest[i]);
	for (uint32_t i = 0; i < server->vm_count; i++)
		granted += mt_account_pages(server->vms[i]->account);
	for (const struct mt_share_group *g = server->share_groups; g; g = g->next) {
		check_group(g);
		common += g->frame_pages + g->table_pages;
	}
	if (granted != mt_ledger_granted(server->ledger) ||
	    common != mt_ledger_common(server->ledger))
		HOST_FAIL("%lu pages granted and %lu in common, the ledger says %lu and %lu",
			  (unsigned long)granted, (unsigned long)common,
			  (unsigned long)mt_ledger_granted(server->ledger),
			  (unsigned long)mt_ledger_common(server->ledger));
	sim_books_check_tables();
}

void sim_books_check_empty(void)
{
	const struct mt_server *server = world.server;

	if (server->vm_count || server->share_groups || mt_ledger_granted(server->ledger) ||
	    mt_ledger_common(server->ledger))
		HOST_FAIL("all VMs are gone, and the daemon has %u of them, %lu pages granted and "
			  "%lu in common",
			  server->vm_count, (unsigned long)mt_ledger_granted(server->ledger),
			  (unsigned long)mt_ledger_common(server->ledger));
}
