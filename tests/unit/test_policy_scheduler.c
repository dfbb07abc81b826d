/* SPDX-License-Identifier: MIT */
/* test_policy_scheduler.c - whole decisions: claims, states, steering, reasons */
#include "common/mt_test.h"
#include "policy/admission.h"
#include "policy/minfree.h"
#include "policy/scheduler.h"

#define MIB_PAGES(m) ((uint64_t)(m) << 8)
#define S            1000000000ULL
#define VMS_MAX      10

static uint64_t seed = 3;

static uint64_t roll(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (seed >> 9) % below;
}

struct rig {
	struct mt_sched sched;
	struct mt_sched_config config;
	struct mt_sched_host host;
	struct mt_sched_vm vms[VMS_MAX];
	struct mt_ent_vm work[VMS_MAX];
	size_t count;
};

static void rig_init(struct rig *rig, uint64_t pool_mib)
{
	*rig = (struct rig){.host = {.pool_pages = MIB_PAGES(pool_mib)}};
	mt_sched_config_init(&rig->config);
}

/* A VM that has touched all of its memory and uses @active_mib of it. */
static struct mt_sched_vm *rig_vm(struct rig *rig, uint64_t mib, uint64_t active_mib)
{
	struct mt_sched_vm *vm = &rig->vms[rig->count++];

	*vm = (struct mt_sched_vm){.memsize_pages = MIB_PAGES(mib),
				   .overhead_pages = mt_overhead_pages(MIB_PAGES(mib)),
				   .limit_pages = MT_POLICY_NO_LIMIT,
				   .target_max_pages = MT_POLICY_NO_LIMIT,
				   .shares = mib * 10,
				   .active_pages = MIB_PAGES(active_mib),
				   .used_pages = MIB_PAGES(mib)};
	return vm;
}

static struct mt_sched_decision decide(struct rig *rig, uint64_t now_s)
{
	return mt_sched_decide(&rig->sched, &rig->config, &rig->host, rig->vms, rig->work,
			       rig->count, now_s * S);
}

static uint64_t targets(const struct rig *rig)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < rig->count; i++)
		sum += rig->vms[i].target_pages;
	return sum;
}

MT_TEST("targets sum to the pool without the daemon's part and minFree")
{
	struct rig rig;
	struct mt_sched_decision decision;

	rig_init(&rig, 1024);
	rig.host.own_pages = MIB_PAGES(24);
	rig_vm(&rig, 800, 400);
	rig_vm(&rig, 800, 100);
	decision = decide(&rig, 0);
	MT_CHECK_EQ(decision.minfree_pages, MIB_PAGES(1024) * 6 / 100);
	MT_CHECK_EQ(decision.available_pages, MIB_PAGES(1000) - decision.minfree_pages);
	MT_CHECK_EQ(targets(&rig), decision.available_pages);
	MT_CHECK_EQ(decision.targets_pages, decision.available_pages);
	MT_CHECK(rig.vms[0].target_pages > rig.vms[1].target_pages);
}

MT_TEST("a limit holds on an empty host, in the high state")
{
	struct rig rig;
	struct mt_sched_vm *vm;

	rig_init(&rig, 4096);
	rig.host.free_pages = MIB_PAGES(3500);
	vm = rig_vm(&rig, 512, 512);
	vm->held_pages = MIB_PAGES(500);
	vm->limit_pages = MIB_PAGES(200);
	MT_CHECK_EQ(decide(&rig, 0).state, MT_HOST_HIGH);
	MT_CHECK_EQ(vm->target_pages, MIB_PAGES(200));
	MT_CHECK_EQ(vm->steer_pages, MIB_PAGES(200));
	MT_CHECK_EQ(vm->reason.why, MT_WHY_LIMIT);
}

MT_TEST("nobody gives memory up for a target in the high state, everybody in the soft state")
{
	struct rig rig;

	rig_init(&rig, 1024);
	rig_vm(&rig, 800, 0)->held_pages = MIB_PAGES(600);
	rig_vm(&rig, 800, 800)->held_pages = MIB_PAGES(100);
	rig.host.free_pages = MIB_PAGES(324);
	decide(&rig, 0);
	MT_CHECK(rig.vms[0].target_pages < MIB_PAGES(600));
	MT_CHECK_EQ(rig.vms[0].steer_pages, MIB_PAGES(600));
	/* free memory beyond minFree is there to be used, by whoever is pressing */
	rig.vms[0].pressing = true;
	decide(&rig, 1);
	MT_CHECK_EQ(rig.vms[0].steer_pages, rig.vms[0].memsize_pages + rig.vms[0].overhead_pages);
	rig.vms[0].pressing = false;
	rig.host.waiting = true;
	decide(&rig, 1);
	MT_CHECK_EQ(rig.vms[0].steer_pages, rig.vms[0].target_pages);
	rig.host.waiting = false;
	rig.host.free_pages = MIB_PAGES(30);
	MT_CHECK_EQ(decide(&rig, 2).state, MT_HOST_SOFT);
	MT_CHECK_EQ(rig.vms[0].steer_pages, rig.vms[0].target_pages);
	MT_CHECK(!rig.vms[0].blocked);
	rig.host.free_pages = 0;
	MT_CHECK_EQ(decide(&rig, 3).state, MT_HOST_LOW);
	MT_CHECK(rig.vms[0].blocked && !rig.vms[1].blocked);
}

