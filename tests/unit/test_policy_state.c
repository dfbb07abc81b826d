/* SPDX-License-Identifier: MIT */
/* test_policy_state.c - minFree, memory states and settings, by example and by property */
#include "common/mt_test.h"
#include "base/types.h"
#include "policy/minfree.h"
#include "policy/settings.h"

#include <errno.h>

#define MIB_PAGES(m) ((uint64_t)(m) << 8)
#define GIB_PAGES(g) ((uint64_t)(g) << 18)
#define S            1000000000ULL

static struct mt_state_rules rules_default(void)
{
	struct mt_sched_config config;

	mt_sched_config_init(&config);
	return mt_sched_config_rules(&config);
}

MT_TEST("minFree is that of the published examples, to a tenth of a MiB")
{
	static const struct {
		uint64_t gib;
		unsigned int tenths_mib;
	} known[] = {{4, 2457},   {16, 6553},   {28, 9011},   {64, 12697},
		     {96, 15974}, {100, 16383}, {256, 32358}, {1024, 111001}};

	for (size_t i = 0; i < MT_ARRAY_SIZE(known); i++)
		MT_CHECK_EQ(mt_minfree_pages(GIB_PAGES(known[i].gib), 0) * 10 / 256,
			    known[i].tenths_mib);
	/* a captured host: 32510 MB managed, 939 minfree */
	MT_CHECK_EQ(mt_minfree_pages(MIB_PAGES(32510), 0) / 256, 939);
}

MT_TEST("minFree can be a fixed percentage, and is 0 of nothing")
{
	MT_CHECK_EQ(mt_minfree_pages(1000, 50), 500);
	MT_CHECK_EQ(mt_minfree_pages(1050, 6), 63);
	MT_CHECK_EQ(mt_minfree_pages(0, 0), 0);
	MT_CHECK_EQ(mt_minfree_pages(0, 6), 0);
}

MT_TEST("each state is entered below its own threshold")
{
	static const enum mt_host_state at[] = {
		[0] = MT_HOST_LOW,    [15] = MT_HOST_LOW,   [16] = MT_HOST_HARD,
		[31] = MT_HOST_HARD,  [32] = MT_HOST_SOFT,  [63] = MT_HOST_SOFT,
		[64] = MT_HOST_CLEAR, [99] = MT_HOST_CLEAR, [100] = MT_HOST_HIGH};
	static const unsigned int pcts[] = {0, 15, 16, 31, 32, 63, 64, 99, 100};
	struct mt_state_rules rules = rules_default();

	for (size_t i = 0; i < MT_ARRAY_SIZE(pcts); i++) {
		struct mt_state state = {.state = MT_HOST_HIGH};

		mt_state_update(&state, &rules, 1000, pcts[i] * 10, 5);
		MT_CHECK_EQ(state.state, at[pcts[i]]);
		MT_CHECK_EQ(mt_state_start(&rules, 1000, pcts[i] * 10, 5).state, at[pcts[i]]);
	}
}

MT_TEST("a state is left only at its leave threshold, and only after it has stood for a while")
{
	struct mt_state_rules rules = rules_default();
	struct mt_state state = {.state = MT_HOST_HARD, .since_ns = 10 * S};

	MT_CHECK(!mt_state_update(&state, &rules, 1000, 639, 200 * S));
	MT_CHECK(!mt_state_update(&state, &rules, 1000, 640, 69 * S));
	MT_CHECK_EQ(mt_state_next_ns(&state, &rules, 1000, 640), 70 * S);
	MT_CHECK_EQ(mt_state_next_ns(&state, &rules, 1000, 639), UINT64_MAX);
	MT_CHECK(mt_state_update(&state, &rules, 1000, 640, 70 * S));
	MT_CHECK_EQ(state.state, MT_HOST_SOFT);
	MT_CHECK(!mt_state_update(&state, &rules, 1000, 999, 200 * S));
	MT_CHECK(mt_state_update(&state, &rules, 1000, 1000, 200 * S));
	MT_CHECK_EQ(state.state, MT_HOST_CLEAR);
	MT_CHECK(!mt_state_update(&state, &rules, 1000, 2999, 300 * S));
	MT_CHECK(mt_state_update(&state, &rules, 1000, 3000, 300 * S));
	MT_CHECK_EQ(state.state, MT_HOST_HIGH);
}

