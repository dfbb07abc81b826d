/* SPDX-License-Identifier: MIT */
/*
 * mt_test.h - the test harness: a fork for each test, a time limit, TAP output
 *
 * A hung fault or a failed assertion is a normal outcome of a test here, so every test runs in a
 * process of its own and may die without hurting the others.
 *
 *	MT_TEST("a size without a unit is bytes")
 *	{
 *		MT_CHECK(...);
 *	}
 *	MT_TEST_MAIN
 *
 * Names are sentences. MT_SKIP("reason") ends a test as skipped. Exit status: 0 all well, 1 if a
 * test failed. Test names given as arguments (substrings) select tests.
 */
#ifndef MT_TESTS_MT_TEST_H
#define MT_TESTS_MT_TEST_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#define MT_TEST_MAX       256
#define MT_TEST_SKIP_EXIT 77

/* What a test may take, unless it says otherwise: only one that hangs comes to it. */
#define MT_TEST_SECONDS 300

struct mt_test_case {
	const char *name;
	void (*run)(void);
	unsigned int seconds;
};

static struct mt_test_case mt_test_cases[MT_TEST_MAX];
static unsigned int mt_test_count;

#define MT_TEST_CAT_(a, b) a##b
#define MT_TEST_CAT(a, b)  MT_TEST_CAT_(a, b)

/* A test with its own time limit in seconds. */
#define MT_TEST_LIMIT(sentence, limit)                                                  \
	static void MT_TEST_CAT(test_body_, __LINE__)(void);                            \
	__attribute__((constructor)) static void MT_TEST_CAT(test_add_, __LINE__)(void) \
	{                                                                               \
		if (mt_test_count < MT_TEST_MAX)                                        \
			mt_test_cases[mt_test_count++] = (struct mt_test_case){         \
				sentence, MT_TEST_CAT(test_body_, __LINE__), limit};    \
	}                                                                               \
	static void MT_TEST_CAT(test_body_, __LINE__)(void)

#define MT_TEST(sentence) MT_TEST_LIMIT(sentence, MT_TEST_SECONDS)

#define MT_FAIL(...)                                     \
	do {                                             \
		printf("# %s:%d: ", __FILE__, __LINE__); \
		printf(__VA_ARGS__);                     \
		printf("\n");                            \
		fflush(stdout);                          \
		_exit(1);                                \
	} while (0)

#define MT_CHECK(cond)                                  \
	do {                                            \
		if (!(cond))                            \
			MT_FAIL("not true: %s", #cond); \
	} while (0)

#define MT_CHECK_EQ(a, b)                                                           \
	do {                                                                        \
		long long mt_a_ = (long long)(a), mt_b_ = (long long)(b);           \
		if (mt_a_ != mt_b_)                                                 \
			MT_FAIL("%s is %lld, not %s = %lld", #a, mt_a_, #b, mt_b_); \
	} while (0)

#define MT_CHECK_STR(a, b)                                                     \
	do {                                                                   \
		const char *mt_a_ = (a), *mt_b_ = (b);                         \
		if (strcmp(mt_a_, mt_b_))                                      \
			MT_FAIL("%s is \"%s\", not \"%s\"", #a, mt_a_, mt_b_); \
	} while (0)

#define MT_SKIP(...)                      \
	do {                              \
		printf("# skipped: ");    \
		printf(__VA_ARGS__);      \
		printf("\n");             \
		fflush(stdout);           \
		_exit(MT_TEST_SKIP_EXIT); \
	} while (0)

/* How long something is waited for, and how often it is looked at: soon at first. */
struct mt_wait {
	double end_s;
	unsigned int pause_us;
};

/* Seconds by a clock that nobody sets. */
static inline double mt_now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* Pauses before the next look. Return: false when there is to be none. */
static inline bool mt_wait_again(struct mt_wait *wait)
{
	if (mt_now_s() > wait->end_s)
		return false;
	usleep(wait->pause_us);
	wait->pause_us = wait->pause_us < 25000 ? wait->pause_us * 2 : 50000;
	return true;
}

/*
 * Wait until an expression is true. Value: false when it never is for @seconds, on which nothing
 * depends but how soon a test that fails does so: let it be far more than a slow machine needs.
 */
#define MT_WAIT(seconds, condition)                                           \
	({                                                                    \
		struct mt_wait mt_wait_ = {mt_now_s() + (seconds), 3000};     \
		bool mt_true_;                                                \
                                                                              \
		while (!(mt_true_ = (condition)) && mt_wait_again(&mt_wait_)) \
			;                                                     \
		mt_true_;                                                     \
	})

/* Runs one test in a child. Return: 0 passed, 1 failed, MT_TEST_SKIP_EXIT skipped. */
static inline int mt_test_run(const struct mt_test_case *test)
{
	int status = 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		return 1;
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(test->seconds);
		test->run();
		fflush(stdout);
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0)
		;
	if (WIFSIGNALED(status)) {
		printf("# ended by signal %d (%s)\n", WTERMSIG(status),
		       WTERMSIG(status) == SIGALRM ? "time limit" : strsignal(WTERMSIG(status)));
		return 1;
	}
	return WEXITSTATUS(status);
}

static inline int mt_test_wanted(const char *name, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strstr(name, argv[i]))
			return 1;
	return argc < 2;
}

static inline int mt_test_main(int argc, char **argv)
{
	unsigned int failed = 0, number = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (unsigned int i = 0; i < mt_test_count; i++) {
		const struct mt_test_case *test = &mt_test_cases[i];
		time_t begin = time(NULL), took;
		int rc;

		if (!mt_test_wanted(test->name, argc, argv))
			continue;
		rc = mt_test_run(test);
		number++;
		if (rc == MT_TEST_SKIP_EXIT) {
			printf("ok %u - %s # SKIP\n", number, test->name);
		} else {
			printf("%s %u - %s\n", rc ? "not ok" : "ok", number, test->name);
			failed += rc != 0;
		}
		took = time(NULL) - begin;
		if (took > 1)
			printf("# took %ld s\n", (long)took);
	}
	printf("1..%u\n", number);
	return failed ? 1 : 0;
}

#define MT_TEST_MAIN                             \
	int main(int argc, char **argv)          \
	{                                        \
		return mt_test_main(argc, argv); \
	}

#endif
