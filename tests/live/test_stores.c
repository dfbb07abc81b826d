/* SPDX-License-Identifier: MIT */
/*
 * test_stores.c - the swap file fails while VMs run, and nobody is ever given zeros for a page
 *
 * Each failure is made outside of the VM: the file is overwritten or cut short through the
 * descriptor of its daemon, or the VM may write no file at all. I5, I6; what one VM suffers is no
 * other's business.
 */
#include "live/live.h"
#include "common/checked_page.h"
#include "common/mt_test.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define MIB   1024 /* in KiB */
#define BLOCK (1U << 20)

/* Opens the swap file of the VM with @pid anew, for reading and writing. */
static int swap_file(const struct live_daemon *d, pid_t pid)
{
	char path[64], link[400], place[400];
	struct dirent *entry;
	int fd = -1;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	MT_CHECK(dir);
	while (fd < 0 && (entry = readdir(dir))) {
		ssize_t got;

		snprintf(place, sizeof(place), "%s/%s", path, entry->d_name);
		got = readlink(place, link, sizeof(link) - 1);
		if (got <= 0)
			continue;
		link[got] = '\0';
		if (!strncmp(link, d->dir, strlen(d->dir)) && strstr(link, "(deleted)"))
			fd = open(place, O_RDWR | O_CLOEXEC);
	}
	closedir(dir);
	MT_CHECK(fd >= 0);
	return fd;
}

static void overwrite(int fd)
{
	static uint8_t block[BLOCK];
	struct stat st;

	memset(block, 0, sizeof(block));
	MT_CHECK(!fstat(fd, &st));
	for (off_t at = 0; at < st.st_size; at += BLOCK)
		MT_CHECK(pwrite(fd, block, BLOCK, at) == BLOCK);
}

/* It stands still at its lost page: it must not have seen a wrong one, and can only be killed. */
static void end_stuck(struct live_vm *vm)
{
	int status = -1;
	char text[512] = "";

	MT_CHECK_EQ(waitpid(vm->pid, &status, WNOHANG), 0);
	fcntl(vm->out, F_SETFL, O_NONBLOCK);
	MT_CHECK(read(vm->out, text, sizeof(text) - 1) <= 0 || !strstr(text, "\"end\""));
	kill(vm->pid, SIGKILL);
	waitpid(vm->pid, &status, 0);
	close(vm->out);
}

/* VM a's file is spoiled by @spoil; VM b, beside it, must not notice. */
static void spoiled(void (*spoil)(int fd), const char *cause)
{
	struct live_daemon d;
	struct live_vm a, b;
	int fd;

	live_start(&d, "512M");
	live_vm_start(&a, &d, "a", "--mem 96M --mix 0/0/0/100 --pattern idle --hot-pct 1");
	live_vm_start(&b, &d, "b", "--mem 64M --mix 0/0/0/100");
	live_set(&d, "a", "target_max", "40M");
	live_set(&d, "b", "target_max", "40M");
	MT_CHECK(live_wait_at_least(&d, "a", "swapped", 40 * MIB));
	MT_CHECK(live_wait_at_least(&d, "b", "swapped", 10 * MIB));
	fd = swap_file(&d, a.pid);
	spoil(fd);
	close(fd);
	live_set(&d, "a", "target_max", "none");
	/* It looks at all its memory at its end, and so comes to a page that is lost. */
	kill(a.pid, SIGTERM);
	live_wait_state(&d, "a", "failed");
	/* counters are told before what there is to say of them */
	MT_CHECK(live_wait_event(&d, "a", "page 0x"));
	MT_CHECK(live_wait_event(&d, "a", cause));
	live_wait_state(&d, "b", "running");
	live_check(&d, "a");
	live_check(&d, "b");
	live_vm_end(&b);
	end_stuck(&a);
	live_stop(&d);
}

MT_TEST("a swapped page that was overwritten stops its VM, which is told the page and why")
{
	spoiled(overwrite, "wrong checksum");
}

static void cut(int fd)
{
	MT_CHECK(!ftruncate(fd, 0));
}

MT_TEST("a swap file that was cut short stops its VM, which is told the page and why")
{
	spoiled(cut, "lost: ");
}

MT_TEST("a VM that may write no swap file keeps all its pages where they are")
{
	struct rlimit none = {0, 0}, before;
	struct live_daemon d;
	struct live_vm a;

	live_start(&d, "512M");
	/* Inherited by the VM: each write to a file fails. Its own output is a pipe. */
	MT_CHECK(!getrlimit(RLIMIT_FSIZE, &before));
	signal(SIGXFSZ, SIG_IGN);
	none.rlim_max = before.rlim_max;
	MT_CHECK(!setrlimit(RLIMIT_FSIZE, &none));
	live_vm_begin(&a, &d, "a", "--mem 64M --mix 0/0/20/80 --threads 1");
	MT_CHECK(!setrlimit(RLIMIT_FSIZE, &before));
	live_vm_ready(&a);
	live_set(&d, "a", "target_max", "40M");
	MT_CHECK(live_wait_at_least(&d, "a", "swapErrors", 1));
	live_sleep(2);
	MT_CHECK_EQ(live_field(&d, "a", "swapped"), 0);
	live_wait_state(&d, "a", "running");
	MT_CHECK(live_wait_event(&d, "a", "pages stay where they are"));
	live_check(&d, "a");
	live_vm_end(&a);
	live_stop(&d);
}

