/* SPDX-License-Identifier: MIT */
/* test_pause.c - a VM that lost a page is stopped, with its QMP and its monitor played */
#include "host/fake_qmp.h"
#include "host/rig.h"

#include "common/mt_test.h"

#define FAST "qmp_retry_ms = 2\nballoon_poll_ms = 50\n"

struct stage {
	struct rig rig;
	struct peer peer;
	struct fake_qmp fake;
	int ctl;
	uint64_t lost;
	unsigned int turns;
};

/* @qmp: has it a QMP socket? The server there is fake_qmp_start()ed by the test. */
static void stage_start(struct stage *stage, bool qmp, const char *config)
{
	char line[300], path[100] = "";
	struct json_object *answer;
	union mt_wire_msg hello;

	memset(stage, 0, sizeof(*stage));
	rig_make(&stage->rig);
	rig_start(&stage->rig, "1G", config);
	stage->ctl = ctl_open(&stage->rig);
	if (qmp)
		snprintf(path, sizeof(path), ",\"qmp\":\"%s/qmp\"", stage->rig.dir);
	snprintf(line, sizeof(line), "{\"cmd\":\"vm_create\",\"name\":\"web\"%s}", path);
	answer = ctl_ask(stage->ctl, line);
	mt_wire_init(&hello, MT_WIRE_HELLO, 1);
	snprintf(hello.hello.token, sizeof(hello.hello.token), "%s",
		 json_object_get_string(json_object_object_get(answer, "token")));
	json_object_put(answer);
	snprintf(hello.hello.name, sizeof(hello.hello.name), "web");
	peer_connect(&stage->rig, &stage->peer);
	MT_CHECK_EQ(peer_hello_msg(&stage->peer, &hello), 0);
	MT_CHECK_EQ(peer_region(&stage->peer, 64 * MIB), 0);
	stage->fake.fd = stage->fake.listen_fd = -1;
}

static void stage_serve(struct stage *stage)
{
	char path[100];

	snprintf(path, sizeof(path), "%s/qmp", stage->rig.dir);
	fake_qmp_start(&stage->fake, path, 7);
}

static void stage_turn(struct stage *stage)
{
	union mt_wire_msg msg;

	fake_qmp_turn(&stage->fake);
	peer_drain(&stage->peer, 0);
	if (stage->turns++ % 10 == 0) {
		mt_wire_init(&msg, MT_WIRE_STATS, 0);
		msg.stats.count = MT_COUNTER_MAX;
		msg.stats.value[MT_C_MEMSIZE] = MIB_PAGES(64);
		msg.stats.value[MT_C_FAILED] = stage->lost;
		peer_send(&stage->peer, &msg);
	}
	usleep(2000);
}

#define STAGE_UNTIL(stage, condition) RIG_UNTIL(stage_turn(stage), condition)

static void stage_for(struct stage *stage, unsigned int turns)
{
	while (turns--)
		stage_turn(stage);
}

MT_TEST("a VM that lost a page is stopped once, and once more when it loses another")
{
	struct stage stage;

	stage_start(&stage, true, FAST);
	stage_serve(&stage);
	STAGE_UNTIL(&stage, stage.fake.interval_s);
	MT_CHECK_EQ(stage.fake.stops, 0);
	stage.lost = 1;
	STAGE_UNTIL(&stage, stage.fake.stops == 1);
	stage_for(&stage, 100);
	MT_CHECK_EQ(stage.fake.stops, 1);
	STAGE_UNTIL(&stage, ctl_event_there(stage.ctl, "web", "paused over QMP"));
	stage.lost = 3;
	STAGE_UNTIL(&stage, stage.fake.stops == 2);
	rig_stop(&stage.rig);
}

MT_TEST("a VM whose QMP can't be reached when it loses a page is stopped when it can")
{
	struct stage stage;

	stage_start(&stage, true, FAST);
	stage.lost = 1;
	stage_for(&stage, 50);
	MT_CHECK(!ctl_event_there(stage.ctl, "web", "paused over QMP"));
	stage_serve(&stage);
	STAGE_UNTIL(&stage, stage.fake.stops == 1);
	STAGE_UNTIL(&stage, ctl_event_there(stage.ctl, "web", "paused over QMP"));
	rig_stop(&stage.rig);
}

MT_TEST("a QMP that does not answer that it has stopped is told again")
{
	struct stage stage;

	stage_start(&stage, true, FAST "qmp_timeout_ms = 300\n");
	stage_serve(&stage);
	stage.fake.hang_on_stop = true;
	stage.lost = 1;
	STAGE_UNTIL(&stage, stage.fake.stops >= 2);
	STAGE_UNTIL(&stage,
		    ctl_event_there(stage.ctl, "web", "told to stop over QMP, and no answer"));
	STAGE_UNTIL(&stage, ctl_event_there(stage.ctl, "web", "paused over QMP"));
	rig_stop(&stage.rig);
}

MT_TEST("that a VM refuses to stop, or has no QMP, is said")
{
	struct stage stage;

	stage_start(&stage, true, FAST);
	stage_serve(&stage);
	stage.fake.no_stop = true;
	stage.lost = 1;
	STAGE_UNTIL(&stage, stage.fake.stops == 1);
	STAGE_UNTIL(&stage, ctl_event_there(stage.ctl, "web", "'stop' was refused: told to fail"));
	rig_stop(&stage.rig);
	stage_start(&stage, false, FAST);
	stage.lost = 1;
	STAGE_UNTIL(&stage, ctl_event_there(stage.ctl, "web", "not paused: it has no QMP socket"));
	rig_stop(&stage.rig);
}

MT_TEST_MAIN
