/* SPDX-License-Identifier: MIT */
/* test_balloon.c - the daemon's side of ballooning, with QEMU's QMP and the monitor played */
#include "host/balloon_stage.h"

#include "common/mt_test.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/wait.h>

MT_TEST("a guest's numbers are shown under libvirt's names, and old ones are not")
{
	struct stage stage;

	stage_start(&stage, "1G", FAST);
	STAGE_UNTIL(&stage, stage_word_is(&stage, "balloon", "working"));
	/* a guest that stands still for some seconds is silent, and then working again */
	STAGE_UNTIL(&stage, stage_guest(&stage, "actual") == STAGE_MIB * 1024);
	STAGE_UNTIL(&stage, stage_guest(&stage, "available") == 490 * 1024);
	STAGE_UNTIL(&stage, stage_guest(&stage, "usable") == 300 * 1024);
	STAGE_UNTIL(&stage, stage_guest(&stage, "major_fault") == 7);
	MT_CHECK(stage_guest(&stage, "last_update") >= 1700000000);
	STAGE_UNTIL(&stage, stage_guest(&stage, "stale") == 0);
	/* what the guest does not tell is left out */
	MT_CHECK_EQ(stage_guest(&stage, "hugetlb_pgalloc"), UINT64_MAX);
	MT_CHECK_EQ(stage_number(&stage, "vmmemctl"), 0);
	MT_CHECK_EQ(stage_number(&stage, "vmmemctlmax"), 490 * 1024 * 65 / 100);
	stage.silent = true;
	STAGE_UNTIL(&stage, stage_guest(&stage, "stale") == 1);
	MT_CHECK_EQ(stage_guest(&stage, "usable"), UINT64_MAX);
	MT_CHECK(stage_guest(&stage, "last_update") >= 1700000000);
	MT_CHECK(stage_word_is(&stage, "balloon", "silent"));
	stage.silent = false;
	STAGE_UNTIL(&stage, stage_word_is(&stage, "balloon", "working"));
	rig_stop(&stage.rig);
}

MT_TEST("a limit is met by the balloon, down to the guest's floor, and given back without it")
{
	struct stage stage;

	stage_start(&stage, "1G", FAST);
	STAGE_UNTIL(&stage, stage_word_is(&stage, "balloon", "working"));
	stage_set(&stage, "\"target_max\":\"300M\"");
	STAGE_UNTIL(&stage, stage_ballooned_mib(&stage) >= 212);
	STAGE_UNTIL(&stage,
		    stage_number(&stage, "vmmemctltarget") == stage_number(&stage, "vmmemctl"));
	MT_CHECK(stage_ballooned_mib(&stage) < 250);
	MT_CHECK(ctl_event_seen(stage.ctl, "web", "balloon 0B -> 2"));
	/* 32 MiB stay available, and 65 % is the most */
	stage_set(&stage, "\"target_max\":\"100M\"");
	STAGE_UNTIL(&stage, stage_ballooned_mib(&stage) >= 267);
	stage_for(&stage, 200);
	MT_CHECK(stage_ballooned_mib(&stage) <= 268);
	stage_set(&stage, "\"target_max\":\"none\"");
	STAGE_UNTIL(&stage, stage_ballooned_mib(&stage) == 0);
	rig_stop(&stage.rig);
}

/* A second VM, which fills as much memory as it may have. */
static void other_turn(struct stage *stage, struct peer *other)
{
	union mt_wire_msg msg;
	uint64_t *value = msg.stats.value, held;

	stage_turn(stage);
	if (stage->turns % 10)
		return;
	peer_drain(other, 0);
	mt_wire_init(&msg, MT_WIRE_STATS, 0);
	held = MT_MIN(MIB_PAGES(STAGE_MIB), MT_MIN(other->grant, other->target));
	msg.stats.count = MT_COUNTER_MAX;
	value[MT_C_MEMSIZE] = MIB_PAGES(STAGE_MIB);
	value[MT_C_RESIDENT] = value[MT_C_HELD] = held;
	value[MT_C_ZIPPED] = MIB_PAGES(STAGE_MIB) - held;
	peer_send(other, &msg);
	if (other->grant > MT_MAX(other->target, held))
		peer_return(other, other->grant - MT_MAX(other->target, held));
}

