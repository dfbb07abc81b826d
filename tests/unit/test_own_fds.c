/* SPDX-License-Identifier: MIT */
/* test_own_fds.c - which descriptors are ours, and a thread that keeps some of its own */
#include "base/own_fds.h"
#include "base/thread.h"
#include "common/mt_test.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/wait.h>

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

MT_TEST("a descriptor is ours from when it was taken until it is closed")
{
	int fd = mt_fd_own(eventfd(0, EFD_CLOEXEC));

	MT_CHECK(is_open(fd) && mt_fd_is_own(fd));
	MT_CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	MT_CHECK(!mt_fd_is_own(fd + 1) && !mt_fd_is_own(0) && !mt_fd_is_own(-1));
	mt_fd_close(fd);
	MT_CHECK(!is_open(fd) && !mt_fd_is_own(fd));
}

MT_TEST("a descriptor that could not be made stays a failure, and its cause is still told")
{
	errno = EMFILE;
	MT_CHECK_EQ(mt_fd_own(-EAGAIN), -EAGAIN);
	MT_CHECK_EQ(errno, EMFILE);
	MT_CHECK_EQ(mt_fd_next_own(0), -1);
	mt_fd_close(-1);
}

MT_TEST("our descriptors lie where no new file gets their number, if there is room for that")
{
	struct rlimit limit = {.rlim_cur = 64, .rlim_max = 1024};
	int high = mt_fd_own(eventfd(0, EFD_CLOEXEC)), low, next;

	MT_CHECK(high > 100);
	MT_CHECK(!setrlimit(RLIMIT_NOFILE, &limit));
	low = mt_fd_own(eventfd(0, EFD_CLOEXEC));
	MT_CHECK(low >= 0 && low < 64 && is_open(low) && mt_fd_is_own(low));
	mt_fd_close(high);
	next = eventfd(0, EFD_CLOEXEC);
	MT_CHECK(next >= 0 && next != high);
}

MT_TEST("the number of one that was closed behind our back is not given to the next of ours")
{
	int lost = mt_fd_own(eventfd(0, EFD_CLOEXEC)), next;

	MT_CHECK(!close(lost));
	next = mt_fd_own(eventfd(0, EFD_CLOEXEC));
	MT_CHECK(next > lost && is_open(next) && !is_open(lost));
	mt_fd_close(lost);
	MT_CHECK_EQ(mt_fd_own(eventfd(0, EFD_CLOEXEC)), lost);
}

MT_TEST("ours are found in order, whatever order they came in")
{
	int fd[40];
	int at = -1, seen = 0;

	for (int i = 0; i < 40; i++)
		fd[i] = mt_fd_own(eventfd(0, EFD_CLOEXEC));
	for (int i = 0; i < 40; i += 2)
		mt_fd_close(fd[i]);
	for (int i = 0; i < 40; i += 2)
		fd[i] = mt_fd_own(eventfd(0, EFD_CLOEXEC));
	while ((at = mt_fd_next_own(at + 1)) >= 0) {
		MT_CHECK(is_open(at));
		seen++;
	}
	MT_CHECK_EQ(seen, 40);
}

MT_TEST("more than there is room to remember are not protected, and closed all the same")
{
	int fd[200];

	for (int i = 0; i < 200; i++)
		fd[i] = mt_fd_own(eventfd(0, EFD_CLOEXEC));
	for (int i = 0; i < 200; i++) {
		MT_CHECK(is_open(fd[i]));
		mt_fd_close(fd[i]);
		MT_CHECK(!is_open(fd[i]));
	}
	MT_CHECK_EQ(mt_fd_next_own(0), -1);
}

MT_TEST("in a child none is ours, and nothing changes for the parent")
{
	int fd = mt_fd_own(eventfd(0, EFD_CLOEXEC)), status = -1;
	pid_t pid = fork();

	if (!pid)
		_exit(mt_fd_is_own(fd) || mt_fd_next_own(0) >= 0);
	MT_CHECK_EQ(waitpid(pid, &status, 0), pid);
	MT_CHECK_EQ(status, 0);
	MT_CHECK(mt_fd_is_own(fd) && mt_fd_next_own(0) == fd);
}

struct keeper {
	int keep[3];
	int other;
	int told[2]; /* pipe: the thread has looked */
	int go[2];   /* pipe: look */
	bool others_closed, kept, ours, was_ours;
	int rc;
};

static void *keeper_main(void *arg)
{
	struct keeper *keeper = arg;
	char c = 0;

	keeper->was_ours = mt_thread_is_ours();
	mt_thread_enter("keeper");
	keeper->ours = mt_thread_is_ours();
	keeper->rc = mt_thread_own_files(keeper->keep, 3);
	keeper->others_closed = !is_open(keeper->other) && !is_open(STDIN_FILENO) &&
				!is_open(keeper->told[0]) && !is_open(keeper->go[1]);
	if (write(keeper->told[1], &c, 1) != 1 || read(keeper->go[0], &c, 1) != 1)
		return NULL;
	keeper->kept = is_open(keeper->keep[2]) && write(keeper->keep[2], "12345678", 8) == 8;
	return NULL;
}

MT_TEST("a thread's own descriptors outlive the process's, and it keeps no other file open")
{
	struct keeper keeper = {.other = -1};
	int pair[2], fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_t thread;
	char c = 1;

	MT_CHECK(!pipe(keeper.told) && !pipe(keeper.go) && !pipe(pair));
	keeper.other = pair[1];
	keeper.keep[0] = keeper.told[1];
	keeper.keep[1] = keeper.go[0];
	keeper.keep[2] = fcntl(fd, F_DUPFD_CLOEXEC, 200);
	MT_CHECK(!mt_thread_start(&thread, NULL, keeper_main, &keeper));
	MT_CHECK_EQ(read(keeper.told[0], &c, 1), 1);
	/* Whoever reads from the pipe is told of its end. */
	close(pair[1]);
	MT_CHECK_EQ(read(pair[0], &c, 1), 0);
	close(keeper.keep[2]);
	MT_CHECK_EQ(write(keeper.go[1], &c, 1), 1);
	MT_CHECK(!pthread_join(thread, NULL));
	MT_CHECK_EQ(keeper.rc, 0);
	MT_CHECK(keeper.others_closed && keeper.kept && keeper.ours && !keeper.was_ours);
	MT_CHECK(!mt_thread_is_ours());
}

MT_TEST_MAIN
