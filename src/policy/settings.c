/* SPDX-License-Identifier: MIT */
/* settings.c - the table of settings, and checks that need more than one of them; see settings.h */
#include "policy/settings.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

#define AT(member)  offsetof(struct mt_sched_config, member)
#define ENTER(name) AT(bounds[MT_HOST_##name].enter_pct)
#define LEAVE(name) AT(bounds[MT_HOST_##name].leave_pct)

/* clang-format off */
const struct mt_setting mt_settings[] = {
	{"Mem.IdleTax", AT(idle_tax_pct), 75, 0, 99, "%",
	 "an idle page costs a VM as much as 1 / (1 - tax) pages in use"},
	{"Mem.IdleTaxType", AT(idle_tax_type), MT_TAX_FLAT, MT_TAX_FLAT, MT_TAX_PROGRESSIVE, "",
	 "0: one rate for all idle memory; 1: the rate grows with idle memory per active page"},
	{"Mem.SamplePeriod", AT(sample_period_s), 60, 1, 3600, "s",
	 "time over which one sample of pages is watched"},
	{"Mem.SamplePages", AT(sample_pages), 100, 10, 4096, "pages",
	 "size of a sample; ours, 100 in the OSDI'02 paper"},
	{"Mem.SampleActivePctMin", AT(sample_active_pct_min), 1, 0, 10, "%",
	 "least estimate of active memory"},
	{"Mem.SampleDirtiedPctMin", AT(sample_dirtied_pct_min), 0, 0, 10, "%",
	 "least estimate of memory written"},
	{"Mem.BalancePeriod", AT(balance_period_s), 15, 1, 120, "s",
	 "time between two reallocations when nothing else calls for one"},
	{"Mem.MemMinFreePct", AT(min_free_pct), 0, 0, 50, "%",
	 "minFree as a flat part of the pool; 0: sliding scale"},
	{"Mem.GrowthPct", AT(growth_pct), 12, 0, 100, "%",
	 "a VM's claim beyond what it uses, for growth until the next reallocation; ours"},
	{"Mem.CtlMaxPercent", AT(ctl_max_pct), 65, 0, 99, "%",
	 "most of a VM's memory that its balloon may take; 0: no balloons"},
	{"Mem.HardBalloon", AT(hard_balloon), 0, 0, 1, "",
	 "1: balloons are driven in hard and low too, as in vSphere 5; ours"},
	{"Mem.StateDwell", AT(state_dwell_s), 60, 0, 600, "s",
	 "time a memory state stands at least before a milder one; ours"},
	{"Mem.ShareScanTime", AT(share_scan_time_min), 60, 0, 600, "min",
	 "time in which each VM's memory is looked through for pages to share; 0: no sharing"},
	{"Mem.ShareRateMax", AT(share_rate_max), 1024, 0, 1000000, "pages/s",
	 "most pages of one VM looked at in a second"},
	{"Mem.ShareScanGHz", AT(share_scan_ghz), 4, 0, 32, "MB/s for each GHz",
	 "most memory of all VMs looked at in a second, for each GHz of the host"},
	{"Mem.StateClearEnter", ENTER(CLEAR), 100, 1, 1000, "% of minFree", "clear is entered below; ours"},
	{"Mem.StateClearLeave", LEAVE(CLEAR), 300, 1, 1000, "% of minFree", "clear is left for high at; ours"},
	{"Mem.StateSoftEnter", ENTER(SOFT), 64, 1, 1000, "% of minFree", "soft is entered below; ours"},
	{"Mem.StateSoftLeave", LEAVE(SOFT), 100, 1, 1000, "% of minFree", "soft is left for clear at; ours"},
	{"Mem.StateHardEnter", ENTER(HARD), 32, 1, 1000, "% of minFree", "hard is entered below; ours"},
	{"Mem.StateHardLeave", LEAVE(HARD), 64, 1, 1000, "% of minFree", "hard is left for soft at; ours"},
	{"Mem.StateLowEnter", ENTER(LOW), 16, 1, 1000, "% of minFree", "low is entered below; ours"},
	{"Mem.StateLowLeave", LEAVE(LOW), 32, 1, 1000, "% of minFree", "low is left for hard at; ours"},
};
/* clang-format on */

const size_t mt_settings_count = MT_ARRAY_SIZE(mt_settings);

static unsigned int *setting_at(const struct mt_setting *setting, struct mt_sched_config *config)
{
	return (unsigned int *)(void *)((char *)config + setting->offset);
}

unsigned int mt_setting_value(const struct mt_setting *setting,
			      const struct mt_sched_config *config)
{
	unsigned int value;

	memcpy(&value, (const char *)config + setting->offset, sizeof(value));
	return value;
}

