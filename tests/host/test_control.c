/* SPDX-License-Identifier: MIT */
/* test_control.c - the control socket: requests good and bad, settings, audits, events */
#include "host/rig.h"
#include "sys/sock.h"

#include "common/mt_test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define SHOW(name)          "{\"cmd\":\"show\",\"vm\":\"" name "\"}"
#define SET(name, settings) "{\"cmd\":\"set\",\"vm\":\"" name "\",\"settings\":" settings "}"
#define HOST                "{\"cmd\":\"host\"}"

MT_TEST("bad requests are answered with an error and the connection goes on")
{
	static const char *const bad[] = {
		"",
		" ",
		"x",
		"[]",
		"1",
		"\"cmd\"",
		"{",
		"{}",
		"{\"cmd\":1}",
		"{\"cmd\":null}",
		"{\"cmd\":\"nothing\"}",
		"{\"cmd\":\"host\"} x",
		"{\"cmd\":\"host\"}{}",
		"{\"cmd\":\"show\"}",
		"{\"cmd\":\"show\",\"vm\":[]}",
		"{'cmd':'host'}",
		"{\"cmd\":\"show\",\"vm\":\"\\u0000\"}",
		"{\"cmd\":\"\xff\"}",
		"{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":1}}}}}}}}}",
		"{\"cmd\":\"vm_create\"}",
		"{\"cmd\":\"vm_create\",\"name\":\"../x\"}",
		"{\"cmd\":\"vm_create\",\"name\":\"x\",\"reservation_bytes\":-1}",
		"{\"cmd\":\"vm_create\",\"name\":\"x\",\"limit_bytes\":\"1G\"}",
		"{\"cmd\":\"vm_create\",\"name\":\"x\",\"shares\":\"many\"}",
		"{\"cmd\":\"vm_create\",\"name\":\"x\",\"share_group\":\"a b\"}",
		"{\"cmd\":\"events\",\"after\":-1}",
		"{\"cmd\":\"set\"}",
		"{\"cmd\":\"set\",\"host\":true,\"settings\":{}}",
		"{\"cmd\":\"set\",\"host\":true,\"settings\":{\"swap\":1}}",
		"{\"cmd\":\"set\",\"host\":true,\"settings\":{\"pool\":\"200T\"}}",
		"{\"cmd\":\"set\",\"host\":true,\"settings\":{\"pool\":\"1M\"}}",
	};
	struct rig rig;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	for (unsigned int i = 0; i < MT_ARRAY_SIZE(bad); i++)
		if (strcmp(ctl_code(ctl, bad[i]), "EINVAL"))
			MT_FAIL("not refused: %s", bad[i]);
	MT_CHECK_STR(ctl_code(ctl, SHOW("none")), "ENOENT");
	MT_CHECK_STR(
		ctl_code(ctl, "{\"cmd\":\"set\",\"host\":true,\"settings\":{\"pool\":\"900T\"}}"),
		"ERANGE");
	MT_CHECK_STR(ctl_code(ctl, " {\"cmd\" : \"host\"}\r"), "");
	MT_CHECK_EQ(ctl_number(ctl, HOST, "host", "vms"), 0);
	rig_stop(&rig);
}

MT_TEST("a line that is too long is refused and ends the connection, others go on")
{
	static char line[70000];
	struct rig rig;
	struct json_object *answer, *value = NULL;
	int ctl, other;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	other = ctl_open(&rig);
	memset(line, ' ', sizeof(line));
	MT_CHECK(send(ctl, line, sizeof(line), MSG_NOSIGNAL) > 0);
	answer = ctl_line(ctl, RIG_PATIENCE_MS);
	MT_CHECK(answer && json_object_object_get_ex(answer, "code", &value));
	MT_CHECK_STR(json_object_get_string(value), "E2BIG");
	MT_CHECK(!ctl_line(ctl, RIG_PATIENCE_MS));
	/* as long as a line may be */
	memset(line, ' ', 65535);
	memcpy(line, HOST, strlen(HOST));
	line[65535] = '\0';
	MT_CHECK_STR(ctl_code(other, line), "");
	rig_stop(&rig);
}

