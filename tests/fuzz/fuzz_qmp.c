/* SPDX-License-Identifier: MIT */
/*
 * fuzz_qmp.c - what a VMM says on its QMP socket, from the bytes to what the balloon makes of them
 *
 * First byte: pieces of how many bytes the rest goes out in, and, with its top bit, whether it is
 * sent after a right greeting. The owner asks what the daemon asks; whatever comes, each question
 * has at most one answer, none after a fault, and a connection at most one fault.
 */
#include "fuzz/fuzz_input.h"
#include "host/balloon_find.h"
#include "host/guest_stats.h"
#include "sys/sock.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>

#define GREETED    0x80U
#define PIECE_MASK 0x7fU

static const char greeting[] = "{\"QMP\": {}}\n{\"return\": {}, \"id\": 1}\n";

static struct mt_loop *loop;
static int listen_fd = -1;
static char path[64];

struct owner {
	struct mt_qmp *qmp;
	struct mt_balloon_find find;
	struct mt_guest_stats stats;
	unsigned int open; /* questions of its own without an answer */
	unsigned int searches, faults;
	bool ready;
};

static uint64_t owner_now_ns(void *ctx)
{
	(void)ctx;
	return 1000000000ULL;
}

static void owner_answer(void *ctx, struct json_object *value, const char *error)
{
	struct owner *owner = ctx;

	MT_ASSERT(owner->ready && owner->open);
	MT_ASSERT(!value != !error);
	owner->open--;
	if (value && mt_guest_stats_take(&owner->stats, value, 5)) {
		struct json_object *object = json_object_new_object();

		MT_ASSERT(owner->stats.reported);
		mt_guest_stats_json(&owner->stats, mt_guest_stats_fresh(&owner->stats, 9, 7),
				    object);
		json_object_put(object);
	}
	if (!mt_qmp_ask(owner->qmp, "qom-get", NULL, owner_answer, owner))
		owner->open++;
}

static void owner_found(void *ctx)
{
	struct owner *owner = ctx;

	MT_ASSERT(owner->ready && owner->searches--);
	MT_ASSERT(memchr(owner->find.path, '\0', sizeof(owner->find.path)));
}

static void owner_ready(void *ctx)
{
	struct owner *owner = ctx;

	MT_ASSERT(!owner->ready && !owner->faults);
	owner->ready = true;
	owner->searches += !mt_balloon_find(&owner->find, owner->qmp, owner_found, owner);
	owner->open += !mt_qmp_ask(owner->qmp, "qom-get", NULL, owner_answer, owner);
}

static void owner_fault(void *ctx, const char *what, uint32_t retry_ms)
{
	struct owner *owner = ctx;

	MT_ASSERT(what[0] && retry_ms);
	MT_ASSERT(!owner->faults++);
	MT_ASSERT(!mt_qmp_ready(owner->qmp));
	owner->ready = false;
}

static void owner_event(void *ctx, const char *name, int64_t at_s, struct json_object *data)
{
	struct owner *owner = ctx;

	(void)data;
	MT_ASSERT(name && !owner->faults);
	if (!strcmp(name, "RESET"))
		mt_guest_stats_reset(&owner->stats, at_s);
}

static const struct mt_qmp_ops owner_ops = {
	.ready = owner_ready, .fault = owner_fault, .event = owner_event, .now_ns = owner_now_ns};

static void start(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	snprintf(path, sizeof(path), "/tmp/memtide-fuzz-qmp-%d", (int)getpid());
	memcpy(address.sun_path, path, strlen(path));
	unlink(path);
	listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	MT_ASSERT(!bind(listen_fd, (struct sockaddr *)&address, sizeof(address)));
	MT_ASSERT(!listen(listen_fd, 4));
	loop = mt_loop_new(NULL);
	MT_ASSERT(loop);
}

/* One piece out, and whatever the client makes of it and says. */
static void say(int fd, const void *bytes, size_t count)
{
	char heard[4096];

	(void)send(fd, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT);
	MT_ASSERT(!mt_loop_turn(loop, 0, NULL));
	while (recv(fd, heard, sizeof(heard), MSG_DONTWAIT) > 0)
		;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	const struct mt_qmp_config config = {.timeout_ms = 1000, .retry_ms = 10};
	struct owner owner = {.qmp = NULL};
	size_t piece;
	int fd;

	if (!loop)
		start();
	if (!bytes)
		return 0;
	owner.qmp = mt_qmp_new(loop, path, 0, &config, &owner_ops, &owner, NULL);
	MT_ASSERT(owner.qmp);
	mt_qmp_expire(owner.qmp);
	fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
	MT_ASSERT(fd >= 0);
	if (data[0] & GREETED) {
		say(fd, greeting, sizeof(greeting) - 1);
		MT_ASSERT(owner.ready);
	}
	piece = (data[0] & PIECE_MASK) ? (data[0] & PIECE_MASK) : bytes;
	for (size_t at = 1; at < bytes && !owner.faults; at += piece)
		say(fd, data + at, MT_MIN(piece, bytes - at));
	close(fd);
	for (int i = 0; i < 40 && !owner.faults; i++)
		MT_ASSERT(!mt_loop_turn(loop, 0, NULL));
	MT_ASSERT(owner.faults == 1);
	mt_qmp_free(owner.qmp);
	return 0;
}

__attribute__((destructor)) static void clean_up(void)
{
	unlink(path);
}
