/* SPDX-License-Identifier: MIT */
/*
 * test_api.c - what the public API refuses, and with which words
 *
 * The tests are the VMM here: they call libmemtide themselves, against a real daemon.
 */
#include "live/live.h"
#include "common/mt_test.h"

#include <errno.h>
#include <fcntl.h>
#include <memtide/memtide.h>
#include <sys/mman.h>

#define PAGE   4096ul
#define REGION (16ul << 20)

static struct live_daemon d;

static struct mt_vm_options options_named(const char *name)
{
	return (struct mt_vm_options){
		.struct_size = sizeof(struct mt_vm_options), .name = name, .socket = d.socket};
}

/* mt_vm_new() must fail with @code and say something. */
static void expect_new(const struct mt_vm_options *options, int code)
{
	struct mt_vm *vm = NULL;
	struct mt_vm_error err = {0};
	int rc = mt_vm_new(options, &vm, &err);

	printf("# %d: %s\n", rc, err.message);
	MT_CHECK_EQ(rc, code);
	MT_CHECK_EQ(err.code, code);
	MT_CHECK(strlen(err.message) > 10);
	MT_CHECK(!vm);
	MT_CHECK_EQ(mt_vm_new(options, &vm, NULL), code);
}

static struct mt_vm *new_vm(const char *name)
{
	struct mt_vm_options options = options_named(name);
	struct mt_vm_error err = {0};
	struct mt_vm *vm = NULL;

	if (mt_vm_new(&options, &vm, &err))
		MT_FAIL("mt_vm_new: %s", err.message);
	return vm;
}

static unsigned char *map(int flags, int protection)
{
	unsigned char *at = mmap(NULL, REGION, protection, flags, -1, 0);

	MT_CHECK(at != MAP_FAILED);
	return at;
}

static unsigned char *map_plain(void)
{
	return map(MAP_PRIVATE | MAP_ANONYMOUS, PROT_READ | PROT_WRITE);
}

static void expect_add(struct mt_vm *vm, void *at, size_t bytes, int code)
{
	struct mt_vm_error err = {0};
	int rc = mt_vm_region_add(vm, at, bytes, &err);

	if (rc)
		printf("# %d: %s\n", rc, err.message);
	MT_CHECK_EQ(rc, code);
	MT_CHECK_EQ(err.code, code);
	MT_CHECK(!code || strlen(err.message) > 10);
}

static void leave(struct mt_vm *vm)
{
	struct mt_vm_error err = {0};

	if (mt_vm_leave(vm, &err))
		MT_FAIL("mt_vm_leave: %s", err.message);
}

MT_TEST("a VM that the daemon can't be asked for costs the VMM none of its descriptors")
{
	struct mt_vm_options options = options_named("one");
	struct mt_vm *vm = NULL;
	int kept[8];

	options.socket = "/nowhere/memtide.sock";
	/* Whatever is open now, the lowest numbers first. */
	for (int i = 0; i < 8; i++)
		kept[i] = fcntl(i, F_GETFD);
	for (int i = 0; i < 3; i++)
		MT_CHECK(mt_vm_new(&options, &vm, NULL) < 0);
	for (int i = 0; i < 8; i++)
		MT_CHECK_EQ(fcntl(i, F_GETFD), kept[i]);
	MT_CHECK(kept[0] >= 0);
}

MT_TEST("bad names are refused with a message")
{
	static const char *const bad[] = {
		"",    "a b",
		"a/b", "..",
		"-x",  "naïve",
		"a\n", "0123456789012345678901234567890123456789012345678901234567890123"};
	struct mt_vm_options options;

	live_start(&d, "128M");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		options = options_named(bad[i]);
		expect_new(&options, -EINVAL);
	}
	options = options_named(NULL);
	expect_new(&options, -EINVAL);
	options = options_named("a");
	options.struct_size = 8;
	expect_new(&options, -EINVAL);
	live_stop(&d);
}

MT_TEST("a name may be used by one VM at a time")
{
	struct mt_vm_options options;
	struct mt_vm *vm;

	live_start(&d, "128M");
	vm = new_vm("twice");
	options = options_named("twice");
	expect_new(&options, -EEXIST);
	leave(vm);
	leave(new_vm("twice"));
	live_stop(&d);
}

