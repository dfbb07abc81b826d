/* SPDX-License-Identifier: MIT */
/* scenario_vm.c - the lines of a scenario that make VMs and change them; see scenario.h */
#include "sim/scenario.h"
#include "base/size.h"
#include "policy/proportional.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "key=value" as word @i of the line: its value and column, or an error. */
static int word_value(const struct sim_line *line, unsigned int i, char *ret_key, size_t key_room,
		      const char **ret_value, unsigned int *ret_column, struct mt_err *err)
{
	const char *word = line->words[i];
	const char *equals = strchr(word, '=');

	if (!equals || equals == word || !equals[1])
		return sim_line_error(line, line->columns[i], err, "'%s' is not key=value", word);
	snprintf(ret_key, key_room, "%.*s", (int)(equals - word), word);
	*ret_value = equals + 1;
	*ret_column = line->columns[i] + (unsigned int)(equals + 1 - word);
	return 0;
}

/* Low, normal and high are shares for each MiB, as in vSphere; a number is a number. */
static bool read_shares(const char *text, uint64_t memsize_pages, uint64_t *ret)
{
	static const struct {
		const char *name;
		uint64_t per_mib;
	} levels[] = {{"low", 5}, {"normal", 10}, {"high", 20}};
	double number;

	for (size_t i = 0; i < MT_ARRAY_SIZE(levels); i++)
		if (!strcmp(text, levels[i].name)) {
			*ret = MT_MAX(levels[i].per_mib * (memsize_pages >> 8), 1);
			return true;
		}
	if (!sim_read_number(text, &number) || number < 1 || number > 1e12)
		return false;
	*ret = (uint64_t)number;
	return true;
}

static bool read_pages(const char *text, uint64_t *ret)
{
	uint64_t bytes;

	if (mt_size_parse_zero_ok(text, "", &bytes, NULL))
		return false;
	*ret = mt_pages_of_bytes(bytes);
	return true;
}

/* "40%", or "10%..80%/24h@14h": between two levels, how often, when the first peak is. */
static bool read_load(const char *text, uint64_t memsize_pages, struct sim_load *load)
{
	char copy[96], *to, *period, *peak;

	if (strlen(text) >= sizeof(copy))
		return false;
	snprintf(copy, sizeof(copy), "%s", text);
	to = strstr(copy, "..");
	if (!to) {
		load->period_s = 0;
		return sim_read_part(copy, memsize_pages, &load->low);
	}
	period = strchr(to, '/');
	if (!period)
		return false;
	peak = strchr(period, '@');
	*to = *period = '\0';
	if (peak)
		*peak = '\0';
	load->peak_s = 0;
	return sim_read_part(copy, memsize_pages, &load->low) &&
	       sim_read_part(to + 2, memsize_pages, &load->high) && load->low <= load->high &&
	       sim_read_time(period + 1, &load->period_s) && load->period_s > 0 &&
	       (!peak || sim_read_time(peak + 1, &load->peak_s));
}

/* What a "vm" line says besides a VM's own properties. */
struct vm_line {
	struct sim_vm vm;
	double count;
	double spread_s; /* the copies' peaks are spread over so much time */
};

static bool vm_key(struct vm_line *vl, const char *key, const char *value)
{
	struct sim_vm *vm = &vl->vm;
	uint64_t mem = vm->memsize_pages;

	if (!strcmp(key, "memory"))
		return true; /* was read first: the others refer to it */
	if (!strcmp(key, "count"))
		return sim_read_number(value, &vl->count) && vl->count >= 1 &&
		       vl->count <= SIM_VMS_MAX && vl->count == (unsigned int)vl->count;
	if (!strcmp(key, "shares"))
		return read_shares(value, mem, &vm->shares);
	if (!strcmp(key, "reservation"))
		return read_pages(value, &vm->reservation_pages);
	if (!strcmp(key, "limit"))
		return read_pages(value, &vm->limit_pages);
	if (!strcmp(key, "start"))
		return sim_read_time(value, &vm->start_s);
	if (!strcmp(key, "stop"))
		return sim_read_time(value, &vm->stop_s);
	if (!strcmp(key, "touched"))
		return sim_read_part(value, mem, &vm->touched);
	if (!strcmp(key, "turnover"))
		return sim_read_part(value, mem, &vm->turnover);
	if (!strcmp(key, "noise"))
		return sim_read_part(value, mem, &vm->load.noise);
	if (!strcmp(key, "spread"))
		return sim_read_time(value, &vl->spread_s);
	return read_load(value, mem, &vm->load);
}

