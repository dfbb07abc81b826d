/* SPDX-License-Identifier: MIT */
/*
 * lab_guest.c - a guest kernel with processes, on an MMU in software, on managed memory
 *
 * Four layers in one program: processes and their kernel are a lab's (src/lab), the VM's memory is
 * its machine memory, and Memtide takes pages of that away underneath. What the guest's balloon
 * gives up is discarded. Every word a process finds is checked, so a page that Memtide lost, or
 * one that shows another process's content, is an error like a wrong checked page.
 */
#include "lab_guest.h"
#include "lab/storm.h"

#include <inttypes.h>
#include <stdio.h>

#define AUDIT_EVERY 20000u

struct lab {
	struct tv_guest *guest;
	struct lab_host host;
	struct lab_vm vm;
	struct lab_kernel kernel;
	struct lab_run run;
};

static void wrong(struct lab *lab, const char *what)
{
	fprintf(stderr, "testvm %s: WRONG: %s\n", lab->guest->o->name, what);
	atomic_fetch_add(&lab->guest->counts.errors, 1);
}

static int release(void *ctx, void *at, size_t bytes)
{
	struct lab *lab = ctx;

	if (!lab->guest->vm)
		return -1;
	atomic_fetch_add(&lab->guest->counts.discarded, bytes / CP_PAGE_SIZE);
	return mt_vm_region_discard(lab->guest->vm, at, bytes);
}

static bool lab_start(struct lab *lab)
{
	const struct tv_options *o = lab->guest->o;
	uint32_t frames = (uint32_t)(o->mem_bytes / CP_PAGE_SIZE);
	struct lab_vm_config vm = {.number = 1,
				   .frames = frames,
				   .large = o->thp,
				   .mode = (enum mt_mmu_mode)(o->mmu - 1),
				   .walk_caches = true};
	struct lab_kernel_config kernel = {.large = o->thp, .swap_slots = frames / 2};
	struct mt_err err;

	if (lab_host_init(&lab->host, lab->guest->regions[0].base, o->mem_bytes)) {
		wrong(lab, "no memory");
		return false;
	}
	lab->host.ctx = lab;
	lab->host.release = release;
	lab->run.kernel = &lab->kernel;
	if (lab_vm_init(&lab->vm, &lab->host, &vm, &err) ||
	    lab_kernel_boot(&lab->kernel, &lab->vm, &kernel, &err)) {
		wrong(lab, err.msg);
		return false;
	}
	return true;
}

static void audit(struct lab *lab)
{
	const char *found = lab_kernel_audit(&lab->kernel);

	if (!found && lab->vm.mmu.config.mode == MT_MMU_SHADOW)
		found = mt_shadow_audit(&lab->vm.mmu.shadow);
	if (!found && lab->run.wrong)
		found = lab->run.err.msg;
	if (found)
		wrong(lab, found);
}

static void run_storm(struct lab *lab)
{
	struct tv_guest *guest = lab->guest;
	struct lab_storm storm;

	lab_storm_init(&storm, &lab->run, guest->o->seed);
	storm.heap_pages = guest->pages; /* six processes want more than there is */
	for (uint64_t i = 1; !guest->stop && !guest->counts.errors; i++) {
		if (lab_storm_step(&storm))
			wrong(lab, lab->kernel.err.msg);
		if (lab->run.wrong || i % AUDIT_EVERY == 0)
			audit(lab);
		atomic_fetch_add_explicit(&guest->counts.ops, 1, memory_order_relaxed);
	}
}

static void run_trace(struct lab *lab)
{
	struct tv_guest *guest = lab->guest;
	struct lab_trace trace;
	struct mt_err err;

	if (lab_trace_read(&trace, guest->o->trace, &err)) {
		wrong(lab, err.msg);
		return;
	}
	while (!guest->stop && !guest->counts.errors) {
		if (lab_trace_run(&trace, &lab->run, &err))
			wrong(lab, err.msg);
		audit(lab);
		atomic_fetch_add_explicit(&guest->counts.ops, 1, memory_order_relaxed);
	}
	lab_trace_free(&trace);
}

static void say(const struct lab *lab)
{
	const struct mt_mmu_stats *mmu = &lab->vm.mmu.stats;
	const struct lab_kernel_stats *kernel = &lab->kernel.stats;

	printf("{\"event\":\"lab\",\"mode\":\"%s\",\"checked\":%" PRIu64 ",\"accesses\":%" PRIu64
	       ",\"tlb_misses\":%" PRIu64 ",\"refs\":%" PRIu64 ",\"hidden_faults\":%" PRIu64
	       ",\"trace_faults\":%" PRIu64 ",\"violations\":%" PRIu64,
	       mt_mmu_mode_name(lab->vm.mmu.config.mode), lab->run.checked, mmu->accesses,
	       mmu->tlb_misses, mmu->refs, mmu->hidden_faults, mmu->trace_faults, mmu->violations);
	printf(",\"page_faults\":%" PRIu64 ",\"copies\":%" PRIu64 ",\"forks\":%" PRIu64
	       ",\"guest_swapins\":%" PRIu64 ",\"guest_swapouts\":%" PRIu64 "}\n",
	       kernel->faults, kernel->copies, kernel->forks, kernel->swap_ins, kernel->swap_outs);
}

void tv_lab_run(struct tv_guest *guest, unsigned int number)
{
	static struct lab lab;

	(void)number;
	lab.guest = guest;
	if (!lab_start(&lab))
		return;
	if (guest->o->trace)
		run_trace(&lab);
	else
		run_storm(&lab);
	audit(&lab);
	atomic_fetch_add(&guest->counts.verified, lab.run.checked);
	say(&lab);
}
