/* SPDX-License-Identifier: MIT */
/* doctor.h - what the groups of checks of "memtide doctor" share */
#ifndef MT_CLI_DOCTOR_H
#define MT_CLI_DOCTOR_H

#include "cli/cli.h"

#include <json-c/json.h>

enum doctor_level {
	DOCTOR_OK,
	DOCTOR_WARN, /* works, but not well, or not for everything */
	DOCTOR_FAIL, /* Memtide can't work like this */
};

struct doctor {
	bool json;
	struct json_object *checks; /* with json: the results so far */
	unsigned int count[3];      /* by level */
	const char *swap_dir;
	bool swap_dir_given;
	char swap_dir_daemon[512]; /* the running daemon's, if it told */
	uint64_t pool_bytes;       /* 0: not known */
	const char *vmm;
	bool vmm_given;
};

/**
 * doctor_report() - the result of one check, as a line or a JSON object
 * @name: of the check; stable, for scripts
 * @fix: what to do, or NULL
 */
void doctor_report(struct doctor *doctor, enum doctor_level level, const char *name,
		   const char *fix, const char *fmt, ...) MT_PRINTF(5, 6);

/** doctor_read_text() - first line of a small file. Return: false if it can't be read. */
bool doctor_read_text(const char *path, char *buf, size_t room);

void doctor_kernel(struct doctor *doctor); /* userfaultfd, io_uring */
void doctor_host(struct doctor *doctor);   /* settings and other users of memory */
void doctor_swap(struct doctor *doctor);   /* the swap directory */
void doctor_vmm(struct doctor *doctor);    /* QEMU, KVM, the preload library */

#endif