MT_TEST("many requests in one packet are answered in order, the last one after the end of input "
	"too")
{
	static char line[200 * 40];
	struct rig rig;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	for (unsigned int i = 0; i < 200; i++)
		strcat(line, i % 2 ? HOST "\n" : "{\"cmd\":\"list\"}\n");
	MT_CHECK_EQ(send(ctl, line, strlen(line), 0), strlen(line));
	shutdown(ctl, SHUT_WR);
	for (unsigned int i = 0; i < 200; i++) {
		struct json_object *answer = ctl_line(ctl, RIG_PATIENCE_MS);

		MT_CHECK(answer);
		MT_CHECK_EQ(json_object_object_get_ex(answer, "vms", NULL), i % 2 == 0);
		json_object_put(answer);
	}
	MT_CHECK(!ctl_line(ctl, RIG_PATIENCE_MS));
	rig_stop(&rig);
}

MT_TEST("a client that reads nothing can't make the daemon hold much, or stop it")
{
	struct rig rig;
	struct json_object *answer;
	struct pollfd room = {.events = POLLOUT};
	unsigned int sent = 0;
	int ctl, other;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	room.fd = ctl = ctl_open(&rig);
	other = ctl_open(&rig);
	/* a daemon that goes on reading has a second to do so, however slow */
	while (sent < 1000000 && poll(&room, 1, 1000) > 0 &&
	       send(ctl, HOST "\n", strlen(HOST) + 1, MSG_DONTWAIT) > 0)
		sent++;
	MT_CHECK(sent < 1000000);
	MT_CHECK_STR(ctl_code(other, HOST), "");
	/* nothing is lost once it reads again */
	answer = ctl_line(ctl, RIG_PATIENCE_MS);
	MT_CHECK(answer);
	rig_stop(&rig);
}

/* Is a new client greeted, and not turned away? */
static bool greeted(const struct rig *rig)
{
	int fd = mt_sock_connect(rig->socket, SOCK_STREAM, NULL);
	struct json_object *line;
	bool right;

	MT_CHECK(fd >= 0);
	line = ctl_line(fd, RIG_PATIENCE_MS);
	right = line && json_object_object_get_ex(line, "memtide", NULL);
	json_object_put(line);
	close(fd);
	return right;
}

MT_TEST("clients above the limit are told so, and served again when others leave")
{
	struct rig rig;
	struct json_object *line, *value = NULL;
	int fds[256], extra;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	for (unsigned int i = 0; i < 256; i++)
		fds[i] = ctl_open(&rig);
	extra = dup(fds[0]);
	close(extra);
	{
		struct rig same = rig;
		char command[256];
		FILE *pipe;
		char text[256] = "";

		snprintf(command, sizeof(command),
			 "python3 -c 'import socket;s=socket.socket(1,1);s.connect(\"%s\");"
			 "print(s.recv(300).decode())'",
			 same.socket);
		pipe = popen(command, "re");
		MT_CHECK(pipe && fgets(text, sizeof(text), pipe));
		pclose(pipe);
		line = json_tokener_parse(text);
		MT_CHECK(line && json_object_object_get_ex(line, "code", &value));
		MT_CHECK_STR(json_object_get_string(value), "EMFILE");
	}
	close(fds[3]);
	MT_CHECK(RIG_WAIT(greeted(&rig)));
	rig_stop(&rig);
}

static void hello_token(union mt_wire_msg *hello, const char *token)
{
	mt_wire_init(hello, MT_WIRE_HELLO, 1);
	snprintf(hello->hello.token, sizeof(hello->hello.token), "%s", token);
	hello->hello.reservation_bytes = 1; /* to be ignored */
}