MT_TEST("a reservation that is not used yet serves others, and is there when it is used")
{
	struct rig rig;

	rig_init(&rig, 1024);
	rig_vm(&rig, 800, 50)->reservation_pages = MIB_PAGES(600);
	rig_vm(&rig, 800, 800);
	rig.vms[0].used_pages = MIB_PAGES(50);
	decide(&rig, 0);
	MT_CHECK(rig.vms[0].target_pages < MIB_PAGES(200));
	for (unsigned int round = 1; round < 8; round++) {
		/* it fills what it is given and asks for more */
		rig.vms[0].used_pages = rig.vms[0].target_pages - rig.vms[0].overhead_pages;
		rig.vms[0].pressing = true;
		decide(&rig, round);
	}
	MT_CHECK(rig.vms[0].target_pages >= MIB_PAGES(600) + rig.vms[0].overhead_pages);
	MT_CHECK_EQ(rig.vms[0].reason.why, MT_WHY_RESERVATION);
}

MT_TEST("what is fixed in memory stays its VM's, idle or not, and the others share the rest")
{
	struct rig rig;
	char text[MT_SCHED_TEXT_MAX];

	rig_init(&rig, 1024);
	rig_vm(&rig, 800, 20)->held_pages = MIB_PAGES(600);
	rig_vm(&rig, 800, 800)->held_pages = MIB_PAGES(400);
	decide(&rig, 0);
	MT_CHECK(rig.vms[0].target_pages < MIB_PAGES(400));
	rig.vms[0].fixed_pages = MIB_PAGES(600);
	decide(&rig, 15);
	MT_CHECK_EQ(rig.vms[0].target_pages, MIB_PAGES(600));
	MT_CHECK_EQ(rig.vms[0].reason.why, MT_WHY_FIXED);
	MT_CHECK_STR(mt_sched_why_text(&rig.vms[0].reason, text),
		     "600M can't leave memory, as a file is open for direct I/O");
	MT_CHECK(rig.vms[1].target_pages < MIB_PAGES(400));
	/* one that needs more may grow a little, or its guest could stop for good */
	rig.vms[0].fixed_pages = MIB_PAGES(700);
	decide(&rig, 20);
	MT_CHECK(rig.vms[0].target_pages > MIB_PAGES(610) &&
		 rig.vms[0].target_pages < MIB_PAGES(700));
	rig.vms[0].fixed_pages = MIB_PAGES(600);
	/* a limit holds all the same: its balloon may find more later */
	rig.vms[0].limit_pages = MIB_PAGES(500);
	decide(&rig, 30);
	MT_CHECK_EQ(rig.vms[0].target_pages, MIB_PAGES(500));
	rig.vms[0].limit_pages = MT_POLICY_NO_LIMIT;
	rig.vms[0].fixed_pages = 0;
	decide(&rig, 45);
	MT_CHECK(rig.vms[0].target_pages < MIB_PAGES(400));
}

MT_TEST("what is fixed in memory of one VM cuts no other's reservation")
{
	struct rig rig;

	rig_init(&rig, 4096);
	rig.host.waiting = true;
	rig_vm(&rig, 3000, 2500)->held_pages = MIB_PAGES(2500);
	rig.vms[0].fixed_pages = MIB_PAGES(2500);
	rig_vm(&rig, 1600, 400)->reservation_pages = MIB_PAGES(1400);
	rig.vms[1].used_pages = MIB_PAGES(1370);
	rig.vms[1].held_pages = MIB_PAGES(1400);
	rig_vm(&rig, 600, 600)->reservation_pages = MIB_PAGES(512);
	rig.vms[2].pressing = true;
	decide(&rig, 0);
	MT_CHECK(rig.vms[1].target_pages >= MIB_PAGES(1400));
	MT_CHECK(rig.vms[2].target_pages >= MIB_PAGES(512));
	MT_CHECK(rig.vms[0].target_pages >= MIB_PAGES(1800));
	MT_CHECK_EQ(rig.vms[0].reason.why, MT_WHY_FIXED);
}

