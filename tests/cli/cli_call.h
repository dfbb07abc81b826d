/* SPDX-License-Identifier: MIT */
/* cli_call.h - run the built memtide program and keep what it printed */
#ifndef MT_TESTS_CLI_CALL_H
#define MT_TESTS_CLI_CALL_H

#include "common/mt_test.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>

#define CLI_ARGS_MAX 32
#define CLI_TRIES    5
#define CLI_SOON_S   30

struct cli_call {
	int status; /* exit status, 128 + signal when killed */
	char out[256 * 1024];
	char err[16 * 1024];
};

static struct cli_call cli_result;

static void cli_slurp(int fd, char *buf, size_t room)
{
	ssize_t got = pread(fd, buf, room - 1, 0);

	buf[got > 0 ? got : 0] = '\0';
	close(fd);
}

static int cli_temp(void)
{
	int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	MT_CHECK(fd >= 0);
	return fd;
}

/* Starts memtide with @args; its outputs go to the two files. */
static pid_t cli_start(char *const args[], int out, int err)
{
	const char *exe = getenv("MEMTIDE_EXE");
	pid_t pid;

	MT_CHECK(exe);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(out, STDOUT_FILENO);
		dup2(err, STDERR_FILENO);
		execv(exe, args);
		_exit(127);
	}
	return pid;
}

static void cli_finish(pid_t pid, int out, int err)
{
	int status = 0;

	MT_CHECK(waitpid(pid, &status, 0) == pid);
	cli_result.status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	cli_slurp(out, cli_result.out, sizeof(cli_result.out));
	cli_slurp(err, cli_result.err, sizeof(cli_result.err));
}

/* Did memtide give up because the daemon, or it itself, was slow? */
static bool cli_gave_up(void)
{
	static const char *const says[] = {"no greeting within 3 s", "the daemon does not answer",
					   "was not under management after 10 s"};
	bool gave_up = false;

	for (size_t i = 0; i < sizeof(says) / sizeof(says[0]); i++)
		gave_up |= strstr(cli_result.err, says[i]) || strstr(cli_result.out, says[i]);
	return gave_up;
}

static void cli_run(char *const args[])
{
	int out = cli_temp(), err = cli_temp();

	cli_finish(cli_start(args, out, err), out, err);
}

#define CLI_ARGS(args, first)                                      \
	do {                                                       \
		unsigned int count_ = 2;                           \
		va_list ap_;                                       \
                                                                   \
		va_start(ap_, first);                              \
		while (first && count_ < CLI_ARGS_MAX - 1 &&       \
		       (args[count_] = va_arg(ap_, const char *))) \
			count_++;                                  \
		va_end(ap_);                                       \
	} while (0)

/*
 * memtide with these arguments; NULL ends them. Returns the exit status, the rest in cli_result.
 * It waits some seconds for a daemon; one that was slow once may not be so again.
 */
static int cli(const char *first, ...)
{
	const char *args[CLI_ARGS_MAX] = {"memtide", first};

	CLI_ARGS(args, first);
	for (unsigned int tries = 0; tries < CLI_TRIES && (!tries || cli_gave_up()); tries++)
		cli_run((char *const *)args);
	return cli_result.status;
}

/* The same, where giving up is what it is to do. Returns the seconds that took, the least of some
 * tries when it took long: the machine may have been slow. */
static inline double cli_gives_up(const char *first, ...)
{
	const char *args[CLI_ARGS_MAX] = {"memtide", first};
	double least = 1e9;

	CLI_ARGS(args, first);
	for (unsigned int tries = 0; tries < CLI_TRIES && least >= CLI_SOON_S; tries++) {
		double began = mt_now_s(), took;

		cli_run((char *const *)args);
		took = mt_now_s() - began;
		least = took < least ? took : least;
	}
	return least;
}

#define CLI_HAS(stream, text)                                                             \
	do {                                                                              \
		if (!strstr(cli_result.stream, text))                                     \
			MT_FAIL("no \"%s\" in " #stream ": %s", text, cli_result.stream); \
	} while (0)

/* A failure is one line on standard error that says who speaks, and nothing on standard output. */
#define CLI_FAILS(expected, text)                                                                 \
	do {                                                                                      \
		size_t length_ = strlen(cli_result.err);                                          \
		MT_CHECK_EQ(cli_result.status, expected);                                         \
		CLI_HAS(err, text);                                                               \
		MT_CHECK(!strncmp(cli_result.err, "memtide: ", 9));                               \
		MT_CHECK(length_ &&strchr(cli_result.err, '\n') == cli_result.err + length_ - 1); \
	} while (0)

#endif
