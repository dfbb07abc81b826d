/* SPDX-License-Identifier: MIT */
/*
 * test_mapping.c - a VMM unmaps, replaces and moves guest memory, and no page is lost
 *
 * The VMM is memtide-mapper, an unmodified program under the preload library. It judges its pages
 * itself; here it is started, squeezed, and its exit status taken. I6, I8.
 */
#include "live/live.h"
#include "common/mt_test.h"

#define MIB 1024 /* in KiB */

/* @ret_in: its input; it ends when that is closed. */
static pid_t mapper_start(const struct live_daemon *d, const char *what, int *ret_in)
{
	int in[2];
	pid_t pid;

	MT_CHECK(!pipe(in));
	pid = fork();
	MT_CHECK(pid >= 0);
	close(in[pid ? 0 : 1]);
	*ret_in = in[1];
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(in[0], STDIN_FILENO);
	setenv("LD_PRELOAD", getenv("MEMTIDE_PRELOAD"), 1);
	setenv("MEMTIDE_VM", "a", 1);
	setenv("MEMTIDE_SOCKET", d->socket, 1);
	setenv("MEMTIDE_MIN_REGION", "1M", 1);
	execl(getenv("MEMTIDE_MAPPER_EXE"), "memtide-mapper", what, NULL);
	_exit(2);
}

/* Runs it, squeezed to less than half. @stays: is some of its memory managed in the end? */
static void mapped(const char *what, bool stays)
{
	struct live_daemon d;
	int status = -1, in;
	pid_t pid;

	live_start(&d, "512M");
	pid = mapper_start(&d, what, &in);
	for (int i = 0; i < 200 && strcmp(live_state(&d, "a"), "running"); i++)
		live_sleep(0.05);
	MT_CHECK(live_wait_at_least(&d, "a", "resident", 60 * MIB, 20));
	live_set(&d, "a", "target_max", "24M");
	live_sleep(1.5);
	if (stays)
		live_check(&d, "a");
	else
		MT_CHECK(live_wait_at_most(&d, "a", "memsize", 0, 20));
	close(in);
	MT_CHECK_EQ(waitpid(pid, &status, 0), pid);
	MT_CHECK_EQ(status, 0);
	live_stop(&d);
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

MT_TEST("a VMM that has no mapping left when it starts runs unmanaged, and the daemon says why")
{
	struct live_daemon d;
	int status = -1, in;
	pid_t pid;

	live_start(&d, "512M");
	pid = mapper_start(&d, "full-first", &in);
	MT_CHECK(live_wait_event(&d, "a", "no address space", 20));
	close(in);
	MT_CHECK_EQ(waitpid(pid, &status, 0), pid);
	MT_CHECK_EQ(status, 0);
	live_stop(&d);
}

MT_TEST_MAIN
