/* SPDX-License-Identifier: MIT */
/* run.h - what the two halves of "memtide run" share: options, and the VMM once it is started */
#ifndef MT_CLI_RUN_H
#define MT_CLI_RUN_H

#include "cli/cli.h"
#include "cli/client.h"
#include "cli/qemu.h"

#include <limits.h>

struct run_options {
	const char *name;
	char name_made[24];
	uint64_t reservation_bytes;
	uint64_t limit_bytes;   /* 0: none */
	const char *shares;     /* as given, or NULL */
	uint64_t shares_number; /* 0: a word or not given */
	const char *share_group;
	uint64_t attach_timeout_ms;
	bool verbose;
	bool no_balloon;
	const char *qmp;    /* of the user's own; NULL: none */
	char qmp_path[128]; /* absolute, of whoever; empty: none */
	char qmp_config[160];
	struct qemu_look look;
	char **vmm_argv;
	char vmm_path[PATH_MAX];
	char preload[PATH_MAX];
	char socket[PATH_MAX]; /* absolute, if it could be made so */
	char token[128];
};

/** run_say() - a line on standard error with --verbose */
void run_say(const struct run_options *o, const char *fmt, ...) MT_PRINTF(2, 3);

/**
 * run_watched() - start the VMM, see that it gets managed, wait for its end
 * @client: the connection that holds the VM's name; closed early when the daemon goes away
 *
 * Return: the VMM's exit status, 128 + the signal that ended it, or 1 after an error was printed.
 */
int run_watched(const struct cli_verb *verb, const struct run_options *o, struct client *client);

#endif
