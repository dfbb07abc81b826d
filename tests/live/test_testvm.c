/* SPDX-License-Identifier: MIT */
/*
 * test_testvm.c - the promises Memtide makes to a guest, kept or not, with a real daemon
 *
 * The guest is memtide-testvm, which checks every byte of its memory and fails on any wrong one;
 * live_vm_finish() demands that it found none. Sizes are KiB as in docs/protocol.md.
 */
#include "live/outside.h"
#include "common/mt_test.h"

#define MIB 1024 /* in KiB */

/* What the VM has more than before there was a guest. */
static int64_t outside_kib(const struct live_vm *vm)
{
	return outside_anonymous_kib(vm->pid) - (int64_t)vm->baseline_kib;
}

/* Has the VM no more than it says? What it says is a little old, so before or after counts. */
static bool says_all(const struct live_vm *vm)
{
	int64_t before = live_field(vm->daemon, vm->name, "held"), outside = outside_kib(vm);
	int64_t after = live_field(vm->daemon, vm->name, "held");

	return outside <= (before > after ? before : after) + 512;
}

MT_TEST("a VM with plenty of memory runs and leaves")
{
	struct live_daemon d;
	struct live_vm a;

	live_start(&d, "512M");
	live_vm_start(&a, &d, "a", "--mem 64M --leave");
	live_wait_state(&d, "a", "running");
	MT_CHECK_EQ(live_field(&d, "a", "memsize"), 64 * MIB);
	live_sleep(0.5);
	live_vm_end(&a);
	MT_CHECK(live_wait_at_most(&d, NULL, "granted_out", 0));
	live_wait_state(&d, "a", "");
	MT_CHECK(live_wait_at_most(&d, NULL, "vms", 0));
	live_stop(&d);
}

MT_TEST("a VM's pages survive being squeezed to a third of its memory")
{
	struct live_daemon d;
	struct live_vm a;

	live_start(&d, "512M");
	live_vm_start(&a, &d, "a", "--mem 192M");
	live_set(&d, "a", "target_max", "64M");
	MT_CHECK(live_wait_at_most(&d, "a", "held", 64 * MIB));
	MT_CHECK(live_field(&d, "a", "zipped") > 0);
	live_wait_faults(&d, "a", 5000);
	live_check(&d, "a");
	live_vm_end(&a);
	MT_CHECK(live_vm_figure(&a, "faults") > 1000);
	live_stop(&d);
}

static void squeezed_pattern(const char *options)
{
	struct live_daemon d;
	struct live_vm a;

	live_start(&d, "512M");
	live_vm_start(&a, &d, "a", options);
	live_set(&d, "a", "target_max", "32M");
	MT_CHECK(live_wait_at_most(&d, "a", "held", 32 * MIB));
	live_wait_faults(&d, "a", 1000);
	live_check(&d, "a");
	live_vm_end(&a);
	live_stop(&d);
}

MT_TEST("a sweep through memory in page order survives being squeezed")
{
	squeezed_pattern("--mem 96M --pattern sequential --write-pct 10");
}

MT_TEST("a guest with a hot part that moves survives being squeezed")
{
	squeezed_pattern("--mem 96M --pattern phase --threads 3");
}

MT_TEST("a guest with few hot and many cold pages survives being squeezed")
{
	squeezed_pattern("--mem 96M --pattern zipf --threads 1");
}

MT_TEST("large pages survive being squeezed")
{
	squeezed_pattern("--mem 96M --thp");
}

MT_TEST("incompressible memory goes to the swap file and comes back")
{
	struct live_daemon d;
	struct live_vm a;

	live_start(&d, "512M");
	live_vm_start(&a, &d, "a", "--mem 96M --mix 0/0/0/100");
	live_set(&d, "a", "target_max", "40M");
	MT_CHECK(live_wait_at_least(&d, "a", "swapped", 40 * MIB));
	MT_CHECK(live_wait_at_least(&d, "a", "faultSwapped", 1000));
	MT_CHECK(live_field(&d, "a", "swapout") > 0);
	live_check(&d, "a");
	live_vm_end(&a);
	live_stop(&d);
}