MT_TEST("a created VM has its name until the connection ends, and its settings from the token")
{
	static const char create[] = "{\"cmd\":\"vm_create\",\"name\":\"web\","
				     "\"reservation_bytes\":33554432,\"limit_bytes\":67108864,"
				     "\"shares\":0,\"share_group\":\"prod\"}";
	struct rig rig;
	struct peer peer;
	union mt_wire_msg hello;
	char token[MT_WIRE_TOKEN_MAX];
	int ctl, creator;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	creator = ctl_open(&rig);
	MT_CHECK_STR(ctl_code(creator, create), "");
	MT_CHECK_STR(ctl_code(ctl, create), "EEXIST");
	MT_CHECK_STR(ctl_string(ctl, SHOW("web"), "vm", "state"), "starting");
	close(creator);
	MT_CHECK(ctl_event_seen(ctl, "web", "given up"));
	creator = ctl_open(&rig);
	snprintf(token, sizeof(token), "%s", ctl_string(creator, create, NULL, "token"));
	MT_CHECK_EQ(strlen(token), 32);
	peer_connect(&rig, &peer);
	hello_token(&hello, "00000000000000000000000000000000");
	MT_CHECK_EQ(peer_hello_msg(&peer, &hello), -ENOENT);
	peer_connect(&rig, &peer);
	hello_token(&hello, token);
	MT_CHECK_EQ(peer_hello_msg(&peer, &hello), 0);
	close(creator);
	MT_CHECK_EQ(peer_region(&peer, 128 * MIB), 0);
	PEER_UNTIL(&peer, peer.grant == MIB_PAGES(64));
	MT_CHECK_EQ(ctl_number(ctl, SHOW("web"), "vm", "reservation"), 32 * 1024);
	MT_CHECK_EQ(ctl_number(ctl, SHOW("web"), "vm", "limit"), 64 * 1024);
	MT_CHECK_EQ(ctl_number(ctl, SHOW("web"), "vm", "shares"), 1280);
	MT_CHECK_EQ(ctl_number(ctl, SHOW("web"), "vm", "pid"), getpid());
	MT_CHECK_STR(ctl_string(ctl, SHOW("web"), "vm", "share_group"), "prod");
	/* a token works once */
	peer_connect(&rig, &peer);
	MT_CHECK_EQ(peer_hello_msg(&peer, &hello), -ENOENT);
	rig_stop(&rig);
}

MT_TEST("another user may register his VMs, with a token or without, but promise himself nothing")
{
	struct rig rig;
	struct peer peer;
	union mt_wire_msg hello;
	char token[MT_WIRE_TOKEN_MAX];
	int ctl, status = 0;
	pid_t pid;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	snprintf(token, sizeof(token), "%s",
		 ctl_string(ctl, "{\"cmd\":\"vm_create\",\"name\":\"web\"}", NULL, "token"));
	MT_CHECK_EQ(chmod(rig.dir, 0755), 0);
	MT_CHECK_EQ(chmod(rig.vm_socket, 0666), 0);
	pid = fork();
	MT_CHECK(pid >= 0);
	if (!pid) {
		MT_CHECK_EQ(setresuid(65534, 65534, 65534), 0);
		peer_connect(&rig, &peer);
		MT_CHECK_EQ(peer_hello(&peer, "mine", 4096, 0), -EPERM);
		peer_join(&rig, &peer, "mine");
		peer_connect(&rig, &peer);
		hello_token(&hello, token);
		MT_CHECK_EQ(peer_hello_msg(&peer, &hello), 0);
		_exit(0);
	}
	MT_CHECK_EQ(waitpid(pid, &status, 0), pid);
	MT_CHECK_EQ(status, 0);
	rig_stop(&rig);
}

