/* SPDX-License-Identifier: MIT */
/* sim_guest.c - guest threads and the VMM's discards; see sim_mem.h */
#include "sim/sim_mem.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int __real_madvise(void *addr, size_t bytes, int advice);
int __wrap_madvise(void *addr, size_t bytes, int advice);
int __wrap_sched_yield(void);

static uint8_t *page_addr(uint32_t region, uint32_t page)
{
	return sim.region[region].base + (uint64_t)page * MT_PAGE_SIZE;
}

static void send_fault(struct sim_thread *thread)
{
	uint64_t addr = (uintptr_t)page_addr(thread->region, thread->page);

	if (sim.fault_tail - sim.fault_head == MT_ARRAY_SIZE(sim.fault))
		SIM_FAIL("more faults than the queue holds");
	sim.fault[sim.fault_tail++ % MT_ARRAY_SIZE(sim.fault)] = (struct mt_fault){
		.addr = addr, .tid = 1 + (uint32_t)(thread - sim.thread), .write = thread->write};
}

/* Does what the thread wants to do. False if the page is not there: the thread is blocked. */
static bool access_page(struct sim_thread *thread)
{
	struct sim_region *region = &sim.region[thread->region];
	uint8_t *page = page_addr(thread->region, thread->page);
	uint64_t *model = &region->model[thread->page];

	if (thread->page >= region->pages)
		return true; /* unmapped meanwhile: that thread would have died */
	if (region->mapped[thread->page]) {
		page = (uint8_t *)(uintptr_t)sim_share_frame(region->mapped[thread->page] - 1);
		if (thread->write)
			return false;
	} else if (!region->present[thread->page]) {
		return false;
	}
	/* During its own discard a page may have either content. */
	if (sim_in_flux(thread->region, thread->page))
		return true;
	sim.reads++;
	if (!sim_is(page, *model))
		SIM_FAIL("the guest reads something else at region %u page %u than it wrote",
			 thread->region, thread->page);
	if (thread->write) {
		*model = sim.config.all_shrinks || sim_chance(900) ? sim_value() : 0;
		sim_fill(page, *model);
	}
	return true;
}

static void touch(struct sim_thread *thread)
{
	thread->woken = false;
	thread->blocked = !access_page(thread);
	if (thread->blocked)
		send_fault(thread);
}

static void start_touch(struct sim_thread *thread)
{
	struct sim_region *region;

	if (thread->walk && thread->page + 1 < sim.region[thread->region].pages &&
	    !sim.region[thread->region].leaving) {
		thread->walk--;
		thread->page++;
	} else {
		thread->region = sim_below(SIM_REGIONS);
		region = &sim.region[thread->region];
		if (!region->pages || region->leaving)
			return;
		/* Half of the touches go to a small part, so that some pages are hot. */
		thread->page =
			sim_below(sim_chance(500) ? MT_MIN(region->pages, 64U) : region->pages);
		if (region->split > 20 && sim_chance(50))
			thread->page = region->split - 1 - sim_below(20);
		thread->walk = sim_chance(100) ? sim_below(200) : 0;
	}
	thread->write = sim_chance(400);
	thread->since = sim.step;
	if (!sim_in_flux(thread->region, thread->page))
		touch(thread);
}

void sim_guest_step(void)
{
	for (uint32_t n = 0; n < 3; n++) {
		struct sim_thread *thread = &sim.thread[sim_below(SIM_THREADS)];

		if (!thread->blocked && !sim.calm)
			start_touch(thread);
		else if (thread->blocked && thread->woken)
			touch(thread);
		else if (thread->blocked && !sim.calm && sim_chance(20))
			touch(thread); /* a signal: the thread faults anew */
	}
	for (uint32_t i = 0; sim.calm && i < SIM_THREADS; i++)
		if (sim.thread[i].blocked && sim.thread[i].woken)
			touch(&sim.thread[i]);
}

void sim_guest_wake(uint32_t region, uint32_t first, uint32_t pages)
{
	for (uint32_t i = 0; i < SIM_THREADS; i++) {
		struct sim_thread *thread = &sim.thread[i];

		if (thread->blocked && thread->region == region && thread->page >= first &&
		    thread->page - first < pages)
			thread->woken = true;
	}
}