MT_TEST("zero pages cost nothing")
{
	struct live_daemon d;
	struct live_vm a;

	live_start(&d, "512M");
	live_vm_start(&a, &d, "a", "--mem 128M --mix 100/0/0/0 --pattern idle --hot-pct 1");
	live_set(&d, "a", "target_max", "8M");
	MT_CHECK(live_wait_at_least(&d, "a", "zero", 118 * MIB));
	MT_CHECK(live_wait_at_most(&d, "a", "held", 8 * MIB));
	MT_CHECK_EQ(live_field(&d, "a", "swapped"), 0);
	MT_CHECK_EQ(live_field(&d, "a", "zipped"), 0);
	MT_CHECK(LIVE_WAIT(outside_kib(&a) < 10 * MIB));
	live_vm_end(&a);
	live_stop(&d);
}

MT_TEST("two VMs share a pool smaller than the sum of their memories")
{
	struct live_daemon d;
	struct live_vm a, b;
	struct outside outside = {.daemon = &d, .vms = {&a, &b}, .vm_count = 2};

	live_start(&d, "192M");
	live_vm_begin(&a, &d, "a", "--mem 128M --seed 1");
	live_vm_begin(&b, &d, "b", "--mem 128M --seed 2");
	live_vm_ready(&a);
	live_vm_ready(&b);
	outside_watch(&outside, 5, NULL);
	live_check(&d, "a");
	live_check(&d, "b");
	live_vm_end(&a);
	live_vm_end(&b);
	outside_judge(&outside, 1 * MIB);
	live_stop(&d);
}

MT_TEST("discarded pages read as zeros and their memory is given back")
{
	struct live_daemon d;
	struct live_vm a;

	live_start(&d, "512M");
	live_vm_start(&a, &d, "a", "--mem 128M --discard-pct 20");
	live_set(&d, "a", "target_max", "50M");
	MT_CHECK(live_wait_at_most(&d, "a", "held", 50 * MIB));
	MT_CHECK(live_wait_at_least(&d, "a", "discarded", 1000));
	live_check(&d, "a");
	live_vm_end(&a);

	live_vm_start(&a, &d, "b", "--mem 128M --pattern idle --hot-pct 1");
	MT_CHECK(outside_anonymous_kib(a.pid) > 100 * MIB);
	kill(a.pid, SIGUSR1);
	json_object_put(live_vm_event(&a, "discarded"));
	/* What is left: the hot part, which may be touched again, and memory kept ready. */
	MT_CHECK(live_wait_at_most(&d, "b", "held", 10 * MIB));
	MT_CHECK(LIVE_WAIT(outside_kib(&a) < 12 * MIB));
	printf("# outside: %lld KiB\n", (long long)outside_kib(&a));
	live_check(&d, "b");
	live_vm_end(&a);
	live_stop(&d);
}

MT_TEST("a target that swings every 100 ms between 30 % and 100 % loses nothing")
{
	struct live_daemon d;
	struct live_vm a;
	uint64_t random = 7;

	live_start(&d, "512M");
	live_vm_start(&a, &d, "a", "--mem 128M --verify-every 1 --discard-pct 3");
	for (int i = 0; i < 90; i++) {
		char size[16];

		random = random * 6364136223846793005u + 1442695040888963407u;
		snprintf(size, sizeof(size), "%uM",
			 i % 2 ? 128 : (unsigned int)(128 * (30 + (random >> 33) % 70) / 100));
		live_set(&d, "a", "target_max", size);
		live_sleep(0.1);
	}
	live_vm_end(&a);
	live_stop(&d);
}

