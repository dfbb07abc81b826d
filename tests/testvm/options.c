/* SPDX-License-Identifier: MIT */
/*
 * options.c - the command line of memtide-testvm
 *
 * One table gives each option its place in struct tv_options and the way to read it, so that an
 * option is one line here and one in the help text.
 */
#include "options.h"
#include "base/compiler.h"
#include "base/size.h"
#include "mmu/mmu.h"

#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXIT_USAGE 2

static const char help[] =
	"usage: memtide-testvm [OPTION]...\n"
	"A VM without a guest: threads work on checked pages in managed memory. Prints JSON "
	"lines;\n"
	"exits with 0, 1 when a page was wrong, 2 for wrong usage, 3 when Memtide refused.\n"
	"  --socket PATH --name NAME --token T    the daemon, and who we are to it (testvm-PID)\n"
	"  --reservation SIZE --limit SIZE --shares N --share-group NAME\n"
	"  --mem SIZE --regions N                 N regions (1) of SIZE (64M)\n"
	"  --threads N                            virtual CPUs (2)\n"
	"  --pattern uniform|zipf|sequential|phase|idle (uniform)   --hot-pct N (20)\n"
	"  --mix ZERO/TEXT/HALF/NOISE             percentages (15/40/25/20)\n"
	"  --seed N                               same seed, same content (1)\n"
	"  --seconds S | --ops N                  how long (5 s); with --churn, --fork and --pin "
	"until\n"
	"                                         there was some of it, too\n"
	"  --write-pct N (30)  --discard-pct N (0)  --verify-every SEC (0: only at the end)\n"
	"  --no-fill                              start with untouched memory\n"
	"  --before-pct N                         filled before management starts (50)\n"
	"  --pin N                                threads doing direct I/O on guest pages (0)\n"
	"  --dir DIR                              where their files go (.)\n"
	"  --churn                                add and remove a further region all the time\n"
	"  --fork                                 fork every 300 ms\n"
	"  --thp                                  ask for large pages\n"
	"  --leave                                end management, then verify once more\n"
	"  --mmu native|shadow|nested             run a guest kernel and processes on an MMU in\n"
	"                                         software, on the managed memory (one region)\n"
	"  --trace FILE                           what they do, again and again; else all at "
	"random\n"
	"  --unmanaged                            for comparison: without Memtide\n"
	"SIGTERM: end now, verifying all. SIGUSR1: discard all memory.\n";

enum kind {
	K_TEXT,
	K_SIZE,
	K_UINT,
	K_PCT,
	K_U64,
	K_SECONDS,
	K_FLAG,
	K_PATTERN,
	K_MMU,
	K_MIX,
	K_HELP
};

struct option_row {
	const char *name;
	enum kind kind;
	size_t offset;
};

#define ROW(name, kind, field)                                 \
	{                                                      \
		name, kind, offsetof(struct tv_options, field) \
	}

static const struct option_row rows[] = {
	ROW("socket", K_TEXT, socket),
	ROW("name", K_TEXT, name),
	ROW("token", K_TEXT, token),
	ROW("share-group", K_TEXT, share_group),
	ROW("dir", K_TEXT, dir),
	ROW("mem", K_SIZE, mem_bytes),
	ROW("reservation", K_SIZE, reservation_bytes),
	ROW("limit", K_SIZE, limit_bytes),
	ROW("shares", K_U64, shares),
	ROW("regions", K_UINT, regions),
	ROW("threads", K_UINT, threads),
	ROW("pin", K_UINT, pin_threads),
	ROW("pattern", K_PATTERN, pattern),
	ROW("mix", K_MIX, mix),
	ROW("mmu", K_MMU, mmu),
	ROW("trace", K_TEXT, trace),
	ROW("hot-pct", K_PCT, hot_pct),
	ROW("write-pct", K_PCT, write_pct),
	ROW("discard-pct", K_PCT, discard_pct),
	ROW("before-pct", K_PCT, before_pct),
	ROW("seed", K_U64, seed),
	ROW("ops", K_U64, ops),
	ROW("seconds", K_SECONDS, seconds),
	ROW("verify-every", K_SECONDS, verify_every),
	ROW("leave", K_FLAG, leave),
	ROW("churn", K_FLAG, churn),
	ROW("fork", K_FLAG, forks),
	ROW("thp", K_FLAG, thp),
	ROW("unmanaged", K_FLAG, unmanaged),
	ROW("no-fill", K_FLAG, fill),
	{"help", K_HELP, 0},
};