MT_TEST("getting worse is immediate and skips states")
{
	struct mt_state_rules rules = rules_default();
	struct mt_state state = {.state = MT_HOST_HIGH};

	MT_CHECK(mt_state_update(&state, &rules, 1000, 100, 1));
	MT_CHECK_EQ(state.state, MT_HOST_LOW);
}

MT_TEST("each state turns on what the reference says")
{
	struct mt_state_rules rules = rules_default();

	MT_CHECK_EQ(mt_state_actions(MT_HOST_HIGH, &rules, 100, 300), 0);
	MT_CHECK_EQ(mt_state_actions(MT_HOST_HIGH, &rules, 100, 299), MT_ACT_BREAK_LARGE);
	MT_CHECK_EQ(mt_state_actions(MT_HOST_CLEAR, &rules, 100, 90),
		    MT_ACT_BREAK_LARGE | MT_ACT_SHARE_NOW);
	MT_CHECK_EQ(mt_state_actions(MT_HOST_SOFT, &rules, 100, 50),
		    MT_ACT_BREAK_LARGE | MT_ACT_SHARE_NOW | MT_ACT_BALLOON);
	MT_CHECK_EQ(mt_state_actions(MT_HOST_HARD, &rules, 100, 20),
		    MT_ACT_BREAK_LARGE | MT_ACT_SHARE_NOW | MT_ACT_PAGE);
	MT_CHECK_EQ(mt_state_actions(MT_HOST_LOW, &rules, 100, 10),
		    MT_ACT_BREAK_LARGE | MT_ACT_SHARE_NOW | MT_ACT_PAGE | MT_ACT_BLOCK);
	rules.hard_balloons = true;
	MT_CHECK(mt_state_actions(MT_HOST_HARD, &rules, 100, 20) & MT_ACT_BALLOON);
	MT_CHECK(!mt_state_pages_out(MT_HOST_CLEAR, false));
	MT_CHECK(mt_state_pages_out(MT_HOST_SOFT, false));
	MT_CHECK(!mt_state_pages_out(MT_HOST_SOFT, true));
	MT_CHECK(mt_state_pages_out(MT_HOST_HARD, true));
}

static uint64_t seed = 1;

static uint64_t roll(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % below;
}

/* The most changes within any minute, of a load that swings @swing around @middle pages. */
static unsigned int swing_changes(uint64_t middle, uint64_t swing, uint64_t period_s)
{
	struct mt_state_rules rules = rules_default();
	struct mt_state state = mt_state_start(&rules, 1000, 5000, 0);
	uint64_t changed[4096];
	unsigned int count = 0, most = 0;

	for (uint64_t now = 100; now < 4000; now++) {
		bool up = now / period_s % 2;
		uint64_t free_pages = up ? middle + swing : middle - MT_MIN(swing, middle);

		if (mt_state_update(&state, &rules, 1000, free_pages, now * S))
			changed[count++] = now;
	}
	for (unsigned int i = 0; i < count; i++) {
		unsigned int within = 0;

		for (unsigned int j = i; j < count && changed[j] - changed[i] < 60; j++)
			within++;
		most = MT_MAX(most, within);
	}
	return most;
}

MT_TEST("a load that swings around a threshold changes the state at most twice a minute")
{
	static const uint64_t thresholds[] = {160, 320, 640, 1000, 3000};

	for (unsigned int i = 0; i < 4000; i++)
		MT_CHECK(swing_changes(thresholds[roll(5)], 1 + roll(2500), 1 + roll(90)) <= 2);
}

MT_TEST("a random walk of free memory never eases within a minute of the last change")
{
	struct mt_state_rules rules = rules_default();
	struct mt_state state = mt_state_start(&rules, 1000, 2000, 0);
	uint64_t since = 0;

	for (uint64_t now = 1; now < 500000; now++) {
		enum mt_host_state before = state.state;

		if (!mt_state_update(&state, &rules, 1000, roll(4000) * roll(100) / 100, now * S))
			continue;
		MT_CHECK(state.state > before || now - since >= 60);
		since = now;
	}
}

