/* SPDX-License-Identifier: MIT */
/*
 * settings.h - every knob of the memory scheduler, in one struct described by one table
 *
 * The names are those of vSphere's advanced options where there is one (reference, section 4.1),
 * so that habits and documents carry over; what has no such option is marked "ours" in the table.
 * The daemon's configuration, "memtide set --host" and the simulator all read settings through
 * here. A value out of range, or one that contradicts the others, is refused with the reason and
 * changes nothing.
 */
#ifndef MT_POLICY_SETTINGS_H
#define MT_POLICY_SETTINGS_H

#include "base/err.h"
#include "policy/state.h"

enum mt_tax_kind {
	MT_TAX_FLAT,        /* all idle memory costs the same */
	MT_TAX_PROGRESSIVE, /* the more idle memory for each active page, the dearer */
};

struct mt_sched_config {
	unsigned int idle_tax_pct;
	unsigned int idle_tax_type; /* enum mt_tax_kind */
	unsigned int sample_period_s;
	unsigned int sample_pages;
	unsigned int sample_active_pct_min;
	unsigned int sample_dirtied_pct_min;
	unsigned int balance_period_s;
	unsigned int min_free_pct;
	unsigned int growth_pct;
	unsigned int ctl_max_pct;
	unsigned int hard_balloon;
	unsigned int state_dwell_s;
	unsigned int share_scan_time_min;
	unsigned int share_rate_max;
	unsigned int share_scan_ghz;
	struct mt_state_bounds bounds[MT_HOST_STATES];
};

struct mt_setting {
	const char *name;
	size_t offset;      /* in struct mt_sched_config, of an unsigned int */
	unsigned int value; /* default */
	unsigned int min;
	unsigned int max;
	const char *unit;
	const char *doc;
};

/** The table; @mt_settings_count entries. */
extern const struct mt_setting mt_settings[];
extern const size_t mt_settings_count;

/** mt_sched_config_init() - every setting at its default */
void mt_sched_config_init(struct mt_sched_config *config);

/** mt_setting_find() - by name, in any case, with or without "Mem."; NULL: no such setting */
const struct mt_setting *mt_setting_find(const char *name);

/** mt_setting_value() - the value in @config */
unsigned int mt_setting_value(const struct mt_setting *setting,
			      const struct mt_sched_config *config);

/**
 * mt_sched_config_parse() - store one value that is in its range, without looking at the others
 *
 * For changes of several settings at once: parse all into a copy, then mt_sched_config_check(),
 * then use the copy.
 *
 * Return: 0; -ENOENT: no such setting; -EINVAL: not a number; -ERANGE: out of range
 */
MT_MUST_CHECK int mt_sched_config_parse(struct mt_sched_config *config, const char *name,
					const char *text, struct mt_err *err);

/** mt_sched_config_check() - is every value in its range, and do they fit together? 0, -ERANGE or
 * -EINVAL */
MT_MUST_CHECK int mt_sched_config_check(const struct mt_sched_config *config, struct mt_err *err);

/** mt_sched_config_set() - parse and check; @config is unchanged on failure */
MT_MUST_CHECK int mt_sched_config_set(struct mt_sched_config *config, const char *name,
				      const char *text, struct mt_err *err);

/** mt_sched_config_rules() - the part that governs states */
struct mt_state_rules mt_sched_config_rules(const struct mt_sched_config *config);

#endif