MT_TEST("a VM whose pages may not leave memory keeps what its balloon can't take; the other gives")
{
	struct stage stage;
	struct peer other;

	stage_start(&stage, "700M", FAST "Mem.BalancePeriod = 1\n");
	stage.usable_mib = 180;
	STAGE_UNTIL(&stage, stage_word_is(&stage, "balloon", "working"));
	STAGE_UNTIL(&stage, stage.peer.grant >= MIB_PAGES(400));
	stage.direct_io = true;
	stage_for(&stage, 50);
	peer_join(&stage.rig, &other, "other");
	MT_CHECK_EQ(peer_region(&other, STAGE_MIB * MIB), 0);
	/* the guest can do without 180 MiB less its floor, so 364 MiB are where it is at its end */
	RIG_UNTIL(other_turn(&stage, &other), stage_ballooned_mib(&stage) >= 100);
	RIG_UNTIL(other_turn(&stage, &other),
		  ctl_event_there(stage.ctl, "web", "can't leave memory"));
	for (unsigned int turn = 0; turn < 2000; turn++) {
		other_turn(&stage, &other);
		MT_CHECK(stage.peer.target >= MIB_PAGES(364));
	}
	stage.direct_io = false;
	RIG_UNTIL(other_turn(&stage, &other), stage.peer.target < MIB_PAGES(350));
	rig_stop(&stage.rig);
}

MT_TEST("a guest that runs short gets its memory back at once though the host wants it")
{
	struct stage stage;

	stage_start(&stage, "1G", FAST);
	STAGE_UNTIL(&stage, stage_word_is(&stage, "balloon", "working"));
	stage_set(&stage, "\"target_max\":\"300M\"");
	STAGE_UNTIL(&stage, stage_ballooned_mib(&stage) >= 200);
	/* 5 MiB left */
	stage.usable_mib = stage_ballooned_mib(&stage) + 5;
	STAGE_UNTIL(&stage, stage_ballooned_mib(&stage) <= 130);
	MT_CHECK(ctl_event_seen(stage.ctl, "web", "the guest is short of memory"));
	rig_stop(&stage.rig);
}

/* Is the balloon where it is steered to, at 212 MiB or more, and does the daemon know? */
static bool stage_steady(struct stage *stage)
{
	uint64_t kib = stage_number(stage, "vmmemctl");

	return kib >= 212 * 1024 && kib == stage_number(stage, "vmmemctltarget") &&
	       stage->fake.actual_bytes == stage->fake.wanted_bytes &&
	       kib == (STAGE_MIB * MIB - stage->fake.actual_bytes) / 1024;
}

/* The guest swaps. Return: false when that took so long that it may be left alone no longer: it is
 * for 30 s. */
static bool swaps_and_is_left_alone(struct stage *stage)
{
	double began;
	uint64_t before, after;

	STAGE_UNTIL(stage, stage_steady(stage));
	before = stage_ballooned_mib(stage);
	began = mt_now_s();
	stage->fake.swap_in_bytes += 10 * MIB;
	RIG_UNTIL(stage_turn(stage),
		  stage_ballooned_mib(stage) < before || mt_now_s() - began > 25);
	stage_for(stage, 300);
	after = stage_ballooned_mib(stage);
	if (mt_now_s() - began > 25)
		return false;
	MT_CHECK(after + before / 8 <= before + 1);
	MT_CHECK(after + before / 8 + 2 >= before);
	return true;
}

