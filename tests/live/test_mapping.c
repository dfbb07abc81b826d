/* SPDX-License-Identifier: MIT */
/*
 * test_mapping.c - a VMM unmaps, replaces and moves guest memory, and closes descriptors that it
 * did not open, and no page is lost
 *
 * The VMM is memtide-mapper, an unmodified program under the preload library. It judges its pages
 * itself; here it is started, squeezed, and its exit status taken. I6, I8.
 */
#include "live/live.h"
#include "common/mt_test.h"

#include <fcntl.h>

#define MIB 1024 /* in KiB */

/* @ret_in: its input; it ends when that is closed. */
static pid_t mapper_start(const struct live_daemon *d, const char *what, int *ret_in)
{
	const char *exe = getenv("MEMTIDE_MAPPER_EXE"), *preload = getenv("MEMTIDE_PRELOAD");
	int in[2];
	pid_t pid;

	MT_CHECK(exe && preload && !pipe(in));
	pid = fork();
	MT_CHECK(pid >= 0);
	close(in[pid ? 0 : 1]);
	*ret_in = in[1];
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(in[0], STDIN_FILENO);
	setenv("LD_PRELOAD", preload, 1);
	setenv("MEMTIDE_VM", "a", 1);
	setenv("MEMTIDE_SOCKET", d->socket, 1);
	setenv("MEMTIDE_MIN_REGION", "1M", 1);
	execl(exe, "memtide-mapper", what, NULL);
	_exit(2);
}

/* A daemon and the program, all of its memory in use and then squeezed to less than half. */
static pid_t mapper_squeezed(struct live_daemon *d, const char *what, int *ret_in)
{
	pid_t pid;

	live_start(d, "512M");
	pid = mapper_start(d, what, ret_in);
	live_wait_state(d, "a", "running");
	MT_CHECK(live_wait_at_least(d, "a", "resident", 60 * MIB));
	live_set(d, "a", "target_max", "24M");
	return pid;
}

/* It has found every page to be right. */
static void mapper_ended(struct live_daemon *d, pid_t pid, int in)
{
	int status = -1;

	close(in);
	MT_CHECK_EQ(waitpid(pid, &status, 0), pid);
	MT_CHECK_EQ(status, 0);
	live_stop(d);
}

/* Runs it, squeezed to less than half. @stays: is some of its memory managed in the end? */
static void mapped(const char *what, bool stays)
{
	struct live_daemon d;
	int in;
	pid_t pid;

	pid = mapper_squeezed(&d, what, &in);
	live_sleep(1.5);
	if (stays)
		live_check(&d, "a");
	else
		MT_CHECK(live_wait_at_most(&d, "a", "memsize", 0));
	mapper_ended(&d, pid, in);
}

MT_TEST("memory mapped over guest memory keeps what the VMM writes there, the rest stays the "
	"guest's")
{
	mapped("mmap", true);
}

MT_TEST("memory mapped where guest memory was unmapped keeps what the VMM writes there")
{
	mapped("munmap", true);
}

MT_TEST("guest memory that is replaced as a whole is managed no longer")
{
	mapped("mmap-all", false);
}

MT_TEST("guest memory that is moved to another address comes along with every page")
{
	mapped("mremap", false);
}

MT_TEST("a mapping that the kernel refuses costs no page")
{
	mapped("refused", true);
}

MT_TEST("a VMM that has no mapping left keeps every page while memory comes and goes")
{
	mapped("full", true);
}

MT_TEST("a VMM that closes every descriptor it does not know keeps every page, and goes on")
{
	mapped("close", true);
}

/*
 * That it waits for ever can't be seen; that no page came as something else can. Nothing depends on
 * how long it takes: the readers read before the VM is known to have failed, or after, or never.
 */
MT_TEST("a VMM that closes descriptors by a raw system call never reads zeros for a page that is "
	"out")
{
	struct live_daemon d;
	int in;
	pid_t pid;

	pid = mapper_squeezed(&d, "close-raw", &in);
	MT_CHECK(live_wait_event(&d, "a", "closed Memtide's descriptors"));
	MT_CHECK(live_wait_at_least(&d, "a", "failed", 30 * MIB));
	live_wait_state(&d, "a", "failed");
	live_sleep(0.5);
	mapper_ended(&d, pid, in);
}

/* Has process @pid a file open for direct I/O? */
static bool has_direct(pid_t pid)
{
	char path[64], line[64];
	unsigned int flags = 0;
	bool found = false;

	for (int fd = 0; !found && fd < 64; fd++) {
		FILE *file;

		snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", (int)pid, fd);
		file = fopen(path, "re");
		while (file && fgets(line, sizeof(line), file))
			found |= sscanf(line, "flags: %o", &flags) == 1 && flags & O_DIRECT;
		if (file)
			fclose(file);
	}
	return found;
}

