/* SPDX-License-Identifier: MIT */
/* test_policy_entitlement.c - shares, idle tax and revocation, against the definition and by
 * property */
#include "common/mt_test.h"
#include "base/compiler.h"
#include "policy/entitlement.h"

#include <time.h>

#define MIB_PAGES(m) ((uint64_t)(m) << 8)
#define VMS_MAX      12

static uint64_t seed = 7;

static uint64_t roll(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (seed >> 9) % below;
}

static const struct mt_tax no_tax = {0, MT_TAX_FLAT};
static const struct mt_tax usual_tax = {75, MT_TAX_FLAT};

static struct mt_ent_vm vm_of(uint64_t shares, uint64_t memory, uint64_t active)
{
	return (struct mt_ent_vm){.shares = shares,
				  .active_pages = active,
				  .want_pages = memory,
				  .cap_pages = memory};
}

static struct mt_ent_vm roll_vm(uint64_t most)
{
	struct mt_ent_vm vm = {.cap_pages = roll(most)};

	vm.want_pages = roll(vm.cap_pages + 1);
	vm.floor_pages = roll(3) ? 0 : roll(vm.want_pages + 1);
	vm.active_pages = roll(3) ? roll(vm.cap_pages + 1) : 0;
	vm.shares = roll(4) ? 1 + roll(1000) : 1U << roll(20);
	return vm;
}

static struct mt_tax roll_tax(void)
{
	return (struct mt_tax){.rate_pct = (unsigned int)roll(100),
			       .kind = roll(2) ? MT_TAX_FLAT : MT_TAX_PROGRESSIVE};
}

MT_TEST("without a tax two equal VMs get halves, however idle one is")
{
	struct mt_ent_vm vms[] = {vm_of(10, MIB_PAGES(256), 0),
				  vm_of(10, MIB_PAGES(256), MIB_PAGES(256))};

	MT_CHECK_EQ(mt_ent_share_out(&no_tax, MIB_PAGES(360), vms, 2), MIB_PAGES(360));
	MT_CHECK_EQ(vms[0].target_pages, MIB_PAGES(180));
	MT_CHECK_EQ(vms[1].target_pages, MIB_PAGES(180));
}

MT_TEST("with 75 % tax the idle VM's memory goes to the busy one, as in the paper's experiment")
{
	struct mt_ent_vm vms[] = {vm_of(10, MIB_PAGES(256), 0),
				  vm_of(10, MIB_PAGES(256), MIB_PAGES(256))};

	mt_ent_share_out(&usual_tax, MIB_PAGES(360), vms, 2);
	/* the busy one has all it can use; the idle one is left with the rest */
	MT_CHECK_EQ(vms[0].target_pages, MIB_PAGES(104));
	MT_CHECK_EQ(vms[1].target_pages, MIB_PAGES(256));
	/* with less to share out an idle page costs exactly four active ones */
	mt_ent_share_out(&usual_tax, MIB_PAGES(250), vms, 2);
	MT_CHECK_EQ(vms[0].target_pages, MIB_PAGES(50));
	MT_CHECK_EQ(vms[1].target_pages, MIB_PAGES(200));
}

MT_TEST("busy VMs with shares 1:2:4 get memory 1:2:4")
{
	struct mt_ent_vm vms[] = {vm_of(1000, MIB_PAGES(800), MIB_PAGES(800)),
				  vm_of(2000, MIB_PAGES(800), MIB_PAGES(800)),
				  vm_of(4000, MIB_PAGES(800), MIB_PAGES(800))};

	mt_ent_share_out(&usual_tax, MIB_PAGES(700), vms, 3);
	MT_CHECK_EQ(vms[0].target_pages, MIB_PAGES(100));
	MT_CHECK_EQ(vms[1].target_pages, MIB_PAGES(200));
	MT_CHECK_EQ(vms[2].target_pages, MIB_PAGES(400));
}

MT_TEST("the charge is the paper's formula")
{
	/* P = 100, f = 0.25, k = 4: 100 * (0.25 + 4 * 0.75) = 325 */
	MT_CHECK_EQ(mt_ent_charge(&usual_tax, 25, 100) * 100, 32500);
	MT_CHECK_EQ(mt_ent_rho(&usual_tax, 650, 25, 100) * 100, 200);
	MT_CHECK_EQ(mt_ent_charge(&no_tax, 25, 100) * 100, 10000);
	MT_CHECK_EQ(mt_ent_idle_cost(&usual_tax) * 100, 400);
}

