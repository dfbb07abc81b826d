/* SPDX-License-Identifier: MIT */
/*
 * testvm.c - memtide-testvm: a VM without a guest, that checks every byte of its memory
 *
 * Real guests take half a minute to boot where there is no KVM, and hide what they touch. This
 * program stands in for a VMM: it uses nothing but the public API, its vCPUs are threads that write
 * and verify checked pages in a known pattern, and its judgement is exact. It prints JSON lines:
 * "ready" when its memory is managed and filled, "end" with the figures. See options.c for the
 * options, guest.c for the pages, extras.c for churning regions and forks.
 */
#include "extras.h"
#include "guest.h"
#include "lab_guest.h"
#include "pin.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define EXIT_WRONG   1
#define EXIT_REFUSED 3
#define TICK_USEC    50000
#define DISCARD_MAX  64u
#define IDLE_USEC    20000
#define CHURNS_MIN   3u
#define FORKS_MIN    3u
#define PINNED_MIN   200u /* pages */

struct thread {
	pthread_t id;
	struct tv_guest *guest;
	unsigned int number;
	void (*run)(struct tv_guest *guest, unsigned int number);
};

struct run {
	struct tv_guest guest;
	struct thread threads[3 * TV_MAX_THREADS];
	unsigned int thread_count;
	struct mt_vm_stats stats;
	uint64_t held_max;
	uint64_t over_grant; /* bytes, the most seen at once */
	double started;
};

static volatile sig_atomic_t told_to_end, told_to_discard;

static void on_signal(int signal)
{
	if (signal == SIGUSR1)
		told_to_discard = 1;
	else
		told_to_end = 1;
}

static void one_step(struct tv_guest *guest, struct tv_walker *walker)
{
	uint64_t page = tv_walker_next(walker, tv_now()), count;

	if (guest->o->pattern != TV_IDLE && !tv_walker_random(walker, 16))
		tv_guest_peek(guest, tv_walker_random(walker, guest->pages));
	if (!tv_guest_trylock(guest, page))
		return;
	tv_guest_verify(guest, page, "at work");
	if (tv_walker_random(walker, 100) < guest->o->write_pct)
		tv_guest_write(guest, page);
	tv_guest_unlock(guest, page);
	/* Ranges are up to 64 pages; so that discard_pct is about a share of pages, fewer of them.
	 */
	if (tv_walker_random(walker, 1000) < guest->o->discard_pct) {
		count = tv_guest_trylock_run(guest, page,
					     1 + tv_walker_random(walker, DISCARD_MAX));
		if (count) {
			tv_guest_discard(guest, page, count);
			tv_guest_probe(guest, page, count);
		}
		tv_guest_unlock_run(guest, page, count);
	}
}

static void vcpu_run(struct tv_guest *guest, unsigned int number)
{
	const struct tv_options *o = guest->o;
	struct tv_walker walker;

	tv_walker_init(&walker, o->pattern, o->hot_pct, guest->pages, number, o->threads, o->seed);
	while (!guest->stop) {
		if (o->ops && guest->counts.ops >= o->ops)
			break;
		one_step(guest, &walker);
		atomic_fetch_add_explicit(&guest->counts.ops, 1, memory_order_relaxed);
		if (o->pattern == TV_IDLE)
			usleep(IDLE_USEC);
	}
}

static void verifier_run(struct tv_guest *guest, unsigned int number)
{
	double next = tv_now() + guest->o->verify_every;

	(void)number;
	while (!guest->stop) {
		usleep(TICK_USEC);
		if (tv_now() < next)
			continue;
		tv_guest_verify_all(guest, "sweep");
		next = tv_now() + guest->o->verify_every;
	}
}

static void *thread_main(void *opaque)
{
	struct thread *thread = opaque;

	thread->run(thread->guest, thread->number);
	return NULL;
}

static void add_thread(struct run *run, void (*body)(struct tv_guest *, unsigned int),
		       unsigned int number)
{
	struct thread *thread = &run->threads[run->thread_count];

	*thread = (struct thread){.guest = &run->guest, .number = number, .run = body};
	if (!pthread_create(&thread->id, NULL, thread_main, thread))
		run->thread_count++;
}

static void join_threads(struct run *run)
{
	for (unsigned int i = 0; i < run->thread_count; i++)
		pthread_join(run->threads[i].id, NULL);
	run->thread_count = 0;
}