void mt_sched_config_init(struct mt_sched_config *config)
{
	*config = (struct mt_sched_config){0};
	for (size_t i = 0; i < mt_settings_count; i++)
		*setting_at(&mt_settings[i], config) = mt_settings[i].value;
}

const struct mt_setting *mt_setting_find(const char *name)
{
	/* vSphere's documents call it both ways */
	if (!strcasecmp(name, "Mem.MinFreePct") || !strcasecmp(name, "MinFreePct"))
		name = "Mem.MemMinFreePct";
	for (size_t i = 0; i < mt_settings_count; i++)
		if (!strcasecmp(name, mt_settings[i].name) ||
		    !strcasecmp(name, mt_settings[i].name + strlen("Mem.")))
			return &mt_settings[i];
	return NULL;
}

static int setting_out_of_range(const struct mt_setting *setting, const char *value,
				struct mt_err *err)
{
	return mt_err_set(err, -ERANGE, "%s: %s is out of range; it must be %u to %u%s%s",
			  setting->name, value, setting->min, setting->max,
			  setting->unit[0] ? " " : "", setting->unit);
}

int mt_sched_config_parse(struct mt_sched_config *config, const char *name, const char *text,
			  struct mt_err *err)
{
	const struct mt_setting *setting = mt_setting_find(name);
	uint64_t value = 0;
	size_t digits = strspn(text, "0123456789");

	if (!setting)
		return mt_err_set(err, -ENOENT, "%s: there is no such setting", name);
	if (!digits || text[digits])
		return mt_err_set(err, -EINVAL,
				  "%s: '%s' is not a whole number; it must be %u to %u%s%s",
				  setting->name, text, setting->min, setting->max,
				  setting->unit[0] ? " " : "", setting->unit);
	for (size_t i = 0; i < digits && value <= UINT32_MAX; i++)
		value = value * 10 + (uint64_t)(text[i] - '0');
	if (value < setting->min || value > setting->max)
		return setting_out_of_range(setting, text, err);
	*setting_at(setting, config) = (unsigned int)value;
	return 0;
}

/* Between the thresholds of one state there must be no gap that leads both ways. */
static int check_bounds(const struct mt_sched_config *config, struct mt_err *err)
{
	static const char *const labels[MT_HOST_STATES] = {"High", "Clear", "Soft", "Hard", "Low"};

	for (unsigned int i = MT_HOST_CLEAR; i < MT_HOST_STATES; i++) {
		const struct mt_state_bounds *own = &config->bounds[i];
		const struct mt_state_bounds *milder = &config->bounds[i - 1];

		if (own->leave_pct < own->enter_pct)
			return mt_err_set(err, -EINVAL,
					  "Mem.State%sLeave (%u) must not be below "
					  "Mem.State%sEnter (%u)",
					  labels[i], own->leave_pct, labels[i], own->enter_pct);
		if (i == MT_HOST_CLEAR)
			continue;
		if (own->enter_pct >= milder->enter_pct)
			return mt_err_set(err, -EINVAL,
					  "Mem.State%sEnter (%u) must be below "
					  "Mem.State%sEnter (%u)",
					  labels[i], own->enter_pct, labels[i - 1],
					  milder->enter_pct);
		if (own->leave_pct > milder->leave_pct)
			return mt_err_set(err, -EINVAL,
					  "Mem.State%sLeave (%u) must not be above "
					  "Mem.State%sLeave (%u)",
					  labels[i], own->leave_pct, labels[i - 1],
					  milder->leave_pct);
	}
	return 0;
}

int mt_sched_config_check(const struct mt_sched_config *config, struct mt_err *err)
{
	for (size_t i = 0; i < mt_settings_count; i++) {
		unsigned int value = mt_setting_value(&mt_settings[i], config);

		if (value < mt_settings[i].min || value > mt_settings[i].max)
			return mt_err_set(
				err, -ERANGE, "%s: %u is out of range; it must be %u to %u",
				mt_settings[i].name, value, mt_settings[i].min, mt_settings[i].max);
	}
	return check_bounds(config, err);
}

int mt_sched_config_set(struct mt_sched_config *config, const char *name, const char *text,
			struct mt_err *err)
{
	struct mt_sched_config copy = *config;
	int rc = mt_sched_config_parse(&copy, name, text, err);

	if (!rc)
		rc = mt_sched_config_check(&copy, err);
	if (!rc)
		*config = copy;
	return rc;
}

struct mt_state_rules mt_sched_config_rules(const struct mt_sched_config *config)
{
	struct mt_state_rules rules = {.dwell_s = config->state_dwell_s,
				       .hard_balloons = config->hard_balloon != 0};

	memcpy(rules.bounds, config->bounds, sizeof(rules.bounds));
	return rules;
}
