/* SPDX-License-Identifier: MIT */
/*
 * fake_daemon.h - a stand-in for memtided that answers the control protocol from a script
 *
 * Tests of the command line need answers that a real daemon gives rarely or never: a refusal, a
 * broken audit, a socket that is somebody else's. Requests are kept in a file, to be looked at.
 */
#ifndef MT_TESTS_CLI_FAKE_DAEMON_H
#define MT_TESTS_CLI_FAKE_DAEMON_H

#include <stdbool.h>
#include <sys/types.h>

struct fake_options {
	const char *greeting;    /* NULL: the right one; "": none */
	const char *state;       /* of the VM "web" and of every VM created; NULL: "running" */
	const char *reason;      /* NULL: "" */
	bool bad_audit;          /* check finds violations */
	bool no_answers;         /* greets and then says nothing */
	const char *leave_after; /* goes away after a request with this text */
	unsigned int vms;        /* in the list; 0: two */
};

/** fake_start() - serve in a child until the test ends; sets MEMTIDE_SOCKET */
void fake_start(const struct fake_options *options);

/** fake_dir() - a directory of this test's own, removed after its end */
const char *fake_dir(void);

/** fake_socket() - the path the fake daemon listens on, or would */
const char *fake_socket(void);

/** fake_saw() - was a request with @text in it sent? */
bool fake_saw(const char *text);

#endif