static void watch(struct run *run)
{
	struct mt_vm_stats *stats = &run->stats;

	stats->struct_size = sizeof(*stats);
	if (!run->guest.vm || mt_vm_stats_read(run->guest.vm, stats))
		return;
	if (stats->held_bytes > run->held_max)
		run->held_max = stats->held_bytes;
	if (stats->held_bytes > stats->grant_bytes + run->over_grant)
		run->over_grant = stats->held_bytes - stats->grant_bytes;
}

static void discard_all(struct run *run)
{
	struct tv_guest *guest = &run->guest;

	told_to_discard = 0;
	for (uint64_t page = 0; page < guest->pages;) {
		uint64_t count = tv_guest_trylock_run(guest, page, DISCARD_MAX * 4);

		if (!count)
			continue;
		tv_guest_discard(guest, page, count);
		tv_guest_unlock_run(guest, page, count);
		page += count;
	}
	printf("{\"event\":\"discarded\"}\n");
}

/* The first @percent of each region, or the rest of it. */
static void fill(struct tv_guest *guest, unsigned int percent, bool rest)
{
	for (unsigned int r = 0; r < guest->o->regions; r++) {
		const struct tv_region *region = &guest->regions[r];
		uint64_t border = region->pages * percent / 100;

		for (uint64_t i = rest ? border : 0; i < (rest ? region->pages : border); i++) {
			tv_guest_lock(guest, region->first + i);
			tv_guest_write(guest, region->first + i);
			tv_guest_unlock(guest, region->first + i);
		}
	}
}

static int refused(const struct tv_options *o, const char *what, int rc,
		   const struct mt_vm_error *err)
{
	fprintf(stderr, "testvm %s: %s: %d: %s\n", o->name, what, rc, err->message);
	return EXIT_REFUSED;
}

static int manage(struct tv_guest *guest, const struct tv_options *o)
{
	struct mt_vm_options options = {
		.struct_size = sizeof(options),
		.name = o->name,
		.socket = o->socket,
		.token = o->token,
		.share_group = o->share_group,
		.reservation_bytes = o->reservation_bytes,
		.limit_bytes = o->limit_bytes,
		.shares = o->shares,
	};
	struct mt_vm_error err = {0};
	int rc;

	if (o->unmanaged)
		return 0;
	rc = mt_vm_new(&options, &guest->vm, &err);
	if (rc)
		return refused(o, "mt_vm_new", rc, &err);
	for (unsigned int i = 0; i < o->regions; i++) {
		rc = mt_vm_region_add(guest->vm, guest->regions[i].base, o->mem_bytes, &err);
		if (rc)
			return refused(o, "mt_vm_region_add", rc, &err);
	}
	return 0;
}

static void say_ready(const struct run *run, uint64_t baseline_kib)
{
	uint64_t filled = run->guest.counts.written;

	printf("{\"event\":\"ready\",\"name\":\"%s\",\"pid\":%d,\"baseline_kib\":%" PRIu64
	       ",\"filled_kib\":%" PRIu64 ",\"after_s\":%.3f,\"regions\":[",
	       run->guest.o->name, (int)getpid(), baseline_kib, filled * CP_PAGE_SIZE >> 10,
	       tv_now() - run->started);
	for (unsigned int i = 0; i < run->guest.o->regions; i++)
		printf("%s[%" PRIuPTR ",%" PRIu64 "]", i ? "," : "",
		       (uintptr_t)run->guest.regions[i].base, run->guest.o->mem_bytes);
	printf("]}\n");
}

static void say_end(const struct run *run, double work_seconds)
{
	const struct tv_counts *c = &run->guest.counts;
	const struct mt_vm_stats *s = &run->stats;

	printf("{\"event\":\"end\",\"name\":\"%s\",\"ops\":%" PRIu64 ",\"verified\":%" PRIu64
	       ",\"written\":%" PRIu64 ",\"discarded\":%" PRIu64 ",\"pinned\":%" PRIu64
	       ",\"churned\":%" PRIu64 ",\"forked\":%" PRIu64 ",\"errors\":%" PRIu64,
	       run->guest.o->name, c->ops, c->verified, c->written, c->discarded, c->pinned,
	       c->churned, c->forked, c->errors);
	printf(",\"work_s\":%.2f,\"total_s\":%.2f,\"held_max_kib\":%" PRIu64
	       ",\"over_grant_kib\":%" PRIu64 ",\"faults\":%" PRIu64 ",\"fault_p50_ns\":%" PRIu64
	       ",\"fault_p99_ns\":%" PRIu64 ",\"failed_pages\":%" PRIu64 "}\n",
	       work_seconds, tv_now() - run->started, run->held_max >> 10, run->over_grant >> 10,
	       s->faults, s->fault_p50_ns, s->fault_p99_ns, s->failed_pages);
}

