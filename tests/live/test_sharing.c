/* SPDX-License-Identifier: MIT */
/*
 * test_sharing.c - what page sharing promises, kept or not, with a real daemon
 *
 * Test VMs with the same seed hold equal pages; each checks every byte of its memory, and
 * live_vm_finish() demands that it found none wrong.
 */
#include "live/outside.h"
#include "common/mt_test.h"

#define MIB 1024 /* in KiB */

static int64_t shared(const struct live_daemon *d, const char *vm)
{
	return live_field(d, vm, "sharedFrames");
}

/* Do a and b share so much? Who gives pages up first finds no like of them yet, and that may be
 * either. */
static bool wait_shared(const struct live_daemon *d, int64_t kib)
{
	if (LIVE_WAIT(shared(d, "a") + shared(d, "b") >= kib))
		return true;
	printf("# shared %lld and %lld KiB\n", (long long)shared(d, "a"),
	       (long long)shared(d, "b"));
	return false;
}

/* The daemon has had no reason to drop anybody. */
static void no_complaints(const struct live_daemon *d)
{
	json_object *answer = live_ask(d, "{\"cmd\":\"events\",\"after\":0,\"follow\":false}");
	const char *text = json_object_to_json_string(answer);
	const char *dropped = strstr(text, "dropped: ");

	if (dropped)
		MT_FAIL("%.200s", dropped);
	json_object_put(answer);
}

/* VMs a and b with the same contents, ready; the options may end differently. */
static void pair_start(const struct live_daemon *d, struct live_vm *a, struct live_vm *b,
		       const char *options_a, const char *options_b)
{
	live_vm_begin(a, d, "a", options_a);
	live_vm_begin(b, d, "b", options_b);
	live_vm_ready(a);
	live_vm_ready(b);
}

static void pair_squeeze(const struct live_daemon *d, const char *target)
{
	live_set(d, "a", "target_max", target);
	live_set(d, "b", "target_max", target);
}

/* A tool's output, to be put. */
static json_object *tool(const struct live_daemon *d, const char *verb, const char *vm,
			 const char *option, const char *value)
{
	static char text[4 << 20];
	const char *argv[] = {getenv("MEMTIDE_EXE"),
			      "--socket",
			      d->socket,
			      verb,
			      vm,
			      "--json",
			      option,
			      value,
			      NULL};
	json_object *answer;

	if (live_call(argv, text, sizeof(text)))
		MT_FAIL("%s: %.300s", verb, text);
	answer = json_tokener_parse(text);
	MT_CHECK(answer);
	return answer;
}

/* Is VM b, and a page of it, among the sharers of a's page at @gpa? */
static bool shared_with_b(const struct live_daemon *d, uint64_t gpa)
{
	char text[32];
	json_object *page, *sharers;
	bool found = false;

	snprintf(text, sizeof(text), "%llx", (unsigned long long)gpa);
	page = tool(d, "translate", "a", "--gpa", text);
	sharers = json_object_object_get(page, "sharers");
	for (size_t i = 0; sharers && i < json_object_array_length(sharers); i++) {
		json_object *one = json_object_array_get_idx(sharers, i);
		json_object *at = json_object_object_get(one, "at");
		const char *vm = json_object_get_string(json_object_object_get(one, "vm"));

		MT_CHECK(!strcmp(vm, "a") || !strcmp(vm, "b"));
		if (!strcmp(vm, "b") && at && json_object_array_length(at)) {
			json_object *place = json_object_array_get_idx(at, 0);

			MT_CHECK(json_object_object_get(place, "gpa"));
			found = true;
		}
	}
	json_object_put(page);
	return found;
}

