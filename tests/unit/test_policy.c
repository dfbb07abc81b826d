/* SPDX-License-Identifier: MIT */
/* test_policy.c - the proportional policy, by example and by property */
#include "common/mt_test.h"
#include "policy/proportional.h"

#define MIB_PAGES(m) ((uint64_t)(m) << 8)

static struct mt_policy_vm plain(uint64_t memsize_pages)
{
	return (struct mt_policy_vm){.memsize_pages = memsize_pages,
				     .limit_pages = MT_POLICY_NO_LIMIT,
				     .target_max_pages = MT_POLICY_NO_LIMIT};
}

static uint64_t run(uint64_t total, const struct mt_policy_vm *vms, struct mt_fill *fills,
		    size_t count)
{
	for (size_t i = 0; i < count; i++)
		fills[i] = mt_policy_fill(&vms[i]);
	return mt_fill_proportional(total, fills, count);
}

MT_TEST("with room for everybody each gets its memory and its overhead")
{
	struct mt_policy_vm vms[] = {plain(MIB_PAGES(512)), plain(MIB_PAGES(1024))};
	struct mt_fill fills[2];

	run(MIB_PAGES(4096), vms, fills, 2);
	MT_CHECK_EQ(fills[0].got, MIB_PAGES(512 + 4 + 12));
	MT_CHECK_EQ(fills[1].got, MIB_PAGES(1024 + 8 + 12));
}

MT_TEST("short memory is shared in proportion to the VMs' memory, to the last page")
{
	struct mt_policy_vm vms[] = {plain(MIB_PAGES(512)), plain(MIB_PAGES(1024)),
				     plain(MIB_PAGES(512))};
	struct mt_fill fills[3];

	MT_CHECK_EQ(run(MIB_PAGES(1000), vms, fills, 3), MIB_PAGES(1000));
	MT_CHECK_EQ(fills[0].got, MIB_PAGES(250));
	MT_CHECK_EQ(fills[1].got, MIB_PAGES(500));
	MT_CHECK_EQ(fills[2].got, MIB_PAGES(250));
	MT_CHECK_EQ(run(MIB_PAGES(1000) + 1, vms, fills, 3), MIB_PAGES(1000) + 1);
}

MT_TEST("what a limited VM leaves goes to the others")
{
	struct mt_policy_vm vms[] = {plain(MIB_PAGES(1000)), plain(MIB_PAGES(1000)),
				     plain(MIB_PAGES(1000))};
	struct mt_fill fills[3];

	vms[0].limit_pages = MIB_PAGES(100);
	vms[1].target_max_pages = MIB_PAGES(300);
	run(MIB_PAGES(1200), vms, fills, 3);
	MT_CHECK_EQ(fills[0].got, MIB_PAGES(100));
	MT_CHECK_EQ(fills[1].got, MIB_PAGES(300));
	MT_CHECK_EQ(fills[2].got, MIB_PAGES(800));
}

MT_TEST("a reservation is kept at the others' cost")
{
	struct mt_policy_vm vms[] = {plain(MIB_PAGES(1000)), plain(MIB_PAGES(1000))};
	struct mt_fill fills[2];

	vms[0].reservation_pages = MIB_PAGES(900);
	run(MIB_PAGES(1000), vms, fills, 2);
	MT_CHECK_EQ(fills[0].got, MIB_PAGES(900));
	MT_CHECK_EQ(fills[1].got, MIB_PAGES(100));
}

MT_TEST("reservations that do not fit are all cut by the same part")
{
	struct mt_policy_vm vms[] = {plain(MIB_PAGES(1000)), plain(MIB_PAGES(1000))};
	struct mt_fill fills[2];

	vms[0].reservation_pages = MIB_PAGES(900);
	vms[1].reservation_pages = MIB_PAGES(300);
	run(MIB_PAGES(400), vms, fills, 2);
	MT_CHECK_EQ(fills[0].got, MIB_PAGES(300));
	MT_CHECK_EQ(fills[1].got, MIB_PAGES(100));
}