static bool vm_knows(const char *key)
{
	static const char *const keys[] = {"memory",   "count", "shares", "reservation",
					   "limit",    "start", "stop",   "touched",
					   "turnover", "noise", "spread", "load"};

	for (size_t i = 0; i < MT_ARRAY_SIZE(keys); i++)
		if (!strcmp(key, keys[i]))
			return true;
	return false;
}

/* Memory first, whatever the order in the line. */
static int vm_memory(struct vm_line *vl, const struct sim_line *line, struct mt_err *err)
{
	for (unsigned int i = 2; i < line->count; i++) {
		uint64_t bytes;

		if (strncmp(line->words[i], "memory=", 7))
			continue;
		if (mt_size_parse(line->words[i] + 7, "", &bytes, NULL) || bytes < (1 << 20))
			return sim_line_error(line, line->columns[i] + 7, err,
					      "'%s' is not a size of at least 1M",
					      line->words[i] + 7);
		vl->vm.memsize_pages = mt_pages_of_bytes(bytes);
		return 0;
	}
	return sim_line_error(line, line->columns[0], err, "a VM needs memory=SIZE");
}

static int vm_read(struct vm_line *vl, const struct sim_line *line, struct mt_err *err)
{
	int rc = vm_memory(vl, line, err);

	if (!rc)
		read_shares("normal", vl->vm.memsize_pages, &vl->vm.shares);
	for (unsigned int i = 2; !rc && i < line->count; i++) {
		const char *value = "";
		unsigned int column = 0;
		char key[32] = "";

		rc = word_value(line, i, key, sizeof(key), &value, &column, err);
		if (rc)
			break;
		if (!vm_knows(key))
			rc = sim_line_error(line, line->columns[i], err,
					    "a VM has no property '%s'", key);
		else if (!vm_key(vl, key, value))
			rc = sim_line_error(line, column, err, "'%s' makes no sense as %s", value,
					    key);
	}
	return rc;
}

static int vm_check(const struct vm_line *vl, const struct sim_scenario *scenario,
		    const struct sim_line *line, struct mt_err *err)
{
	const struct sim_vm *vm = &vl->vm;
	unsigned int first;

	if (vm->reservation_pages > vm->memsize_pages)
		return sim_line_error(line, line->columns[1], err,
				      "the reservation is more than the memory");
	if (vm->limit_pages < vm->reservation_pages)
		return sim_line_error(line, line->columns[1], err,
				      "the limit is below the reservation");
	if (vm->limit_pages < MT_POLICY_START_PAGES)
		return sim_line_error(line, line->columns[1], err,
				      "the limit is below the 16M a VM needs to run");
	if (vm->stop_s <= vm->start_s)
		return sim_line_error(line, line->columns[1], err, "it stops before it starts");
	if (strlen(line->words[1]) > 50)
		return sim_line_error(line, line->columns[1], err,
				      "the name has more than 50 characters");
	if (sim_find_vms(scenario, line->words[1], &first))
		return sim_line_error(line, line->columns[1], err,
				      "there is a VM called '%s' already", line->words[1]);
	if (scenario->vm_count + (unsigned int)vl->count > SIM_VMS_MAX)
		return sim_line_error(line, line->columns[1], err, "more than %u VMs", SIM_VMS_MAX);
	return 0;
}

/* The first of several copies is NAME1; a single VM is just NAME. */
static int vm_add(struct sim_scenario *scenario, const struct vm_line *vl, const char *name)
{
	unsigned int count = (unsigned int)vl->count, spec = scenario->spec_count;
	struct sim_spec *specs = realloc(scenario->specs, (spec + 1) * sizeof(*specs));
	struct sim_vm *vms;

	if (!specs)
		return -ENOMEM;
	scenario->specs = specs;
	vms = realloc(scenario->vms, (scenario->vm_count + count) * sizeof(*vms));
	if (!vms)
		return -ENOMEM;
	scenario->vms = vms;
	specs[spec] = (struct sim_spec){.count = count, .first = scenario->vm_count};
	snprintf(specs[spec].name, SIM_NAME_MAX, "%s", name);
	scenario->spec_count++;
	for (unsigned int i = 0; i < count; i++) {
		struct sim_vm *vm = &vms[scenario->vm_count++];

		*vm = vl->vm;
		vm->spec = spec;
		vm->load.peak_s += vl->spread_s * i / count;
		snprintf(vm->name, SIM_NAME_MAX, count > 1 ? "%.50s%u" : "%.50s", name, i + 1);
	}
	return 0;
}

