/* SPDX-License-Identifier: MIT */
/*
 * cpu.c - the virtual processor: loads and stores through the MMU, and boot
 *
 * The kernel's accesses go through the upper half. Whole pages are zeroed and copied with one
 * translation for each page, as string instructions do.
 */
#include "lab/kernel_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FAULTS_MAX 16u /* of one access, before the kernel is taken to be wrong */
#define ROOT_SLOT  (KERNEL_BASE >> 39 & 511)

/* Translate an access of the kernel. Return: the host's pointer; *ret_gpa when it was traced */
static void *kernel_at(struct lab_kernel *kernel, uint64_t gpa, unsigned int access, bool *traced)
{
	struct mt_translation to = {0};
	enum mt_mmu_end end =
		mt_mmu_translate(&kernel->vm->mmu, MT_GVA(KERNEL_BASE + gpa), access, &to);

	MT_ASSERT(end == MT_MMU_OK || end == MT_MMU_EMULATE);
	*traced = end == MT_MMU_EMULATE;
	return lab_vm_at(kernel->vm, to.mpa);
}

uint64_t lab_load(struct lab_kernel *kernel, uint64_t gpa)
{
	bool traced;

	return *(uint64_t *)kernel_at(kernel, gpa, 0, &traced);
}

void lab_store(struct lab_kernel *kernel, uint64_t gpa, uint64_t value)
{
	bool traced;
	uint64_t *word = kernel_at(kernel, gpa, MT_PF_W, &traced);

	*word = value;
	if (traced)
		mt_mmu_stored(&kernel->vm->mmu, MT_GPA(gpa));
}

/* Writing a whole traced page: as many stores as it takes until the trace is lifted. */
static void untrace(struct lab_kernel *kernel, uint64_t gpa)
{
	bool traced = true;

	for (uint64_t at = 0; traced && at < MT_PAGE_SIZE; at += 8) {
		kernel_at(kernel, gpa + at, MT_PF_W, &traced);
		if (traced)
			mt_mmu_stored(&kernel->vm->mmu, MT_GPA(gpa + at));
	}
}

void *lab_page(struct lab_kernel *kernel, uint64_t gpa, bool write)
{
	bool traced;
	void *at = kernel_at(kernel, gpa, write ? MT_PF_W : 0, &traced);

	if (traced)
		untrace(kernel, gpa);
	return at;
}

void lab_zero_page(struct lab_kernel *kernel, uint64_t gpa)
{
	memset(lab_page(kernel, gpa, true), 0, MT_PAGE_SIZE);
}

void lab_copy_page(struct lab_kernel *kernel, uint64_t to, uint64_t from)
{
	const void *source = lab_page(kernel, from, false);

	memcpy(lab_page(kernel, to, true), source, MT_PAGE_SIZE);
}

int lab_access(struct lab_kernel *kernel, mt_gva_t gva, unsigned int access, uint64_t *value)
{
	struct mt_translation to = {0};

	MT_ASSERT(!(gva.a & 7));
	for (unsigned int i = 0; i < FAULTS_MAX; i++) {
		enum mt_mmu_end end =
			mt_mmu_translate(&kernel->vm->mmu, gva, access | MT_PF_U, &to);
		int rc;

		if (end == MT_MMU_OK || end == MT_MMU_EMULATE) {
			uint64_t *word = lab_vm_at(kernel->vm, to.mpa);

			if (access & MT_PF_W)
				*word = *value;
			else
				*value = *word;
			if (end == MT_MMU_EMULATE)
				mt_mmu_stored(&kernel->vm->mmu, to.gpa);
			return 0;
		}
		if (end == MT_MMU_FAILED)
			return mt_err_set(&kernel->err, to.rc,
					  "the host has no memory for the guest");
		if (end != MT_MMU_PAGE_FAULT)
			return mt_err_set(&kernel->err, -EFAULT, "0x%llx is no user address",
					  (unsigned long long)gva.a);
		rc = lab_page_fault(kernel, gva, to.error_code);
		if (rc)
			return rc;
	}
	MT_UNREACHABLE("a fault was served, and came back");
}