MT_TEST("settings change live, all of them or none")
{
	struct rig rig;
	struct peer peer;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	peer_join(&rig, &peer, "a");
	MT_CHECK_EQ(peer_region(&peer, 128 * MIB), 0);
	MT_CHECK_STR(
		ctl_code(ctl,
			 SET("a", "{\"limit\":\"64M\",\"zip_max_pct\":50,\"shares\":\"high\"}")),
		"");
	PEER_UNTIL(&peer, peer.target == MIB_PAGES(64) && peer.zip_max_pct == 50);
	MT_CHECK_EQ(ctl_number(ctl, SHOW("a"), "vm", "shares"), 2560);
	MT_CHECK_STR(ctl_code(ctl, SET("a", "{\"limit\":\"100M\",\"zip_max_pct\":101}")), "EINVAL");
	MT_CHECK_STR(ctl_code(ctl, SET("a", "{\"limit\":\"100M\",\"colour\":1}")), "EINVAL");
	MT_CHECK_STR(ctl_code(ctl, SET("a", "{\"limit\":\"100M\",\"reservation\":\"200M\"}")),
		     "EINVAL");
	MT_CHECK_STR(ctl_code(ctl, SET("a", "{\"zip_max_pct\":1,\"reservation\":\"100M\"}")),
		     "EINVAL");
	MT_CHECK_STR(ctl_code(ctl, SET("a", "{\"limit\":true}")), "EINVAL");
	MT_CHECK_STR(ctl_code(ctl, SET("a", "{\"limit\":\"1M\"}")), "EINVAL");
	MT_CHECK_EQ(ctl_number(ctl, SHOW("a"), "vm", "limit"), 64 * 1024);
	MT_CHECK_EQ(ctl_number(ctl, SHOW("a"), "vm", "zip_max_pct"), 50);
	MT_CHECK_STR(ctl_code(ctl, SET("a", "{\"limit\":\"none\",\"target_max\":\"40M\"}")), "");
	PEER_UNTIL(&peer, peer.target == MIB_PAGES(40));
	MT_CHECK_STR(ctl_code(ctl, SET("a", "{\"target_max\":\"none\"}")), "");
	PEER_UNTIL(&peer, peer.target == MIB_PAGES(141));
	MT_CHECK(ctl_event_seen(ctl, "a", "set: limit=none, target_max=40M"));
	rig_stop(&rig);
}

#define SET_HOST(settings) "{\"cmd\":\"set\",\"host\":true,\"settings\":" settings "}"

static int64_t host_setting(int ctl, const char *name)
{
	struct json_object *answer = ctl_ask(ctl, HOST), *at = NULL;
	int64_t value = -1;

	if (json_object_object_get_ex(answer, "host", &at) &&
	    json_object_object_get_ex(at, "settings", &at) &&
	    json_object_object_get_ex(at, name, &at))
		value = json_object_get_int64(at);
	json_object_put(answer);
	return value;
}