MT_TEST("pages pinned by direct I/O are never lost")
{
	struct live_daemon d;
	struct live_vm a;

	live_start(&d, "512M");
	live_vm_start(&a, &d, "a", "--mem 64M --pin 3 --threads 2 --verify-every 2");
	live_set(&d, "a", "target_max", "20M");
	live_sleep(5);
	MT_CHECK(live_wait_at_least(&d, "a", "pinned", 1)); /* the kernel did refuse some */
	live_check(&d, "a");
	live_vm_end(&a);
	MT_CHECK(live_vm_figure(&a, "pinned") > 100);
	live_stop(&d);
}

MT_TEST("a VM that leaves keeps its memory")
{
	struct live_daemon d;
	struct live_vm a;

	live_start(&d, "512M");
	live_vm_start(&a, &d, "a", "--mem 96M --regions 2 --leave --limit 64M");
	live_wait_faults(&d, "a", 5000);
	live_vm_end(&a);
	MT_CHECK(live_vm_figure(&a, "verified") > 3 * 2 * 96 * MIB / 4);
	live_wait_state(&d, "a", "");
	live_stop(&d);
}

MT_TEST("a VM leaves with its memory even when the daemon is dead")
{
	struct live_daemon d;
	struct live_vm a;

	live_start(&d, "512M");
	live_vm_start(&a, &d, "a", "--mem 96M --leave --limit 32M");
	live_kill(&d);
	live_sleep(2);
	live_vm_end(&a);
	live_restart(&d);
	live_wait_state(&d, "a", "");
	live_stop(&d);
}

static void move_targets(struct outside *outside, unsigned int number)
{
	static uint64_t random = 1;
	char size[16];

	if (number % 7)
		return;
	for (unsigned int i = 0; i < outside->vm_count; i++) {
		random = random * 6364136223846793005u + 1442695040888963407u;
		snprintf(size, sizeof(size), "%uM", 24 + (unsigned int)((random >> 33) % 72));
		live_set(outside->daemon, outside->vms[i]->name, "target_max", size);
	}
}

MT_TEST("the pool is never exceeded as measured from outside")
{
	struct live_daemon d;
	struct live_vm vms[3];
	struct outside outside = {.daemon = &d, .vm_count = 3};
	static const char *const names[] = {"a", "b", "c"};

	live_start(&d, "160M");
	for (int i = 0; i < 3; i++)
		live_vm_begin(&vms[i], &d, names[i],
			      i == 1 ? "--mem 96M --seed 2 --thp" : "--mem 96M --pattern phase");
	for (int i = 0; i < 3; i++) {
		live_vm_ready(&vms[i]);
		outside.vms[i] = &vms[i];
	}
	outside_watch(&outside, 7, move_targets);
	for (int i = 0; i < 3; i++)
		live_check(&d, names[i]);
	printf("# heldMax as the daemon has seen it: %lld KiB\n",
	       (long long)live_field(&d, NULL, "heldMax"));
	for (int i = 0; i < 3; i++)
		live_set(&d, names[i], "target_max", "none");
	for (int i = 0; i < 3; i++)
		live_vm_end(&vms[i]);
	outside_judge(&outside, 1 * MIB);
	live_stop(&d);
}

MT_TEST("memtide check finds nothing wrong under load")
{
	const char *argv[] = {getenv("MEMTIDE_EXE"), "--socket", NULL, "check", "a", NULL};
	char text[4096];
	struct live_daemon d;
	struct live_vm a;

	MT_CHECK(argv[0]);
	live_start(&d, "512M");
	argv[2] = d.socket;
	live_vm_start(&a, &d, "a", "--mem 128M --discard-pct 5 --pin 1 --churn --limit 48M");
	for (int i = 0; i < 20; i++) {
		int status = live_call(argv, text, sizeof(text));

		if (status)
			MT_FAIL("status %d: %s", status, text);
		live_sleep(0.1);
	}
	live_vm_end(&a);
	live_stop(&d);
}

MT_TEST("regions are added and removed under load")
{
	struct live_daemon d;
	struct live_vm a;

	live_start(&d, "512M");
	live_vm_start(&a, &d, "a", "--mem 64M --regions 3 --churn");
	MT_CHECK_EQ(live_field(&d, "a", "memsize") >= 3 * 64 * MIB, 1);
	live_set(&d, "a", "target_max", "80M");
	live_wait_faults(&d, "a", 1000);
	live_vm_end(&a);
	MT_CHECK(live_vm_figure(&a, "churned") >= 3);
	live_stop(&d);
}

