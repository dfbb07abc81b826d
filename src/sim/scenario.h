/* SPDX-License-Identifier: MIT */
/*
 * scenario.h - what to simulate: a host, its VMs, what they do and when
 *
 * Read from a small text format (scenario.c, memtide-sim(1)) and from CSV traces (trace.c). VMs
 * are expanded from their "vm" lines at once, so that everything later refers to them by index.
 * Mistakes are told with file, line and column.
 */
#ifndef MT_SIM_SCENARIO_H
#define MT_SIM_SCENARIO_H

#include "base/err.h"
#include "policy/settings.h"

#define SIM_NAME_MAX   64
#define SIM_VMS_MAX    10000
#define SIM_EVENTS_MAX 20000000
#define SIM_PATH_MAX   256

/* Activity between low and high; all parts of 1 of the VM's memory. */
struct sim_load {
	double low, high;
	double period_s; /* 0: steady, at low */
	double peak_s;   /* time of the first peak */
	double noise;    /* up to so much more or less, anew every minute */
};

/* A "vm" line: one VM, or some of the same kind. */
struct sim_spec {
	char name[SIM_NAME_MAX];
	unsigned int count;
	unsigned int first; /* index of its first VM */
};

struct sim_vm {
	char name[SIM_NAME_MAX];
	unsigned int spec;
	uint64_t memsize_pages;
	uint64_t reservation_pages;
	uint64_t limit_pages; /* UINT64_MAX: none */
	uint64_t shares;
	double start_s, stop_s;
	double touched;  /* part of memory with contents at the start */
	double turnover; /* part of the active set that is exchanged for other pages in a minute */
	struct sim_load load;
};

enum sim_event_kind {
	SIM_EVENT_ACTIVE, /* value: part of memory, from now on instead of the load */
	SIM_EVENT_USED,   /* value: part of memory */
	SIM_EVENT_SHARES,
	SIM_EVENT_RESERVATION, /* value: pages */
	SIM_EVENT_LIMIT,       /* value: pages; below 0: none */
	SIM_EVENT_SETTING,     /* value; vm: index in mt_settings */
};

struct sim_event {
	double at_s;
	double value;
	uint32_t vm;
	uint32_t line; /* of the file it is from; also keeps equal times in order */
	enum sim_event_kind kind;
};

struct sim_scenario {
	char path[SIM_PATH_MAX];
	uint64_t pool_pages; /* 0: not given yet */
	uint64_t own_pages;
	uint64_t swap_pages;
	double duration_s;
	double step_s;
	uint64_t seed;
	double reclaim_pages_s; /* a VM gives up so much memory in a second at most */
	double fault_pages_s;   /* and brings in so much */
	double zip_ratio;       /* a compressed page takes 1 / ratio */
	double zip_part;        /* part of pages that compress */
	double miss_cost;       /* slowdown of a VM none of whose active memory is there */
	struct mt_sched_config config;

	struct sim_spec *specs;
	unsigned int spec_count;
	struct sim_vm *vms;
	unsigned int vm_count;
	struct sim_event *events; /* in order of time once read */
	size_t event_count, event_room;
};

/** sim_scenario_read() - from the file at @path; on failure @scenario is empty */
MT_MUST_CHECK int sim_scenario_read(struct sim_scenario *scenario, const char *path,
				    struct mt_err *err);
void sim_scenario_free(struct sim_scenario *scenario);

/** sim_scenario_promised_pages() - sum of all VMs' memory */
uint64_t sim_scenario_promised_pages(const struct sim_scenario *scenario);

/* For the readers: a line cut into words, and where it stands. */
#define SIM_WORDS_MAX 32
struct sim_line {
	const char *path;
	unsigned int number;
	char *text; /* owned by the reader, cut up */
	const char *words[SIM_WORDS_MAX];
	unsigned int columns[SIM_WORDS_MAX]; /* counted from 1 */
	unsigned int count;
};

/** sim_line_error() - "path:line:column: " before the message; @column counts from 1. Return:
 * -EINVAL */
int sim_line_error(const struct sim_line *line, unsigned int column, struct mt_err *err,
		   const char *fmt, ...) MT_PRINTF(4, 5);

/** sim_read_time() - "90", "90s", "1.5h", "2d". False: it isn't a time. */
bool sim_read_time(const char *text, double *ret_s);
/** sim_read_number() - a plain number of at least 0 */
bool sim_read_number(const char *text, double *ret);
/** sim_read_part() - "60%", or a size as part of @memsize_pages. False: neither, or above 100 %. */
bool sim_read_part(const char *text, uint64_t memsize_pages, double *ret);

/** sim_find_vms() - VMs called @name, or all of a "vm" line of that name. Return: their number */
unsigned int sim_find_vms(const struct sim_scenario *scenario, const char *name,
			  unsigned int *ret_first);

/** sim_add_event() - at the end; sorted later. 0 or -ENOMEM */
MT_MUST_CHECK int sim_add_event(struct sim_scenario *scenario, const struct sim_event *event);

/** sim_trace_read() - "trace FILE": CSV with the columns time, vm, active and maybe used */
MT_MUST_CHECK int sim_trace_read(struct sim_scenario *scenario, const char *path,
				 struct mt_err *err);

/** sim_vm_line() - "vm NAME key=value..." */
MT_MUST_CHECK int sim_vm_line(struct sim_scenario *scenario, const struct sim_line *line,
			      struct mt_err *err);
/** sim_at_line() - "at TIME vm NAME key=value..." and "at TIME set NAME=VALUE..." */
MT_MUST_CHECK int sim_at_line(struct sim_scenario *scenario, const struct sim_line *line,
			      struct mt_err *err);

#endif