MT_TEST("a guest that swaps is let go a little and left alone")
{
	struct stage stage;
	unsigned int tries = 4;
	bool done = false;

	stage_start(&stage, "1G", FAST);
	STAGE_UNTIL(&stage, stage_word_is(&stage, "balloon", "working"));
	stage_set(&stage, "\"target_max\":\"300M\"");
	while (!done && tries--)
		done = swaps_and_is_left_alone(&stage);
	MT_CHECK(done);
	rig_stop(&stage.rig);
}

MT_TEST("a guest that restarts is let go, and driven again when its driver reports")
{
	char event[100];
	struct stage stage;

	stage_start(&stage, "1G", FAST);
	STAGE_UNTIL(&stage, stage_word_is(&stage, "balloon", "working"));
	stage_set(&stage, "\"target_max\":\"300M\"");
	STAGE_UNTIL(&stage, stage_ballooned_mib(&stage) >= 212);
	stage.silent = true;
	/* a report that was not read yet is none of the new guest's */
	snprintf(event, sizeof(event),
		 "{\"event\":\"RESET\",\"data\":{},\"timestamp\":{\"seconds\":%lld}}",
		 (long long)++stage.fake.last_update_s);
	fake_qmp_say(&stage.fake, json_tokener_parse(event));
	STAGE_UNTIL(&stage, stage_ballooned_mib(&stage) == 0);
	MT_CHECK(ctl_event_seen(stage.ctl, "web", "the guest starts anew"));
	stage_for(&stage, 200);
	MT_CHECK_EQ(stage_ballooned_mib(&stage), 0);
	stage.silent = false;
	STAGE_UNTIL(&stage, stage_ballooned_mib(&stage) >= 212);
	rig_stop(&stage.rig);
}

static const char *ask_qmp(int ctl, pid_t pid, const char *path)
{
	char line[300];

	snprintf(line, sizeof(line), "{\"cmd\":\"qmp\",\"vm\":\"web\",\"pid\":%d,\"path\":\"%s\"}",
		 (int)pid, path);
	return ctl_code(ctl, line);
}

/* In a process of its own: may it serve QMP for "web"? Return: the code of the refusal. */
static const char *other_asks_qmp(const struct rig *rig, pid_t pid, uid_t uid)
{
	static char code[32];
	int out[2], status = 0;
	pid_t child;

	MT_CHECK(!pipe(out));
	MT_CHECK(!chmod(rig->dir, 0755) && !chmod(rig->socket, 0666));
	child = fork();
	if (!child) {
		if (uid && setresuid(uid, uid, uid))
			_exit(1);
		snprintf(code, sizeof(code), "%s", ask_qmp(ctl_open(rig), pid, "/nowhere/qmp"));
		_exit(write(out[1], code, sizeof(code)) != sizeof(code));
	}
	MT_CHECK_EQ(read(out[0], code, sizeof(code)), sizeof(code));
	MT_CHECK(waitpid(child, &status, 0) == child && !status);
	close(out[0]);
	close(out[1]);
	return code;
}

