/* SPDX-License-Identifier: MIT */
/* test_qmp.c - the QMP client against a server that lies, hangs and breaks off; time is played */
#include "host/fake_qmp.h"
#include "host/qmp.h"

#include "common/mt_test.h"

#include <errno.h>

#define SEC 1000000000ULL

static struct mt_loop *loop;
static uint64_t clock_ns = 1000 * SEC;

/* One connection and what its owner was told. */
struct side {
	struct mt_qmp *qmp;
	struct fake_qmp fake;
	unsigned int ready, faults, events, answers, errors;
	uint64_t sent, expected; /* numbers in "echo" */
	int64_t event_s;         /* of the last event */
	bool chat;               /* ask again after each answer */
	char what[200];
	uint32_t retry_ms;
};

static void side_ask(struct side *side);

static void side_answer(void *ctx, struct json_object *value, const char *error)
{
	struct side *side = ctx;

	if (error) {
		MT_CHECK_STR(error, "told to fail");
		side->errors++;
	} else {
		struct json_object *back = json_object_object_get(value, "back");

		MT_CHECK_EQ(json_object_get_uint64(back), side->expected);
		side->expected++;
		side->answers++;
	}
	if (side->chat)
		side_ask(side);
}

static void side_ask(struct side *side)
{
	struct json_object *arguments = json_object_new_object();

	json_object_object_add(arguments, "value", json_object_new_uint64(side->sent++));
	MT_CHECK(!mt_qmp_ask(side->qmp, "echo", arguments, side_answer, side));
}

static void side_ready(void *ctx)
{
	struct side *side = ctx;

	side->ready++;
	/* what was cut off never comes */
	side->expected = side->sent;
	if (!side->chat)
		return;
	side_ask(side);
	side_ask(side);
}

static void side_fault(void *ctx, const char *what, uint32_t retry_ms)
{
	struct side *side = ctx;

	side->faults++;
	side->retry_ms = retry_ms;
	snprintf(side->what, sizeof(side->what), "%s", what);
	MT_CHECK(!mt_qmp_ready(side->qmp));
	MT_CHECK_EQ(mt_qmp_ask(side->qmp, "echo", NULL, side_answer, side), -ENOTCONN);
}

static void side_event(void *ctx, const char *name, int64_t at_s, struct json_object *data)
{
	struct side *side = ctx;

	(void)data;
	side->event_s = at_s;
	MT_CHECK_STR(name, "RESET");
	side->events++;
}

static uint64_t side_now_ns(void *ctx)
{
	(void)ctx;
	return clock_ns;
}

static const struct mt_qmp_ops side_ops = {
	.ready = side_ready, .fault = side_fault, .event = side_event, .now_ns = side_now_ns};
static const struct mt_qmp_config side_config = {.timeout_ms = 5000, .retry_ms = 250};

static void side_start(struct side *side, const char *name, uint64_t seed)
{
	char path[80];

	if (!loop)
		loop = mt_loop_new(NULL);
	MT_CHECK(loop);
	memset(side, 0, sizeof(*side));
	snprintf(path, sizeof(path), "/tmp/memtide-qmp-%d-%s", (int)getpid(), name);
	fake_qmp_start(&side->fake, path, seed);
	side->qmp = mt_qmp_new(loop, path, getpid(), &side_config, &side_ops, side, NULL);
	MT_CHECK(side->qmp);
}

static void side_end(struct side *side)
{
	mt_qmp_free(side->qmp);
	fake_qmp_stop(&side->fake);
}

/* Everything that happens without time going by. Return: did anything? */
static bool side_turn(struct side *side)
{
	bool busy = fake_qmp_turn(&side->fake);
	unsigned int before = side->ready + side->faults + side->events + side->answers;

	mt_qmp_expire(side->qmp);
	MT_CHECK(!mt_loop_turn(loop, 0, NULL));
	return busy || side->ready + side->faults + side->events + side->answers != before;
}

static void side_settle(struct side *side)
{
	for (unsigned int idle = 0; idle < 4;)
		idle = side_turn(side) ? 0 : idle + 1;
}

/*
 * Goes on until the owner has been told of @faults, moving the clock when nothing happens; @other
 * (may be NULL) lives in the same loop.
 */
static void side_until_fault(struct side *side, unsigned int faults, struct side *other)
{
	for (unsigned int idle = 0; side->faults < faults;) {
		idle = side_turn(side) ? 0 : idle + 1;
		if (other)
			side_turn(other);
		if (idle < 4)
			continue;
		MT_CHECK(mt_qmp_next_ns(side->qmp) != MT_LOOP_NEVER);
		clock_ns = MT_MIN(mt_qmp_next_ns(side->qmp), clock_ns + SEC);
		idle = 0;
	}
}

MT_TEST("commands are answered in order, errors are told, events come through")
{
	struct side side;

	side_start(&side, "order", 1);
	side_settle(&side);
	MT_CHECK_EQ(side.ready, 1);
	for (unsigned int i = 0; i < MT_QMP_OPEN_MAX; i++)
		side_ask(&side);
	MT_CHECK_EQ(mt_qmp_ask(side.qmp, "echo", NULL, side_answer, &side), -EAGAIN);
	side_settle(&side);
	MT_CHECK_EQ(side.answers, MT_QMP_OPEN_MAX);
	MT_CHECK(!mt_qmp_ask(side.qmp, "fail", NULL, side_answer, &side));
	fake_qmp_say(&side.fake, json_tokener_parse("{\"event\": \"RESET\", \"data\": {}, "
						    "\"timestamp\": {\"seconds\": 1700000007}}"));
	side_settle(&side);
	MT_CHECK_EQ(side.errors, 1);
	MT_CHECK_EQ(side.events, 1);
	MT_CHECK_EQ(side.event_s, 1700000007);
	/* not told, or told badly */
	fake_qmp_say(&side.fake, json_tokener_parse("{\"event\": \"RESET\", \"timestamp\": []}"));
	side_settle(&side);
	MT_CHECK_EQ(side.events, 2);
	MT_CHECK_EQ(side.event_s, 0);
	MT_CHECK_EQ(side.faults, 0);
	MT_CHECK_EQ(mt_qmp_next_ns(side.qmp), MT_LOOP_NEVER);
	side_end(&side);
}

