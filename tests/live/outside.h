/* SPDX-License-Identifier: MIT */
/*
 * outside.h - what VMs hold, measured by the kernel's own numbers
 *
 * Memtide's counters are a claim; /proc/PID/smaps is the truth. All anonymous memory of a test VM's
 * process above what it had before there was a guest belongs to guest pages, staging, stores and
 * bookkeeping: what Memtide calls "held".
 */
#ifndef MT_TESTS_OUTSIDE_H
#define MT_TESTS_OUTSIDE_H

#include "live/live.h"

#define OUTSIDE_VMS_MAX 8

struct outside {
	const struct live_daemon *daemon;
	const struct live_vm *vms[OUTSIDE_VMS_MAX];
	unsigned int vm_count;
	int64_t pool_kib;
	unsigned int samples;   /* that count */
	unsigned int slow;      /* that took too long to count */
	int64_t used_max_kib;   /* most the VMs and the daemon's share held at once */
	int64_t over_pool_kib;  /* most above the pool */
	int64_t over_grant_kib; /* most a VM held above its grant */
	int64_t off_claim_kib;  /* most a VM held above what it says it holds */
};

/* A field of /proc/PID/smaps_rollup, such as "Anonymous", in KiB; 0 when it can't be read. */
int64_t outside_rollup_kib(pid_t pid, const char *field);

/* Anonymous memory of a process in KiB. */
int64_t outside_anonymous_kib(pid_t pid);

/* Measure every 100 ms for @seconds, calling @each (may be NULL) after every sample. */
void outside_watch(struct outside *outside, double seconds,
		   void (*each)(struct outside *outside, unsigned int sample));

/* Print what was seen; fail if pool or grants were exceeded by more than @slack_kib for each VM. */
void outside_judge(const struct outside *outside, int64_t slack_kib);

#endif