MT_TEST("who may do everything can serve QMP for a VMM, and the balloon is driven through him")
{
	struct stage stage = {.used_mib = 400, .usable_mib = 300};
	char path[120];
	pid_t pid = getpid();

	rig_make(&stage.rig);
	rig_start(&stage.rig, "1G", FAST);
	snprintf(path, sizeof(path), "%s/line", stage.rig.dir);
	fake_qmp_start(&stage.fake, path, 7);
	stage.fake.last_update_s = 1700000000;
	stage.ctl = ctl_open(&stage.rig);
	MT_CHECK_STR(ask_qmp(stage.ctl, pid, path), "ENOENT");
	peer_join(&stage.rig, &stage.peer, "web");
	MT_CHECK_EQ(peer_region(&stage.peer, STAGE_MIB * MIB), 0);
	MT_CHECK(stage_word_is(&stage, "balloon", "none"));
	/* a name is given anew: the process counts */
	MT_CHECK_STR(ask_qmp(stage.ctl, pid + 1, path), "ESRCH");
	MT_CHECK_STR(ask_qmp(stage.ctl, pid, "relative"), "EINVAL");
	MT_CHECK_STR(ask_qmp(stage.ctl, pid, path), "");
	STAGE_UNTIL(&stage, stage_word_is(&stage, "balloon", "working"));
	stage_set(&stage, "\"target_max\":\"300M\"");
	STAGE_UNTIL(&stage, stage_ballooned_mib(&stage) >= 212);
	MT_CHECK_STR(other_asks_qmp(&stage.rig, pid, 0), "EEXIST");
	if (!geteuid())
		MT_CHECK_STR(other_asks_qmp(&stage.rig, pid, 65534), "ENOENT");
	/* he comes again; what the balloon holds is found, not let go */
	MT_CHECK_STR(ask_qmp(stage.ctl, pid, path), "");
	STAGE_UNTIL(&stage, stage_word_is(&stage, "balloon", "working"));
	MT_CHECK(stage_ballooned_mib(&stage) >= 200);
	/* and when he is gone, another may */
	close(stage.ctl);
	MT_CHECK_STR(other_asks_qmp(&stage.rig, pid, 0), "");
	rig_stop(&stage.rig);
}

MT_TEST("nobody serves QMP for a VM that has a socket of its own, and a new daemon asks anew")
{
	struct stage stage;
	char path[120];

	stage_start(&stage, "1G", FAST);
	snprintf(path, sizeof(path), "%s/line", stage.rig.dir);
	MT_CHECK_STR(ask_qmp(stage.ctl, getpid(), path), "EEXIST");
	rig_stop(&stage.rig);

	rig_make(&stage.rig);
	rig_start(&stage.rig, "1G", FAST);
	stage.ctl = ctl_open(&stage.rig);
	peer_join(&stage.rig, &stage.peer, "web");
	MT_CHECK_EQ(peer_region(&stage.peer, STAGE_MIB * MIB), 0);
	MT_CHECK_STR(ask_qmp(stage.ctl, getpid(), "/nowhere/qmp"), "");
	MT_CHECK(stage_word_is(&stage, "qmp", "/nowhere/qmp"));
	rig_stop(&stage.rig);
	rig_start(&stage.rig, "1G", FAST);
	stage.ctl = ctl_open(&stage.rig);
	MT_CHECK_EQ(ctl_number(stage.ctl, SHOW, "vm", "pid"), getpid());
	MT_CHECK(stage_word_is(&stage, "qmp", ""));
	rig_stop(&stage.rig);
}

/* "web" holds 400 MiB of a pool of 600; "new" comes, and gets what it needs from it. */
static void stage_contended(struct stage *stage, struct peer *other)
{
	stage_start(stage, "600M", FAST);
	STAGE_UNTIL(stage, stage_word_is(stage, "balloon", "working"));
	STAGE_UNTIL(stage, stage_number(stage, "held") >= 350 * 1024);
	peer_join(&stage->rig, other, "new");
	peer_region_send(other, 512 * MIB);
}

/* "new" fills what it is granted, and needs more. */
static void stage_press(struct peer *other)
{
	union mt_wire_msg msg;
	static uint64_t faults;

	peer_drain(other, 0);
	mt_wire_init(&msg, MT_WIRE_STATS, 0);
	msg.stats.count = MT_COUNTER_MAX;
	msg.stats.value[MT_C_MEMSIZE] = MIB_PAGES(512);
	msg.stats.value[MT_C_HELD] = msg.stats.value[MT_C_RESIDENT] = other->grant;
	msg.stats.value[MT_C_UNTOUCHED] = MIB_PAGES(512) - MT_MIN(other->grant, MIB_PAGES(512));
	msg.stats.value[MT_C_FAULT_NEW] = msg.stats.value[MT_C_FAULT_WAITED] = ++faults;
	peer_send(other, &msg);
}

