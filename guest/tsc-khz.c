/* SPDX-License-Identifier: MIT */
/*
 * tsc-khz.c - prints the rate of this host's time stamp counter in kHz; run on the host by guest/boot.sh.
 *
 * Why: under TCG a guest sees the host's counter, and calibrating it against emulated timers is a matter of luck:
 * clocks run wrong, microvm guests hang. Told the rate (tsc_early_khz=), the guest need not calibrate. No file
 * tells it for certain (the MHz in /proc/cpuinfo are the core's, at this moment), so it is measured.
 *
 * How: counts over 50 ms of CLOCK_MONOTONIC_RAW, good to some 50 parts in a million; the best of three, for the
 * case that the process is preempted between reading the clock and the counter.
 */
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

struct sample {
	double ns;
	double ticks;
	double width;	/* ticks that reading the clock took: the smaller, the better the sample */
};

static struct sample take(void)
{
	struct timespec t;
	uint64_t before, after;

	before = __rdtsc();
	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	after = __rdtsc();
	return (struct sample){
		.ns = (double)t.tv_sec * 1e9 + (double)t.tv_nsec,
		.ticks = (double)before / 2 + (double)after / 2,
		.width = (double)(after - before),
	};
}

int main(void)
{
	const struct timespec pause = { .tv_nsec = 50000000 };
	double best_width = 1e18, khz = 0;
	struct sample from, to;
	int i;

	for (i = 0; i < 3; i++) {
		from = take();
		nanosleep(&pause, NULL);
		to = take();
		if (from.width + to.width < best_width) {
			best_width = from.width + to.width;
			khz = (to.ticks - from.ticks) * 1e6 / (to.ns - from.ns);
		}
	}
	printf("%.0f\n", khz);
	return !(khz > 0);
}