MT_TEST("settings of the scheduler change live, all or none, and outlive the daemon")
{
	struct rig rig;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", "Mem.BalancePeriod = 5\n");
	ctl = ctl_open(&rig);
	MT_CHECK_EQ(host_setting(ctl, "Mem.IdleTax"), 75);
	MT_CHECK_EQ(host_setting(ctl, "Mem.BalancePeriod"), 5);
	MT_CHECK_STR(ctl_code(ctl, SET_HOST("{\"Mem.IdleTax\":0,\"Mem.SamplePeriod\":\"2\"}")), "");
	MT_CHECK_EQ(host_setting(ctl, "Mem.IdleTax"), 0);
	MT_CHECK_EQ(host_setting(ctl, "Mem.SamplePeriod"), 2);
	MT_CHECK(ctl_event_seen(ctl, "", "set: Mem.IdleTax=0, Mem.SamplePeriod=2"));
	MT_CHECK_STR(ctl_code(ctl, SET_HOST("{\"Mem.IdleTax\":100}")), "ERANGE");
	MT_CHECK_STR(ctl_code(ctl, SET_HOST("{\"Mem.IdleTax\":50,\"Mem.IdleTaxType\":2}")),
		     "ERANGE");
	MT_CHECK_STR(ctl_code(ctl, SET_HOST("{\"Mem.IdleTax\":50,\"Mem.StateSoftLeave\":10}")),
		     "EINVAL");
	MT_CHECK_STR(ctl_code(ctl, SET_HOST("{\"Mem.IdleTax\":50,\"pool\":\"1M\"}")), "EINVAL");
	MT_CHECK_STR(ctl_code(ctl, SET_HOST("{\"Mem.IdleTax\":50,\"Mem.Colour\":1}")), "EINVAL");
	MT_CHECK_STR(ctl_code(ctl, SET_HOST("{\"Mem.IdleTax\":50,\"Mem.IdleTaxType\":\"x\"}")),
		     "EINVAL");
	MT_CHECK_EQ(host_setting(ctl, "Mem.IdleTax"), 0);
	rig_stop(&rig);
	rig_start(&rig, "256M", "Mem.BalancePeriod = 7\n");
	ctl = ctl_open(&rig);
	MT_CHECK_EQ(host_setting(ctl, "Mem.IdleTax"), 0);
	MT_CHECK_EQ(host_setting(ctl, "Mem.BalancePeriod"), 7);
	/* back at what the configuration says, there is nothing to be kept */
	MT_CHECK_STR(ctl_code(ctl, SET_HOST("{\"idletax\":75,\"sampleperiod\":60}")), "");
	rig_stop(&rig);
	rig_start(&rig, "256M", NULL);
	MT_CHECK_EQ(host_setting(ctl_open(&rig), "Mem.IdleTax"), 75);
	rig_stop(&rig);
}

MT_TEST("a monitor is told how to sample, and its counts become estimates of active memory")
{
	struct rig rig;
	struct peer peer;
	union mt_wire_msg stats;
	uint64_t *value = stats.stats.value;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	peer_join(&rig, &peer, "a");
	MT_CHECK_EQ(peer_region(&peer, 64 * MIB), 0);
	PEER_UNTIL(&peer, peer.sample_period_s == 60 && peer.sample_pages == 100);
	MT_CHECK_STR(ctl_code(ctl, SET_HOST("{\"Mem.SamplePeriod\":30,\"Mem.SamplePages\":50}")),
		     "");
	PEER_UNTIL(&peer, peer.sample_period_s == 30 && peer.sample_pages == 50);
	/* nothing known: all of it */
	MT_CHECK_EQ(ctl_number(ctl, SHOW("a"), "vm", "active"), 64 * 1024);
	mt_wire_init(&stats, MT_WIRE_STATS, 0);
	stats.stats.count = MT_COUNTER_MAX;
	value[MT_C_SAMPLE_PERIODS] = 1;
	value[MT_C_SAMPLE_WATCHED] = 50;
	value[MT_C_SAMPLE_TOUCHED] = 25;
	value[MT_C_SAMPLE_WRITTEN] = 5;
	peer_send(&peer, &stats);
	MT_CHECK(RIG_WAIT(ctl_number(ctl, SHOW("a"), "vm", "active") == 32 * 1024));
	MT_CHECK_EQ(ctl_number(ctl, SHOW("a"), "vm", "activewrite"), 64 * 1024 / 10 / 4 * 4);
	/* up at once, before the period is over */
	value[MT_C_SAMPLE_NOW_WATCHED] = 50;
	value[MT_C_SAMPLE_NOW_TOUCHED] = 45;
	peer_send(&peer, &stats);
	MT_CHECK(RIG_WAIT(ctl_number(ctl, SHOW("a"), "vm", "active") >= 57 * 1024));
	/* counts that go back, or say more was touched than watched, are no reason to stumble */
	memset(value, 0, sizeof(stats.stats.value));
	value[MT_C_SAMPLE_NOW_TOUCHED] = UINT64_MAX;
	peer_send(&peer, &stats);
	value[MT_C_SAMPLE_PERIODS] = 9;
	value[MT_C_SAMPLE_TOUCHED] = UINT64_MAX;
	value[MT_C_SWAP_OUT] = 10; /* shows that this has been heard */
	peer_send(&peer, &stats);
	MT_CHECK(RIG_WAIT(ctl_number(ctl, SHOW("a"), "vm", "swapout") == 40));
	MT_CHECK(ctl_number(ctl, SHOW("a"), "vm", "active") <= 64 * 1024);
	rig_stop(&rig);
}