MT_TEST("a daemon killed with -9 and restarted is not noticed by the VM")
{
	struct live_daemon d;
	struct live_vm a, b;

	live_start(&d, "192M");
	live_vm_begin(&a, &d, "a", "--mem 128M --discard-pct 2");
	live_vm_begin(&b, &d, "b", "--mem 128M --pattern phase");
	live_vm_ready(&a);
	live_vm_ready(&b);
	for (int i = 0; i < 3; i++) {
		live_kill(&d);
		live_sleep(0.7);
		live_restart(&d);
		MT_CHECK(live_field(&d, NULL, "vms") == 2); /* away until they say hello */
		live_wait_state(&d, "a", "running");
		live_wait_state(&d, "b", "running");
		MT_CHECK(live_field(&d, NULL, "granted_out") <= 192 * MIB);
	}
	live_check(&d, "a");
	live_check(&d, "b");
	live_vm_end(&a);
	live_vm_end(&b);
	live_stop(&d);
}

MT_TEST("metadata is at most 0.5 % of guest memory from 512 MiB on")
{
	struct live_daemon d;
	struct live_vm a;
	int64_t memory = 512 * MIB, overhead;

	live_start(&d, "768M");
	live_vm_start(&a, &d, "a", "--mem 512M --pattern idle --hot-pct 1");
	overhead = live_field(&d, "a", "overhead");
	printf("# all memory in place: overhead %lld KiB, held %lld KiB; outside %lld KiB\n",
	       (long long)overhead, (long long)live_field(&d, "a", "held"),
	       (long long)outside_kib(&a));
	MT_CHECK(overhead > 0 && overhead <= memory / 200);
	MT_CHECK(LIVE_WAIT(says_all(&a)));
	live_set(&d, "a", "target_max", "256M");
	MT_CHECK(live_wait_at_most(&d, "a", "held", 256 * MIB));
	overhead = live_field(&d, "a", "overhead");
	printf("# squeezed to a half: overhead %lld KiB\n", (long long)overhead);
	MT_CHECK(overhead <= memory / 200);
	MT_CHECK(LIVE_WAIT(outside_kib(&a) <= 256 * MIB + 512));
	live_vm_end(&a);
	live_stop(&d);
}

MT_TEST("a fork in the VMM leaves the guest alone")
{
	struct live_daemon d;
	struct live_vm a;

	live_start(&d, "512M");
	live_vm_start(&a, &d, "a", "--mem 96M --fork");
	live_set(&d, "a", "target_max", "40M");
	/* And it does not keep memory from being taken away. */
	MT_CHECK(live_wait_at_most(&d, "a", "held", 40 * MIB));
	live_sleep(2);
	live_check(&d, "a");
	live_vm_end(&a);
	MT_CHECK(live_vm_figure(&a, "forked") >= 2);
	live_stop(&d);
}

MT_TEST("memory given up comes back to the pool for a new VM")
{
	struct live_daemon d;
	struct live_vm a, b;

	live_start(&d, "256M");
	live_vm_start(&a, &d, "a", "--mem 200M --pattern idle --hot-pct 1 --mix 0/0/0/100");
	MT_CHECK(live_wait_at_least(&d, "a", "held", 195 * MIB));
	kill(a.pid, SIGUSR1);
	json_object_put(live_vm_event(&a, "discarded"));
	MT_CHECK(live_wait_at_least(&d, NULL, "free", 200 * MIB));
	live_vm_start(&b, &d, "b", "--mem 200M --pattern idle --hot-pct 1 --mix 0/0/0/100");
	/* Its part of the pool; the plain policy does not lend it what the other one leaves. */
	MT_CHECK(live_wait_at_least(&d, "b", "resident", 100 * MIB));
	live_vm_end(&b);
	live_vm_end(&a);
	live_stop(&d);
}

