/* SPDX-License-Identifier: MIT */
/* balloon_stage.h - a VM with a balloon on a stage: all but the daemon is played by the test */
#ifndef MT_TESTS_HOST_BALLOON_STAGE_H
#define MT_TESTS_HOST_BALLOON_STAGE_H

#include "host/fake_qmp.h"
#include "host/rig.h"

#define SHOW "{\"cmd\":\"show\",\"vm\":\"web\"}"
#define FAST "qmp_retry_ms = 2\nballoon_poll_ms = 50\n"

/*
 * A VM of 512 MiB on a stage: its monitor, its QMP and its guest are played. The guest uses 400 MiB
 * and can do without 300 of them; its pages go into the balloon first when they are free.
 */
struct stage {
	struct rig rig;
	struct peer peer;
	struct fake_qmp fake;
	int ctl;
	uint64_t used_mib;
	uint64_t usable_mib; /* with an empty balloon */
	bool silent;         /* the guest does not report */
	bool direct_io;      /* no page may leave memory */
	unsigned int turns;
};

#define STAGE_MIB 512U

static void stage_start(struct stage *stage, const char *pool, const char *config)
{
	char line[300];
	struct json_object *answer;
	union mt_wire_msg hello;

	memset(stage, 0, sizeof(*stage));
	rig_make(&stage->rig);
	rig_start(&stage->rig, pool, config);
	stage->ctl = ctl_open(&stage->rig);
	snprintf(line, sizeof(line), "%s/qmp", stage->rig.dir);
	fake_qmp_start(&stage->fake, line, 7);
	stage->fake.last_update_s = 1700000000;
	stage->used_mib = 400;
	stage->usable_mib = 300;
	snprintf(line, sizeof(line), "{\"cmd\":\"vm_create\",\"name\":\"web\",\"qmp\":\"%s/qmp\"}",
		 stage->rig.dir);
	answer = ctl_ask(stage->ctl, line);
	mt_wire_init(&hello, MT_WIRE_HELLO, 1);
	snprintf(hello.hello.token, sizeof(hello.hello.token), "%s",
		 json_object_get_string(json_object_object_get(answer, "token")));
	json_object_put(answer);
	snprintf(hello.hello.name, sizeof(hello.hello.name), "web");
	peer_connect(&stage->rig, &stage->peer);
	MT_CHECK_EQ(peer_hello_msg(&stage->peer, &hello), 0);
	MT_CHECK_EQ(peer_region(&stage->peer, STAGE_MIB * MIB), 0);
}

static uint64_t stage_ballooned_mib(const struct stage *stage)
{
	return STAGE_MIB - stage->fake.actual_bytes / MIB;
}

/* What the monitor reports: contents beyond its target are compressed to nothing. */
static void stage_stats(struct stage *stage)
{
	uint64_t ballooned = MIB_PAGES(stage_ballooned_mib(stage));
	uint64_t used = MIB_PAGES(stage->used_mib), held;
	union mt_wire_msg msg;
	uint64_t *value = msg.stats.value;

	mt_wire_init(&msg, MT_WIRE_STATS, 0);
	used = MT_MIN(used, MIB_PAGES(STAGE_MIB) - ballooned);
	held = MT_MIN(used, MT_MIN(stage->peer.grant, stage->peer.target));
	msg.stats.count = MT_COUNTER_MAX;
	value[MT_C_MEMSIZE] = MIB_PAGES(STAGE_MIB);
	value[MT_C_RESIDENT] = value[MT_C_HELD] = held;
	value[MT_C_ZIPPED] = used - held;
	value[MT_C_RELEASED] = ballooned;
	value[MT_C_UNTOUCHED] = MIB_PAGES(STAGE_MIB) - ballooned - used;
	value[MT_C_DIRECT_IO] = stage->direct_io;
	peer_send(&stage->peer, &msg);
	if (stage->peer.grant > MT_MAX(stage->peer.target, held))
		peer_return(&stage->peer, stage->peer.grant - MT_MAX(stage->peer.target, held));
}

static void stage_turn(struct stage *stage)
{
	uint64_t ballooned = stage_ballooned_mib(stage);

	fake_qmp_turn(&stage->fake);
	peer_drain(&stage->peer, 0);
	if (stage->turns++ % 10 == 0) {
		stage->fake.available_bytes =
			(stage->usable_mib > ballooned ? stage->usable_mib - ballooned : 0) * MIB;
		if (!stage->silent)
			stage->fake.last_update_s++;
		stage_stats(stage);
	}
	usleep(2000);
}

#define STAGE_UNTIL(stage, condition) RIG_UNTIL(stage_turn(stage), condition)

static void stage_for(struct stage *stage, unsigned int turns)
{
	while (turns--)
		stage_turn(stage);
}

static uint64_t stage_number(struct stage *stage, const char *key)
{
	return ctl_number(stage->ctl, SHOW, "vm", key);
}

static bool stage_word_is(struct stage *stage, const char *key, const char *word)
{
	return !strcmp(ctl_string(stage->ctl, SHOW, "vm", key), word);
}

/* A number of the guest's own; UINT64_MAX: not told. */
static uint64_t stage_guest(struct stage *stage, const char *key)
{
	struct json_object *answer = ctl_ask(stage->ctl, SHOW), *vm, *guest, *value = NULL;
	uint64_t number = UINT64_MAX;

	vm = json_object_object_get(answer, "vm");
	guest = json_object_object_get(vm, "guest");
	if (guest && json_object_object_get_ex(guest, key, &value))
		number = json_object_get_uint64(value);
	json_object_put(answer);
	return number;
}

static void stage_set(struct stage *stage, const char *settings)
{
	char line[200];

	snprintf(line, sizeof(line), "{\"cmd\":\"set\",\"vm\":\"web\",\"settings\":{%s}}",
		 settings);
	MT_CHECK_STR(ctl_code(stage->ctl, line), "");
}

#endif
