/* SPDX-License-Identifier: MIT */
/*
 * test_scheduler.c - the memory scheduler with a real daemon and test VMs
 *
 * Who holds how much when all want more, when some are idle, and with limits. Sizes are in KiB.
 */
#include "base/compiler.h"
#include "live/live.h"
#include "live/outside.h"
#include "common/mt_test.h"

#include <stdio.h>
#include <string.h>

#define MIB 1024 /* in KiB */

/* Does everybody hold what the shares say, to 5 %? */
static bool held_as(const struct live_daemon *d, const char *const *names,
		    const unsigned int *shares, unsigned int count)
{
	int64_t all = 0, sum = 0, held[8];

	for (unsigned int i = 0; i < count; i++) {
		held[i] = live_field(d, names[i], "held");
		all += shares[i];
		sum += held[i];
	}
	for (unsigned int i = 0; i < count; i++) {
		int64_t want = sum * shares[i] / all;

		if (held[i] < want * 95 / 100 || held[i] > want * 105 / 100)
			return false;
	}
	return true;
}

MT_TEST("busy VMs hold memory as 1:2:4, like their shares")
{
	static const char *const names[] = {"a", "b", "c"};
	static const unsigned int shares[] = {1, 2, 4};
	struct live_daemon d;
	struct live_vm vm[3];
	double began;
	char text[16];

	live_start(&d, "256M");
	live_set(&d, NULL, "Mem.BalancePeriod", "2");
	for (unsigned int i = 0; i < 3; i++)
		live_vm_start(&vm[i], &d, names[i], "--mem 192M --threads 1");
	for (unsigned int i = 0; i < 3; i++) {
		snprintf(text, sizeof(text), "%u", shares[i] * 1000);
		live_set(&d, names[i], "shares", text);
	}
	began = live_now();
	MT_CHECK(LIVE_WAIT(held_as(&d, names, shares, 3)));
	printf("# after %.1f s, with a balance period of 2 s: %lld, %lld and %lld KiB\n",
	       live_now() - began, (long long)live_field(&d, "a", "held"),
	       (long long)live_field(&d, "b", "held"), (long long)live_field(&d, "c", "held"));
	for (unsigned int i = 0; i < 3; i++) {
		live_check(&d, names[i]);
		live_vm_end(&vm[i]);
	}
	live_stop(&d);
}

MT_TEST("idle memory moves to the busy VM with the tax, and stays without")
{
	static const char *const names[] = {"idle", "busy"};
	static const unsigned int shares[] = {1, 1};
	struct live_daemon d;
	struct live_vm idle, busy;
	int64_t without;

	live_start(&d, "256M");
	live_set(&d, NULL, "Mem.BalancePeriod", "1");
	live_set(&d, NULL, "Mem.IdleTax", "0");
	live_vm_start(&idle, &d, "idle", "--mem 192M --pattern idle");
	live_vm_start(&busy, &d, "busy", "--mem 192M --threads 1");
	/* the filling is over: what is seen from now on is the work */
	live_set(&d, NULL, "Mem.SamplePeriod", "2");
	live_sleep(4);
	MT_CHECK(LIVE_WAIT(held_as(&d, names, shares, 2)));
	without = live_field(&d, "busy", "held");
	printf("# no tax: idle %lld, busy %lld KiB held; active %lld and %lld\n",
	       (long long)live_field(&d, "idle", "held"), (long long)without,
	       (long long)live_field(&d, "idle", "active"),
	       (long long)live_field(&d, "busy", "active"));
	live_set(&d, NULL, "Mem.IdleTax", "75");
	MT_CHECK(live_wait_at_least(&d, "busy", "held", without * 130 / 100));
	printf("# 75 %%: idle %lld, busy %lld KiB held; active %lld and %lld\n",
	       (long long)live_field(&d, "idle", "held"), (long long)live_field(&d, "busy", "held"),
	       (long long)live_field(&d, "idle", "active"),
	       (long long)live_field(&d, "busy", "active"));
	live_check(&d, "idle");
	live_check(&d, "busy");
	live_vm_end(&busy);
	live_vm_end(&idle);
	live_stop(&d);
}