MT_TEST("a new VM finds room in a pool that idle VMs have filled")
{
	struct live_daemon d;
	struct live_vm a, b;

	live_start(&d, "256M");
	live_vm_start(&a, &d, "a", "--mem 240M --pattern idle --hot-pct 1");
	live_vm_start(&b, &d, "b", "--mem 200M --seed 9");
	live_check(&d, "a");
	live_wait_faults(&d, "b", 1000);
	live_vm_end(&b);
	live_vm_end(&a);
	live_stop(&d);
}

MT_TEST("a VM that dies gives its memory back to the pool")
{
	struct live_daemon d;
	struct live_vm a, b;

	live_start(&d, "160M");
	live_vm_start(&a, &d, "a", "--mem 128M --pattern idle");
	kill(a.pid, SIGKILL);
	waitpid(a.pid, NULL, 0);
	MT_CHECK(live_wait_at_most(&d, NULL, "granted_out", 0));
	live_wait_state(&d, "a", "");
	live_vm_start(&b, &d, "a", "--mem 128M");
	live_vm_end(&b);
	live_stop(&d);
}

MT_TEST("a limit set while the VM runs is kept, and lifted again")
{
	struct live_daemon d;
	struct live_vm a;

	live_start(&d, "512M");
	live_vm_start(&a, &d, "a", "--mem 128M");
	live_set(&d, "a", "limit", "50M");
	/* until it has returned the rest of its grant it may still use it */
	MT_CHECK(live_wait_at_most(&d, "a", "grant", 50 * MIB));
	for (int i = 0; i < 20; i++) {
		int64_t held = live_field(&d, "a", "held");

		if (held > 50 * MIB)
			MT_FAIL("held %lld KiB after %d looks", (long long)held, i);
		live_sleep(0.05);
	}
	live_set(&d, "a", "limit", "none");
	MT_CHECK(live_wait_at_least(&d, "a", "resident", 100 * MIB));
	live_vm_end(&a);
	live_stop(&d);
}

MT_TEST("a pool made smaller squeezes the VMs, and the VMs survive")
{
	struct live_daemon d;
	struct live_vm a;

	live_start(&d, "512M");
	live_vm_start(&a, &d, "a", "--mem 192M");
	live_set(&d, NULL, "pool", "96M");
	MT_CHECK(live_wait_at_most(&d, "a", "held", 96 * MIB));
	live_check(&d, "a");
	live_set(&d, NULL, "pool", "512M");
	live_vm_end(&a);
	live_stop(&d);
}

/* A guest kernel with processes on an MMU in software, squeezed by the daemon underneath. */
static void squeezed_lab(const char *options)
{
	struct live_daemon d;
	struct live_vm a;
	json_object *lab;

	live_start(&d, "256M");
	live_vm_start(&a, &d, "a", options);
	live_set(&d, "a", "target_max", "10M");
	live_wait_faults(&d, "a", 500);
	live_sleep(2);
	kill(a.pid, SIGTERM);
	lab = live_vm_event(&a, "lab");
	MT_CHECK(json_object_get_int64(json_object_object_get(lab, "checked")) > 1000);
	json_object_put(lab);
	live_vm_finish(&a);
	MT_CHECK_EQ(live_vm_figure(&a, "errors"), 0);
	MT_CHECK(live_vm_figure(&a, "faults") > 200);
	live_stop(&d);
}

MT_TEST("a guest kernel without a hypervisor's MMU survives being squeezed, and so do its "
	"processes")
{
	squeezed_lab("--mem 32M --mmu native");
}

MT_TEST("a guest kernel on shadow page tables survives being squeezed, and so do its processes")
{
	squeezed_lab("--mem 32M --mmu shadow");
}

MT_TEST("a guest kernel on nested page tables survives being squeezed, and so do its processes")
{
	squeezed_lab("--mem 32M --mmu nested --thp");
}

MT_TEST_MAIN