MT_TEST("a VM that suddenly needs a quarter of the pool has it as target after one decision")
{
	struct rig rig;

	rig_init(&rig, 4096);
	for (unsigned int i = 0; i < 4; i++)
		rig_vm(&rig, 1200, 50);
	rig_vm(&rig, 1500, 100)->used_pages = MIB_PAGES(100);
	decide(&rig, 0);
	for (unsigned int round = 1; round <= 3; round++) {
		rig.vms[4].used_pages = rig.vms[4].target_pages - rig.vms[4].overhead_pages;
		rig.vms[4].active_pages = rig.vms[4].used_pages;
		rig.vms[4].pressing = true;
		decide(&rig, round);
	}
	MT_CHECK(rig.vms[4].target_pages >= MIB_PAGES(1024));
}

/* The OSDI'02 paper's experiment, played: the busy VM keeps touching all of its memory. */
MT_TEST("switching the idle tax from 0 to 75 % moves the idle VM's memory to the busy one")
{
	struct rig rig;
	struct mt_err err;
	char text[MT_SCHED_TEXT_MAX];
	uint64_t halves;

	rig_init(&rig, 420);
	rig_vm(&rig, 256, 5);
	rig_vm(&rig, 256, 256);
	MT_CHECK_EQ(mt_sched_config_set(&rig.config, "Mem.IdleTax", "0", &err), 0);
	halves = decide(&rig, 0).available_pages / 2;
	MT_CHECK(rig.vms[0].target_pages - halves <= 1);
	MT_CHECK(rig.vms[1].target_pages - halves <= 1);
	MT_CHECK_EQ(mt_sched_config_set(&rig.config, "Mem.IdleTax", "75", &err), 0);
	decide(&rig, 15);
	MT_CHECK(rig.vms[1].target_pages >= MIB_PAGES(256));
	MT_CHECK(rig.vms[0].target_pages < MIB_PAGES(140));
	printf("# %s\n", mt_sched_reason_text(&rig.vms[0].reason, text));
	printf("# %s\n", mt_sched_reason_text(&rig.vms[1].reason, text));
	MT_CHECK_EQ(rig.vms[0].reason.why, MT_WHY_TAX);
}

MT_TEST("the reason names idleness, the tax and the distance to the next, in one line")
{
	struct mt_sched_reason reason = {.why = MT_WHY_TAX,
					 .before_pages = MIB_PAGES(412),
					 .after_pages = MIB_PAGES(300),
					 .idle_pct = 71,
					 .idle_cost = 4.0,
					 .rho = 3.0,
					 .rho_next = 5.1};
	char text[MT_SCHED_TEXT_MAX];

	MT_CHECK_STR(mt_sched_reason_text(&reason, text),
		     "target 412M → 300M: idle 71 %, taxed 4x, 2.1 shares/page below the next");
	MT_CHECK_STR(mt_sched_why_text(&reason, text),
		     "idle 71 %, taxed 4x, 2.1 shares/page below the next");
	reason.why = MT_WHY_RESERVATION;
	reason.bound_pages = MIB_PAGES(300);
	MT_CHECK_STR(mt_sched_reason_text(&reason, text),
		     "target 412M → 300M: kept by its reservation of 300M");
}

MT_TEST("a decision is due at first, after the period, on a change, soon after pressing")
{
	struct rig rig;
	struct mt_sched *sched = &rig.sched;

	rig_init(&rig, 1024);
	rig.host.free_pages = MIB_PAGES(500);
	MT_CHECK(mt_sched_due(sched, &rig.config, &rig.host, 0));
	decide(&rig, 100);
	MT_CHECK(!mt_sched_due(sched, &rig.config, &rig.host, 100 * S));
	MT_CHECK(!mt_sched_due(sched, &rig.config, &rig.host, 115 * S - 1));
	MT_CHECK(mt_sched_due(sched, &rig.config, &rig.host, 115 * S));
	MT_CHECK_EQ(mt_sched_next_ns(sched, &rig.config, &rig.host), 115 * S);
	mt_sched_press(sched);
	MT_CHECK(!mt_sched_due(sched, &rig.config, &rig.host, 100 * S));
	MT_CHECK(mt_sched_due(sched, &rig.config, &rig.host, 100 * S + MT_SCHED_PRESS_NS));
	MT_CHECK_EQ(mt_sched_next_ns(sched, &rig.config, &rig.host), 100 * S + MT_SCHED_PRESS_NS);
	mt_sched_touch(sched);
	MT_CHECK(mt_sched_due(sched, &rig.config, &rig.host, 100 * S));
	decide(&rig, 100);
	rig.host.free_pages = MIB_PAGES(50);
	MT_CHECK(mt_sched_due(sched, &rig.config, &rig.host, 100 * S));
	MT_CHECK(decide(&rig, 100).state_changed);
	MT_CHECK(!mt_sched_due(sched, &rig.config, &rig.host, 100 * S));
}