/* KiB of which there is no memory in the VM any more; pages go from one store to another. */
static int64_t out_of_memory(const struct live_daemon *d)
{
	static const char *const keys[] = {"zipped", "swapped", "zero", "sharedFrames"};

	return live_sum(d, "a", keys, 4);
}

/* KiB of its guest memory that are not in their place, by the kernel's word. */
static int64_t out_of_place(const struct live_daemon *d, pid_t pid)
{
	json_object *answer = live_ask(d, "{\"cmd\":\"show\",\"vm\":\"a\"}"), *regions, *region;
	uint64_t entry[512], addr, bytes;
	int64_t kib = 0;
	char path[64];
	int fd;

	regions = json_object_object_get(json_object_object_get(answer, "vm"), "regions");
	MT_CHECK_EQ(json_object_array_length(regions), 1);
	region = json_object_array_get_idx(regions, 0);
	addr = json_object_get_uint64(json_object_object_get(region, "addr"));
	bytes = json_object_get_uint64(json_object_object_get(region, "bytes"));
	json_object_put(answer);
	snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	MT_CHECK(fd >= 0 && bytes && bytes % (512 * 4096) == 0);
	for (; bytes; bytes -= 512 * 4096, addr += 512 * 4096) {
		MT_CHECK_EQ(pread(fd, entry, sizeof(entry), (off_t)(addr / 4096 * 8)),
			    sizeof(entry));
		for (unsigned int i = 0; i < 512; i++)
			kib += entry[i] >> 62 ? 0 : 4;
	}
	close(fd);
	return kib;
}

MT_TEST("from the moment on that such a file is opened unseen no page leaves its place for a store")
{
	struct live_daemon d;
	int64_t out, after;
	int in;
	pid_t pid;

	pid = mapper_squeezed(&d, "direct-raw", &in);
	MT_CHECK(live_wait_at_most(&d, "a", "held", 24 * MIB));
	MT_CHECK_EQ(write(in, "0", 1), 1);
	MT_CHECK(LIVE_WAIT(has_direct(pid)));
	/* What has left its place before may go on; the squeezing may not be over. */
	out = out_of_place(&d, pid);
	live_set(&d, "a", "target_max", "16M");
	MT_CHECK(live_wait_event(&d, "a", "is open for direct I/O"));
	live_sleep(0.6);
	after = out_of_memory(&d);
	printf("# out of memory: at most %lld KiB before, %lld KiB after\n", (long long)out,
	       (long long)after);
	MT_CHECK(after > 0 && after <= out);
	live_check(&d, "a");
	MT_CHECK_EQ(write(in, "12", 2), 2);
	MT_CHECK(live_wait_event(&d, "a", "no file is open any more"));
	mapper_ended(&d, pid, in);
}

/* Less memory is wanted, and told twice: when the daemon has been told of the file, and later. */
static void direct(const char *what)
{
	struct live_daemon d;
	int in;
	pid_t pid;

	pid = mapper_squeezed(&d, what, &in);
	if (!strcmp(what, "direct-raw"))
		MT_CHECK_EQ(write(in, "0", 1), 1);
	MT_CHECK(live_wait_event(&d, "a", "is open for direct I/O"));
	MT_CHECK(live_wait_at_least(&d, "a", "directIo", 1));
	MT_CHECK_EQ(write(in, "1", 1), 1);
	live_set(&d, "a", "target_max", "20M");
	live_sleep(1.5);
	live_check(&d, "a");
	MT_CHECK_EQ(write(in, "2", 1), 1);
	MT_CHECK(live_wait_event(&d, "a", "no file is open any more"));
	MT_CHECK(live_wait_at_most(&d, "a", "directIo", 0));
	mapper_ended(&d, pid, in);
}

MT_TEST("while a file is open for direct I/O that is not reported no page leaves its place")
{
	direct("direct-open");
}

MT_TEST("the same for a file that is switched to direct I/O while it is open")
{
	direct("direct-fcntl");
}

MT_TEST("the same, once it is found, for a file that was opened unseen")
{
	direct("direct-raw");
}

MT_TEST("a VMM that has no mapping left when it starts runs unmanaged, and the daemon says why")
{
	struct live_daemon d;
	int in;
	pid_t pid;

	live_start(&d, "512M");
	pid = mapper_start(&d, "full-first", &in);
	MT_CHECK(live_wait_event(&d, "a", "no address space"));
	mapper_ended(&d, pid, in);
}

MT_TEST_MAIN
