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

MT_TEST("two VMs of a group share equal pages that are about to be compressed")
{
	struct live_daemon d;
	struct live_vm a, b;

	live_start(&d, "512M");
	live_vm_begin(&a, &d, "a", "--mem 96M --seconds 90 --pattern idle --hot-pct 10 --write-pct 0 --share-group g");
	live_vm_begin(&b, &d, "b", "--mem 96M --seconds 90 --pattern idle --hot-pct 10 --write-pct 0 --share-group g");
	live_vm_ready(&a);
	live_vm_ready(&b);
	live_set(&d, "a", "target_max", "32M");
	live_set(&d, "b", "target_max", "32M");
	MT_CHECK(live_wait_at_least(&d, "b", "sharedFrames", 20 * MIB, 20));
	printf("# shared %lld and %lld KiB in %lld KiB of frames\n", (long long)shared(&d, "a"),
	       (long long)shared(&d, "b"), (long long)live_field(&d, NULL, "sharedcommon"));
	MT_CHECK(live_field(&d, NULL, "sharedcommon") > 0);
	live_check(&d, "a");
	live_check(&d, "b");
	live_vm_end(&a);
	live_vm_end(&b);
	MT_CHECK_EQ(live_field(&d, NULL, "sharedcommon"), 0);
	live_stop(&d);
}

MT_TEST_MAIN