MT_TEST("the pool changes live, and never below what was promised")
{
	struct rig rig;
	struct peer peer;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	peer_connect(&rig, &peer);
	MT_CHECK_EQ(peer_hello(&peer, "a", 64 * MIB, 0), 0);
	MT_CHECK_EQ(peer_region(&peer, 256 * MIB), 0);
	PEER_UNTIL(&peer, peer.grant == MIB_PAGES(232));
	MT_CHECK_STR(
		ctl_code(ctl, "{\"cmd\":\"set\",\"host\":true,\"settings\":{\"pool\":\"80M\"}}"),
		"ENOSPC");
	MT_CHECK_STR(
		ctl_code(ctl, "{\"cmd\":\"set\",\"host\":true,\"settings\":{\"pool\":\"128M\"}}"),
		"");
	MT_CHECK_EQ(ctl_number(ctl, HOST, "host", "pool"), 128 * 1024);
	PEER_UNTIL(&peer, peer.target == MIB_PAGES(104));
	MT_CHECK_EQ(ctl_number(ctl, HOST, "host", "granted_out"), 232 * 1024);
	peer_obey(&peer);
	peer_drain(&peer, 100);
	MT_CHECK_EQ(peer.grant, MIB_PAGES(104));
	MT_CHECK_STR(
		ctl_code(ctl, "{\"cmd\":\"set\",\"host\":true,\"settings\":{\"pool\":\"1G\"}}"),
		"");
	PEER_UNTIL(&peer, peer.grant == MIB_PAGES(256 + 2 + 12));
	rig_stop(&rig);
}

/* Takes messages until an audit is asked for. Return: its serial. */
static uint32_t next_check(struct peer *peer)
{
	union mt_wire_msg msg;

	for (peer->check = 0; !peer->check;)
		MT_CHECK(peer_next(peer, &msg, RIG_PATIENCE_MS));
	return peer->check;
}

MT_TEST("an audit is forwarded, answered, and survives the VM's and the client's end")
{
	struct rig rig;
	struct peer peer;
	union mt_wire_msg msg;
	struct json_object *answer, *value = NULL;
	uint32_t serial;
	int ctl, other;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	peer_join(&rig, &peer, "a");
	ctl_send(ctl, "{\"cmd\":\"check\",\"vm\":\"a\"}");
	ctl_send(ctl, HOST);
	serial = next_check(&peer);
	mt_wire_init(&msg, MT_WIRE_CHECKED, serial + 1);
	peer_send(&peer, &msg); /* nobody's */
	mt_wire_init(&msg, MT_WIRE_CHECKED, serial);
	msg.checked.pages = 4096;
	msg.checked.violations = 2;
	strcpy(msg.checked.text, "page 7 is nowhere");
	peer_send(&peer, &msg);
	answer = ctl_line(ctl, RIG_PATIENCE_MS);
	MT_CHECK(answer && json_object_object_get_ex(answer, "violations", &value));
	MT_CHECK_EQ(json_object_get_int64(value), 2);
	MT_CHECK(json_object_object_get_ex(answer, "first", &value));
	MT_CHECK_STR(json_object_get_string(value), "page 7 is nowhere");
	MT_CHECK(ctl_line(ctl, RIG_PATIENCE_MS)); /* the request behind it */
	other = ctl_open(&rig);
	ctl_send(other, "{\"cmd\":\"check\",\"vm\":\"a\"}");
	next_check(&peer);
	close(other);
	ctl_send(ctl, "{\"cmd\":\"check\",\"vm\":\"a\"}");
	next_check(&peer);
	peer_close(&peer);
	answer = ctl_line(ctl, RIG_PATIENCE_MS);
	MT_CHECK(answer && json_object_object_get_ex(answer, "code", &value));
	MT_CHECK_STR(json_object_get_string(value), "ENOTCONN");
	MT_CHECK_STR(ctl_code(ctl, "{\"cmd\":\"check\",\"vm\":\"a\"}"), "ENOTCONN");
	rig_stop(&rig);
}