/* A random host whose reservations passed admission. */
static void rig_roll(struct rig *rig)
{
	struct mt_admit_host host;
	size_t count = 1 + roll(VMS_MAX);

	rig_init(rig, 64 + roll(1 << (4 + roll(14))));
	rig->config.idle_tax_pct = (unsigned int)roll(100);
	rig->config.idle_tax_type = (unsigned int)roll(2);
	rig->config.growth_pct = (unsigned int)roll(101);
	rig->host.own_pages = MIB_PAGES(roll(16));
	rig->host.free_pages = roll(rig->host.pool_pages);
	rig->host.waiting = !roll(4);
	host = (struct mt_admit_host){.pool_pages = rig->host.pool_pages,
				      .own_pages = rig->host.own_pages,
				      .minfree_pages = mt_minfree_pages(rig->host.pool_pages, 0),
				      .swap_free_pages = UINT64_MAX};
	while (count--) {
		uint64_t mib = 32 + roll(rig->host.pool_pages >> 7);
		struct mt_sched_vm *vm = rig_vm(rig, mib, roll(mib + 1));
		struct mt_admit_vm admit;

		vm->reservation_pages = roll(2) ? 0 : roll(vm->memsize_pages);
		if (!roll(3))
			vm->limit_pages = MT_MAX(MT_POLICY_START_PAGES, vm->reservation_pages) +
					  roll(vm->memsize_pages);
		admit = (struct mt_admit_vm){vm->memsize_pages, vm->reservation_pages,
					     vm->limit_pages, 0};
		if (mt_admit_check(&host, &admit, "vm", NULL)) {
			rig->count--;
			continue;
		}
		host.reserved_pages += mt_admit_promise(&admit);
		vm->shares = 1 + roll(100000);
		vm->used_pages = roll(vm->memsize_pages + 1);
		vm->held_pages = roll(vm->used_pages + vm->overhead_pages);
		vm->fixed_pages = roll(3) ? 0 : 1 + roll(vm->memsize_pages);
		vm->pressing = !roll(3);
	}
}

static void check_vm(const struct mt_sched_vm *vm)
{
	uint64_t cap = MT_MIN(vm->memsize_pages + vm->overhead_pages, vm->limit_pages);
	uint64_t kept = MT_MIN(vm->reservation_pages, vm->used_pages) + vm->overhead_pages;

	MT_CHECK(vm->target_pages <= cap && vm->steer_pages <= cap);
	MT_CHECK(vm->target_pages >= MT_MIN(kept, cap));
	MT_CHECK(vm->steer_pages >= vm->target_pages);
	MT_CHECK(vm->reason.why != MT_WHY_SHORT);
	MT_CHECK(vm->reason.why != MT_WHY_LIMIT || vm->target_pages == vm->limit_pages);
}

static void check_host(const struct rig *rig, const struct mt_sched_decision *decision)
{
	uint64_t caps = 0;

	for (size_t i = 0; i < rig->count; i++) {
		const struct mt_sched_vm *vm = &rig->vms[i];

		check_vm(vm);
		caps += MT_MIN(vm->memsize_pages + vm->overhead_pages, vm->limit_pages);
	}
	MT_CHECK_EQ(targets(rig), decision->targets_pages);
	MT_CHECK_EQ(targets(rig), MT_MIN(decision->available_pages, caps));
	MT_CHECK(targets(rig) + rig->host.own_pages <= rig->host.pool_pages);
}

MT_TEST("on 150,000 random hosts reservations in use, limits and sums hold")
{
	static struct rig rig;
	char text[MT_SCHED_TEXT_MAX];

	for (unsigned int host = 0; host < 150000; host++) {
		struct mt_sched_decision decision;
		size_t raised;
		uint64_t before;

		rig_roll(&rig);
		decision = decide(&rig, 0);
		check_host(&rig, &decision);
		if (!rig.count)
			continue;
		raised = roll(rig.count);
		before = rig.vms[raised].target_pages;
		rig.vms[raised].shares *= 1 + roll(5);
		decision = decide(&rig, 15);
		check_host(&rig, &decision);
		MT_CHECK(rig.vms[raised].target_pages >= before);
		MT_CHECK(mt_sched_reason_text(&rig.vms[raised].reason, text)[0]);
	}
}

MT_TEST("an unchanged host is decided the same again and again")
{
	static struct rig rig;

	for (unsigned int host = 0; host < 2000; host++) {
		uint64_t before[VMS_MAX];

		rig_roll(&rig);
		decide(&rig, 0);
		for (size_t i = 0; i < rig.count; i++)
			before[i] = rig.vms[i].target_pages;
		decide(&rig, 15);
		for (size_t i = 0; i < rig.count; i++)
			MT_CHECK_EQ(rig.vms[i].target_pages, before[i]);
	}
}

MT_TEST_MAIN
