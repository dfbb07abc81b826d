/* SPDX-License-Identifier: MIT */
/*
 * guestmem.c - a memory load that checks itself, run inside a guest.
 *
 * Why: whatever the host does with a guest's pages, the guest must read back what it wrote. This program is the
 * witness: it fills memory with checked pages (tests/common/checked_page.h), works on a hot part of it, leaves the
 * rest to grow cold, and at last reads every byte of all of it.
 *
 * How: one anonymous mapping, one version number a page. Each thread owns a contiguous share of the pages, so
 * that no locks are needed. All is filled once; a round is: work -> verify. Between rounds a quarter of the
 * pages is given back with madvise(MADV_DONTNEED), must read as zero (a part is looked at), and is filled again
 * with new versions; the hot part of each share moves on. All output is whole lines beginning "guestmem: "; the
 * last one is PASS or FAIL. A page found wrong is read a second time, so that the line tells whether the damage
 * stays ("again=bad-content") or has passed ("again=ok"). Exit status: 0 pass, 1 fail, 2 usage or no memory.
 */
#include "../tests/common/checked_page.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MAX_THREADS	64

enum phase { PHASE_FILL, PHASE_WORK, PHASE_VERIFY, PHASE_FREE };

static const char *const phase_names[] = { "fill", "work", "verify", "free" };

static struct {
	uint64_t size;
	unsigned int size_pct;
	double work;
	unsigned int hot_pct;
	unsigned int write_pct;
	unsigned int free_pct;
	unsigned int threads;
	unsigned int rounds;
	double seconds;
	double report;
	uint64_t seed;
	bool damage;
	struct cp_mix mix;
} options = {
	.work = 10, .hot_pct = 25, .write_pct = 50, .free_pct = 25, .threads = 1, .report = 5, .seed = 1,
};

struct worker {
	pthread_t thread;
	uint64_t first;		/* its pages: first .. first + count - 1 */
	uint64_t count;
	uint64_t random;
	_Atomic uint64_t done;	/* pages (or operations, in the work phase) of this phase */
};

static unsigned char *memory;
static uint32_t *versions;
static uint64_t pages;
static uint64_t total_ops;
static unsigned int round_no;
static enum phase phase;
static double phase_end;	/* of the work phase */
static struct worker workers[MAX_THREADS];
static atomic_uint running;	/* workers in the current phase */
static atomic_bool failed;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void usage(FILE *to)
{
	fputs("usage: guestmem --size BYTES[K|M|G] | --size-pct PERCENT [option...]\n"
	      "Fill memory with checked pages, work on a part of it, verify all of it.\n"
	      "  --size N         memory to fill, e.g. 380M\n"
	      "  --size-pct P     fill P % of the memory that is available now (MemAvailable)\n"
	      "  --work SEC       seconds of work in each round (10)\n"
	      "  --hot-pct P      share of the pages that the work touches (25)\n"
	      "  --write-pct P    share of the operations that rewrite the page they read (50)\n"
	      "  --threads N      threads, each with its own share of the pages (1)\n"
	      "  --rounds N       rounds of fill, work, verify, free a part (1)\n"
	      "  --seconds S      rounds until S seconds have passed; with --rounds: whichever is first\n"
	      "  --free-pct P     share of the pages freed and refilled between rounds (25)\n"
	      "  --mix Z,T,H      percent of zero, text and half pages, the rest is noise (15,40,25)\n"
	      "  --seed N         content; guests with the same seed hold the same pages (1)\n"
	      "  --report SEC     seconds between progress lines (5)\n"
	      "  --damage         flip one bit before the first verification, to see a FAIL line\n"
	      "Last line: 'guestmem: PASS pages=N ops=N rounds=N' or 'guestmem: FAIL page=... verdict=...'.\n"
	      "Exit status: 0 pass, 1 fail, 2 wrong usage or no memory.\n", to);
}

static void die(const char *what, const char *detail)
{
	fprintf(stderr, "guestmem: %s: %s\n", what, detail);
	exit(2);
}

/* Guest physical address behind @page, so that the host can be asked about it; 0 when not known. */
static uint64_t physical(const void *page)
{
	uint64_t entry = 0, number = (uintptr_t)page / CP_PAGE_SIZE;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	if (pread(fd, &entry, sizeof(entry), (off_t)(number * sizeof(entry))) != sizeof(entry))
		entry = 0;
	close(fd);
	return (entry & ((1ull << 55) - 1)) * CP_PAGE_SIZE;
}

/* Called when @page_no is not as it should be: the first caller prints the FAIL line. */
static void fail(uint64_t page_no, enum cp_kind kind, enum cp_verdict verdict)
{
	const unsigned char *page = memory + page_no * CP_PAGE_SIZE;
	uint32_t version = versions[page_no];
	size_t offset = cp_first_difference(page, options.seed, page_no, version, kind);
	enum cp_verdict again = cp_verify(page, options.seed, page_no, version, kind);

	if (atomic_exchange(&failed, true))
		return;
	printf("guestmem: FAIL page=%" PRIu64 " verdict=%s again=%s offset=%zu kind=%s version=%" PRIu32
	       " phase=%s round=%u address=%p gpa=0x%" PRIx64 "\n", page_no, cp_verdict_name(verdict), cp_verdict_name(again),
	       offset, cp_kind_name(kind), version, phase_names[phase], round_no, (const void *)page,
	       physical(page));
}