MT_TEST("an audit that the VM does not answer is timed out, as often as it is asked for")
{
	struct rig rig;
	struct peer peer;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", "check_timeout_ms = 300\n");
	ctl = ctl_open(&rig);
	peer_join(&rig, &peer, "a");
	MT_CHECK_STR(ctl_code(ctl, "{\"cmd\":\"check\",\"vm\":\"a\"}"), "ETIMEDOUT");
	MT_CHECK_STR(ctl_code(ctl, "{\"cmd\":\"check\",\"vm\":\"a\"}"), "ETIMEDOUT");
	rig_stop(&rig);
}

MT_TEST("events are numbered, can be read from any one on, and followed")
{
	struct rig rig;
	struct peer peer;
	struct json_object *line, *value = NULL;
	int ctl, follower;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	follower = ctl_open(&rig);
	MT_CHECK_STR(ctl_code(follower, "{\"cmd\":\"events\",\"after\":0,\"follow\":true}"), "");
	peer_join(&rig, &peer, "a");
	line = ctl_line(follower, RIG_PATIENCE_MS);
	MT_CHECK(line && json_object_object_get_ex(line, "event", &value));
	MT_CHECK(json_object_object_get_ex(value, "vm", &value));
	MT_CHECK_STR(json_object_get_string(value), "a");
	MT_CHECK_STR(ctl_code(ctl, "{\"cmd\":\"events\",\"after\":999999999}"), "");
	MT_CHECK_STR(ctl_code(ctl, "{\"cmd\":\"events\",\"after\":9223372036854775807}"), "");
	rig_stop(&rig);
}

MT_TEST("every documented field is there")
{
	static const char *const vm_fields[] = {
		"name",        "pid",         "state",     "vmm",         "reason",
		"shares",      "reservation", "limit",     "zip_max_pct", "share_group",
		"regions",     "memsize",     "granted",   "consumed",    "shared",
		"vmmemctl",    "zipSaved",    "swapin",    "swapout",     "entitlement",
		"active",      "activewrite", "slack_pct", "grant",       "target",
		"held",        "faultP99",    "balloon",   "qmp",         "vmmemctltarget",
		"vmmemctlmax", "reportedFree"};
	static const char *const host_fields[] = {
		"pool",     "granted_out", "free",     "ungranted",    "heldMax",
		"minfree",  "state",       "vms",      "memsize",      "overcommit_pct",
		"granted",  "consumed",    "shared",   "sharedcommon", "zero",
		"vmmemctl", "zipped",      "zipHeld",  "zipSaved",     "swapused",
		"swapin",   "swapout",     "overhead", "swap_dir",     "swap_dir_free",
		"uptime_s", "version",     "pid",      "settings"};
	struct rig rig;
	struct peer peer;
	int ctl;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	peer_join(&rig, &peer, "a");
	MT_CHECK_EQ(peer_region(&peer, 16 * MIB), 0);
	peer_stats(&peer, MT_C_SWAP_OUT, 10);
	for (unsigned int i = 0; i < MT_ARRAY_SIZE(vm_fields); i++)
		ctl_string(ctl, SHOW("a"), "vm", vm_fields[i]);
	for (unsigned int i = 0; i < MT_ARRAY_SIZE(host_fields); i++)
		ctl_string(ctl, HOST, "host", host_fields[i]);
	MT_CHECK(RIG_WAIT(ctl_number(ctl, SHOW("a"), "vm", "swapout") == 40));
	MT_CHECK_EQ(ctl_number(ctl, HOST, "host", "swapout"), 40);
	rig_stop(&rig);
}

MT_TEST_MAIN