/* A small file system over the swap directory, which goes with this process. */
static void small_swap_dir(const struct live_daemon *d, const char *size, char *ret_dir,
			   size_t room)
{
	char options[32];

	snprintf(options, sizeof(options), "size=%s", size);
	snprintf(ret_dir, room, "%s/swap", d->dir);
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
		MT_SKIP("no right to mount file systems");
	MT_CHECK(!mount("none", ret_dir, "tmpfs", 0, options));
}

/* What was set aside is taken away again, and the rest of the file system with it. */
static int take_space(int swap, const char *dir)
{
	char path[LIVE_PATH_MAX + 32];
	struct statvfs fs;
	struct stat st;
	int fd;

	MT_CHECK(!fstat(swap, &st));
	MT_CHECK(!fallocate(swap, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, st.st_size));
	snprintf(path, sizeof(path), "%s/filler", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	MT_CHECK(fd >= 0 && !fstatvfs(fd, &fs) && fs.f_bavail);
	MT_CHECK(!fallocate(fd, 0, 0, (off_t)(fs.f_bavail * fs.f_frsize)));
	MT_CHECK(!fstatvfs(fd, &fs) && !fs.f_bavail);
	return fd;
}

MT_TEST("a file system that is full though space was set aside costs no page, and swap goes on "
	"when "
	"there is room")
{
	char dir[LIVE_PATH_MAX + 16];
	struct live_daemon d;
	struct live_vm a;
	int swap, filler;

	/* The daemon is to see the small file system, so it starts in this mount namespace. */
	live_start(&d, "512M");
	live_kill(&d);
	small_swap_dir(&d, "80M", dir, sizeof(dir));
	live_restart(&d);
	live_vm_start(&a, &d, "a", "--mem 64M --mix 0/0/20/80 --threads 1");
	swap = swap_file(&d, a.pid);
	filler = take_space(swap, dir);
	live_set(&d, "a", "target_max", "40M");
	MT_CHECK(live_wait_at_least(&d, "a", "swapErrors", 2));
	MT_CHECK_EQ(live_field(&d, "a", "swapped"), 0);
	MT_CHECK_STR(live_state(&d, "a"), "running");
	MT_CHECK(live_wait_event(&d, "a", "pages stay where they are"));
	live_check(&d, "a");
	MT_CHECK(!ftruncate(filler, 0));
	MT_CHECK(live_wait_at_least(&d, "a", "swapped", 10 * MIB));
	MT_CHECK(live_wait_at_most(&d, "a", "held", 40 * MIB));
	live_check(&d, "a");
	close(filler);
	close(swap);
	live_vm_end(&a);
	MT_CHECK(!umount2(dir, MNT_DETACH));
	live_stop(&d);
}

MT_TEST("a VM without the address space that its stores need is not managed, and the daemon says "
	"why")
{
	struct rlimit low = {4UL << 30, 0}, before;
	struct live_daemon d;
	struct live_vm a;

	live_start(&d, "512M");
	MT_CHECK(!getrlimit(RLIMIT_AS, &before));
	low.rlim_max = before.rlim_max;
	MT_CHECK(!setrlimit(RLIMIT_AS, &low));
	live_vm_begin(&a, &d, "a", "--mem 64M");
	MT_CHECK(!setrlimit(RLIMIT_AS, &before));
	MT_CHECK(live_wait_event(&d, "a", "ulimit -v"));
	/* Nothing is kept for it. */
	MT_CHECK(live_wait_at_most(&d, NULL, "granted_out", 0));
	live_stop(&d);
}

static void punch(int fd)
{
	struct stat st;

	MT_CHECK(!fstat(fd, &st));
	MT_CHECK(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, st.st_size));
}

MT_TEST("a swap file whose blocks were taken away stops its VM, which is not given the zeros there")
{
	spoiled(punch, "wrong checksum");
}

/* Is there nothing but zeros in the VM's swap file? */
static bool file_is_clean(const struct live_daemon *d, pid_t pid)
{
	static uint8_t block[BLOCK], zeros[BLOCK];
	int fd = swap_file(d, pid);
	bool clean = true;
	ssize_t got;

	while (clean && (got = read(fd, block, sizeof(block))) > 0)
		clean = !memcmp(block, zeros, (size_t)got);
	close(fd);
	return clean;
}

