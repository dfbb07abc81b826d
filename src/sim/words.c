/* SPDX-License-Identifier: MIT */
/* words.c - numbers, times and places as scenarios and traces write them; see scenario.h */
#include "sim/scenario.h"
#include "base/size.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int sim_line_error(const struct sim_line *line, unsigned int column, struct mt_err *err,
		   const char *fmt, ...)
{
	char text[MT_ERR_MSG_MAX];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	return mt_err_set(err, -EINVAL, "%s:%u:%u: %s", line->path, line->number, column, text);
}

/* Only digits and a point: strtod() would take "inf", "0x10" and "1e9" too. */
static bool read_decimal(const char *text, double *ret, const char **ret_rest)
{
	size_t length = strspn(text, "0123456789.");
	char *end;

	if (text[0] < '0' || text[0] > '9' || length > 18)
		return false;
	*ret = strtod(text, &end);
	if (end > text + length)
		end = (char *)text + length;
	*ret_rest = end;
	return end == text + length;
}

bool sim_read_number(const char *text, double *ret)
{
	const char *rest;

	return read_decimal(text, ret, &rest) && !rest[0];
}

bool sim_read_time(const char *text, double *ret_s)
{
	static const struct {
		const char *unit;
		double seconds;
	} units[] = {{"", 1}, {"ms", 0.001}, {"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}};
	const char *rest;
	double value;

	if (!read_decimal(text, &value, &rest))
		return false;
	for (size_t i = 0; i < MT_ARRAY_SIZE(units); i++) {
		if (strcmp(rest, units[i].unit))
			continue;
		*ret_s = value * units[i].seconds;
		return *ret_s <= 1e9;
	}
	return false;
}

bool sim_read_part(const char *text, uint64_t memsize_pages, double *ret)
{
	const char *rest;
	uint64_t bytes;
	double value;

	if (read_decimal(text, &value, &rest) && !strcmp(rest, "%")) {
		*ret = value / 100.0;
		return value <= 100.0;
	}
	if (mt_size_parse_zero_ok(text, "", &bytes, NULL))
		return false;
	*ret = (double)bytes / (double)(memsize_pages * MT_PAGE_SIZE);
	return *ret <= 1.0;
}

unsigned int sim_find_vms(const struct sim_scenario *scenario, const char *name,
			  unsigned int *ret_first)
{
	for (unsigned int i = 0; i < scenario->spec_count; i++)
		if (!strcmp(scenario->specs[i].name, name)) {
			*ret_first = scenario->specs[i].first;
			return scenario->specs[i].count;
		}
	for (unsigned int i = 0; i < scenario->vm_count; i++)
		if (!strcmp(scenario->vms[i].name, name)) {
			*ret_first = i;
			return 1;
		}
	return 0;
}

int sim_add_event(struct sim_scenario *scenario, const struct sim_event *event)
{
	if (scenario->event_count == scenario->event_room) {
		size_t room = scenario->event_room ? 2 * scenario->event_room : 256;
		struct sim_event *more;

		if (room > SIM_EVENTS_MAX)
			return -ENOMEM;
		more = realloc(scenario->events, room * sizeof(*more));
		if (!more)
			return -ENOMEM;
		scenario->events = more;
		scenario->event_room = room;
	}
	scenario->events[scenario->event_count++] = *event;
	return 0;
}
