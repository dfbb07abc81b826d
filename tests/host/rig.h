/* SPDX-License-Identifier: MIT */
/*
 * rig.h - a real daemon in a directory of its own, and monitors and clients to try it with
 *
 * Monitors are played by the test: they speak wire messages and keep their own books, so that
 * what the daemon says about grants can be held against what it sent. Any failure ends the test.
 */
#ifndef MT_TESTS_HOST_RIG_H
#define MT_TESTS_HOST_RIG_H

#include "common/mt_test.h"
#include "wire/wire.h"

#include <json-c/json.h>
#include <sys/types.h>

#define MIB          (1ULL << 20)
#define MIB_PAGES(m) ((uint64_t)(m) << 8)

/* How long anything is waited for: far more than a slow machine needs. */
#define RIG_PATIENCE_MS 60000

/* Wait until an expression is true. Value: false when it never is. */
#define RIG_WAIT(condition) MT_WAIT(RIG_PATIENCE_MS / 1000, condition)

/*
 * Take messages until the condition holds when no more come, which it must: one that goes past it
 * and stays there is wrong.
 */
#define PEER_UNTIL(peer, condition)                                            \
	do {                                                                   \
		if (!RIG_WAIT((peer_drain(peer, PEER_QUIET_MS), (condition)))) \
			MT_FAIL("does not come true: %s", #condition);         \
	} while (0)
#define PEER_QUIET_MS 50

/* Does @turn, of 2 ms at least, until the condition holds, which it must. */
#define RIG_UNTIL(turn, condition)                                     \
	do {                                                           \
		unsigned int turns_ = 0;                               \
		while (!(condition) && turns_++ < 30000)               \
			turn;                                          \
		if (!(condition))                                      \
			MT_FAIL("does not come true: %s", #condition); \
	} while (0)

struct rig {
	char dir[64];
	char socket[96];
	char vm_socket[104];
	char swap[96];
	char config[96];
	pid_t daemon;
};

struct peer {
	int fd;
	uint64_t grant; /* sum of GRANT_ADD less what was returned */
	uint64_t target;
	uint32_t zip_max_pct;
	bool zip_known;
	uint32_t sample_period_s;
	uint32_t sample_pages;
	uint32_t vmid;
	char secret[MT_WIRE_TOKEN_MAX];
	int uffd;
	int swap_fd;
	uint64_t swap_bytes;
	int frames_fd;        /* as passed with SHARE_START */
	uint32_t share_start; /* enum mt_share_start of the last; 0: none came */
	uint64_t addr;        /* next region */
	uint32_t serial;
	uint32_t check; /* serial of a CHECK that came; 0: none */
	bool closed;
	char text[MT_WIRE_TEXT_MAX]; /* of the last REFUSED */
};

/** rig_make() - fresh directories; skips the test where no daemon can run */
void rig_make(struct rig *rig);
/** rig_start() - start the daemon and wait until it is ready; @config: lines for its file, or NULL.
 * It waits for monitors and QMP much longer than usual, unless @config says otherwise: the test is
 * both, and may be slow. */
void rig_start(struct rig *rig, const char *pool, const char *config);
/** rig_stop() - SIGTERM; it must end well and leave no socket */
void rig_stop(struct rig *rig);
/** rig_kill() - SIGKILL */
void rig_kill(struct rig *rig);
/** rig_run() - run the daemon with @args (NULL-ended) to its end. Return: its status; its output in
 * @text. */
int rig_run(const char *const *args, char *text, size_t room);

/* Fields of a VM in the state file, counted from its name. */
enum rig_state {
	RIG_STATE_GRANT = 3,
	RIG_STATE_LIMIT = 6,
	RIG_STATE_TARGET_MAX = 7,
	RIG_STATE_ZIP_MAX_PCT = 10,
};

/** rig_state_frames() - how many shared frames the state file speaks of */
uint64_t rig_state_frames(const struct rig *rig);
/** rig_state_says() - is @value what the state file says of @vm? */
bool rig_state_says(const struct rig *rig, const char *vm, enum rig_state field, uint64_t value);

void peer_connect(const struct rig *rig, struct peer *peer);
void peer_close(struct peer *peer);
void peer_send(struct peer *peer, union mt_wire_msg *msg);
/** peer_next() - take one message into the books. False: none came in time, or the daemon hung up.
 */
bool peer_next(struct peer *peer, union mt_wire_msg *msg, int timeout_ms);
/** peer_drain() - take messages until none comes for @quiet_ms; no proof that none is to come */
void peer_drain(struct peer *peer, int quiet_ms);
/** peer_hello_msg() - send @hello (its name may be set already) and wait. Return: 0 or the code of
 * the refusal. */
int peer_hello_msg(struct peer *peer, union mt_wire_msg *hello);
/** peer_hello() - the usual first hello, without a token */
int peer_hello(struct peer *peer, const char *name, uint64_t reservation, uint64_t limit);
/** peer_join() - connect and say hello; must go well */
void peer_join(const struct rig *rig, struct peer *peer, const char *name);
/** peer_again_with() - the same, with @fd as its swap file */
int peer_again_with(const struct rig *rig, struct peer *peer, const char *name,
		    uint64_t memsize_pages, int fd);
/** peer_again() - connect and say hello again with what @peer has */
int peer_again(const struct rig *rig, struct peer *peer, const char *name, uint64_t memsize_pages);
/** peer_region_send() - REGION_ADD at the next address. Return: its serial. */
uint32_t peer_region_send(struct peer *peer, uint64_t bytes);
/** peer_region_wait() - Return: 0 or the code of the refusal; 1 when no answer came in time */
int peer_region_wait(struct peer *peer, uint32_t serial, int timeout_ms);
/** peer_region() - both */
int peer_region(struct peer *peer, uint64_t bytes);
/** peer_granted() - take messages until it has been granted all of its target, and no more. Return:
 * the grant. */
uint64_t peer_granted(struct peer *peer);
void peer_return(struct peer *peer, uint64_t pages);
/** peer_obey() - return what is above the target. Return: pages returned. */
uint64_t peer_obey(struct peer *peer);
void peer_stats(struct peer *peer, enum mt_counter counter, uint64_t value);
/** peer_dropped() - has the daemon hung up within @timeout_ms? */
bool peer_dropped(struct peer *peer, int timeout_ms);

/** ctl_open() - connect to the control socket and read the greeting */
int ctl_open(const struct rig *rig);
void ctl_send(int fd, const char *text);
/** ctl_line() - next line as JSON; NULL at the end of the connection or after @timeout_ms */
struct json_object *ctl_line(int fd, int timeout_ms);
/** ctl_ask() - send and wait */
struct json_object *ctl_ask(int fd, const char *text);
/** ctl_code() - ask, and the "code" of the error; "" when all was well. Static buffer. */
const char *ctl_code(int fd, const char *text);
/** ctl_number() - "section"."key" of the answer to @text */
uint64_t ctl_number(int fd, const char *text, const char *section, const char *key);
/** ctl_string() - the same for a string; static buffer */
const char *ctl_string(int fd, const char *text, const char *section, const char *key);
/** ctl_event_there() - is there an event that contains @text, about @vm? */
bool ctl_event_there(int fd, const char *vm, const char *text);
/** ctl_event_seen() - the same, waiting for it */
bool ctl_event_seen(int fd, const char *vm, const char *text);

#endif
