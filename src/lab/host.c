/* SPDX-License-Identifier: MIT */
/* host.c - machine memory and the PMAP of lab VMs; see host.h */
#include "lab/host.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SCATTER 40503u /* frames skipped between two that are given out; odd */

int lab_host_init(struct lab_host *host, void *memory, uint64_t bytes)
{
	memset(host, 0, sizeof(*host));
	host->memory = memory;
	host->frames = (uint32_t)(bytes >> MT_PAGE_SHIFT);
	host->owner = calloc(host->frames, sizeof(*host->owner));
	return host->owner ? 0 : -ENOMEM;
}

void lab_host_destroy(struct lab_host *host)
{
	free(host->owner);
	memset(host, 0, sizeof(*host));
}

static bool run_is_free(const struct lab_host *host, uint32_t first, uint32_t count)
{
	if (first + count > host->frames)
		return false;
	for (uint32_t i = 0; i < count; i++)
		if (host->owner[first + i] != LAB_NO_VM)
			return false;
	return true;
}

/* @count (1 or 512, then aligned) free frames. Return: the first, or LAB_NO_FRAME */
static uint32_t host_take(struct lab_host *host, uint32_t count, uint16_t owner)
{
	uint32_t slots = host->frames / count;

	for (uint32_t i = 0; i < slots; i++) {
		uint32_t first = host->hand % slots * count;

		/* Large pieces in turn, single frames scattered; at last one by one. */
		host->hand += count > 1 || i > slots / 2 ? 1 : SCATTER;
		if (!run_is_free(host, first, count))
			continue;
		for (uint32_t k = 0; k < count; k++)
			host->owner[first + k] = owner;
		return first;
	}
	return LAB_NO_FRAME;
}

void *lab_vm_at(const struct lab_vm *vm, mt_mpa_t mpa)
{
	MT_ASSERT(mpa.a >> MT_PAGE_SHIFT < vm->host->frames);
	MT_ASSERT(vm->host->owner[mpa.a >> MT_PAGE_SHIFT] == vm->number);
	return vm->host->memory + mpa.a;
}

static int back_frame(struct lab_vm *vm, uint32_t gfn)
{
	uint32_t block = gfn / MT_HUGE_PAGES, first = block * MT_HUGE_PAGES, got;
	bool empty = vm->large && first + MT_HUGE_PAGES <= vm->frames;

	for (uint32_t i = 0; empty && i < MT_HUGE_PAGES; i++)
		empty = vm->pmap[first + i] == LAB_NO_FRAME;
	got = empty ? host_take(vm->host, MT_HUGE_PAGES, vm->number) : LAB_NO_FRAME;
	if (got != LAB_NO_FRAME) {
		for (uint32_t i = 0; i < MT_HUGE_PAGES; i++)
			vm->pmap[first + i] = got + i;
		vm->whole[block] = true;
		return 0;
	}
	vm->pmap[gfn] = host_take(vm->host, 1, vm->number);
	return vm->pmap[gfn] == LAB_NO_FRAME ? -ENOMEM : 0;
}

static int vm_find(void *ctx, mt_gfn_t gfn, bool write, struct mt_backing *ret)
{
	struct lab_vm *vm = ctx;
	int rc = 0;

	(void)write;
	if (gfn.n >= vm->frames)
		return -ENXIO;
	if (vm->pmap[gfn.n] == LAB_NO_FRAME)
		rc = back_frame(vm, (uint32_t)gfn.n);
	if (rc)
		return rc;
	ret->start.a = (uint64_t)vm->pmap[gfn.n] << MT_PAGE_SHIFT;
	ret->shift = vm->whole[gfn.n / MT_HUGE_PAGES] ? MT_HUGE_SHIFT : MT_PAGE_SHIFT;
	ret->writable = true;
	return 0;
}