static void fill(uint64_t page_no)
{
	versions[page_no]++;
	cp_fill(memory + page_no * CP_PAGE_SIZE, options.seed, page_no, versions[page_no],
		cp_kind_for(options.seed, page_no, &options.mix));
}

static bool verify(uint64_t page_no)
{
	enum cp_kind kind = cp_kind_for(options.seed, page_no, &options.mix);
	enum cp_verdict verdict = cp_verify(memory + page_no * CP_PAGE_SIZE, options.seed, page_no,
					    versions[page_no], kind);

	if (verdict != CP_OK)
		fail(page_no, kind, verdict);
	return verdict == CP_OK;
}

static void fill_share(struct worker *w)
{
	uint64_t i;

	for (i = 0; i < w->count && !failed; i++, w->done++)
		fill(w->first + i);
}

static void verify_share(struct worker *w)
{
	uint64_t i;

	for (i = 0; i < w->count && !failed; i++, w->done++)
		if (!verify(w->first + i))
			return;
}

/* Random reads and rewrites in the hot part, which starts a quarter of the share further on each round. */
static void work_share(struct worker *w)
{
	uint64_t hot = w->count * options.hot_pct / 100;
	uint64_t start = w->count / 4 * (round_no & 3);
	uint64_t page_no;

	if (!hot)
		hot = 1;
	while (!failed && now() < phase_end) {
		page_no = w->first + (start + cp_random(&w->random) % hot) % w->count;
		if (!verify(page_no))
			return;
		if (cp_random(&w->random) % 100 < options.write_pct)
			fill(page_no);
		w->done++;
	}
}

/*
 * Give a part of the share back and fill it again. Only the first sixteenth is read in between: reading maps the
 * zero page, and replacing that on the first write takes milliseconds in a guest of several vCPUs under TCG.
 */
static void free_share(struct worker *w)
{
	uint64_t count = w->count * options.free_pct / 100;
	uint64_t first = w->first + cp_random(&w->random) % (w->count - count + 1);
	uint64_t checked = first + count / 16 + 1;
	enum cp_verdict verdict = CP_OK;
	uint64_t i;

	if (count && madvise(memory + first * CP_PAGE_SIZE, count * CP_PAGE_SIZE, MADV_DONTNEED))
		die("madvise(MADV_DONTNEED)", strerror(errno));
	for (i = first; i < first + count && !failed; i++, w->done++) {
		if (i < checked)
			verdict = cp_verify(memory + i * CP_PAGE_SIZE, options.seed, i, 0, CP_ZERO);
		if (verdict != CP_OK)
			fail(i, CP_ZERO, verdict);
		else
			fill(i);
	}
}

static void *run_worker(void *arg)
{
	static void (*const run[])(struct worker *) = {
		[PHASE_FILL] = fill_share, [PHASE_WORK] = work_share,
		[PHASE_VERIFY] = verify_share, [PHASE_FREE] = free_share,
	};

	run[phase](arg);
	running--;
	return NULL;
}

static uint64_t sum_done(void)
{
	uint64_t sum = 0;
	unsigned int i;

	for (i = 0; i < options.threads; i++)
		sum += workers[i].done;
	return sum;
}

static void print_progress(double since)
{
	if (phase == PHASE_WORK)
		printf("guestmem: work %.0fs %" PRIu64 " ops\n", now() - since, sum_done());
	else
		printf("guestmem: %s %" PRIu64 "%%\n", phase_names[phase], sum_done() * 100 / pages);
}

/* Run one phase on all threads, with a progress line every --report seconds and at its end. */
static void run_phase(enum phase next)
{
	double start = now(), reported = start;
	unsigned int i;
	int error;

	phase = next;
	phase_end = start + options.work;
	running = options.threads;
	for (i = 0; i < options.threads; i++) {
		workers[i].done = 0;
		error = pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]);
		if (error)
			die("cannot start a thread", strerror(error));
	}
	while (running) {
		usleep(20000);
		if (running && now() - reported >= options.report) {
			print_progress(start);
			reported = now();
		}
	}
	for (i = 0; i < options.threads; i++)
		pthread_join(workers[i].thread, NULL);
	if (!failed)
		print_progress(start);
	if (next == PHASE_WORK)
		total_ops += sum_done();
}

static bool more_rounds(double start)
{
	if (failed || !round_no)
		return !failed;
	if (options.rounds && round_no >= options.rounds)
		return false;
	if (options.seconds > 0)
		return now() - start < options.seconds;
	return options.rounds;
}

static uint64_t available_bytes(void)
{
	FILE *file = fopen("/proc/meminfo", "r");
	uint64_t kb = 0;
	char line[128];

	if (!file)
		die("/proc/meminfo", strerror(errno));
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "MemAvailable: %" SCNu64, &kb) == 1)
			break;
	fclose(file);
	return kb * 1024;
}

