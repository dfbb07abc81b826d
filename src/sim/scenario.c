/* SPDX-License-Identifier: MIT */
/* scenario.c - the text format of scenarios: words in lines; see scenario.h and memtide-sim(1) */
#include "sim/scenario.h"
#include "base/size.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void line_cut(struct sim_line *line)
{
	char *at = line->text;

	at[strcspn(at, "#\r\n")] = '\0';
	line->count = 0;
	while (line->count < SIM_WORDS_MAX) {
		at += strspn(at, " \t");
		if (!*at)
			return;
		line->columns[line->count] = (unsigned int)(at - line->text) + 1;
		line->words[line->count++] = at;
		at += strcspn(at, " \t");
		if (*at)
			*at++ = '\0';
	}
}

static bool read_pages(const char *value, uint64_t *ret)
{
	uint64_t bytes;

	if (mt_size_parse_zero_ok(value, "", &bytes, NULL))
		return false;
	*ret = mt_pages_of_bytes(bytes);
	return true;
}

static bool read_rate(const char *value, double *ret)
{
	uint64_t pages;

	if (!read_pages(value, &pages) || !pages)
		return false;
	*ret = (double)pages;
	return true;
}

static bool read_at_least(const char *value, double least, double most, double *ret)
{
	return sim_read_number(value, ret) && *ret >= least && *ret <= most;
}

/* Return: 1 good, 0 bad value, -1 no such key. */
static int host_key(struct sim_scenario *s, const char *key, const char *value)
{
	if (!strcmp(key, "pool"))
		return read_pages(value, &s->pool_pages) && s->pool_pages;
	if (!strcmp(key, "own"))
		return read_pages(value, &s->own_pages);
	if (!strcmp(key, "swap"))
		return read_pages(value, &s->swap_pages);
	if (!strcmp(key, "reclaim"))
		return read_rate(value, &s->reclaim_pages_s);
	if (!strcmp(key, "fault"))
		return read_rate(value, &s->fault_pages_s);
	if (!strcmp(key, "zip-ratio"))
		return read_at_least(value, 1, 1000, &s->zip_ratio);
	if (!strcmp(key, "zip-part"))
		return sim_read_part(value, 1, &s->zip_part);
	if (!strcmp(key, "miss-cost"))
		return read_at_least(value, 0, 1e6, &s->miss_cost);
	return -1;
}

static int run_key(struct sim_scenario *s, const char *key, const char *value)
{
	double seed;

	if (!strcmp(key, "time"))
		return sim_read_time(value, &s->duration_s) && s->duration_s > 0;
	if (!strcmp(key, "step"))
		return sim_read_time(value, &s->step_s) && s->step_s >= 0.1 && s->step_s <= 60;
	if (strcmp(key, "seed"))
		return -1;
	if (!read_at_least(value, 0, 1e15, &seed))
		return 0;
	s->seed = (uint64_t)seed;
	return 1;
}

static int set_key(struct sim_scenario *s, const struct sim_line *line, unsigned int column,
		   const char *key, const char *value, struct mt_err *err)
{
	struct mt_err why;

	if (!mt_sched_config_parse(&s->config, key, value, &why))
		return 0;
	return sim_line_error(line, column, err, "%s", why.msg);
}

/* "host", "run" and "set": only key=value words. */
static int keys_line(struct sim_scenario *s, const struct sim_line *line, struct mt_err *err)
{
	for (unsigned int i = 1; i < line->count; i++) {
		const char *word = line->words[i], *equals = strchr(word, '=');
		unsigned int column = line->columns[i];
		char key[64];
		int rc;

		if (!equals || equals == word || !equals[1])
			return sim_line_error(line, column, err, "'%s' is not key=value", word);
		snprintf(key, sizeof(key), "%.*s", (int)(equals - word), word);
		if (line->words[0][0] == 's') {
			rc = set_key(s, line, column, key, equals + 1, err);
			if (rc)
				return rc;
			continue;
		}
		rc = line->words[0][0] == 'h' ? host_key(s, key, equals + 1)
					      : run_key(s, key, equals + 1);
		if (rc < 0)
			return sim_line_error(line, column, err, "'%s' has no key '%s'",
					      line->words[0], key);
		if (!rc)
			return sim_line_error(line, column + (unsigned int)(equals + 1 - word), err,
					      "'%s' makes no sense as %s", equals + 1, key);
	}
	return 0;
}