MT_TEST("a reservation above the limit is refused with a message")
{
	struct mt_vm_options options;

	live_start(&d, "128M");
	options = options_named("a");
	options.limit_bytes = 32ul << 20;
	options.reservation_bytes = 64ul << 20;
	expect_new(&options, -EINVAL);
	MT_CHECK_EQ(live_field(&d, NULL, "vms"), 0);
	live_stop(&d);
}

MT_TEST("a reservation that the pool can't hold is refused with a message")
{
	struct mt_vm_options options;

	live_start(&d, "128M");
	options = options_named("a");
	options.reservation_bytes = 1ul << 30;
	expect_new(&options, -ENOMEM);
	live_stop(&d);
}

MT_TEST("without a daemon a new VM is refused with a message")
{
	struct mt_vm_options options = {.struct_size = sizeof(options),
					.name = "a",
					.socket = "/tmp/memtide-no-such-socket"};

	expect_new(&options, -ENOENT);
}

MT_TEST("a daemon that has died is a refused connection")
{
	struct mt_vm_options options;

	live_start(&d, "128M");
	live_kill(&d);
	options = options_named("a");
	expect_new(&options, -ECONNREFUSED);
	live_restart(&d);
	live_stop(&d);
}

MT_TEST("a token that nobody handed out is refused")
{
	struct mt_vm_options options;
	struct mt_vm *vm = NULL;
	struct mt_vm_error err = {0};

	live_start(&d, "128M");
	options = options_named("a");
	options.token = "00112233445566778899aabbccddeeff";
	MT_CHECK(mt_vm_new(&options, &vm, &err) < 0);
	printf("# %d: %s\n", err.code, err.message);
	MT_CHECK(!vm && strlen(err.message) > 10);
	live_stop(&d);
}

MT_TEST("unaligned, empty and unmapped ranges are refused with a message")
{
	unsigned char *at = map_plain();
	struct mt_vm *vm;

	live_start(&d, "128M");
	vm = new_vm("a");
	expect_add(vm, at + 1, REGION - PAGE, -EINVAL);
	expect_add(vm, at, REGION - 1, -EINVAL);
	expect_add(vm, at, 0, -EINVAL);
	expect_add(vm, NULL, REGION, -EINVAL);
	expect_add(vm, at, SIZE_MAX & ~(PAGE - 1), -EINVAL);
	munmap(at + REGION / 2, PAGE);
	MT_CHECK(mt_vm_region_add(vm, at, REGION, NULL) < 0);
	at[0] = 1;
	leave(vm);
	live_stop(&d);
}

MT_TEST("overlapping ranges are refused with a message")
{
	unsigned char *at = map_plain();
	struct mt_vm *vm;

	live_start(&d, "128M");
	vm = new_vm("a");
	expect_add(vm, at + REGION / 4, REGION / 4, 0);
	expect_add(vm, at, REGION, -EINVAL);
	expect_add(vm, at, REGION / 4 + PAGE, -EINVAL);
	expect_add(vm, at + REGION / 2 - PAGE, 2 * PAGE, -EINVAL);
	expect_add(vm, at + REGION / 4, REGION / 4, -EINVAL);
	expect_add(vm, at, REGION / 4, 0); /* neighbours are fine */
	expect_add(vm, at + REGION / 2, REGION / 2, 0);
	leave(vm);
	live_stop(&d);
}

