/* SPDX-License-Identifier: MIT */
/*
 * bench_reclaim.c - how fast memory is taken away from an idle VM
 *
 *  nominate  pages a second that one thread moves to staging by the clock hand, as the pager does,
 *            with the real kernel underneath; guest memory of small and of large pages
 *  zip       pages a second from the word to hold the VM to what it takes compressed until it does,
 *            through the public API and a daemon, all our threads on one core; and beside it, in
 * turns and on the same core, MADV_PAGEOUT of the same content to zram (lz4) account   what the VM
 * says it holds against what the process really takes more than before
 *
 * Processor time for each page is reported with the rates: it is far less disturbed by whatever
 * else the machine does.
 */
#include "bench.h"
#include "bench_pager.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NOMINATE_BYTES (128ULL << 20) /* all that fits into staging */
#define NOMINATE_STEP  64U            /* as in monitor/reclaim.c */
#define NOMINATE_GOAL  1e6
#define ZIP_GOAL_RATIO 1.5
#define ZIP_VM         "bench"

struct reclaim_options {
	uint64_t bytes;
	unsigned int rounds;
	int cpu;
	bool huge;
};

static double reclaim_nominate_once(bool huge)
{
	uint8_t *memory = bench_map(NOMINATE_BYTES, huge);
	struct bench_pager *bp;
	uint64_t start, pages = 0, took;
	uint32_t got;

	memset(memory, 0x5a, NOMINATE_BYTES);
	bp = bench_pager_new(memory, NOMINATE_BYTES);
	start = bench_now_ns();
	while ((got = mt_nominate_some(&bp->pager, NOMINATE_STEP)))
		pages += got;
	took = bench_now_ns() - start;
	if (pages < NOMINATE_BYTES >> MT_PAGE_SHIFT)
		bench_die("only %" PRIu64 " pages could be nominated", pages);
	bench_pager_free(bp);
	munmap(memory, NOMINATE_BYTES);
	return (double)pages * 1e9 / (double)took;
}

static void reclaim_nominate(const struct reclaim_options *o)
{
	double small[BENCH_ROUNDS_MAX], large[BENCH_ROUNDS_MAX];

	bench_pin(o->cpu);
	for (unsigned int i = 0; i < o->rounds; i++) {
		small[i] = reclaim_nominate_once(false);
		large[i] = reclaim_nominate_once(true);
	}
	bench_row("nominate-4k", "nomination, small pages", "pages/s", BENCH_AT_LEAST,
		  NOMINATE_GOAL, bench_median(small, o->rounds), "-");
	bench_row("nominate-thp", "nomination, large pages", "pages/s", BENCH_AT_LEAST,
		  NOMINATE_GOAL, bench_median(large, o->rounds), "-");
}

struct reclaim_zip {
	struct bench_host host;
	struct mt_vm *vm;
	uint8_t *guest;
	uint8_t *plain;
	double zip[BENCH_ROUNDS_MAX];     /* pages/s */
	double zip_cpu[BENCH_ROUNDS_MAX]; /* us a page */
	double zram[BENCH_ROUNDS_MAX];
	double zram_cpu[BENCH_ROUNDS_MAX];
};

static void reclaim_touch(volatile uint8_t *memory, uint64_t bytes)
{
	for (uint64_t at = 0; at < bytes; at += MT_PAGE_SIZE)
		memory[at] = memory[at];
}

static void reclaim_zip_once(struct reclaim_zip *z, const struct reclaim_options *o, unsigned int i)
{
	uint64_t cpu_ns, took;
	double pages;
	struct mt_vm_stats stats;

	cpu_ns = bench_cpu_ns();
	took = bench_squeeze(&z->host, z->vm, ZIP_VM, bench_zip_target(o->bytes));
	cpu_ns = bench_cpu_ns() - cpu_ns;
	stats = bench_stats(z->vm);
	if (stats.zipped_bytes < o->bytes / 100 * 60 || stats.swapped_bytes > o->bytes / 100)
		bench_die("%" PRIu64 " MiB were compressed, %" PRIu64 " MiB went to swap",
			  stats.zipped_bytes >> 20, stats.swapped_bytes >> 20);
	pages = (double)(stats.zipped_bytes >> MT_PAGE_SHIFT);
	z->zip_cpu[i] = (double)cpu_ns / 1e3 / pages;
	z->zip[i] = pages * 1e9 / (double)took;
}