/* Does "memtide translate" of a's shared pages name b, too? */
static bool sharers_named(const struct live_daemon *d)
{
	json_object *map = tool(d, "pagemap", "a", NULL, NULL);
	json_object *runs = json_object_object_get(map, "runs");
	bool found = false;

	for (size_t i = 0; !found && i < json_object_array_length(runs); i++) {
		json_object *run = json_object_array_get_idx(runs, i);
		int64_t first = json_object_get_int64(json_object_object_get(run, "firstPage"));

		if (!strcmp(json_object_get_string(json_object_object_get(run, "state")), "shared"))
			found = shared_with_b(d, (uint64_t)first * 4096);
	}
	json_object_put(map);
	return found;
}

MT_TEST("two VMs of a group share equal pages that are about to be compressed")
{
	struct live_daemon d;
	struct live_vm a, b;

	live_start(&d, "512M");
	pair_start(&d, &a, &b,
		   "--mem 96M --pattern idle --hot-pct 10 --write-pct 0 --share-group g",
		   "--mem 96M --pattern idle --hot-pct 10 --write-pct 0 --share-group g");
	pair_squeeze(&d, "32M");
	MT_CHECK(wait_shared(&d, 20 * MIB));
	printf("# shared %lld and %lld KiB in %lld KiB of frames\n", (long long)shared(&d, "a"),
	       (long long)shared(&d, "b"), (long long)live_field(&d, NULL, "sharedcommon"));
	MT_CHECK(live_field(&d, NULL, "sharedcommon") > 0);
	MT_CHECK(LIVE_WAIT(sharers_named(&d)));
	live_check(&d, "a");
	live_check(&d, "b");
	live_vm_end(&a);
	live_vm_end(&b);
	MT_CHECK(live_wait_at_most(&d, NULL, "sharedcommon", 0));
	live_stop(&d);
}

MT_TEST("a VM with plenty of memory shares too, slowly, and its pages stay what they were")
{
	struct live_daemon d;
	struct live_vm a, b;

	live_start(&d, "512M");
	live_set(&d, NULL, "Mem.ShareScanTime", "1");
	pair_start(&d, &a, &b,
		   "--mem 32M --pattern idle --hot-pct 10 "
		   "--write-pct 0 --share-group g",
		   "--mem 32M --pattern idle --hot-pct 10 "
		   "--write-pct 0 --share-group g");
	MT_CHECK(live_wait_at_least(&d, "a", "sharedFrames", 1 * MIB));
	MT_CHECK(live_wait_at_least(&d, "b", "sharedFrames", 1 * MIB));
	MT_CHECK_EQ(live_field(&d, "a", "zipped") + live_field(&d, "a", "swapped"), 0);
	live_check(&d, "a");
	live_check(&d, "b");
	live_vm_end(&a);
	live_vm_end(&b);
	live_stop(&d);
}

MT_TEST("what a guest only reads it reads in the frames, and that takes no memory of its own")
{
	static const char *const maps_keys[] = {"sharedMaps", "sharedMapped"};
	struct live_daemon d;
	int64_t maps[2];
	struct live_vm a, b;

	live_start(&d, "512M");
	live_set(&d, NULL, "Mem.ShareScanTime", "1");
	pair_start(&d, &a, &b, "--mem 64M --write-pct 0 --mix 0/60/40/0 --share-group g",
		   "--mem 64M --write-pct 0 --mix 0/60/40/0 --share-group g");
	pair_squeeze(&d, "28M");
	MT_CHECK(live_wait_at_least(&d, "a", "sharedMapped", 24 * MIB));
	MT_CHECK(live_wait_at_least(&d, "b", "sharedMapped", 24 * MIB));
	printf("# %lld KiB in %lld mappings, %lld KiB in %lld mappings\n",
	       (long long)live_field(&d, "a", "sharedMapped"),
	       (long long)live_field(&d, "a", "sharedMaps"),
	       (long long)live_field(&d, "b", "sharedMapped"),
	       (long long)live_field(&d, "b", "sharedMaps"));
	MT_CHECK(live_wait_at_most(&d, "a", "held", 28 * MIB));
	live_fields(&d, "a", maps_keys, 2, maps);
	MT_CHECK(maps[0] <= maps[1] / 4);
	live_check(&d, "a");
	live_check(&d, "b");
	live_vm_end(&a);
	live_vm_end(&b);
	MT_CHECK(live_wait_at_most(&d, NULL, "sharedcommon", 0));
	live_stop(&d);
}