MT_TEST("the progressive tax spares a little idle memory and takes the full rate of idle VMs")
{
	const struct mt_tax progressive = {75, MT_TAX_PROGRESSIVE};

	/* a third of the rate: 1 / (1 - 0.25); two thirds: 2; the full rate: 4 */
	MT_CHECK_EQ(mt_ent_charge(&progressive, 300, 600) * 100, 70000 - 1);
	MT_CHECK_EQ(mt_ent_charge(&progressive, 100, 400) * 10, 6333);
	MT_CHECK_EQ(mt_ent_charge(&progressive, 0, 100) * 100, 40000);
	for (uint64_t pages = 1; pages < 2000; pages++)
		MT_CHECK(mt_ent_charge(&progressive, 100, pages) <=
			 mt_ent_charge(&usual_tax, 100, pages));
}

MT_TEST("what everybody wants comes first, the rest is dealt out up to the caps")
{
	struct mt_ent_vm vms[] = {vm_of(10, 1000, 100), vm_of(10, 1000, 1000)};

	vms[0].want_pages = 200;
	mt_ent_share_out(&no_tax, 1000, vms, 2);
	MT_CHECK_EQ(vms[0].target_pages, 200);
	MT_CHECK_EQ(vms[1].target_pages, 800);
	mt_ent_share_out(&no_tax, 1300, vms, 2);
	MT_CHECK_EQ(vms[0].target_pages, 300);
	MT_CHECK_EQ(vms[1].target_pages, 1000);
}

/* The definition: page after page to the VM whose charge per share is the least after it. */
static void share_out_slowly(const struct mt_tax *tax, uint64_t total, struct mt_ent_vm *vms,
			     size_t count, bool spare)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < count; i++) {
		vms[i].target_pages = spare ? vms[i].want_pages : vms[i].floor_pages;
		sum += vms[i].target_pages;
	}
	while (sum < total) {
		double best = 0;
		size_t to = count;

		for (size_t i = 0; i < count; i++) {
			uint64_t most = spare ? vms[i].cap_pages : vms[i].want_pages;
			double key =
				mt_ent_charge(tax, vms[i].active_pages, vms[i].target_pages + 1) /
				(double)vms[i].shares;

			if (vms[i].target_pages < most && (to == count || key < best)) {
				best = key;
				to = i;
			}
		}
		if (to == count)
			return;
		vms[to].target_pages++;
		sum++;
	}
}

MT_TEST("on 20,000 small hosts the targets are those of the definition, page for page")
{
	for (unsigned int host = 0; host < 20000; host++) {
		struct mt_ent_vm fast[5], slow[5];
		size_t count = 1 + roll(5);
		struct mt_tax tax = {(unsigned int)(roll(3) * 25 + roll(2) * 25), MT_TAX_FLAT};
		uint64_t floors = 0, wants = 0, total = roll(200);

		for (size_t i = 0; i < count; i++) {
			fast[i] = roll_vm(60);
			/* powers of two keep the slow way's doubles exact */
			fast[i].shares = 1U << roll(4);
			slow[i] = fast[i];
			floors += fast[i].floor_pages;
			wants += fast[i].want_pages;
		}
		if (floors > total)
			continue;
		mt_ent_share_out(&tax, total, fast, count);
		share_out_slowly(&tax, total, slow, count, wants <= total);
		for (size_t i = 0; i < count; i++)
			MT_CHECK_EQ(fast[i].target_pages, slow[i].target_pages);
	}
}

static void check_bounds(uint64_t total, const struct mt_ent_vm *vms, size_t count, uint64_t gave)
{
	uint64_t sum = 0, caps = 0, floors = 0;

	for (size_t i = 0; i < count; i++) {
		MT_CHECK(vms[i].target_pages <= vms[i].cap_pages);
		sum += vms[i].target_pages;
		caps += vms[i].cap_pages;
		floors += vms[i].floor_pages;
	}
	MT_CHECK_EQ(sum, gave);
	MT_CHECK_EQ(sum, MT_MIN(total, caps));
	for (size_t i = 0; i < count && floors <= total; i++)
		MT_CHECK(vms[i].target_pages >= vms[i].floor_pages);
}

/* Nobody's last page was dearer than a page another one would have liked to have. */
static void check_prices(const struct mt_tax *tax, const struct mt_ent_vm *vms, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		double last = mt_ent_charge(tax, vms[i].active_pages, vms[i].target_pages) /
			      (double)vms[i].shares;

		if (vms[i].target_pages <= vms[i].work.low)
			continue;
		for (size_t j = 0; j < count; j++) {
			double next =
				mt_ent_charge(tax, vms[j].active_pages, vms[j].target_pages + 1) /
				(double)vms[j].shares;

			if (vms[j].target_pages < vms[j].work.high)
				MT_CHECK(last <= next * (1 + 1e-9));
		}
	}
}