static void reclaim_zram_once(struct reclaim_zip *z, const struct reclaim_options *o,
			      unsigned int i)
{
	uint64_t pages = o->bytes >> MT_PAGE_SHIFT, start, cpu_ns, out;

	cpu_ns = bench_cpu_ns();
	start = bench_now_ns();
	out = bench_page_out(z->plain, o->bytes);
	z->zram[i] = (double)out * 1e9 / (double)(bench_now_ns() - start);
	z->zram_cpu[i] = (double)(bench_cpu_ns() - cpu_ns) / 1e3 / (double)out;
	if (out < pages / 100 * 99)
		bench_die("only %" PRIu64 " of %" PRIu64 " pages went to zram", out, pages);
	reclaim_touch(z->plain, o->bytes);
}

static void reclaim_account(struct reclaim_zip *z, uint64_t rss_before)
{
	struct mt_vm_stats stats = bench_stats(z->vm);
	double rss = (double)(bench_rss_bytes(NULL) - rss_before) / 1048576.0;

	bench_row("zip-slack", "zip store, slack of synthetic pages", "%", BENCH_AT_MOST, 6,
		  100.0 * (double)stats.zip_held_bytes / (double)stats.zip_stored_bytes - 100, "-");
	bench_row("held-rss", "held as accounted / process really grew by", "ratio", BENCH_AT_LEAST,
		  1, (double)stats.held_bytes / 1048576.0 / rss,
		  "%.1f MiB, bookkeeping %.1f MiB of it", rss,
		  (double)stats.overhead_bytes / 1048576.0);
}

static void reclaim_zip_rows(const struct reclaim_zip *z, const struct reclaim_options *o)
{
	double zip = bench_median(z->zip, o->rounds);
	double zram = bench_median(z->zram, o->rounds);

	if (!bench_zram()) {
		bench_row("zip-rate", "compression of an idle VM", "pages/s", BENCH_NO_GOAL, 0, zip,
			  "no zram swap; %.2f us CPU/page", bench_median(z->zip_cpu, o->rounds));
		return;
	}
	bench_row("zip-rate", "compression of an idle VM", "pages/s", BENCH_AT_LEAST,
		  ZIP_GOAL_RATIO * zram, zip, "zram %.0f", zram);
	zip = bench_median(z->zip_cpu, o->rounds);
	zram = bench_median(z->zram_cpu, o->rounds);
	bench_row("zip-cpu", "the same, processor time for a page", "us", BENCH_AT_MOST,
		  zram / ZIP_GOAL_RATIO, zip, "zram %.2f: %.2f times ours", zram, zram / zip);
}

static void reclaim_zip(const struct reclaim_options *o)
{
	static struct reclaim_zip z;
	struct bench_mix mix = BENCH_GUEST_MIX;
	uint64_t rss;

	z.plain = bench_map(o->bytes, o->huge);
	bench_fill(z.plain, o->bytes, &mix, 1);
	bench_host_start(&z.host, "16G");
	/* The monitor's threads are born with our place and keep to it. */
	bench_pin(o->cpu);
	rss = bench_rss_bytes(NULL);
	z.vm = bench_vm_start(&z.host, ZIP_VM);
	z.guest = bench_map(o->bytes, o->huge);
	bench_fill(z.guest, o->bytes, &mix, 1);
	bench_vm_region(z.vm, z.guest, o->bytes);
	bench_set(&z.host, ZIP_VM, "zip_max_pct", "100");
	for (unsigned int i = 0; i < o->rounds; i++) {
		if (i)
			reclaim_touch(z.guest, o->bytes);
		reclaim_zip_once(&z, o, i);
		if (!i)
			reclaim_account(&z, rss);
		if (bench_zram())
			reclaim_zram_once(&z, o, i);
		bench_ease(&z.host, z.vm, ZIP_VM);
	}
	reclaim_zip_rows(&z, o);
	mt_vm_leave(z.vm, NULL);
	bench_host_stop(&z.host);
}

int main(int argc, char **argv)
{
	struct reclaim_options o = {.bytes = 1ULL << 30, .rounds = 3, .cpu = 1};
	bool nominate = true, zip = true;
	int option;

	while ((option = getopt(argc, argv, "m:r:c:HNZ")) != -1) {
		if (option == 'm')
			o.bytes = strtoull(optarg, NULL, 10) << 20;
		else if (option == 'r')
			o.rounds = (unsigned int)MT_MIN(atoi(optarg), BENCH_ROUNDS_MAX);
		else if (option == 'c')
			o.cpu = atoi(optarg);
		else if (option == 'H')
			o.huge = true;
		else if (option == 'N')
			zip = false;
		else if (option == 'Z')
			nominate = false;
		else
			bench_die("usage: bench_reclaim [-m MIB] [-r ROUNDS] [-c CORE] [-H (large "
				  "pages)] "
				  "[-N (nomination only)] [-Z (compression only)]");
	}
	if (nominate)
		reclaim_nominate(&o);
	bench_pin(-1); /* the daemon is not to share our core */
	if (zip)
		reclaim_zip(&o);
	return 0;
}
