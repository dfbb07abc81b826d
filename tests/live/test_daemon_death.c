/* SPDX-License-Identifier: MIT */
/*
 * test_daemon_death.c - the daemon is killed two hundred times, and no VM notices
 *
 * Test VMs check every byte while their daemon dies by SIGKILL at random moments: in the middle of
 * its start, while monitors come back, while memory is added, and when all is quiet. Now and then
 * it is stopped properly instead, as for an upgrade. Its successor must know what everybody holds,
 * hand out no more than the pool, and neither it nor the VMs may gain a descriptor by it. I4, I8.
 * MT_DEATH_SEED and MT_DEATH_KILLS run another course.
 */
#include "live/live.h"
#include "common/mt_test.h"

#include <dirent.h>

#define MIB        1024 /* in KiB */
#define POOL_MIB   192
#define KILLS      200
#define LOOK_EVERY 20

static uint64_t state;

static uint32_t random_below(uint32_t limit)
{
	state = state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(state >> 33) % limit;
}

static uint64_t number_from(const char *variable, uint64_t otherwise)
{
	const char *text = getenv(variable);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

static unsigned int descriptors(pid_t pid)
{
	unsigned int count = 0;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	MT_CHECK(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

/* One death, at a moment that nobody chose. */
static void die_once(struct live_daemon *d, unsigned int number)
{
	/* Half of them in the start or soon after, when everybody comes back. */
	uint32_t ms = random_below(2) ? random_below(60) : random_below(500);

	live_sleep(ms / 1000.0);
	if (number % 10 == 9) {
		kill(d->pid, SIGTERM);
		waitpid(d->pid, NULL, 0);
	} else {
		live_kill(d);
	}
	live_restart_begin(d);
}

/* Both numbers from one answer: from one to the next a grant may be returned. */
static void check_held(const struct live_daemon *d, const char *name)
{
	json_object *answer = live_ask(d, "{\"cmd\":\"show\",\"vm\":\"%s\"}", name);
	json_object *vm = json_object_object_get(answer, "vm");
	int64_t held = json_object_get_int64(json_object_object_get(vm, "held"));
	int64_t grant = json_object_get_int64(json_object_object_get(vm, "grant"));

	if (held > grant)
		MT_FAIL("%s holds %lld KiB, granted are %lld", name, (long long)held,
			(long long)grant);
	json_object_put(answer);
}

/* All is well, and counted rightly. */
static void look(struct live_daemon *d)
{
	live_answers(d);
	/* Away or back, they are on the books. */
	MT_CHECK_EQ(live_field(d, NULL, "vms"), 2);
	MT_CHECK(live_field(d, NULL, "granted_out") <= POOL_MIB * MIB);
	live_wait_state(d, "a", "running");
	live_wait_state(d, "b", "running");
	MT_CHECK(LIVE_WAIT(live_field(d, "b", "memsize") == 128 * MIB));
	MT_CHECK(live_field(d, NULL, "granted_out") <= POOL_MIB * MIB);
	live_check(d, "a");
	live_check(d, "b");
	check_held(d, "a");
	check_held(d, "b");
}

MT_TEST_LIMIT("two VMs under load live through two hundred deaths of their daemon", 1500)
{
	unsigned int kills = (unsigned int)number_from("MT_DEATH_KILLS", KILLS);
	struct live_vm a, b;
	struct live_daemon d;
	unsigned int fds_a = 0, fds_b = 0, fds_daemon = 0;

	state = number_from("MT_DEATH_SEED", 1);
	live_start(&d, "192M");
	live_vm_begin(&a, &d, "a", "--mem 64M --discard-pct 2 --churn");
	live_vm_begin(&b, &d, "b", "--mem 128M --pattern phase --threads 1");
	live_vm_ready(&a);
	live_vm_ready(&b);
	for (unsigned int i = 1; i <= kills; i++) {
		die_once(&d, i);
		if (i % LOOK_EVERY)
			continue;
		look(&d);
		if (i == LOOK_EVERY) {
			fds_a = descriptors(a.pid);
			fds_b = descriptors(b.pid);
			fds_daemon = descriptors(d.pid);
		}
	}
	look(&d);
	printf("# descriptors: a %u then %u, b %u then %u, the daemon %u then %u\n", fds_a,
	       descriptors(a.pid), fds_b, descriptors(b.pid), fds_daemon, descriptors(d.pid));
	/* One may just be opened for something. */
	MT_CHECK(LIVE_WAIT(descriptors(a.pid) <= fds_a + 2));
	MT_CHECK(LIVE_WAIT(descriptors(b.pid) <= fds_b + 2));
	MT_CHECK(LIVE_WAIT(descriptors(d.pid) <= fds_daemon + 3));
	live_vm_end(&a);
	live_vm_end(&b);
	MT_CHECK(live_vm_figure(&a, "churned") > 0);
	MT_CHECK(live_wait_at_most(&d, NULL, "granted_out", 0));
	live_stop(&d);
}

MT_TEST("a daemon that hangs is not noticed by a VM, from its squeezing to its end")
{
	struct live_daemon d;
	struct live_vm a;

	live_start(&d, "512M");
	live_vm_start(&a, &d, "a", "--mem 96M --discard-pct 2");
	live_set(&d, "a", "target_max", "40M");
	/* in the middle of it, or just when it is done */
	MT_CHECK(live_wait_at_most(&d, "a", "held", 80 * MIB));
	kill(d.pid, SIGSTOP);
	live_sleep(3);
	live_vm_end(&a);
	MT_CHECK(live_vm_figure(&a, "faults") > 100);
	kill(d.pid, SIGCONT);
	MT_CHECK(live_wait_at_most(&d, NULL, "granted_out", 0));
	live_stop(&d);
}

MT_TEST_MAIN