MT_TEST("objects may come byte by byte and span lines")
{
	struct side side;

	side_start(&side, "torn", 5);
	side.fake.pretty = side.fake.torn = true;
	side_settle(&side);
	for (unsigned int i = 0; i < 10; i++)
		side_ask(&side);
	side_settle(&side);
	MT_CHECK_EQ(side.answers, 10);
	MT_CHECK_EQ(side.faults, 0);
	side_end(&side);
}

MT_TEST("a socket that is not there is one fault, tried again ever more rarely, until it is")
{
	struct side side;
	uint64_t last_ns = 0, pause_ns;
	char path[100];

	side_start(&side, "absent", 1);
	fake_qmp_stop(&side.fake);
	for (unsigned int i = 0; i < 20; i++) {
		side_settle(&side);
		MT_CHECK_EQ(side.faults, 1);
		pause_ns = mt_qmp_next_ns(side.qmp) - clock_ns;
		MT_CHECK(pause_ns >= last_ns && pause_ns <= 32 * SEC);
		last_ns = pause_ns;
		clock_ns += pause_ns;
	}
	MT_CHECK_EQ(last_ns, 32 * SEC);
	snprintf(path, sizeof(path), "%s", side.fake.path);
	fake_qmp_start(&side.fake, path, 1);
	side_settle(&side);
	MT_CHECK_EQ(side.ready, 1);
	side_ask(&side);
	side_settle(&side);
	/* an answer makes the next pause short again */
	side.fake.fault = FAKE_CLOSE;
	side_ask(&side);
	side_until_fault(&side, 2, NULL);
	MT_CHECK_EQ(side.retry_ms, 250);
	side_end(&side);
}

MT_TEST("a socket of another process is not used")
{
	struct side side;
	struct mt_qmp *other;

	side_start(&side, "other", 1);
	other = side.qmp;
	side.qmp =
		mt_qmp_new(loop, side.fake.path, getppid(), &side_config, &side_ops, &side, NULL);
	MT_CHECK(side.qmp);
	side_settle(&side);
	MT_CHECK_EQ(side.faults, 1);
	MT_CHECK(strstr(side.what, "belongs to another process"));
	MT_CHECK_EQ(side.ready, 0);
	mt_qmp_free(other);
	side_end(&side);
}

MT_TEST("a path that no socket can have is refused")
{
	char path[200];
	struct mt_err err = {0};

	memset(path, 'x', sizeof(path));
	path[199] = '\0';
	MT_CHECK(!mt_qmp_new(NULL, path, 0, &side_config, &side_ops, NULL, &err));
	MT_CHECK_EQ(err.code, -ENAMETOOLONG);
}

MT_TEST("a server that does not read is given up, not waited for")
{
	struct side side;
	unsigned int asked = 0;

	side_start(&side, "deaf", 1);
	side_settle(&side);
	while (!mt_qmp_ask(side.qmp, "echo", NULL, side_answer, &side))
		asked++;
	MT_CHECK_EQ(asked, MT_QMP_OPEN_MAX);
	clock_ns += 6 * SEC;
	mt_qmp_expire(side.qmp);
	MT_CHECK_EQ(side.faults, 1);
	MT_CHECK_STR(side.what, "no answer for 5000 ms");
	side_end(&side);
}

/* Each fault comes after a random number of right answers, torn or not, pretty or not. */
MT_TEST("a thousand random faults are one event each, and another VM's QMP never notices")
{
	static const uint64_t seed = 20260704;
	uint64_t random = seed;
	struct side bad, good;

	side_start(&bad, "bad", seed);
	side_start(&good, "good", seed + 1);
	bad.chat = good.chat = true;
	for (unsigned int i = 0; i < 1000; i++) {
		unsigned int answers = good.answers;

		bad.fake.fault = 1 + (enum fake_fault)fake_random(&random, FAKE_FAULTS - 1);
		bad.fake.after = (unsigned int)fake_random(&random, 6);
		bad.fake.torn = fake_random(&random, 2);
		bad.fake.pretty = fake_random(&random, 2);
		side_until_fault(&bad, i + 1, &good);
		if (bad.faults != i + 1 || bad.fake.connections != i + 1)
			MT_FAIL("fault %u, kind %u: %u events, %u connections: %s", i,
				(unsigned int)bad.fake.fault, bad.faults, bad.fake.connections,
				bad.what);
		for (unsigned int turn = 0; turn < 20; turn++)
			side_turn(&good);
		MT_CHECK(good.answers > answers && !good.faults);
	}
	bad.fake.fault = FAKE_NONE;
	clock_ns = mt_qmp_next_ns(bad.qmp);
	for (unsigned int turn = 0; turn < 20; turn++)
		side_turn(&bad);
	MT_CHECK(mt_qmp_ready(bad.qmp));
	MT_CHECK_EQ(good.faults, 0);
	side_end(&bad);
	side_end(&good);
}

MT_TEST_MAIN
