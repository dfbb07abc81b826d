/* SPDX-License-Identifier: MIT */
/*
 * main.c - "memtide": finds the verb and hands over
 *
 * Everything a verb can do is in its own file; see cli.h for what they share. Options before the
 * verb are the global ones; a verb takes --socket too, so that both orders work.
 */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct cli_verb *const verbs[] = {
	&cli_verb_run, &cli_verb_list,      &cli_verb_show,    &cli_verb_host,   &cli_verb_set,
	&cli_verb_top, &cli_verb_events,    &cli_verb_check,   &cli_verb_doctor, &cli_verb_sim,
	&cli_verb_mmu, &cli_verb_translate, &cli_verb_pagemap,
};

static void print_help(FILE *out)
{
	fputs("usage: memtide [--socket PATH] VERB [ARGUMENT]...\n"
	      "Memory overcommitment for unmodified QEMU: run VMs under management, look, "
	      "steer.\n\n",
	      out);
	for (size_t i = 0; i < MT_ARRAY_SIZE(verbs); i++)
		fprintf(out, "  %-9s %s\n", verbs[i]->name, verbs[i]->summary);
	fputs("\n"
	      "  --socket PATH  the daemon's control socket; otherwise $MEMTIDE_SOCKET,\n"
	      "                 otherwise " CLI_SOCKET_DEFAULT "\n"
	      "  --help         this text; 'memtide VERB --help' for a verb\n"
	      "  --version      print the version\n",
	      out);
}

static const struct cli_verb *find_verb(const char *name)
{
	for (size_t i = 0; i < MT_ARRAY_SIZE(verbs); i++)
		if (!strcmp(verbs[i]->name, name))
			return verbs[i];
	return NULL;
}

/* Global options before the verb. Return: -1 to go on with argv[*index], or an exit status. */
static int global_options(struct cli *cli, int argc, char **argv, int *index)
{
	for (; *index < argc && argv[*index][0] == '-'; (*index)++) {
		const char *arg = argv[*index];

		if (!strcmp(arg, "--help") || !strcmp(arg, "-h")) {
			print_help(stdout);
			return 0;
		}
		if (!strcmp(arg, "--version")) {
			puts("memtide " MT_VERSION);
			return 0;
		}
		if (!strncmp(arg, "--socket=", 9)) {
			cli->socket = arg + 9;
		} else if (!strcmp(arg, "--socket")) {
			if (++*index >= argc)
				return cli_usage(NULL, "option '--socket' needs a value");
			cli->socket = argv[*index];
		} else {
			return cli_usage(NULL, "unknown option '%s'", arg);
		}
	}
	return -1;
}

static int run_verb(struct cli *cli, int argc, char **argv)
{
	const struct cli_verb *verb;
	int index = 1;
	int rc = global_options(cli, argc, argv, &index);

	if (rc >= 0)
		return rc;
	if (index >= argc)
		return cli_usage(NULL, "no verb given");
	verb = find_verb(argv[index]);
	if (!verb)
		return cli_usage(NULL, "unknown verb '%s'", argv[index]);
	return verb->run(cli, verb, argc - index, argv + index);
}

int main(int argc, char **argv)
{
	const char *socket = getenv("MEMTIDE_SOCKET");
	struct cli cli = {.socket = socket && socket[0] ? socket : CLI_SOCKET_DEFAULT};
	int rc = run_verb(&cli, argc, argv);

	/* A full disk must not look like success to a script. */
	if ((fflush(stdout) || ferror(stdout)) && !rc)
		rc = cli_failed(NULL, "writing the output failed; is the disk full?");
	return rc;
}