static void allocate(void)
{
	if (options.size_pct)
		options.size = available_bytes() / 100 * options.size_pct;
	pages = options.size / CP_PAGE_SIZE;
	if (pages < options.threads)
		die("nothing to do", "give --size or --size-pct, at least one page a thread");
	memory = mmap(NULL, pages * CP_PAGE_SIZE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	versions = calloc(pages, sizeof(*versions));
	if (memory == MAP_FAILED || !versions)
		die("cannot allocate", strerror(errno));
}

static void share_out(void)
{
	unsigned int i;

	for (i = 0; i < options.threads; i++) {
		workers[i].first = pages * i / options.threads;
		workers[i].count = pages * (i + 1) / options.threads - workers[i].first;
		workers[i].random = options.seed * MAX_THREADS + i;
	}
}

static uint64_t parse_size(const char *text)
{
	char *end;
	uint64_t n = strtoull(text, &end, 10);

	if (end == text || (*end && end[1]))
		die("not a size such as 380M", text);
	switch (*end) {
	case 'G':
		n *= 1024; /* fall through */
	case 'M':
		n *= 1024; /* fall through */
	case 'K':
		n *= 1024; /* fall through */
	case '\0':
		return n;
	}
	die("not a size such as 380M", text);
	return 0;
}

static double parse_number(const char *text, double min, double max)
{
	char *end;
	double n = strtod(text, &end);

	if (end == text || *end || !(n >= min && n <= max))
		die("number out of range", text);
	return n;
}

static void parse_mix(const char *text)
{
	struct cp_mix m;
	char rest;

	if (sscanf(text, "%u,%u,%u%c", &m.zero, &m.text, &m.half, &rest) != 3 ||
	    m.zero > 100 || m.text > 100 || m.half > 100 || m.zero + m.text + m.half > 100)
		die("not a mix such as 15,40,25", text);
	options.mix = m;
}

static void set_option(int letter, const char *value)
{
	switch (letter) {
	case 's': options.size = parse_size(value); break;
	case 'p': options.size_pct = (unsigned int)parse_number(value, 1, 99); break;
	case 'w': options.work = parse_number(value, 0, 1e6); break;
	case 'h': options.hot_pct = (unsigned int)parse_number(value, 1, 100); break;
	case 'W': options.write_pct = (unsigned int)parse_number(value, 0, 100); break;
	case 't': options.threads = (unsigned int)parse_number(value, 1, MAX_THREADS); break;
	case 'r': options.rounds = (unsigned int)parse_number(value, 1, 1e9); break;
	case 'S': options.seconds = parse_number(value, 1, 1e9); break;
	case 'f': options.free_pct = (unsigned int)parse_number(value, 0, 100); break;
	case 'm': parse_mix(value); break;
	case 'd': options.seed = strtoull(value, NULL, 0); break;
	case 'R': options.report = parse_number(value, 0.1, 1e6); break;
	case 'D': options.damage = true; break;
	case 'H': usage(stdout); exit(0);
	default: usage(stderr); exit(2);
	}
}

static void parse_options(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "size", 1, NULL, 's' }, { "size-pct", 1, NULL, 'p' }, { "work", 1, NULL, 'w' },
		{ "hot-pct", 1, NULL, 'h' }, { "write-pct", 1, NULL, 'W' }, { "threads", 1, NULL, 't' },
		{ "rounds", 1, NULL, 'r' }, { "seconds", 1, NULL, 'S' }, { "free-pct", 1, NULL, 'f' },
		{ "mix", 1, NULL, 'm' }, { "seed", 1, NULL, 'd' }, { "report", 1, NULL, 'R' },
		{ "damage", 0, NULL, 'D' }, { "help", 0, NULL, 'H' }, { NULL, 0, NULL, 0 },
	};
	int letter;

	options.mix = CP_DEFAULT_MIX;
	while ((letter = getopt_long(argc, argv, "", longs, NULL)) != -1)
		set_option(letter, optarg);
	if (optind != argc)
		die("unexpected argument", argv[optind]);
	if (!options.rounds && !(options.seconds > 0))
		options.rounds = 1;
}

int main(int argc, char **argv)
{
	double start;

	setvbuf(stdout, NULL, _IOLBF, 0);
	parse_options(argc, argv);
	allocate();
	share_out();
	printf("guestmem: start pages=%" PRIu64 " threads=%u seed=%" PRIu64 "\n", pages, options.threads,
	       options.seed);
	start = now();
	run_phase(PHASE_FILL);
	while (more_rounds(start)) {
		if (round_no)
			run_phase(PHASE_FREE);
		if (!failed)
			run_phase(PHASE_WORK);
		if (options.damage)
			memory[pages / 2 * CP_PAGE_SIZE + 1234] ^= 1;
		if (!failed)
			run_phase(PHASE_VERIFY);
		round_no++;
	}
	if (failed)
		return 1;
	printf("guestmem: PASS pages=%" PRIu64 " ops=%" PRIu64 " rounds=%u\n", pages, total_ops, round_no);
	return 0;
}