/* What a and b would save if their large pages were broken; of equal pages all but one count. */
static int64_t hinted(const struct live_daemon *d)
{
	return live_field(d, "a", "cowHint") + live_field(d, "b", "cowHint");
}

/* Pages of b that are watched; each may have cost a large page. */
static int64_t watched(const struct live_daemon *d)
{
	return live_field(d, "b", "sampleNowWatched");
}

MT_TEST_LIMIT(
	"large pages stay whole while they are looked at, and what sharing would save is told", 900)
{
	struct live_daemon d;
	struct live_vm a, b;
	int64_t before, sampled;
	bool told;

	live_start(&d, "512M");
	live_set(&d, NULL, "Mem.SamplePages", "10");
	live_set(&d, NULL, "Mem.SamplePeriod", "3600");
	pair_start(&d, &a, &b,
		   "--mem 64M --pattern idle --hot-pct 10 --write-pct 0 --thp "
		   "--mix 0/50/50/0 --before-pct 0 --share-group g",
		   "--mem 64M --pattern idle --hot-pct 10 --write-pct 0 --thp "
		   "--mix 0/50/50/0 --before-pct 0 --share-group g");
	/* the first period of sampling has broken some, or is about to */
	sampled = watched(&d);
	before = outside_rollup_kib(b.pid, "AnonHugePages");
	if (before < 32 * MIB) {
		printf("# no large pages to be had: %lld KiB\n", (long long)before);
	} else {
		live_set(&d, NULL, "Mem.ShareScanTime", "1");
		/* what one of two has is saved, whichever it is; 40 s when nothing else is done */
		told = MT_WAIT(5 * LIVE_PATIENCE_SECONDS, hinted(&d) > before / 2);
		printf("# hints %lld and %lld KiB, large %lld KiB, before %lld\n",
		       (long long)live_field(&d, "a", "cowHint"),
		       (long long)live_field(&d, "b", "cowHint"),
		       (long long)outside_rollup_kib(b.pid, "AnonHugePages"), (long long)before);
		MT_CHECK(told);
		sampled = watched(&d) - sampled;
		MT_CHECK(outside_rollup_kib(b.pid, "AnonHugePages") >=
			 before - 4 * MIB - (sampled > 0 ? sampled * 2 * MIB : 0));
		/* short of memory, they are broken, and shared */
		live_set(&d, NULL, "Mem.ShareScanTime", "60");
		pair_squeeze(&d, "24M");
		MT_CHECK(wait_shared(&d, 30 * MIB));
		live_check(&d, "a");
		live_check(&d, "b");
	}
	live_vm_end(&a);
	live_vm_end(&b);
	live_stop(&d);
}

MT_TEST("VMs that were not put into one group share nothing with each other")
{
	struct live_daemon d;
	struct live_vm a, b;

	live_start(&d, "512M");
	pair_start(&d, &a, &b,
		   "--mem 64M --pattern idle --hot-pct 10 "
		   "--write-pct 0 --mix 0/50/50/0",
		   "--mem 64M --pattern idle --hot-pct 10 "
		   "--write-pct 0 --mix 0/50/50/0 --share-group other");
	pair_squeeze(&d, "24M");
	MT_CHECK(live_wait_at_least(&d, "a", "shareNoMatch", 5000));
	MT_CHECK(live_wait_at_least(&d, "b", "shareNoMatch", 5000));
	MT_CHECK_EQ(live_field(&d, "a", "sharedFrames"), 0);
	MT_CHECK_EQ(live_field(&d, "b", "sharedFrames"), 0);
	live_vm_end(&a);
	live_vm_end(&b);
	live_stop(&d);
}