static int vm_word(struct lab_vm *vm, uint64_t gpa, uint64_t **ret)
{
	struct mt_backing backing;
	int rc = vm_find(vm, MT_GFN(gpa >> MT_PAGE_SHIFT), true, &backing);

	if (!rc)
		*ret = lab_vm_at(vm, MT_MPA(backing.start.a + gpa % MT_PAGE_SIZE));
	return rc;
}

static int guest_load(void *ctx, uint64_t gpa, uint64_t *ret)
{
	uint64_t *word;
	int rc = vm_word(ctx, gpa, &word);

	if (!rc)
		*ret = *word;
	return rc;
}

static int guest_swap(void *ctx, uint64_t gpa, uint64_t old, uint64_t fresh)
{
	uint64_t *word;
	int rc = vm_word(ctx, gpa, &word);

	if (rc || *word != old)
		return rc ? rc : -EAGAIN;
	*word = fresh;
	return 0;
}

static int machine_load(void *ctx, uint64_t mpa, uint64_t *ret)
{
	*ret = *(uint64_t *)lab_vm_at(ctx, MT_MPA(mpa));
	return 0;
}

static int machine_swap(void *ctx, uint64_t mpa, uint64_t old, uint64_t fresh)
{
	uint64_t *word = lab_vm_at(ctx, MT_MPA(mpa));

	if (*word != old)
		return -EAGAIN;
	*word = fresh;
	return 0;
}

int lab_vm_init(struct lab_vm *vm, struct lab_host *host, const struct lab_vm_config *config,
		struct mt_err *err)
{
	struct mt_mmu_config mmu = {.mode = config->mode,
				    .guest = {vm, guest_load, guest_swap},
				    .machine = {vm, machine_load, machine_swap},
				    .pmap = {vm, vm_find},
				    .frames = config->frames,
				    .walk_caches = config->walk_caches};

	memset(vm, 0, sizeof(*vm));
	vm->host = host;
	vm->number = config->number;
	vm->large = config->large;
	vm->frames = config->frames;
	vm->pmap = malloc(config->frames * sizeof(*vm->pmap));
	vm->whole = calloc(config->frames / MT_HUGE_PAGES + 1, sizeof(*vm->whole));
	if (!vm->pmap || !vm->whole) {
		free(vm->pmap);
		free(vm->whole);
		return mt_err_set(err, -ENOMEM, "no memory for a VM of %u frames", config->frames);
	}
	for (uint32_t i = 0; i < config->frames; i++)
		vm->pmap[i] = LAB_NO_FRAME;
	return mt_mmu_init(&vm->mmu, &mmu, err);
}

void lab_vm_destroy(struct lab_vm *vm)
{
	for (uint32_t i = 0; i < vm->frames; i++)
		if (vm->pmap[i] != LAB_NO_FRAME)
			vm->host->owner[vm->pmap[i]] = LAB_NO_VM;
	mt_mmu_destroy(&vm->mmu);
	free(vm->pmap);
	free(vm->whole);
	memset(vm, 0, sizeof(*vm));
}

void lab_vm_give_back(struct lab_vm *vm, mt_gfn_t gfn)
{
	struct lab_host *host = vm->host;
	uint32_t frame;

	MT_ASSERT(gfn.n < vm->frames);
	frame = vm->pmap[gfn.n];
	if (frame == LAB_NO_FRAME)
		return;
	mt_mmu_host_changed(&vm->mmu, gfn);
	vm->whole[gfn.n / MT_HUGE_PAGES] = false;
	vm->pmap[gfn.n] = LAB_NO_FRAME;
	host->owner[frame] = LAB_NO_VM;
	/* The next owner, this VM or another, must not see what was there. */
	if (!host->release ||
	    host->release(host->ctx, host->memory + ((size_t)frame << MT_PAGE_SHIFT), MT_PAGE_SIZE))
		memset(host->memory + ((size_t)frame << MT_PAGE_SHIFT), 0, MT_PAGE_SIZE);
}
