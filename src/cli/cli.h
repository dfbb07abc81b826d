/* SPDX-License-Identifier: MIT */
/*
 * cli.h - what the verbs of "memtide" share: options, error lines, exit statuses
 *
 * Each verb lives in a file of its own and describes itself with a struct cli_verb, which main.c
 * lists. A verb returns its exit status: 0, 1 for a failure, 2 for a command line that makes no
 * sense. Failures are one line on standard error: "memtide: verb: what: why; what to do".
 */
#ifndef MT_CLI_CLI_H
#define MT_CLI_CLI_H

#include "base/compiler.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define CLI_EXIT_FAILURE 1
#define CLI_EXIT_USAGE   2

#define CLI_SOCKET_DEFAULT "/run/memtide/control.sock"

struct cli {
	const char *socket; /* the daemon's control socket */
	bool json;          /* print JSON; verbs that know --json set it */
};

struct cli_verb {
	const char *name;
	const char *summary; /* one line for "memtide --help" */
	const char *help;    /* the whole of "memtide VERB --help" */
	int (*run)(struct cli *cli, const struct cli_verb *verb, int argc, char **argv);
};

extern const struct cli_verb cli_verb_run, cli_verb_list, cli_verb_show, cli_verb_host,
	cli_verb_set, cli_verb_top, cli_verb_events, cli_verb_check, cli_verb_doctor, cli_verb_sim,
	cli_verb_mmu, cli_verb_translate, cli_verb_pagemap;

enum cli_opt_kind {
	CLI_OPT_FLAG,      /* bool */
	CLI_OPT_TEXT,      /* const char * */
	CLI_OPT_SIZE,      /* uint64_t bytes, more than 0 */
	CLI_OPT_SIZE_OR_0, /* uint64_t bytes */
	CLI_OPT_COUNT,     /* uint64_t, more than 0 */
	CLI_OPT_SECONDS,   /* uint64_t milliseconds above 0; written in seconds, with decimals */
};

/* An option of a verb. Lists end with a NULL name. */
struct cli_opt {
	const char *name;
	char letter; /* short form or 0 */
	enum cli_opt_kind kind;
	void *dest;
};

/**
 * cli_options() - read a verb's options, --socket and --help
 * @opts: the verb's own; their destinations are set
 * @stop_at_operand: options end at the first other argument (for a command line that follows)
 * @ret_first: index in @argv of the first operand
 *
 * Return: -1 to go on, otherwise the exit status: 0 after --help, 2 after an error was printed.
 */
int cli_options(struct cli *cli, const struct cli_verb *verb, const struct cli_opt *opts,
		bool stop_at_operand, int argc, char **argv, int *ret_first);

/** cli_usage() - print "memtide: verb: message; try 'memtide verb --help'". Return: 2 */
int cli_usage(const struct cli_verb *verb, const char *fmt, ...) MT_PRINTF(2, 3);

/** cli_failed() - print "memtide: verb: message". Return: 1 */
int cli_failed(const struct cli_verb *verb, const char *fmt, ...) MT_PRINTF(2, 3);

#endif