int sim_vm_line(struct sim_scenario *scenario, const struct sim_line *line, struct mt_err *err)
{
	struct vm_line vl = {.count = 1,
			     .vm = {.limit_pages = UINT64_MAX,
				    .stop_s = 1e18,
				    .touched = -1,
				    .turnover = 0.02,
				    .load = {.low = 0.5}}};
	int rc;

	if (line->count < 2 || strchr(line->words[1], '='))
		return sim_line_error(line, line->columns[0], err, "a VM needs a name");
	rc = vm_read(&vl, line, err);
	if (!rc)
		rc = vm_check(&vl, scenario, line, err);
	if (!rc && vm_add(scenario, &vl, line->words[1]))
		rc = mt_err_set(err, -ENOMEM, "not enough memory for so many VMs");
	return rc;
}

static bool at_key(struct sim_event *event, const struct sim_vm *vm, const char *key,
		   const char *value)
{
	uint64_t number = 0;
	bool good;

	if (!strcmp(key, "active") || !strcmp(key, "used")) {
		event->kind = key[0] == 'a' ? SIM_EVENT_ACTIVE : SIM_EVENT_USED;
		return sim_read_part(value, vm->memsize_pages, &event->value);
	}
	if (!strcmp(key, "shares")) {
		event->kind = SIM_EVENT_SHARES;
		good = read_shares(value, vm->memsize_pages, &number);
	} else {
		event->kind = !strcmp(key, "limit") ? SIM_EVENT_LIMIT : SIM_EVENT_RESERVATION;
		event->value = -1;
		if (event->kind == SIM_EVENT_LIMIT && !strcmp(value, "none"))
			return true;
		good = read_pages(value, &number);
	}
	event->value = (double)number;
	return good;
}

static bool at_knows(const char *key)
{
	return !strcmp(key, "active") || !strcmp(key, "used") || !strcmp(key, "shares") ||
	       !strcmp(key, "reservation") || !strcmp(key, "limit");
}

static int at_vm(struct sim_scenario *scenario, const struct sim_line *line, struct sim_event event,
		 struct mt_err *err)
{
	unsigned int first = 0, count;

	if (line->count < 5)
		return sim_line_error(line, line->columns[0], err,
				      "write it as: at TIME vm NAME key=value");
	count = sim_find_vms(scenario, line->words[3], &first);
	if (!count)
		return sim_line_error(line, line->columns[3], err, "no VM is called '%s'",
				      line->words[3]);
	for (unsigned int i = 4; i < line->count; i++) {
		const char *value = "";
		unsigned int column = 0;
		char key[32] = "";
		int rc = word_value(line, i, key, sizeof(key), &value, &column, err);

		if (rc)
			return rc;
		if (!at_knows(key))
			return sim_line_error(line, line->columns[i], err,
					      "'%s' of a VM can't be changed", key);
		for (unsigned int k = first; k < first + count; k++) {
			event.vm = k;
			if (!at_key(&event, &scenario->vms[k], key, value))
				return sim_line_error(line, column, err,
						      "'%s' makes no sense as %s", value, key);
			if (sim_add_event(scenario, &event))
				return mt_err_set(err, -ENOMEM, "too many changes");
		}
	}
	return 0;
}

static int at_set(struct sim_scenario *scenario, const struct sim_line *line,
		  struct sim_event event, struct mt_err *err)
{
	for (unsigned int i = 3; i < line->count; i++) {
		struct mt_sched_config config = scenario->config;
		const char *value = "";
		unsigned int column = 0;
		char key[64] = "";
		struct mt_err why;
		int rc = word_value(line, i, key, sizeof(key), &value, &column, err);

		if (rc)
			return rc;
		if (mt_sched_config_set(&config, key, value, &why))
			return sim_line_error(line, column, err, "%s", why.msg);
		event.kind = SIM_EVENT_SETTING;
		event.vm = (uint32_t)(mt_setting_find(key) - mt_settings);
		event.value = strtod(value, NULL);
		if (sim_add_event(scenario, &event))
			return mt_err_set(err, -ENOMEM, "too many changes");
	}
	return 0;
}

int sim_at_line(struct sim_scenario *scenario, const struct sim_line *line, struct mt_err *err)
{
	struct sim_event event = {.line = line->number};

	if (line->count < 4)
		return sim_line_error(line, line->columns[0], err,
				      "write it as: at TIME vm NAME key=value, or: at TIME set "
				      "NAME=VALUE");
	if (!sim_read_time(line->words[1], &event.at_s))
		return sim_line_error(line, line->columns[1], err,
				      "'%s' is not a time; write it like 90, 5m or 1.5h",
				      line->words[1]);
	if (!strcmp(line->words[2], "vm"))
		return at_vm(scenario, line, event, err);
	if (!strcmp(line->words[2], "set"))
		return at_set(scenario, line, event, err);
	return sim_line_error(line, line->columns[2], err, "'%s' is neither vm nor set",
			      line->words[2]);
}
