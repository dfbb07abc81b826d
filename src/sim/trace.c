/* SPDX-License-Identifier: MIT */
/*
 * trace.c - demand traces as CSV: who used how much, when
 *
 *	time,vm,active,used
 *	0,web1,10%,40%
 *	90s,web1,512M,
 *
 * The first line names the columns, in any order; "used" may be missing, and a field of active or
 * used may be empty. A value holds until the next one of the same VM.
 */
#include "sim/scenario.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRACE_TIME, TRACE_VM, TRACE_ACTIVE, TRACE_USED, TRACE_COLUMNS };
#define TRACE_FIELDS_MAX 16

struct trace {
	struct sim_scenario *scenario;
	struct sim_line line; /* words are the fields */
	int column[TRACE_COLUMNS];
	unsigned int fields;  /* of the first line */
	unsigned int last_vm; /* rows often come in the order of VMs */
};

/* Cuts the line at commas; blanks around a field don't count. */
static int trace_cut(struct sim_line *line, struct mt_err *err)
{
	char *at = line->text;

	line->count = 0;
	for (;;) {
		char *start = at + strspn(at, " \t");
		char *end = start + strcspn(start, ",\r\n");
		bool more = *end == ',';

		if (line->count == TRACE_FIELDS_MAX)
			return sim_line_error(line, (unsigned int)(start - line->text) + 1, err,
					      "more than %u columns", TRACE_FIELDS_MAX);
		line->columns[line->count] = (unsigned int)(start - line->text) + 1;
		line->words[line->count++] = start;
		at = end + 1;
		while (end > start && (end[-1] == ' ' || end[-1] == '\t'))
			end--;
		*end = '\0';
		if (!more)
			return 0;
	}
}

static int trace_header(struct trace *trace, struct mt_err *err)
{
	static const char *const names[TRACE_COLUMNS] = {"time", "vm", "active", "used"};
	struct sim_line *line = &trace->line;

	for (unsigned int c = 0; c < TRACE_COLUMNS; c++)
		trace->column[c] = -1;
	for (unsigned int i = 0; i < line->count; i++) {
		unsigned int c = 0;

		while (c < TRACE_COLUMNS && strcmp(line->words[i], names[c]))
			c++;
		if (c == TRACE_COLUMNS)
			return sim_line_error(line, line->columns[i], err,
					      "unknown column '%s'; there are time, vm, active "
					      "and used",
					      line->words[i]);
		if (trace->column[c] >= 0)
			return sim_line_error(line, line->columns[i], err,
					      "column '%s' for the second time", names[c]);
		trace->column[c] = (int)i;
	}
	for (unsigned int c = TRACE_TIME; c <= TRACE_ACTIVE; c++)
		if (trace->column[c] < 0)
			return sim_line_error(line, 1, err, "no column '%s'", names[c]);
	trace->fields = line->count;
	return 0;
}

static int trace_vm(struct trace *trace, uint32_t *ret_vm, struct mt_err *err)
{
	const struct sim_scenario *scenario = trace->scenario;
	const char *name = trace->line.words[trace->column[TRACE_VM]];
	unsigned int next = trace->last_vm + 1 < scenario->vm_count ? trace->last_vm + 1 : 0;
	unsigned int first;

	if (!strcmp(scenario->vms[trace->last_vm].name, name)) {
		first = trace->last_vm;
	} else if (!strcmp(scenario->vms[next].name, name)) {
		first = next;
	} else if (sim_find_vms(scenario, name, &first) != 1) {
		return sim_line_error(&trace->line, trace->line.columns[trace->column[TRACE_VM]],
				      err, "no VM is called '%s'", name);
	}
	trace->last_vm = first;
	*ret_vm = first;
	return 0;
}

static int trace_value(struct trace *trace, unsigned int which, struct sim_event *event,
		       struct mt_err *err)
{
	const struct sim_line *line = &trace->line;
	int column = trace->column[which];
	uint64_t memsize = trace->scenario->vms[event->vm].memsize_pages;

	if (column < 0 || !line->words[column][0])
		return 0;
	if (!sim_read_part(line->words[column], memsize, &event->value))
		return sim_line_error(line, line->columns[column], err,
				      "'%s' is neither a size nor a percentage up to 100 %% of "
				      "the VM's memory",
				      line->words[column]);
	event->kind = which == TRACE_USED ? SIM_EVENT_USED : SIM_EVENT_ACTIVE;
	return sim_add_event(trace->scenario, event)
		       ? mt_err_set(err, -ENOMEM, "%s: too many lines; thin the trace out",
				    line->path)
		       : 0;
}

static int trace_row(struct trace *trace, struct mt_err *err)
{
	const struct sim_line *line = &trace->line;
	struct sim_event event = {.line = line->number};
	const char *time;
	int rc;

	if (line->count != trace->fields)
		return sim_line_error(line, line->columns[MT_MIN(line->count, trace->fields) - 1],
				      err, "%u fields instead of %u", line->count, trace->fields);
	time = line->words[trace->column[TRACE_TIME]];
	if (!sim_read_time(time, &event.at_s))
		return sim_line_error(line, line->columns[trace->column[TRACE_TIME]], err,
				      "'%s' is not a time; write it like 90, 5m or 1.5h", time);
	rc = trace_vm(trace, &event.vm, err);
	if (!rc)
		rc = trace_value(trace, TRACE_ACTIVE, &event, err);
	if (!rc)
		rc = trace_value(trace, TRACE_USED, &event, err);
	return rc;
}

int sim_trace_read(struct sim_scenario *scenario, const char *path, struct mt_err *err)
{
	struct trace trace = {.scenario = scenario, .line = {.path = path}};
	FILE *file = fopen(path, "re");
	size_t room = 0;
	int rc = 0;

	if (!file)
		return mt_err_set(err, -errno, "%s: can't be opened: %s", path, strerror(errno));
	while (!rc && getline(&trace.line.text, &room, file) >= 0) {
		char *text = trace.line.text;

		trace.line.number++;
		if (text[0] == '#' || !text[strspn(text, " \t\r\n")])
			continue;
		rc = trace_cut(&trace.line, err);
		if (!rc)
			rc = trace.fields ? trace_row(&trace, err) : trace_header(&trace, err);
	}
	if (!rc && ferror(file))
		rc = mt_err_set(err, -EIO, "%s: can't be read", path);
	if (!rc && !trace.fields)
		rc = mt_err_set(err, -EINVAL, "%s:1:1: no line with the names of the columns",
				path);
	free(trace.line.text);
	fclose(file);
	return rc;
}