MT_TEST("sampling breaks no large page for good")
{
	struct live_daemon d;
	struct live_vm vm;
	int64_t before;
	bool whole;

	live_start(&d, "256M");
	live_set(&d, NULL, "Mem.SamplePages", "10");
	live_set(&d, NULL, "Mem.SamplePeriod", "3600");
	/* no page of zeros: these the kernel takes for itself when it splits a large page */
	live_vm_start(&vm, &d, "large",
		      "--mem 96M --pattern idle --thp --mix 0/40/40/20 --before-pct 0");
	before = outside_rollup_kib(vm.pid, "AnonHugePages");
	if (before < 64 * MIB) {
		printf("# no large pages to be had: %lld KiB\n", (long long)before);
	} else {
		live_set(&d, NULL, "Mem.SamplePeriod", "1");
		MT_CHECK(live_wait_at_least(&d, "large", "samplePeriods", 4));
		live_set(&d, NULL, "Mem.SamplePeriod", "3600");
		/* of 48 large pages the running period has broken up to 10 */
		whole = LIVE_WAIT(outside_rollup_kib(vm.pid, "AnonHugePages") >= before * 2 / 3 &&
				  live_field(&d, "large", "mended") > 0);
		printf("# %lld KiB in large pages before, %lld after; %lld mended\n",
		       (long long)before, (long long)outside_rollup_kib(vm.pid, "AnonHugePages"),
		       (long long)live_field(&d, "large", "mended"));
		MT_CHECK(whole);
	}
	live_check(&d, "large");
	live_vm_end(&vm);
	live_stop(&d);
}

MT_TEST("a VM is held to its limit on an empty host")
{
	struct live_daemon d;
	struct live_vm a;

	live_start(&d, "512M");
	live_vm_start(&a, &d, "a", "--mem 128M --limit 64M --before-pct 0");
	MT_CHECK(live_wait_at_most(&d, "a", "held", 64 * MIB));
	live_sleep(1);
	MT_CHECK(live_field(&d, "a", "heldMax") <= 64 * MIB);
	live_set(&d, "a", "limit", "48M");
	MT_CHECK(live_wait_at_most(&d, "a", "held", 48 * MIB));
	live_check(&d, "a");
	live_vm_end(&a);
	live_stop(&d);
}

MT_TEST("what a VM uses of its reservation is never taken, however hungry the others are")
{
	struct live_daemon d;
	struct live_vm kept, greedy;
	int64_t least = INT64_MAX;
	double end;

	live_start(&d, "192M");
	live_set(&d, NULL, "Mem.SamplePeriod", "2");
	live_set(&d, NULL, "Mem.BalancePeriod", "1");
	live_vm_start(&kept, &d, "kept",
		      "--mem 128M --pattern idle --reservation 96M --before-pct 0");
	live_vm_start(&greedy, &d, "greedy", "--mem 192M --threads 2 --before-pct 0");
	live_set(&d, "greedy", "shares", "1000000");
	/* idle, taxed, and with next to no shares: all that holds it is the reservation */
	MT_CHECK(live_wait_at_most(&d, "kept", "held", 112 * MIB));
	end = live_now() + 6;
	while (live_now() < end) {
		least = MT_MIN(least, live_field(&d, "kept", "held"));
		live_sleep(0.05);
	}
	printf("# of 96 MiB reserved it held at least %lld KiB\n", (long long)least);
	/* what it gave up on its way to the target, the slack kept for faults, is the VM's own */
	MT_CHECK(live_field(&d, "kept", "target") >= 96 * MIB);
	MT_CHECK(least >= 96 * MIB * 98 / 100);
	live_check(&d, "kept");
	live_check(&d, "greedy");
	live_vm_end(&greedy);
	live_vm_end(&kept);
	live_stop(&d);
}

MT_TEST("a VM that suddenly needs a quarter of the pool gets it from an idle one")
{
	struct live_daemon d;
	struct live_vm idle, fresh;
	double began;

	live_start(&d, "320M");
	live_vm_start(&idle, &d, "idle", "--mem 288M --pattern idle");
	MT_CHECK(live_wait_at_least(&d, "idle", "held", 240 * MIB));
	began = live_now();
	live_vm_begin(&fresh, &d, "fresh", "--mem 192M --threads 1 --before-pct 0");
	MT_CHECK(LIVE_WAIT(live_state(&d, "fresh")[0]));
	MT_CHECK(live_wait_at_least(&d, "fresh", "held", 80 * MIB));
	printf("# after %.1f s, start included\n", live_now() - began);
	live_vm_ready(&fresh);
	live_vm_end(&fresh);
	live_vm_end(&idle);
	live_stop(&d);
}

MT_TEST_MAIN