/*
 * "new" is given 200 MiB. Return: the most of "web" that was paged out meanwhile, in KiB.
 * @ret_slow: was the balloon slow or did it stand still, as this process or the daemon had to wait?
 */
static uint64_t stage_give_way(struct stage *stage, struct peer *other, bool *ret_slow)
{
	double began = mt_now_s(), before = began, now = began, pause_s = 0;
	unsigned int turns = 0;
	uint64_t zipped = 0;

	while (turns++ < 30000 && other->grant < MIB_PAGES(200)) {
		stage_press(other);
		stage_turn(stage);
		zipped = MT_MAX(zipped, stage_number(stage, "zipped"));
		now = mt_now_s();
		pause_s = MT_MAX(pause_s, now - before);
		before = now;
	}
	MT_CHECK(other->grant >= MIB_PAGES(200));
	/* a turn is 1 MiB, and the daemon wants 50 MiB/s at least */
	*ret_slow = pause_s > 0.03 || turns < 100 * (now - began);
	printf("# %llu KiB paged out in %u turns, %.2f s; the longest took %.3f s\n",
	       (unsigned long long)zipped, turns, now - began, pause_s);
	return zipped;
}

/* A balloon that does stand still is rightly found slow; on a busy machine it is tried again. */
MT_TEST("who must give memory up for others is asked by its balloon, and not paged while that "
	"works")
{
	unsigned int tries = 20;
	struct stage stage;
	struct peer other;
	uint64_t zipped;
	bool slow;

	do {
		stage_contended(&stage, &other);
		/* 64 MiB a turn would be over before anybody looks */
		stage.fake.step_bytes = MIB;
		zipped = stage_give_way(&stage, &other, &slow);
		rig_stop(&stage.rig);
		peer_close(&other);
		peer_close(&stage.peer);
		/* statistics are a little behind targets */
	} while (zipped > 24 * 1024 && slow && --tries);
	MT_CHECK(stage_ballooned_mib(&stage) >= 50);
	if (slow && zipped > 24 * 1024)
		MT_SKIP("the machine is too busy");
	MT_CHECK(zipped <= 24 * 1024);
}

MT_TEST("when the balloon does not move, pages go out within seconds, and the reason is told")
{
	struct stage stage;
	struct peer other;

	stage_contended(&stage, &other);
	stage.fake.step_bytes = 0;
	RIG_UNTIL((stage_press(&other), stage_turn(&stage)), other.grant >= MIB_PAGES(200));
	MT_CHECK_EQ(stage_ballooned_mib(&stage), 0);
	RIG_UNTIL((stage_press(&other), stage_turn(&stage)),
		  ctl_event_there(stage.ctl, "web", "balloon: slower than wanted"));
	rig_stop(&stage.rig);
}

MT_TEST("a VM without a balloon device is paged like any")
{
	struct stage stage;

	stage_start(&stage, "1G", FAST);
	stage.fake.no_balloon = true;
	STAGE_UNTIL(&stage, stage_word_is(&stage, "balloon", "absent"));
	stage_set(&stage, "\"target_max\":\"300M\"");
	STAGE_UNTIL(&stage, stage_number(&stage, "zipped") >= 90 * 1024);
	MT_CHECK_EQ(stage.fake.balloons, 0);
	/* plugged in later, it is found */
	stage.fake.no_balloon = false;
	STAGE_UNTIL(&stage, stage_ballooned_mib(&stage) >= 200);
	rig_stop(&stage.rig);
}

MT_TEST("a balloon that could kill its guest is not driven, and the reason is told")
{
	struct stage stage;

	stage_start(&stage, "1G", FAST);
	stage.fake.no_deflate_on_oom = true;
	STAGE_UNTIL(&stage, stage_word_is(&stage, "balloon", "unsafe"));
	stage_set(&stage, "\"target_max\":\"300M\"");
	STAGE_UNTIL(&stage, stage_number(&stage, "zipped") >= 90 * 1024);
	MT_CHECK_EQ(stage.fake.balloons, 0);
	MT_CHECK(ctl_event_seen(stage.ctl, "web", "balloon: it lacks deflate-on-oom=on"));
	/* the guest's numbers are worth having all the same */
	STAGE_UNTIL(&stage, stage_guest(&stage, "usable") == 300 * 1024);
	rig_stop(&stage.rig);
}