/* A trace's path is relative to the scenario. */
static int trace_line(struct sim_scenario *s, const struct sim_line *line, struct mt_err *err)
{
	const char *slash = strrchr(line->path, '/');
	char path[2 * SIM_PATH_MAX];

	if (line->count != 2)
		return sim_line_error(line, line->columns[0], err, "write it as: trace FILE");
	if (!s->vm_count)
		return sim_line_error(line, line->columns[0], err,
				      "a trace comes after the VMs it is about");
	if (line->words[1][0] == '/' || !slash)
		snprintf(path, sizeof(path), "%s", line->words[1]);
	else
		snprintf(path, sizeof(path), "%.*s/%s", (int)(slash - line->path), line->path,
			 line->words[1]);
	return sim_trace_read(s, path, err);
}

static int scenario_line(struct sim_scenario *s, const struct sim_line *line, struct mt_err *err)
{
	const char *what = line->words[0];

	if (!strcmp(what, "host") || !strcmp(what, "run") || !strcmp(what, "set"))
		return keys_line(s, line, err);
	if (!strcmp(what, "vm"))
		return sim_vm_line(s, line, err);
	if (!strcmp(what, "at"))
		return sim_at_line(s, line, err);
	if (!strcmp(what, "trace"))
		return trace_line(s, line, err);
	return sim_line_error(line, line->columns[0], err,
			      "'%s' is unknown; lines begin with host, run, set, vm, at or trace",
			      what);
}

static int scenario_lines(struct sim_scenario *s, const char *path, struct mt_err *err)
{
	struct sim_line line = {.path = path};
	FILE *file = fopen(path, "re");
	size_t room = 0;
	int rc = 0;

	if (!file)
		return mt_err_set(err, -errno, "%s: can't be opened: %s", path, strerror(errno));
	while (!rc && getline(&line.text, &room, file) >= 0) {
		line.number++;
		line_cut(&line);
		if (line.count)
			rc = scenario_line(s, &line, err);
	}
	if (!rc && ferror(file))
		rc = mt_err_set(err, -EIO, "%s: can't be read", path);
	free(line.text);
	fclose(file);
	return rc;
}

static int event_order(const void *a, const void *b)
{
	const struct sim_event *one = a, *two = b;

	if (one->at_s < two->at_s || one->at_s > two->at_s)
		return one->at_s < two->at_s ? -1 : 1;
	if (one->line != two->line)
		return one->line < two->line ? -1 : 1;
	if (one->vm != two->vm)
		return one->vm < two->vm ? -1 : 1;
	return (int)one->kind - (int)two->kind;
}

static int scenario_finish(struct sim_scenario *s, const char *path, struct mt_err *err)
{
	struct mt_err why;
	int rc = mt_sched_config_check(&s->config, &why);

	if (rc)
		return mt_err_set(err, rc, "%s: %s", path, why.msg);
	if (!s->pool_pages)
		return mt_err_set(err, -EINVAL, "%s: no pool; add a line: host pool=SIZE", path);
	if (s->own_pages >= s->pool_pages)
		return mt_err_set(err, -EINVAL, "%s: own= leaves nothing of the pool", path);
	if (!s->vm_count)
		return mt_err_set(err, -EINVAL, "%s: no VMs; add a line: vm NAME memory=SIZE",
				  path);
	if (s->event_count)
		qsort(s->events, s->event_count, sizeof(s->events[0]), event_order);
	return 0;
}

int sim_scenario_read(struct sim_scenario *scenario, const char *path, struct mt_err *err)
{
	int rc;

	*scenario = (struct sim_scenario){.swap_pages = UINT64_MAX,
					  .duration_s = 3600,
					  .step_s = 5,
					  .seed = 1,
					  .reclaim_pages_s = 256 << (20 - MT_PAGE_SHIFT),
					  .fault_pages_s = 128 << (20 - MT_PAGE_SHIFT),
					  .zip_ratio = 3,
					  .zip_part = 0.7,
					  .miss_cost = 10};
	snprintf(scenario->path, SIM_PATH_MAX, "%s", path);
	mt_sched_config_init(&scenario->config);
	rc = scenario_lines(scenario, path, err);
	if (!rc)
		rc = scenario_finish(scenario, path, err);
	if (rc)
		sim_scenario_free(scenario);
	return rc;
}

void sim_scenario_free(struct sim_scenario *scenario)
{
	free(scenario->specs);
	free(scenario->vms);
	free(scenario->events);
	*scenario = (struct sim_scenario){0};
}

uint64_t sim_scenario_promised_pages(const struct sim_scenario *scenario)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < scenario->vm_count; i++)
		sum += scenario->vms[i].memsize_pages;
	return sum;
}
