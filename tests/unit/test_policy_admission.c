/* SPDX-License-Identifier: MIT */
/* test_policy_admission.c - who may start, and what a refusal says */
#include "common/mt_test.h"
#include "policy/admission.h"
#include "policy/proportional.h"

#include <errno.h>

#define MIB_PAGES(m) ((uint64_t)(m) << 8)
#define GIB_PAGES(g) ((uint64_t)(g) << 18)

static const struct mt_admit_host host = {.pool_pages = GIB_PAGES(8),
					  .own_pages = MIB_PAGES(64),
					  .minfree_pages = MIB_PAGES(409),
					  .reserved_pages = GIB_PAGES(4),
					  .swap_free_pages = GIB_PAGES(6)};

static struct mt_admit_vm vm_of(uint64_t memsize_pages, uint64_t reservation_pages)
{
	return (struct mt_admit_vm){.memsize_pages = memsize_pages,
				    .reservation_pages = reservation_pages,
				    .limit_pages = MT_POLICY_NO_LIMIT};
}

static void check(struct mt_admit_vm vm, int code, const char *message)
{
	struct mt_err err = {0};

	MT_CHECK_EQ(mt_admit_check(&host, &vm, "web2", &err), code);
	MT_CHECK_STR(err.msg, message);
}

MT_TEST("a VM whose reservation and swap fit may start, to the last page")
{
	struct mt_admit_vm vm = vm_of(GIB_PAGES(4), 0);
	struct mt_err err = {0};
	uint64_t room = mt_admit_unreserved(&host) - mt_overhead_pages(GIB_PAGES(4));

	MT_CHECK_EQ(mt_admit_check(&host, &vm, "web2", &err), 0);
	vm.reservation_pages = room;
	MT_CHECK_EQ(mt_admit_check(&host, &vm, "web2", &err), 0);
	vm.reservation_pages = room + 1;
	MT_CHECK_EQ(mt_admit_check(&host, &vm, "web2", &err), -ENOMEM);
}

MT_TEST("too large a reservation is refused with the numbers")
{
	check(vm_of(GIB_PAGES(4), GIB_PAGES(4)), -ENOMEM,
	      "web2: needs 4G (reservation 4G and overhead), 517M more than the 3.5G of the pool "
	      "of "
	      "8G that are unreserved (4G reserved by other VMs, 409M minFree, 64M the daemon's); "
	      "lower reservations or enlarge the pool");
}

MT_TEST("missing swap space is refused with the numbers")
{
	struct mt_admit_vm vm = vm_of(GIB_PAGES(8), GIB_PAGES(1));
	struct mt_err err = {0};

	check(vm, -ENOSPC,
	      "web2: needs 7G of swap space (memory 8G less reservation 1G), but only 6G are left; "
	      "free some or raise the reservation");
	vm.swap_pages = GIB_PAGES(1);
	MT_CHECK_EQ(mt_admit_check(&host, &vm, "web2", &err), 0);
}

MT_TEST("settings that contradict each other are refused")
{
	struct mt_admit_vm vm = vm_of(GIB_PAGES(1), GIB_PAGES(2));

	check(vm, -EINVAL,
	      "web2: reservation 2G is more than its memory of 1G; make it at most that");
	vm = vm_of(GIB_PAGES(2), GIB_PAGES(1));
	vm.limit_pages = MIB_PAGES(512);
	check(vm, -EINVAL,
	      "web2: limit 512M is below its reservation of 1G; raise one or lower the other");
	vm = vm_of(GIB_PAGES(2), 0);
	vm.limit_pages = MIB_PAGES(8);
	check(vm, -EINVAL, "web2: limit 8M is below the 16M a VM needs to run");
}

MT_TEST("a promise covers overhead, never exceeds the limit, and is at least what a VM needs")
{
	struct mt_admit_vm vm = vm_of(GIB_PAGES(1), MIB_PAGES(512));

	MT_CHECK_EQ(mt_admit_promise(&vm), MIB_PAGES(512 + 8 + 12));
	vm.limit_pages = MIB_PAGES(520);
	MT_CHECK_EQ(mt_admit_promise(&vm), MIB_PAGES(520));
	vm = vm_of(MIB_PAGES(128), 0);
	MT_CHECK_EQ(mt_admit_promise(&vm), MT_POLICY_START_PAGES);
	MT_CHECK_EQ(mt_admit_swap(&vm), MIB_PAGES(128));
}

MT_TEST("a pool smaller than what is set aside has nothing unreserved")
{
	struct mt_admit_host full = host;

	full.reserved_pages = GIB_PAGES(9);
	MT_CHECK_EQ(mt_admit_unreserved(&full), 0);
}

MT_TEST_MAIN