MT_TEST("a daemon killed and restarted finds the balloon as it is and goes on")
{
	struct stage stage;
	uint64_t before;

	stage_start(&stage, "1G", FAST);
	STAGE_UNTIL(&stage, stage_word_is(&stage, "balloon", "working"));
	stage_set(&stage, "\"target_max\":\"300M\"");
	STAGE_UNTIL(&stage, stage_steady(&stage));
	before = stage_ballooned_mib(&stage);
	/* the state file is written within a second */
	STAGE_UNTIL(&stage, rig_state_says(&stage.rig, "web", RIG_STATE_TARGET_MAX, 300 * MIB));
	close(stage.ctl);
	rig_kill(&stage.rig);
	rig_start(&stage.rig, "1G", FAST);
	stage.ctl = ctl_open(&stage.rig);
	MT_CHECK_EQ(peer_again(&stage.rig, &stage.peer, "web", MIB_PAGES(STAGE_MIB)), 0);
	STAGE_UNTIL(&stage, stage_word_is(&stage, "balloon", "working"));
	stage_for(&stage, 100);
	MT_CHECK_EQ(stage_ballooned_mib(&stage), before);
	stage_set(&stage, "\"target_max\":\"none\"");
	STAGE_UNTIL(&stage, stage_ballooned_mib(&stage) == 0);
	rig_stop(&stage.rig);
}

static unsigned int count_events(int ctl, const char *text)
{
	struct json_object *answer = ctl_ask(ctl, "{\"cmd\":\"events\",\"after\":0}");
	struct json_object *events = json_object_object_get(answer, "events");
	unsigned int count = 0;

	for (size_t i = 0; i < json_object_array_length(events); i++) {
		struct json_object *event = json_object_array_get_idx(events, i);

		if (strstr(json_object_get_string(json_object_object_get(event, "text")), text))
			count++;
	}
	json_object_put(answer);
	return count;
}

/*
 * The server's own count of connections that ended is the measure: on a slow machine a right answer
 * may come too late, and then that is the fault.
 */
MT_TEST("a thousand QMP faults are one event each, and the daemon answers all the while")
{
	static const unsigned int faults = 1000;
	uint64_t random = 4711;
	struct stage stage;

	stage_start(&stage, "1G", "qmp_retry_ms = 1\nqmp_timeout_ms = 100\nballoon_poll_ms = 1\n");
	while (stage.fake.ended < faults) {
		unsigned int ended = stage.fake.ended;

		/* hangs take their time, so they are rarer here */
		do {
			stage.fake.fault =
				1 + (enum fake_fault)fake_random(&random, FAKE_FAULTS - 1);
		} while ((stage.fake.fault == FAKE_HANG || stage.fake.fault == FAKE_HALF_HANG ||
			  stage.fake.fault == FAKE_TOO_LONG) &&
			 fake_random(&random, 10));
		stage.fake.after = 2 + (unsigned int)fake_random(&random, 8);
		STAGE_UNTIL(&stage, stage.fake.ended > ended);
		if (ended % 50 == 0)
			MT_CHECK_STR(ctl_code(stage.ctl, SHOW), "");
	}
	stage.fake.fault = FAKE_NONE;
	STAGE_UNTIL(&stage, stage_word_is(&stage, "balloon", "working"));
	/* nor is one of those left out that are the fault of a slow machine */
	fake_qmp_turn_away(&stage.fake);
	MT_CHECK(RIG_WAIT(count_events(stage.ctl, "QMP: ") == stage.fake.ended));
	rig_stop(&stage.rig);
}

MT_TEST_MAIN
