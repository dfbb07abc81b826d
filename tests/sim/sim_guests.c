/* SPDX-License-Identifier: MIT */
/* sim_guests.c - VMs of the simulated host come, live and go; see sim_host.h */
#include "sim/sim_host.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define NS_PER_MS 1000000ULL
/* Between two things that a VMM does with its memory. */
#define LIFE_NS           (4000 * NS_PER_MS)
#define SCAN_PAGES_PER_KS 500000U
/* A VMM that finds no daemon tries again after this. */
#define RETRY_NS (500 * NS_PER_MS)
/* Pages of a region that are there before it is managed. */
#define FILLED_PAGES 60U

struct sim_task *sim_task_of(enum sim_thread_kind kind)
{
	return &world.now->task[kind];
}

uint64_t sim_clock_ns(void)
{
	return world.clock_ns;
}

void sim_guest_use(struct sim_guest *guest)
{
	world.now = guest;
	sim_now = guest->state;
	sim.config.seed = world.config.seed;
	sim.step = world.step;
	sim.calm = world.calm;
	sim.clock_ns = world.clock_ns;
}

struct mt_pager *sim_guest_pager(const struct sim_guest *guest)
{
	return guest->vm && guest->state->pager && guest->vm->link.started &&
			       !atomic_load(&guest->vm->link.stop)
		       ? &guest->vm->pager
		       : NULL;
}

struct sim_guest *sim_guest_of_pid(pid_t pid)
{
	for (uint32_t i = 0; i < SIM_GUESTS_MAX; i++)
		if (world.guest[i].present && world.guest[i].pid == pid)
			return &world.guest[i];
	return NULL;
}

static void vmm_sleep(uint64_t ns)
{
	uint64_t until_ns = world.clock_ns + ns;

	while (world.clock_ns < until_ns || world.calm)
		sim_task_yield();
}

/* What the VMM loads into memory before the monitor hears of it. */
static void fill_region(struct sim_region *region, uint32_t pages)
{
	for (uint32_t n = sim_below(FILLED_PAGES); n-- > 0;) {
		uint32_t page = sim_below(pages);

		region->present[page] = true;
		region->model[page] = sim_value();
		sim_fill(region->base + (uint64_t)page * MT_PAGE_SIZE, region->model[page]);
	}
}

static void vmm_add(struct sim_guest *guest, uint32_t i)
{
	struct sim_region *region = &sim.region[i];
	uint32_t pages = sim.config.pages[i] / 2 + sim_below(sim.config.pages[i] / 2) + 1;
	struct mt_vm_error err = {0};

	region->leaving = false;
	region->split = sim_chance(700) ? sim_below(pages) : 0;
	fill_region(region, pages);
	if (!mt_vm_region_add(guest->vm, region->base, (uint64_t)pages << MT_PAGE_SHIFT, &err)) {
		world.adds++;
		return;
	}
	world.refusals++;
	HOST_TALK("%s: %s", guest->name, err.message);
	madvise(region->base, (uint64_t)pages << MT_PAGE_SHIFT, MADV_DONTNEED);
	memset(region->model, 0, sizeof(region->model));
}

static void vmm_settle_discards(void)
{
	sim.quiet = true;
	while (sim_discard_active())
		sim_task_yield();
}

static void vmm_remove(struct sim_guest *guest, uint32_t i)
{
	struct sim_region *region = &sim.region[i];

	vmm_settle_discards();
	region->leaving = true;
	sim_guest_forget(i);
	if (mt_vm_region_remove(guest->vm, region->base, (uint64_t)region->pages << MT_PAGE_SHIFT))
		HOST_FAIL("memory of %s can't be removed", guest->name);
	region->leaving = false;
	sim.quiet = false;
	world.removes++;
}

/* As before it moves to another address: every page must be back, and stay. */
static void vmm_let_go(struct sim_guest *guest, uint32_t i)
{
	struct sim_region *region = &sim.region[i];
	uint64_t bytes = (uint64_t)region->pages << MT_PAGE_SHIFT;

	vmm_settle_discards();
	if (mt_vm_let_go(guest->vm, region->base, bytes))
		HOST_FAIL("memory of %s can't be let go", guest->name);
	madvise(region->base, bytes, MADV_DONTNEED);
	sim.quiet = false;
	world.removes++;
}

static bool vmm_start(struct sim_guest *guest, struct mt_vm **ret_vm)
{
	struct mt_vm_options options = {.struct_size = sizeof(options),
					.name = guest->name,
					.socket = "sim",
					.reservation_bytes = guest->reservation_bytes,
					.limit_bytes = guest->limit_bytes,
					.shares = guest->shares,
					.share_group = guest->group};
	struct mt_vm_error err = {0};
	int rc;

	while ((rc = mt_vm_new(&options, ret_vm, &err))) {
		if (rc != -ECONNREFUSED && rc != -ECONNRESET && rc != -EPIPE && rc != -EAGAIN) {
			world.refusals++;
			HOST_TALK("%s: %s", guest->name, err.message);
			return false;
		}
		for (uint64_t until_ns = world.clock_ns + RETRY_NS; world.clock_ns < until_ns;)
			sim_task_yield();
	}
	return true;
}