/* Threads that wait for the guest's memory, except for pages that are lost. */
uint32_t sim_guest_blocked(void)
{
	uint32_t blocked = 0;

	for (uint32_t i = 0; i < SIM_THREADS; i++) {
		const struct sim_thread *thread = &sim.thread[i];
		const struct sim_region *region = &sim.region[thread->region];

		if (!thread->blocked)
			continue;
		if (!thread->woken && thread->page < region->pages &&
		    mt_page_state(&sim.pager->map, MT_GPN(region->first.n + thread->page)) ==
			    MT_PAGE_FAILED)
			continue;
		blocked++;
	}
	return blocked;
}

void sim_guest_no_one_waits_for_staged(void)
{
	for (uint32_t i = 0; i < SIM_THREADS; i++) {
		const struct sim_thread *thread = &sim.thread[i];
		const struct sim_region *region = &sim.region[thread->region];

		mt_gpn_t gpn = MT_GPN(region->first.n + thread->page);

		if (thread->blocked && !thread->woken && thread->page < region->pages &&
		    mt_page_state(&sim.pager->map, gpn) == MT_PAGE_NOMINATED &&
		    !mt_page_busy(&sim.pager->map, gpn))
			SIM_FAIL("a thread still waits for a page that is in staging");
	}
}

void sim_guest_forget(uint32_t region)
{
	for (uint32_t i = 0; i < SIM_THREADS; i++)
		if (sim.thread[i].region == region)
			sim.thread[i].blocked = false;
}

static void maybe_switch(uint32_t permille)
{
	if (sim.discarder.inside && sim_chance(permille))
		swapcontext(&sim.discarder.self, &sim.discarder.back);
}

int __wrap_sched_yield(void)
{
	if (sim.discarder.inside)
		swapcontext(&sim.discarder.self, &sim.discarder.back);
	return 0;
}

int __wrap_madvise(void *addr, size_t bytes, int advice)
{
	uint32_t page, count = (uint32_t)(bytes >> MT_PAGE_SHIFT);
	struct sim_region *region = sim_region_of(addr, &page);

	if (!region || advice != MADV_DONTNEED)
		return __real_madvise(addr, bytes, advice);
	maybe_switch(500);
	__real_madvise(addr, bytes, advice);
	for (uint32_t i = page; i < page + count; i++) {
		region->present[i] = region->pinned[i] = false;
		sim_unseen_discarded(region, i);
	}
	maybe_switch(500);
	return 0;
}

static void discard_main(void)
{
	uint32_t region = sim.flux_region, first = sim.flux_first, pages = sim.flux_pages;

	if (mt_discard(sim.pager, page_addr(region, first), (uint64_t)pages << MT_PAGE_SHIFT))
		SIM_FAIL("a discard failed");
	/* It has returned: the range reads as zeros, but for frames that could not be unmapped. */
	for (uint32_t i = first; i < first + pages; i++) {
		struct sim_region *in = &sim.region[region];

		if (!sim.unmap_failures && in->mapped[i])
			SIM_FAIL("the guest still reads the frame of discarded page %u", i);
		if (!sim.unmap_failures || !sim_page_is(in, i, in->model[i]))
			in->model[i] = 0;
	}
	sim.flux_pages = 0;
	sim.discarder.active = false;
	sim.discarder.inside = false;
	setcontext(&sim.discarder.back);
}

void sim_discard_resume(void)
{
	/* It is called from within what the discarder itself makes happen, too. */
	if (sim.discarder.inside || !sim.discarder.active)
		return;
	sim.discarder.inside = true;
	swapcontext(&sim.discarder.back, &sim.discarder.self);
	sim.discarder.inside = false;
}

void sim_discard_begin(uint32_t region, uint32_t first, uint32_t pages)
{
	sim.flux_region = region;
	sim.flux_first = first;
	sim.flux_pages = pages;
	sim.unmap_failures = 0;
	sim.discards++;
	getcontext(&sim.discarder.self);
	sim.discarder.self.uc_stack.ss_sp = sim.discarder.stack;
	sim.discarder.self.uc_stack.ss_size = sizeof(sim.discarder.stack);
	sim.discarder.self.uc_link = NULL;
	makecontext(&sim.discarder.self, discard_main, 0);
	sim.discarder.active = true;
	sim_discard_resume();
}

void sim_discard_somewhere(void)
{
	uint32_t i = sim_below(SIM_REGIONS), first, pages;

	if (!sim.region[i].pages || sim.region[i].leaving || sim.discarder.active || sim.quiet)
		return;
	first = sim_below(sim.region[i].pages);
	pages = 1 + sim_below(sim_chance(900) ? 8 : 700);
	sim_discard_begin(i, first, MT_MIN(pages, sim.region[i].pages - first));
}

bool sim_discard_active(void)
{
	return sim.discarder.active;
}