MT_TEST("shared memory, read-only memory and files are refused with a message")
{
	unsigned char *shared = map(MAP_SHARED | MAP_ANONYMOUS, PROT_READ | PROT_WRITE);
	unsigned char *read_only = map(MAP_PRIVATE | MAP_ANONYMOUS, PROT_READ);
	int fd = memfd_create("test", 0);
	struct mt_vm *vm;
	void *file;

	MT_CHECK(fd >= 0 && !ftruncate(fd, (off_t)REGION));
	file = mmap(NULL, REGION, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	MT_CHECK(file != MAP_FAILED);
	live_start(&d, "128M");
	vm = new_vm("a");
	expect_add(vm, shared, REGION, -EMEDIUMTYPE);
	expect_add(vm, file, REGION, -EMEDIUMTYPE);
	MT_CHECK(mt_vm_region_add(vm, read_only, REGION, NULL) < 0);
	memset(shared, 1, REGION);
	memset(file, 1, REGION);
	leave(vm);
	live_stop(&d);
}

MT_TEST("locked memory is refused or loses nothing")
{
	unsigned char *at = map_plain();
	struct mt_vm_error err = {0};
	struct mt_vm *vm;
	int rc;

#ifdef __SANITIZE_THREAD__
	MT_SKIP("ThreadSanitizer's mlock() does nothing");
#endif
	if (mlock(at, REGION))
		MT_SKIP("not allowed to lock memory");
	memset(at, 7, REGION);
	live_start(&d, "128M");
	vm = new_vm("a");
	rc = mt_vm_region_add(vm, at, REGION, &err);
	printf("# %d: %s\n", rc, err.message);
	MT_CHECK(rc < 0 && strlen(err.message) > 10);
	leave(vm);
	for (size_t i = 0; i < REGION; i += PAGE)
		MT_CHECK(at[i] == 7);
	live_stop(&d);
}

MT_TEST("discards outside of a region or unaligned are refused")
{
	unsigned char *at = map_plain();
	struct mt_vm *vm;

	live_start(&d, "128M");
	vm = new_vm("a");
	memset(at, 3, REGION);
	expect_add(vm, at, REGION / 2, 0);
	MT_CHECK_EQ(mt_vm_region_discard(vm, at + 1, PAGE), -EINVAL);
	MT_CHECK_EQ(mt_vm_region_discard(vm, at, PAGE - 1), -EINVAL);
	MT_CHECK_EQ(mt_vm_region_discard(vm, at + REGION / 2, PAGE), -EINVAL);
	MT_CHECK_EQ(mt_vm_region_discard(vm, at + REGION / 2 - PAGE, 2 * PAGE), -EINVAL);
	MT_CHECK_EQ(mt_vm_region_remove(vm, at + REGION / 2, REGION / 2), -EINVAL);
	MT_CHECK_EQ(mt_vm_region_remove(vm, at, REGION), -EINVAL);
	for (size_t i = 0; i < REGION; i++)
		MT_CHECK(at[i] == 3);
	MT_CHECK_EQ(mt_vm_region_discard(vm, at + PAGE, PAGE), 0);
	MT_CHECK(at[PAGE - 1] == 3 && at[PAGE] == 0 && at[2 * PAGE - 1] == 0 && at[2 * PAGE] == 3);
	MT_CHECK_EQ(mt_vm_region_discard(vm, at, REGION / 2), 0);
	for (size_t i = 0; i < REGION; i++)
		MT_CHECK(at[i] == (i < REGION / 2 ? 0 : 3));
	leave(vm);
	live_stop(&d);
}

MT_TEST("leaving without a VM and reading statistics of nothing do no harm")
{
	struct mt_vm_stats stats = {.struct_size = sizeof(stats)};
	struct mt_vm *vm;

	MT_CHECK_EQ(mt_vm_leave(NULL, NULL), 0);
	live_start(&d, "128M");
	vm = new_vm("a");
	MT_CHECK_EQ(mt_vm_stats_read(vm, &stats), 0);
	MT_CHECK_EQ(stats.memsize_bytes, 0);
	stats.struct_size = 0;
	MT_CHECK_EQ(mt_vm_stats_read(vm, &stats), -EINVAL);
	leave(vm);
	live_stop(&d);
}

MT_TEST("several VMs live in one process")
{
	struct mt_vm *vms[4];
	unsigned char *at[4];
	char name[8];

	live_start(&d, "88M");
	for (int i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "vm%d", i);
		vms[i] = new_vm(name);
		at[i] = map_plain();
		memset(at[i], i + 1, REGION);
		expect_add(vms[i], at[i], REGION, 0);
	}
	for (int round = 0; round < 3; round++)
		for (int i = 0; i < 4; i++)
			for (size_t k = 0; k < REGION; k += 64)
				MT_CHECK(at[i][k] == i + 1);
	for (int i = 0; i < 4; i++)
		leave(vms[i]);
	for (int i = 0; i < 4; i++)
		MT_CHECK(at[i][0] == i + 1 && at[i][REGION - 1] == i + 1);
	live_stop(&d);
}

MT_TEST("memory that nobody filled reads as zeros and costs nothing to read")
{
	unsigned char *at = map_plain();
	struct mt_vm *vm;

	live_start(&d, "128M");
	vm = new_vm("a");
	expect_add(vm, at, REGION, 0);
	for (size_t i = 0; i < REGION; i++)
		MT_CHECK(!at[i]);
	leave(vm);
	for (size_t i = 0; i < REGION; i++)
		MT_CHECK(!at[i]);
	live_stop(&d);
}

MT_TEST_MAIN