/* Has it done what it was started for? However slow the machine is, and even if told to end. */
static bool done(struct run *run, double end)
{
	const struct tv_options *o = run->guest.o;
	struct tv_counts *counts = &run->guest.counts;

	if (!counts->errors && ((o->churn && counts->churned < CHURNS_MIN) ||
				(o->forks && counts->forked < FORKS_MIN) ||
				(o->pin_threads && counts->pinned < PINNED_MIN)))
		return false;
	if (told_to_end)
		return true;
	return o->ops ? counts->ops >= o->ops : tv_now() >= end;
}

/* Starts everything, waits for the end, and stops it. */
static void work(struct run *run)
{
	const struct tv_options *o = run->guest.o;
	double end = tv_now() + o->seconds;

	if (o->mmu)
		add_thread(run, tv_lab_run, 0);
	for (unsigned int i = 0; !o->mmu && i < o->threads; i++)
		add_thread(run, vcpu_run, i);
	for (unsigned int i = 0; i < o->pin_threads; i++)
		add_thread(run, tv_pin_run, i);
	if (o->verify_every > 0)
		add_thread(run, verifier_run, 0);
	if (o->churn)
		add_thread(run, tv_churn_run, 0);
	if (o->forks)
		add_thread(run, tv_fork_run, 0);
	while (!done(run, end)) {
		usleep(TICK_USEC);
		watch(run);
		if (told_to_discard)
			discard_all(run);
	}
	run->guest.stop = true;
	join_threads(run);
}

static int finish(struct run *run)
{
	struct tv_guest *guest = &run->guest;
	struct mt_vm_error err = {0};
	int rc;

	if (!guest->o->mmu) /* its kernel has checked itself */
		tv_guest_verify_all(guest, "at the end");
	watch(run);
	/* Without --leave it ends as most VMMs do: just so. */
	if (!guest->vm || !guest->o->leave)
		return 0;
	rc = mt_vm_leave(guest->vm, &err);
	if (rc)
		return refused(guest->o, "mt_vm_leave", rc, &err);
	guest->vm = NULL;
	tv_guest_verify_all(guest, "after leaving");
	fill(guest, 100, false);
	tv_guest_verify_all(guest, "written after leaving");
	return 0;
}

static int run_all(struct run *run)
{
	struct tv_guest *guest = &run->guest;
	const struct tv_options *o = guest->o;
	uint64_t baseline;
	double begin;
	int rc;

	baseline = tv_anonymous_kib();
	if (o->fill)
		fill(guest, o->before_pct, false);
	rc = manage(guest, o);
	if (rc)
		return rc;
	if (o->fill)
		fill(guest, o->before_pct, true);
	say_ready(run, baseline);
	begin = tv_now();
	work(run);
	begin = tv_now() - begin;
	rc = finish(run);
	say_end(run, begin);
	return rc ? rc : guest->counts.errors || run->stats.failed_pages ? EXIT_WRONG : 0;
}

int main(int argc, char **argv)
{
	static char name[32];
	static struct run run;
	struct sigaction action = {.sa_handler = on_signal};
	struct tv_options o = {
		.name = name,
		.mem_bytes = 64u << 20,
		.regions = 1,
		.threads = 2,
		.hot_pct = 20,
		.mix = CP_DEFAULT_MIX,
		.seed = 1,
		.seconds = 5,
		.write_pct = 30,
		.before_pct = 50,
		.dir = ".",
		.fill = true,
	};
	int rc;

	snprintf(name, sizeof(name), "testvm-%d", (int)getpid());
	setvbuf(stdout, NULL, _IOLBF, 0);
	rc = tv_options_parse(&o, argc, argv);
	if (rc >= 0)
		return rc;
	if (o.mmu) /* its kernel begins with memory of zeros */
		o.fill = o.leave = false;
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGUSR1, &action, NULL);
	run.started = tv_now();
	if (tv_guest_init(&run.guest, &o)) {
		fprintf(stderr, "testvm: no memory\n");
		return EXIT_REFUSED;
	}
	return run_all(&run);
}