MT_TEST("a VM without memory gets nothing, and nothing is shared out among nobody")
{
	struct mt_policy_vm vm = plain(0);
	struct mt_fill fill;

	vm.reservation_pages = 100;
	MT_CHECK_EQ(run(1000, &vm, &fill, 1), 0);
	MT_CHECK_EQ(fill.got, 0);
	MT_CHECK_EQ(mt_fill_proportional(1000, NULL, 0), 0);
}

static uint64_t seed = 88172645463325252ULL;

static uint64_t roll(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return below ? seed % below : 0;
}

/* Sizes over many orders of magnitude, the largest possible ones included. */
static uint64_t roll_size(void)
{
	return roll(1ULL << (1 + roll(36)));
}

static struct mt_policy_vm roll_vm(void)
{
	struct mt_policy_vm vm = plain(roll_size());

	if (!roll(3))
		vm.limit_pages = roll_size() + 1;
	if (!roll(5))
		vm.target_max_pages = roll_size() + 1;
	if (!roll(3))
		vm.reservation_pages = roll(vm.memsize_pages + 1);
	return vm;
}

/* No item gives up anything to one that got less for its weight: the water is level. */
static void check_level(const struct mt_fill *a, const struct mt_fill *b)
{
	/* rounding: a page, and the level's granularity */
	uint64_t blur_a = 2 + (a->weight >> 30), blur_b = 2 + (b->weight >> 30);

	if (a->got <= a->floor + blur_a || b->got + blur_b >= b->cap)
		return;
	MT_CHECK((unsigned __int128)(a->got - blur_a) * b->weight <=
		 (unsigned __int128)(b->got + blur_b) * a->weight);
}

static void check_host(uint64_t total, const struct mt_fill *fills, size_t count, uint64_t gave)
{
	uint64_t sum = 0, caps = 0, floors = 0;

	for (size_t i = 0; i < count; i++) {
		MT_CHECK(fills[i].got <= fills[i].cap);
		sum += fills[i].got;
		caps += fills[i].cap;
		floors += fills[i].floor;
	}
	MT_CHECK_EQ(sum, gave);
	MT_CHECK(sum <= total);
	if (floors > total) {
		MT_CHECK(sum + count >= total);
		return;
	}
	MT_CHECK_EQ(sum, MT_MIN(total, caps));
	for (size_t i = 0; i < count; i++)
		MT_CHECK(fills[i].got >= fills[i].floor);
	for (size_t i = 1; i < count; i++) {
		check_level(&fills[i - 1], &fills[i]);
		check_level(&fills[i], &fills[i - 1]);
	}
}

MT_TEST("on 150,000 random hosts sums, floors, caps and proportions hold")
{
	for (unsigned int host = 0; host < 150000; host++) {
		struct mt_policy_vm vms[12];
		struct mt_fill fills[12];
		size_t count = 1 + roll(12);
		uint64_t total = roll_size() * roll(8), gave;

		for (size_t i = 0; i < count; i++)
			vms[i] = roll_vm();
		gave = run(total, vms, fills, count);
		check_host(total, fills, count, gave);
	}
}

MT_TEST("returned memory raises the VM that is furthest below its target first")
{
	struct mt_fill fills[] = {{.weight = 1000, .floor = 100, .cap = 1000},
				  {.weight = 1000, .floor = 600, .cap = 1000}};

	mt_fill_proportional(1100, fills, 2);
	MT_CHECK_EQ(fills[0].got, 500);
	MT_CHECK_EQ(fills[1].got, 600);
	mt_fill_proportional(1300, fills, 2);
	MT_CHECK_EQ(fills[0].got, 650);
	MT_CHECK_EQ(fills[1].got, 650);
}

MT_TEST_MAIN
