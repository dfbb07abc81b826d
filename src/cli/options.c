/* SPDX-License-Identifier: MIT */
/*
 * options.c - command-line options from a table, and the lines that say what is wrong with them
 *
 * getopt_long() does the parsing; this fills destinations by kind, so that every verb reads a size
 * or a time the same way and answers mistakes the same way.
 */
#include "cli/cli.h"
#include "base/size.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPTIONS_MAX   16
#define OPTION_SOCKET 1001
#define OPTION_HELP   1002
#define OPTION_FIRST  2000 /* getopt's value of the verb's own option 0 */
#define SECONDS_MAX   86400.0

static void cli_complain(const struct cli_verb *verb, const char *fmt, va_list ap)
{
	fprintf(stderr, "memtide: %s%s", verb ? verb->name : "", verb ? ": " : "");
	vfprintf(stderr, fmt, ap);
}

int cli_usage(const struct cli_verb *verb, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	cli_complain(verb, fmt, ap);
	va_end(ap);
	fprintf(stderr, "; try 'memtide%s%s --help'\n", verb ? " " : "", verb ? verb->name : "");
	return CLI_EXIT_USAGE;
}

int cli_failed(const struct cli_verb *verb, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	cli_complain(verb, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return CLI_EXIT_FAILURE;
}

static int option_count(const char *text, const char *what, uint64_t *ret, struct mt_err *err)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || !value)
		return mt_err_set(err, -EINVAL, "%s: '%s' is not a number above 0", what, text);
	*ret = value;
	return 0;
}

static int option_seconds(const char *text, const char *what, uint64_t *ret_ms, struct mt_err *err)
{
	char *end;
	double seconds = strtod(text, &end);

	if (text[0] < '0' || text[0] > '9' || *end || !(seconds >= 0.001 && seconds <= SECONDS_MAX))
		return mt_err_set(err, -EINVAL, "%s: '%s' is not a number of seconds above 0", what,
				  text);
	*ret_ms = (uint64_t)(seconds * 1000.0 + 0.5);
	return 0;
}

static int option_store(const struct cli_opt *opt, const char *text, struct mt_err *err)
{
	char what[40];

	snprintf(what, sizeof(what), "--%s", opt->name);
	switch (opt->kind) {
	case CLI_OPT_FLAG:
		*(bool *)opt->dest = true;
		return 0;
	case CLI_OPT_TEXT:
		*(const char **)opt->dest = text;
		return 0;
	case CLI_OPT_SIZE:
		return mt_size_parse(text, what, opt->dest, err);
	case CLI_OPT_SIZE_OR_0:
		return mt_size_parse_zero_ok(text, what, opt->dest, err);
	case CLI_OPT_COUNT:
		return option_count(text, what, opt->dest, err);
	case CLI_OPT_SECONDS:
		return option_seconds(text, what, opt->dest, err);
	}
	return -EINVAL;
}

/* Builds getopt's own tables. A leading "+" stops at the first operand, ":" tells a missing value.
 */
static void options_tables(const struct cli_opt *opts, bool stop_at_operand, struct option *longs,
			   char *shorts)
{
	unsigned int n = 0;
	char *s = shorts;

	if (stop_at_operand)
		*s++ = '+';
	*s++ = ':';
	*s++ = 'h';
	for (; opts[n].name; n++) {
		int has_value = opts[n].kind == CLI_OPT_FLAG ? no_argument : required_argument;

		MT_ASSERT(n < OPTIONS_MAX);
		longs[n] = (struct option){opts[n].name, has_value, NULL, OPTION_FIRST + (int)n};
		if (!opts[n].letter)
			continue;
		*s++ = opts[n].letter;
		if (has_value)
			*s++ = ':';
	}
	*s = '\0';
	longs[n++] = (struct option){"socket", required_argument, NULL, OPTION_SOCKET};
	longs[n++] = (struct option){"help", no_argument, NULL, OPTION_HELP};
	longs[n] = (struct option){0};
}

static const struct cli_opt *option_find(const struct cli_opt *opts, int c)
{
	for (unsigned int i = 0; opts[i].name; i++)
		if (c == OPTION_FIRST + (int)i || (opts[i].letter && c == opts[i].letter))
			return &opts[i];
	return NULL;
}

/* getopt says which option it did not like in optopt (a letter or our number) or only in argv. */
static int option_bad(const struct cli_verb *verb, int c, char **argv)
{
	const char *arg = argv[optind - 1];

	if (c == ':')
		return cli_usage(verb, "option '%s' needs a value", arg);
	if (optopt >= OPTION_SOCKET)
		return cli_usage(verb, "option '%s' takes no value", arg);
	if (optopt)
		return cli_usage(verb, "unknown option '-%c'", optopt);
	return cli_usage(verb, "unknown option '%s'", arg);
}

int cli_options(struct cli *cli, const struct cli_verb *verb, const struct cli_opt *opts,
		bool stop_at_operand, int argc, char **argv, int *ret_first)
{
	struct option longs[OPTIONS_MAX + 3];
	char shorts[2 * OPTIONS_MAX + 4];
	struct mt_err err = {0};
	int c;

	options_tables(opts, stop_at_operand, longs, shorts);
	optind = 0;
	opterr = 0;
	while ((c = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		const struct cli_opt *opt = option_find(opts, c);

		if (c == OPTION_HELP || c == 'h') {
			fputs(verb->help, stdout);
			return 0;
		}
		if (c == OPTION_SOCKET)
			cli->socket = optarg;
		else if (!opt)
			return option_bad(verb, c, argv);
		else if (option_store(opt, optarg, &err))
			return cli_usage(verb, "%s", err.msg);
	}
	*ret_first = optind;
	return -1;
}