MT_TEST("writes, discards and direct I/O on shared pages by several threads spoil no page")
{
	struct live_daemon d;
	struct live_vm a, b;

	live_start(&d, "512M");
	live_set(&d, NULL, "Mem.ShareScanTime", "1");
	pair_start(&d, &a, &b,
		   "--mem 64M --threads 4 --write-pct 3 --discard-pct 1 "
		   "--pin 1 --share-group g --pattern zipf",
		   "--mem 64M --threads 4 --write-pct 1 "
		   "--share-group g --pattern zipf");
	pair_squeeze(&d, "28M");
	for (double end = live_now() + 8; live_now() < end;) {
		live_sleep(0.6);
		live_check(&d, "a");
		live_check(&d, "b");
	}
	MT_CHECK(live_wait_at_least(&d, "a", "shareMade", 100));
	MT_CHECK(live_wait_at_least(&d, "a", "faultShared", 100));
	MT_CHECK(live_wait_at_least(&d, "a", "faultMapped", 100));
	MT_CHECK(live_wait_at_least(&d, "a", "shareBroken", 20));
	live_vm_end(&a);
	live_vm_end(&b);
	MT_CHECK(live_wait_at_most(&d, NULL, "sharedcommon", 0));
	live_stop(&d);
}

/* Are there no more frames than a and b use? What they say may be a little old. */
static bool frames_used(const struct live_daemon *d)
{
	return live_field(d, NULL, "sharedcommon") <= shared(d, "a") + shared(d, "b") + 2 * MIB;
}

/* MT_SHARE_KILLS: how many times; 200. */
MT_TEST_LIMIT("a daemon killed and restarted many times loses no frame and counts right again",
	      1500)
{
	struct live_daemon d;
	struct live_vm a, b;
	const char *kills = getenv("MT_SHARE_KILLS");

	live_start(&d, "512M");
	pair_start(&d, &a, &b,
		   "--mem 64M --pattern idle --hot-pct 10 --write-pct 2 "
		   "--share-group g",
		   "--mem 64M --pattern idle --hot-pct 10 --write-pct 2 "
		   "--share-group g");
	pair_squeeze(&d, "24M");
	MT_CHECK(wait_shared(&d, 4 * MIB));
	live_sleep(1.5); /* the state file follows within a second */
	for (long i = kills ? strtol(kills, NULL, 10) : 200; i > 0; i--) {
		live_kill(&d);
		live_restart(&d);
		live_wait_state(&d, "a", "running");
		live_wait_state(&d, "b", "running");
		MT_CHECK(wait_shared(&d, 1 * MIB));
		MT_CHECK(live_wait_at_least(&d, NULL, "sharedcommon", 1 * MIB));
		no_complaints(&d);
		live_check(&d, "a");
		live_check(&d, "b");
		no_complaints(&d);
		MT_CHECK(LIVE_WAIT(frames_used(&d)));
	}
	printf("# %lld KiB of frames after the last restart\n",
	       (long long)live_field(&d, NULL, "sharedcommon"));
	live_vm_end(&a);
	live_vm_end(&b);
	MT_CHECK(live_wait_at_most(&d, NULL, "sharedcommon", 0));
	live_stop(&d);
}

MT_TEST("a VM that leaves management takes all its pages along")
{
	struct live_daemon d;
	struct live_vm a, b;

	live_start(&d, "512M");
	pair_start(&d, &a, &b,
		   "--mem 64M --pattern idle --hot-pct 10 --write-pct 0 "
		   "--share-group g --leave",
		   "--mem 64M --pattern idle --hot-pct 10 --write-pct 0 "
		   "--share-group g");
	pair_squeeze(&d, "24M");
	MT_CHECK(wait_shared(&d, 2 * MIB));
	live_vm_end(&a);
	live_check(&d, "b");
	live_vm_end(&b);
	live_stop(&d);
}

MT_TEST_MAIN
