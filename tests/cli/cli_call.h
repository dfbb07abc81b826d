/* SPDX-License-Identifier: MIT */
/* cli_call.h - run the built memtide program and keep what it printed */
#ifndef MT_TESTS_CLI_CALL_H
#define MT_TESTS_CLI_CALL_H

#include "common/mt_test.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>

#define CLI_ARGS_MAX 32

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

/* memtide with these arguments; NULL ends them. Returns the exit status, the rest in cli_result. */
static int cli(const char *first, ...)
{
	const char *args[CLI_ARGS_MAX] = {"memtide", first};
	unsigned int count = 2;
	int out = cli_temp(), err = cli_temp();
	va_list ap;

	va_start(ap, first);
	while (first && count < CLI_ARGS_MAX - 1 && (args[count] = va_arg(ap, const char *)))
		count++;
	va_end(ap);
	cli_finish(cli_start((char *const *)args, out, err), out, err);
	return cli_result.status;
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