static void vmm_something(struct sim_guest *guest)
{
	uint32_t i = sim_below(SIM_REGIONS);

	if (!sim.config.pages[i])
		return;
	if (!sim.region[i].pages)
		vmm_add(guest, i);
	else if (sim_chance(250))
		vmm_remove(guest, i);
	else if (sim_chance(150))
		vmm_let_go(guest, i);
}

/* Its pager is about to go. */
static void count_done(void)
{
	world.reads += sim.reads;
	world.shared += sim.pager->counter[MT_C_SHARE_MADE];
	world.zipped += sim.pager->counter[MT_C_ZIP_IN];
	world.swapped += sim.pager->counter[MT_C_SWAP_OUT];
	if (sim.pager->counter[MT_C_SHARE_DIFFERS])
		HOST_FAIL("%s: a frame had not the content of its hash", world.now->name);
}

/* A VMM from its start to its end. */
static void *vmm_main(void *arg)
{
	struct sim_guest *guest = arg;
	uint32_t life = sim_below(sim_chance(300) ? 200 : 20);
	struct mt_vm *vm;

	if (vmm_start(guest, &vm)) {
		world.guests++;
		for (uint32_t i = 0; i < SIM_REGIONS; i++)
			if (sim.config.pages[i])
				vmm_add(guest, i);
		while (life-- > 0) {
			vmm_sleep(sim_random() % LIFE_NS);
			vmm_something(guest);
		}
		vmm_settle_discards();
		count_done();
		if (mt_vm_leave(vm, NULL))
			HOST_FAIL("%s can't leave", guest->name);
		world.leaves++;
	}
	guest->ended = true;
	return NULL;
}

static void reset_state(struct sim_state *state)
{
	static const size_t fixed = offsetof(struct sim_region, pages);
	uint8_t *base[SIM_REGIONS];

	MT_ASSERT(fixed);
	for (uint32_t i = 0; i < SIM_REGIONS; i++)
		base[i] = state->region[i].base;
	memset(state, 0, sizeof(*state));
	for (uint32_t i = 0; i < SIM_REGIONS; i++)
		state->region[i].base = base[i];
	madvise(base[0], (uint64_t)SIM_REGIONS * SIM_REGION_PAGES << MT_PAGE_SHIFT, MADV_DONTNEED);
}

static void make_state(struct sim_guest *guest)
{
	if (guest->state) {
		sim_now = guest->state;
		reset_state(guest->state);
		return;
	}
	guest->state = calloc(1, sizeof(*guest->state));
	MT_ASSERT(guest->state);
	guest->process_fd = -1;
	sim_now = guest->state;
	sim_mem_areas();
}

static void pick_config(struct sim_guest *guest)
{
	struct sim_config *config = &sim.config;

	*config = world.config.guest;
	config->alike = world.config.alike;
	config->pages[0] = 100 + host_below(world.config.guest_pages);
	config->pages[1] = host_below(2) ? 2 + host_below(world.config.guest_pages / 2) : 0;
	config->pages[2] = host_below(3) ? 0 : 2 + host_below(world.config.guest_pages / 4);
	config->swap_delay = host_below(10);
	guest->reservation_bytes =
		host_below(3) ? 0 : (uint64_t)host_below(config->pages[0] / 2) << MT_PAGE_SHIFT;
	guest->limit_bytes = host_below(5) ? 0
					   : (MT_POLICY_START_PAGES + host_below(config->pages[0]))
						     << MT_PAGE_SHIFT;
	if (guest->limit_bytes && guest->limit_bytes < guest->reservation_bytes)
		guest->limit_bytes = 0;
	guest->shares = host_below(2) ? 0 : 1 + host_below(5000);
	snprintf(guest->group, sizeof(guest->group), "%s",
		 host_below(4) ? (host_below(3) ? "all" : "few") : "");
}

void sim_guest_start(struct sim_guest *guest)
{
	make_state(guest);
	world.now = guest;
	pick_config(guest);
	snprintf(guest->name, sizeof(guest->name), "vm%u", (unsigned int)(guest - world.guest));
	sim.random = world.config.seed * 0x2545f4914f6cdd1dULL + host_below(UINT32_MAX);
	guest->ended = false;
	guest->vm = NULL;
	sim_kernel_start_process(guest);
	sim_guest_use(guest);
	sim_task_start(&guest->task[SIM_VMM], vmm_main, guest);
}

const uint8_t *sim_share_frame(uint32_t frame)
{
	return sim.pager->share.frames + ((uint64_t)frame << MT_PAGE_SHIFT);
}

/* In the middle of a turn of the pager, other threads and other processes run. */
void sim_share_step(void)
{
	struct sim_task *task = world.now->task;
	uint32_t what = sim_below(10);

	if (what < 4)
		sim_task_resume(&task[SIM_LINK]);
	else if (what < 6)
		sim_task_resume(&task[SIM_HELPER]);
	else if (what < 8)
		sim_task_resume(&task[SIM_VMM]);
	else
		sim_daemon_turn();
}