static void check_monotone(const struct mt_tax *tax, uint64_t total, struct mt_ent_vm *vms,
			   size_t count)
{
	size_t raised = roll(count);
	uint64_t before = vms[raised].target_pages;

	vms[raised].shares += 1 + roll(vms[raised].shares);
	mt_ent_share_out(tax, total, vms, count);
	MT_CHECK(vms[raised].target_pages >= before);
}

MT_TEST("on 200,000 random hosts sums, bounds, prices hold, and more shares never mean less")
{
	for (unsigned int host = 0; host < 200000; host++) {
		struct mt_ent_vm vms[VMS_MAX];
		size_t count = 1 + roll(VMS_MAX);
		struct mt_tax tax = roll_tax();
		uint64_t most = 2ULL << roll(host % 50 ? 24 : 44), total, gave, floors = 0;

		total = roll(most * count);
		for (size_t i = 0; i < count; i++) {
			vms[i] = roll_vm(most);
			floors += vms[i].floor_pages;
		}
		gave = mt_ent_share_out(&tax, total, vms, count);
		check_bounds(total, vms, count, gave);
		if (floors > total)
			continue;
		check_prices(&tax, vms, count);
		check_monotone(&tax, total, vms, count);
	}
}

MT_TEST("more tax never gives a VM without active memory more beside fully active ones")
{
	for (unsigned int host = 0; host < 20000; host++) {
		struct mt_ent_vm vms[4];
		uint64_t total = roll(400000), before = UINT64_MAX;

		for (size_t i = 0; i < 4; i++) {
			vms[i] = roll_vm(100000);
			vms[i].floor_pages = 0;
			vms[i].active_pages = i ? vms[i].cap_pages : 0;
		}
		for (unsigned int rate = 0; rate < 100; rate += 11) {
			struct mt_tax tax = {rate, roll(2) ? MT_TAX_FLAT : MT_TAX_PROGRESSIVE};

			mt_ent_share_out(&tax, total, vms, 4);
			MT_CHECK(vms[0].target_pages <= before);
			before = vms[0].target_pages;
		}
	}
}

MT_TEST("revocation takes from the fewest shares per charged page, down to the floor")
{
	struct mt_ent_vm vms[] = {vm_of(10, 1000, 1000), vm_of(10, 1000, 0), vm_of(10, 100, 100)};

	MT_CHECK_EQ(mt_ent_revoke(&usual_tax, 300, vms, 3), 300);
	MT_CHECK_EQ(vms[0].target_pages, 1000);
	MT_CHECK_EQ(vms[1].target_pages, 700);
	MT_CHECK_EQ(vms[2].target_pages, 100);
	vms[1].floor_pages = 900;
	MT_CHECK_EQ(mt_ent_revoke(&usual_tax, 300, vms, 3), 300);
	MT_CHECK_EQ(vms[0].target_pages, 800);
	MT_CHECK_EQ(vms[1].target_pages, 900);
	MT_CHECK_EQ(mt_ent_revoke(&usual_tax, 5000, vms, 3), 1200);
}

MT_TEST("floors that do not fit are scaled down alike, and nothing is given twice")
{
	struct mt_ent_vm vms[] = {vm_of(10, 1000, 0), vm_of(10, 1000, 0), vm_of(10, 1000, 0)};

	vms[0].floor_pages = 1000;
	vms[1].floor_pages = 500;
	MT_CHECK_EQ(mt_ent_share_out(&usual_tax, 1000, vms, 3), 1000);
	MT_CHECK_EQ(vms[0].target_pages, 667);
	MT_CHECK_EQ(vms[1].target_pages, 333);
	MT_CHECK_EQ(vms[2].target_pages, 0);
	MT_CHECK_EQ(mt_ent_share_out(&usual_tax, 0, vms, 3), 0);
	MT_CHECK_EQ(mt_ent_share_out(&usual_tax, 1000, vms, 0), 0);
}

MT_TEST("how long 1,000 VMs take (figure only)")
{
	static struct mt_ent_vm vms[1000];
	struct timespec from, to;

	for (size_t i = 0; i < 1000; i++)
		vms[i] = roll_vm(1 << 22);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
	for (unsigned int i = 0; i < 200; i++)
		mt_ent_share_out(&usual_tax, (300ULL << 20) + i, vms, 1000);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
	printf("# %.0f us of CPU for one decision\n",
	       ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) /
		       200e3);
}

MT_TEST_MAIN