/* Physical stores of boot, before there are tables. */
static int boot_store(struct lab_kernel *kernel, uint64_t gpa, uint64_t value)
{
	const struct mt_memory *memory = &kernel->vm->mmu.config.guest;
	uint64_t old;
	int rc = memory->load(memory->ctx, gpa, &old);

	return rc ? rc : memory->swap(memory->ctx, gpa, old, value);
}

/* The kernel's tables at @table and up: a root without users, one PDPT, a PD for each GiB. */
static int boot_tables(struct lab_kernel *kernel, uint64_t table, uint64_t *ret_end)
{
	const uint64_t flags = MT_PTE_P | MT_PTE_RW | MT_PTE_A;
	uint64_t bytes = (uint64_t)kernel->vm->frames << MT_PAGE_SHIFT, pd = table + 0x2000;
	int rc = boot_store(kernel, table + 8 * ROOT_SLOT, (table + 0x1000) | flags);

	for (uint64_t at = 0; !rc && at < bytes; at += MT_HUGE_SIZE) {
		uint64_t gib = at >> MT_PAGE_1G_SHIFT, slot = at >> MT_HUGE_SHIFT & 511;

		rc = boot_store(kernel, table + 0x1000 + 8 * gib, (pd + gib * 0x1000) | flags);
		if (!rc)
			rc = boot_store(kernel, pd + gib * 0x1000 + 8 * slot,
					at | flags | MT_PTE_PS | MT_PTE_D);
	}
	kernel->kernel_half = MT_GPA(table + 0x1000);
	*ret_end = pd + ((bytes - 1) >> MT_PAGE_1G_SHIFT) * 0x1000 + 0x1000;
	return rc;
}

int lab_kernel_boot(struct lab_kernel *kernel, struct lab_vm *vm,
		    const struct lab_kernel_config *config, struct mt_err *err)
{
	uint64_t tables =
		TABLE_AT + mt_align_up((uint64_t)vm->frames * FRAME_WORDS * 8, MT_PAGE_SIZE);
	struct mt_regs regs = {.paging = MT_PAGING_4LEVEL,
			       .cr3 = tables,
			       .phys_bits = 46,
			       .wp = true,
			       .nxe = true,
			       .smep = true};
	uint64_t end;
	int rc;

	memset(kernel, 0, sizeof(*kernel));
	kernel->vm = vm;
	kernel->large = config->large;
	if (vm->frames < 2 * MT_HUGE_PAGES)
		return mt_err_set(err, -EINVAL, "a guest needs 4 MiB at least");
	kernel->processes = calloc(LAB_PROCESSES_MAX, sizeof(*kernel->processes));
	rc = kernel->processes ? lab_disk_init(&kernel->disk, config->swap_slots) : -ENOMEM;
	if (!rc)
		rc = boot_tables(kernel, tables, &end);
	if (!rc)
		rc = mt_mmu_set_regs(&vm->mmu, &regs, NULL);
	if (rc) {
		lab_kernel_destroy(kernel);
		return mt_err_set(err, rc, "no memory for the guest kernel");
	}
	lab_frames_init(kernel, (uint32_t)(end >> MT_PAGE_SHIFT));
	return 0;
}

void lab_kernel_destroy(struct lab_kernel *kernel)
{
	for (unsigned int i = 0; kernel->processes && i < LAB_PROCESSES_MAX; i++) {
		for (unsigned int k = 0; k < kernel->processes[i].count; k++)
			free(kernel->processes[i].mappings[k].version);
		free(kernel->processes[i].mappings);
	}
	free(kernel->processes);
	free(kernel->disk.data);
	free(kernel->disk.refs);
	memset(kernel, 0, sizeof(*kernel));
}