/* Slots of the VM's swap file in which a checked page lies; and is it of VMs with this seed? */
static uint32_t pages_of_seed(const struct live_daemon *d, pid_t pid, uint64_t seed)
{
	static uint8_t block[BLOCK];
	const uint32_t magic = CP_MAGIC;
	int fd = swap_file(d, pid);
	uint32_t count = 0;
	ssize_t got;

	/* a page starts with its magic word, its kind, and its seed */
	while ((got = read(fd, block, sizeof(block))) > 0)
		for (ssize_t at = 0; at < got; at += CP_PAGE_SIZE)
			count += !memcmp(block + at, &magic, sizeof(magic)) &&
				 !memcmp(block + at + 8, &seed, sizeof(seed));
	close(fd);
	return count;
}

MT_TEST("a new VM finds nothing of an old one, in its memory or in its swap file")
{
	struct live_daemon d;
	char place[LIVE_PATH_MAX + 16];
	struct dirent *entry;
	struct live_vm a, b;
	DIR *dir;

	live_start(&d, "128M");
	live_vm_start(&a, &d, "a", "--mem 192M --mix 0/0/0/100 --threads 1");
	MT_CHECK(live_wait_at_least(&d, "a", "swapped", 60 * MIB));
	MT_CHECK(pages_of_seed(&d, a.pid, 1) > 1000);
	/* No name by which anybody could open it. */
	snprintf(place, sizeof(place), "%s/swap", d.dir);
	dir = opendir(place);
	MT_CHECK(dir);
	while ((entry = readdir(dir)))
		MT_CHECK(entry->d_name[0] == '.');
	closedir(dir);
	live_vm_end(&a);
	/* It verifies that all it has not written reads as zeros. */
	live_vm_start(&b, &d, "b", "--mem 192M --no-fill --write-pct 5 --mix 0/0/0/100 --seed 2");
	MT_CHECK_EQ(pages_of_seed(&d, b.pid, 1), 0);
	MT_CHECK(live_wait_at_most(&d, "b", "untouched", 96 * MIB));
	MT_CHECK_EQ(pages_of_seed(&d, b.pid, 1), 0);
	live_vm_end(&b);
	live_vm_start(&b, &d, "c", "--mem 64M --no-fill --pattern idle --hot-pct 1");
	MT_CHECK_EQ(live_field(&d, "c", "swapped"), 0);
	MT_CHECK(file_is_clean(&d, b.pid));
	live_vm_end(&b);
	live_stop(&d);
}

/* Slots of the swap file in which a page of the VM's can be told by its first word. */
static uint32_t pages_readable(const struct live_daemon *d, pid_t pid)
{
	static uint8_t block[BLOCK];
	const uint32_t magic = CP_MAGIC;
	int fd = swap_file(d, pid);
	uint32_t count = 0;
	ssize_t got;

	while ((got = read(fd, block, sizeof(block))) > 0)
		for (ssize_t at = 0; at < got; at += CP_PAGE_SIZE)
			count += !memcmp(block + at, &magic, sizeof(magic));
	close(fd);
	return count;
}

/* A VM that swaps much; whoever has its swap file finds pages in it, or none. */
static void swap_read_by_others(const char *option, bool encrypted)
{
	struct live_daemon d;
	struct live_vm a;

	live_start_with(&d, "512M", option);
	live_vm_start(&a, &d, "a", "--mem 96M --mix 0/0/20/80 --threads 2");
	live_set(&d, "a", "target_max", "48M");
	MT_CHECK(live_wait_at_least(&d, "a", "swapped", 30 * MIB));
	MT_CHECK_EQ(live_field(&d, "a", "swapEncrypted"), encrypted);
	live_check(&d, "a");
	MT_CHECK_EQ(pages_readable(&d, a.pid) > 1000, !encrypted);
	MT_CHECK_EQ(pages_readable(&d, a.pid) == 0, encrypted);
	live_vm_end(&a);
	MT_CHECK(live_vm_figure(&a, "over_grant_kib") <= 0);
	live_stop(&d);
}

MT_TEST("who reads a swap file finds the VM's pages in it, unless they are encrypted")
{
	swap_read_by_others("", false);
	swap_read_by_others("--swap-encrypt=on", true);
}

MT_TEST("a daemon that is started anew without encryption leaves a VM's swap file encrypted")
{
	struct live_daemon d;
	struct live_vm a;

	live_start_with(&d, "512M", "--swap-encrypt=on");
	live_vm_start(&a, &d, "a", "--mem 64M --mix 0/0/20/80 --threads 1");
	live_kill(&d);
	d.option[0] = '\0';
	live_restart(&d);
	live_wait_state(&d, "a", "running");
	live_set(&d, "a", "target_max", "40M");
	MT_CHECK(live_wait_at_least(&d, "a", "swapped", 10 * MIB));
	MT_CHECK_EQ(pages_readable(&d, a.pid), 0);
	live_check(&d, "a");
	live_vm_end(&a);
	live_stop(&d);
}

MT_TEST_MAIN