static void flip(bool *flag)
{
	*flag = !*flag;
}

/* The disk fails, once, and says so. */
static void spoil_swap(void)
{
	struct mt_fake_swap_faults *faults = mt_fake_swap_faults(sim.swap);
	struct mt_fake_swap_counts counts = mt_fake_swap_counts(sim.swap);

	if (sim_chance(500))
		faults->eio_write = counts.writes + 1 + sim_below(4);
	else
		faults->eio_read = counts.reads + 1 + sim_below(4);
}

static void something_happens(void)
{
	struct sim_region *region = &sim.region[sim_below(SIM_REGIONS)];
	uint32_t what = sim_below(100);

	if (what < 50)
		sim_discard_somewhere();
	else if (what < 80 && region->pages)
		flip(&region->pinned[sim_below(region->pages)]);
	else if (what < 84)
		flip(&region->locked);
	else if (what < 94 && sim.swap && sim.pager && sim.config.swap_errors)
		spoil_swap();
}

static bool has_memory(const struct sim_guest *guest)
{
	struct mt_pager *pager = sim_guest_pager(guest);

	return pager && pager->regions.count;
}

/* Between two turns of the pager. */
static void check(struct sim_guest *guest)
{
	struct mt_pager *pager = sim_guest_pager(guest);

	if (!has_memory(guest) || pager->leaving)
		return;
	if (pager->map.pages[MT_PAGE_FAILED])
		HOST_FAIL("%s lost a page", guest->name);
	sim_check_step();
	if (world.step % 16 == 0)
		sim_check_counts();
}

/* In the few seconds of a course all of its memory is to be looked at, often. */
static void hurry_scan(const struct sim_guest *guest)
{
	struct mt_pager *pager = sim_guest_pager(guest);

	if (pager && atomic_load(&pager->share.pages_per_ks))
		atomic_store(&pager->share.pages_per_ks, SCAN_PAGES_PER_KS);
}

void sim_guest_turn(struct sim_guest *guest)
{
	struct sim_task *task = guest->task;

	if (!guest->present)
		return;
	sim_guest_use(guest);
	for (uint32_t n = 0; sim.pager && n < (world.calm ? 1 : 4); n++)
		sim_guest_step();
	if (!world.calm && sim.pager && sim_chance(60))
		something_happens();
	if (sim_chance(300))
		sim_task_resume(&task[SIM_VMM]);
	sim.in_step = true;
	sim_task_resume(&task[SIM_PAGER]);
	sim.in_step = false;
	if (world.calm || sim_chance(500))
		sim_task_resume(&task[SIM_LINK]);
	hurry_scan(guest);
	if (world.calm || sim_chance(600))
		sim_task_resume(&task[SIM_HELPER]);
	if (sim_discard_active())
		sim_discard_resume();
	check(guest);
	if (guest->ended)
		sim_guest_gone(guest);
}

/* Its process has ended. */
void sim_guest_gone(struct sim_guest *guest)
{
	sim_kernel_hang_up(guest->pid);
	guest->present = false;
	eventfd_write(guest->process_fd, 1);
}

/* What the kernel takes back of a process that is killed. */
static void reap(struct mt_vm *vm)
{
	if (vm->link.request_open && vm->link.answer_fd >= 0)
		close(vm->link.answer_fd);
	vm->link.started = vm->pager.helper.started = false;
	vm->link.fd = -1;
	mt_link_close(&vm->link);
	vm->pager.commands.first = NULL;
	mt_pager_fini(&vm->pager);
	mt_share_link_fini(&vm->link, &vm->pager);
	munmap(sim.staging, (uint64_t)sim.staging_slots << MT_PAGE_SHIFT);
	if (vm->swap_fd >= 0)
		close(vm->swap_fd);
	free(vm);
}

void sim_guest_kill(struct sim_guest *guest)
{
	/* One that is not yet or no longer whole is left to its own end. */
	if (!guest->present || !sim_guest_pager(guest))
		return;
	sim_guest_use(guest);
	for (uint32_t i = 0; i < SIM_KINDS; i++)
		guest->task[i].alive = guest->task[i].running = false;
	count_done();
	sim_guest_gone(guest);
	reap(guest->vm);
	guest->vm = NULL;
	world.kills++;
}

bool sim_guest_at_rest(const struct sim_guest *guest)
{
	struct mt_pager *pager = sim_guest_pager(guest);
	const struct mt_share *share;

	if (!guest->present)
		return true;
	if (!pager || guest->state->quiet || guest->vm->link.fd < 0 ||
	    guest->vm->link.request_open || pager->commands.first || pager->leaving)
		return false;
	share = &pager->share;
	for (uint32_t i = 0; i < MT_SHARE_BATCHES; i++)
		if (share->batch[i].phase != MT_SHARE_IDLE)
			return false;
	if (share->look.phase != MT_LOOK_IDLE)
		return false;
	return share->release_head == share->release_tail && !share->release_lost &&
	       share->sync == MT_SHARE_SYNCED &&
	       guest->vm->link.returned_told_pages == pager->returned_pages;
}
