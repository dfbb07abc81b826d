/* SPDX-License-Identifier: MIT */
/* admission.c - the sums and the words of a refusal; see admission.h */
#include "policy/admission.h"
#include "base/size.h"
#include "policy/proportional.h"

#include <errno.h>

static const char *pages_text(uint64_t pages, char *buf)
{
	return mt_size_text(pages * MT_PAGE_SIZE, buf);
}

uint64_t mt_overhead_pages(uint64_t memsize_pages)
{
	return memsize_pages / MT_POLICY_OVERHEAD_PART + MT_POLICY_OVERHEAD_PAGES;
}

uint64_t mt_admit_promise(const struct mt_admit_vm *vm)
{
	uint64_t overhead = mt_overhead_pages(vm->memsize_pages);
	uint64_t promise = vm->reservation_pages + overhead;

	promise = MT_MAX(promise, MT_POLICY_START_PAGES);
	promise = MT_MIN(promise, vm->memsize_pages + overhead);
	return MT_MIN(promise, vm->limit_pages);
}

uint64_t mt_admit_swap(const struct mt_admit_vm *vm)
{
	return vm->memsize_pages - MT_MIN(vm->reservation_pages, vm->memsize_pages);
}

uint64_t mt_admit_unreserved(const struct mt_admit_host *host)
{
	uint64_t taken = host->own_pages + host->minfree_pages + host->reserved_pages;

	return host->pool_pages - MT_MIN(taken, host->pool_pages);
}

static int admit_consistent(const struct mt_admit_vm *vm, const char *name, struct mt_err *err)
{
	char one[MT_SIZE_TEXT_MAX], two[MT_SIZE_TEXT_MAX];

	if (vm->reservation_pages > vm->memsize_pages)
		return mt_err_set(err, -EINVAL,
				  "%s: reservation %s is more than its memory of %s; make it at "
				  "most that",
				  name, pages_text(vm->reservation_pages, one),
				  pages_text(vm->memsize_pages, two));
	if (vm->limit_pages < vm->reservation_pages)
		return mt_err_set(err, -EINVAL,
				  "%s: limit %s is below its reservation of %s; raise one or lower "
				  "the other",
				  name, pages_text(vm->limit_pages, one),
				  pages_text(vm->reservation_pages, two));
	if (vm->limit_pages < MT_POLICY_START_PAGES)
		return mt_err_set(err, -EINVAL, "%s: limit %s is below the %s a VM needs to run",
				  name, pages_text(vm->limit_pages, one),
				  pages_text(MT_POLICY_START_PAGES, two));
	return 0;
}

static int admit_memory(const struct mt_admit_host *host, const struct mt_admit_vm *vm,
			const char *name, struct mt_err *err)
{
	uint64_t unreserved = mt_admit_unreserved(host), promise = mt_admit_promise(vm);
	char need[MT_SIZE_TEXT_MAX], reservation[MT_SIZE_TEXT_MAX], left[MT_SIZE_TEXT_MAX];
	char pool[MT_SIZE_TEXT_MAX], reserved[MT_SIZE_TEXT_MAX], minfree[MT_SIZE_TEXT_MAX];
	char own[MT_SIZE_TEXT_MAX], more[MT_SIZE_TEXT_MAX];

	if (promise <= unreserved)
		return 0;
	return mt_err_set(
		err, -ENOMEM,
		"%s: needs %s (reservation %s and overhead), %s more than the %s of the "
		"pool of %s that are unreserved (%s reserved by other VMs, %s minFree, %s "
		"the daemon's); lower reservations or enlarge the pool",
		name, pages_text(promise, need), pages_text(vm->reservation_pages, reservation),
		pages_text(promise - unreserved, more), pages_text(unreserved, left),
		pages_text(host->pool_pages, pool), pages_text(host->reserved_pages, reserved),
		pages_text(host->minfree_pages, minfree), pages_text(host->own_pages, own));
}

static int admit_swap(const struct mt_admit_host *host, const struct mt_admit_vm *vm,
		      const char *name, struct mt_err *err)
{
	uint64_t need = mt_admit_swap(vm);
	uint64_t more = need - MT_MIN(need, vm->swap_pages);
	char a[MT_SIZE_TEXT_MAX], b[MT_SIZE_TEXT_MAX], c[MT_SIZE_TEXT_MAX], d[MT_SIZE_TEXT_MAX];

	if (more <= host->swap_free_pages)
		return 0;
	return mt_err_set(err, -ENOSPC,
			  "%s: needs %s of swap space (memory %s less reservation %s), but only %s "
			  "are left; free some or raise the reservation",
			  name, pages_text(more, a), pages_text(vm->memsize_pages, b),
			  pages_text(vm->reservation_pages, c),
			  pages_text(host->swap_free_pages, d));
}

int mt_admit_check(const struct mt_admit_host *host, const struct mt_admit_vm *vm, const char *name,
		   struct mt_err *err)
{
	int rc = admit_consistent(vm, name, err);

	if (!rc)
		rc = admit_memory(host, vm, name, err);
	if (!rc)
		rc = admit_swap(host, vm, name, err);
	return rc;
}
