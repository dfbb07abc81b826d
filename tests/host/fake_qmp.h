/* SPDX-License-Identifier: MIT */
/*
 * fake_qmp.h - a QMP server that does what it is told to, right or wrong
 *
 * It serves one connection at a time, as QEMU does, and never waits: fake_qmp_turn() does what can
 * be done now. Up to a chosen number of commands everything is right; then comes the fault, once,
 * and the connection is spoilt. It also plays a balloon device with a guest behind it.
 */
#ifndef MT_TESTS_HOST_FAKE_QMP_H
#define MT_TESTS_HOST_FAKE_QMP_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

enum fake_fault {
	FAKE_NONE,
	FAKE_HANG,      /* says nothing more */
	FAKE_CLOSE,     /* hangs up */
	FAKE_GARBAGE,   /* random bytes, some of them NUL */
	FAKE_PARTIAL,   /* half an object, and hangs up */
	FAKE_HALF_HANG, /* half an object, and nothing more */
	FAKE_TOO_LONG,  /* an object without an end */
	FAKE_WRONG_ID,  /* an answer to something else */
	FAKE_NO_ID,
	FAKE_NO_OBJECT, /* a number, a list, null */
	FAKE_DEEP,      /* nested too deeply */
	FAKE_NO_VALUE,  /* an answer with neither value nor error */
	FAKE_FAULTS
};

struct fake_qmp {
	char path[100];
	int listen_fd;
	int fd; /* -1: nobody is connected */
	uint64_t random;
	char in[8192];
	size_t in_used;
	char *out; /* not sent yet */
	size_t out_used;

	enum fake_fault fault; /* to come */
	unsigned int after;    /* commands of this connection before it comes; 0: in the greeting */
	bool spoilt;           /* it has come */
	bool pretty;           /* objects over many lines, as with -qmp-pretty */
	bool torn;             /* output goes out in pieces */

	unsigned int commands;    /* of this connection */
	unsigned int connections; /* so far */
	unsigned int ended;       /* of these */

	/* the balloon */
	bool no_balloon;
	bool no_deflate_on_oom;
	uint64_t memory_bytes;
	uint64_t actual_bytes; /* what the guest has left */
	uint64_t wanted_bytes; /* what it was told last */
	uint64_t step_bytes;   /* how far the guest goes in one turn; 0: it does not move */
	uint64_t total_bytes, available_bytes, swap_in_bytes;
	int64_t last_update_s;
	unsigned int interval_s; /* what the client asked for */
	unsigned int balloons;   /* "balloon" commands */

	unsigned int stops; /* "stop" commands */
	bool no_stop;       /* they are refused */
	bool hang_on_stop;  /* they are not answered, nor is anything after them, until next time */
};

/** fake_qmp_start() - listen at @path */
void fake_qmp_start(struct fake_qmp *fake, const char *path, uint64_t seed);
/** fake_qmp_stop() - nobody listens any more */
void fake_qmp_stop(struct fake_qmp *fake);
/** fake_qmp_turn_away() - nobody listens any more; who has connected is hung up on, and counted */
void fake_qmp_turn_away(struct fake_qmp *fake);
/** fake_qmp_turn() - accept, read, answer; never waits. Return: was there anything to do? */
bool fake_qmp_turn(struct fake_qmp *fake);
/** fake_qmp_say() - send an object (consumed) unasked */
void fake_qmp_say(struct fake_qmp *fake, struct json_object *object);
/** fake_random() - the next number, 0 to @below - 1 */
uint64_t fake_random(uint64_t *state, uint64_t below);

#endif