static bool parse_u64(const char *text, uint64_t max, uint64_t *ret)
{
	char *end;

	errno = 0;
	*ret = strtoull(text, &end, 0);
	return text[0] >= '0' && text[0] <= '9' && !*end && !errno && *ret <= max;
}

static bool parse_seconds(const char *text, double *ret)
{
	char *end;

	*ret = strtod(text, &end);
	return end != text && !*end && *ret >= 0 && *ret < 1e6;
}

static bool parse_mix(const char *text, struct cp_mix *mix)
{
	unsigned int noise;
	int used = 0;

	if (sscanf(text, "%u/%u/%u/%u%n", &mix->zero, &mix->text, &mix->half, &noise, &used) != 4)
		return false;
	return !text[used] && mix->zero + mix->text + mix->half + noise == 100;
}

/* 0 is "no MMU". */
static bool parse_mmu(const char *text, unsigned int *ret)
{
	enum mt_mmu_mode mode;

	if (!mt_mmu_mode_parse(text, &mode))
		return false;
	*ret = (unsigned int)mode + 1;
	return true;
}

static bool parse_uint(const char *text, unsigned int max, unsigned int *ret)
{
	uint64_t number;

	if (!parse_u64(text, max, &number))
		return false;
	*ret = (unsigned int)number;
	return true;
}

static bool parse_value(const struct option_row *row, const char *text, struct tv_options *o)
{
	void *field = (char *)o + row->offset;

	switch (row->kind) {
	case K_TEXT:
		*(const char **)field = text;
		return true;
	case K_SIZE:
		return !mt_size_parse(text, row->name, field, NULL);
	case K_UINT:
		return parse_uint(text, TV_MAX_THREADS, field);
	case K_PCT:
		return parse_uint(text, 100, field);
	case K_U64:
		return parse_u64(text, UINT64_MAX, field);
	case K_SECONDS:
		return parse_seconds(text, field);
	case K_FLAG:
		*(bool *)field = strcmp(row->name, "no-fill") != 0;
		return true;
	case K_PATTERN:
		return tv_pattern_parse(text, field);
	case K_MIX:
		return parse_mix(text, field);
	case K_MMU:
		return parse_mmu(text, field);
	case K_HELP:
		break;
	}
	return false;
}

static int options_check(const struct tv_options *o)
{
	if (!o->regions || o->regions > TV_MAX_REGIONS || !o->threads) {
		fprintf(stderr, "testvm: 1 to %d regions and 1 to %d threads\n", TV_MAX_REGIONS,
			TV_MAX_THREADS);
		return EXIT_USAGE;
	}
	if (o->mem_bytes % CP_PAGE_SIZE || o->mem_bytes < (1u << 20)) {
		fprintf(stderr, "testvm: --mem must be whole pages, at least 1M\n");
		return EXIT_USAGE;
	}
	if (o->mmu ? o->regions != 1 || o->mem_bytes < 8u << 20 : o->trace != NULL) {
		fprintf(stderr,
			"testvm: --mmu wants one region of at least 8M, --trace wants --mmu\n");
		return EXIT_USAGE;
	}
	return -1;
}

int tv_options_parse(struct tv_options *o, int argc, char **argv)
{
	struct option longs[MT_ARRAY_SIZE(rows) + 1] = {0};
	int index = 0, c;

	for (size_t i = 0; i < MT_ARRAY_SIZE(rows); i++) {
		bool flag = rows[i].kind == K_FLAG || rows[i].kind == K_HELP;

		longs[i] = (struct option){rows[i].name, flag ? no_argument : required_argument,
					   NULL, 1};
	}
	while ((c = getopt_long(argc, argv, "", longs, &index)) != -1) {
		if (c == 1 && rows[index].kind == K_HELP) {
			fputs(help, stdout);
			return 0;
		}
		if (c != 1)
			return EXIT_USAGE;
		if (!parse_value(&rows[index], optarg, o)) {
			fprintf(stderr, "testvm: --%s: bad value '%s'\n", rows[index].name, optarg);
			return EXIT_USAGE;
		}
	}
	if (optind != argc) {
		fprintf(stderr, "testvm: '%s' is not an option\n", argv[optind]);
		return EXIT_USAGE;
	}
	return options_check(o);
}