MT_TEST("all defaults are in range and fit together")
{
	struct mt_sched_config config;
	struct mt_err err = {0};

	mt_sched_config_init(&config);
	MT_CHECK_EQ(mt_sched_config_check(&config, &err), 0);
	MT_CHECK_EQ(config.idle_tax_pct, 75);
	MT_CHECK_EQ(config.balance_period_s, 15);
	MT_CHECK_EQ(config.sample_period_s, 60);
	MT_CHECK_EQ(config.sample_pages, 100);
	for (size_t i = 0; i < mt_settings_count; i++)
		MT_CHECK_EQ(mt_setting_value(&mt_settings[i], &config), mt_settings[i].value);
}

MT_TEST("settings are found under vSphere's names, in any case, and set")
{
	struct mt_sched_config config;
	struct mt_err err = {0};

	mt_sched_config_init(&config);
	MT_CHECK_EQ(mt_sched_config_set(&config, "mem.idletax", "0", &err), 0);
	MT_CHECK_EQ(config.idle_tax_pct, 0);
	MT_CHECK_EQ(mt_sched_config_set(&config, "MinFreePct", "6", &err), 0);
	MT_CHECK_EQ(mt_sched_config_set(&config, "Mem.MemMinFreePct", "7", &err), 0);
	MT_CHECK_EQ(config.min_free_pct, 7);
}

static void check_refused(const char *name, const char *text, int code, const char *message)
{
	struct mt_sched_config config, before;
	struct mt_err err = {0};

	mt_sched_config_init(&config);
	before = config;
	MT_CHECK_EQ(mt_sched_config_set(&config, name, text, &err), code);
	MT_CHECK_STR(err.msg, message);
	MT_CHECK(!memcmp(&config, &before, sizeof(config)));
}

MT_TEST("a bad value is refused with the reason and changes nothing")
{
	check_refused("Mem.IdleTax", "100", -ERANGE,
		      "Mem.IdleTax: 100 is out of range; it must be 0 to 99 %");
	check_refused("Mem.IdleTax", "99999999999999999999999", -ERANGE,
		      "Mem.IdleTax: 99999999999999999999999 is out of range; it must be 0 to 99 %");
	check_refused("Mem.IdleTax", "-1", -EINVAL,
		      "Mem.IdleTax: '-1' is not a whole number; it must be 0 to 99 %");
	check_refused("Mem.IdleTaxType", "", -EINVAL,
		      "Mem.IdleTaxType: '' is not a whole number; it must be 0 to 1");
	check_refused("Mem.Fun", "1", -ENOENT, "Mem.Fun: there is no such setting");
	check_refused("Mem.StateSoftLeave", "60", -EINVAL,
		      "Mem.StateSoftLeave (60) must not be below Mem.StateSoftEnter (64)");
	check_refused("Mem.StateSoftEnter", "100", -EINVAL,
		      "Mem.StateSoftEnter (100) must be below Mem.StateClearEnter (100)");
	check_refused("Mem.StateHardLeave", "101", -EINVAL,
		      "Mem.StateHardLeave (101) must not be above Mem.StateSoftLeave (100)");
}

MT_TEST("settings that only fit together can be changed together")
{
	struct mt_sched_config config;
	struct mt_err err = {0};

	mt_sched_config_init(&config);
	MT_CHECK_EQ(mt_sched_config_parse(&config, "Mem.StateSoftEnter", "150", &err), 0);
	MT_CHECK_EQ(mt_sched_config_check(&config, &err), -EINVAL);
	MT_CHECK_EQ(mt_sched_config_parse(&config, "Mem.StateSoftLeave", "200", &err), 0);
	MT_CHECK_EQ(mt_sched_config_parse(&config, "Mem.StateClearEnter", "180", &err), 0);
	MT_CHECK_EQ(mt_sched_config_check(&config, &err), 0);
}

MT_TEST_MAIN
