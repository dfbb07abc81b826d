/* SPDX-License-Identifier: MIT */
/*
 * test_hostile.c - peers that lie, flood, hoard and send rubbish: the daemon stays, others are
 * served
 *
 * The daemon trusts nobody at its sockets. Each limit is tried at the limit and one past it.
 * Rubbish is made from a seed, which a failure prints: MT_HOSTILE_SEED runs another.
 */
#include "host/rig.h"
#include "host/rights.h"
#include "sys/sock.h"

#include "common/mt_test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define SHOW(name)  "{\"cmd\":\"show\",\"vm\":\"" name "\"}"
#define HOST        "{\"cmd\":\"host\"}"
#define STRANGER    65534
#define GROUP_LINES "group = nogroup\n"
#define RUBBISH     2000

static uint64_t state;

static uint32_t random_below(uint32_t limit)
{
	state = state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(state >> 33) % limit;
}

static void seed_random(uint64_t otherwise)
{
	const char *text = getenv("MT_HOSTILE_SEED");

	state = text ? strtoull(text, NULL, 0) : otherwise;
	printf("# seed %llu\n", (unsigned long long)state);
}

static unsigned int daemon_descriptors(const struct rig *rig)
{
	unsigned int count = 0;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)rig->daemon);
	dir = opendir(path);
	MT_CHECK(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static bool descriptors_back(const struct rig *rig, unsigned int before)
{
	return RIG_WAIT(daemon_descriptors(rig) <= before);
}

/* Runs @body as another user, who is a member of the daemon's group. */
static void as_stranger(const struct rig *rig, void (*body)(const struct rig *rig))
{
	int status = -1;
	pid_t pid;

	MT_CHECK_EQ(chmod(rig->dir, 0755), 0);
	fflush(stdout);
	pid = fork();
	MT_CHECK(pid >= 0);
	if (!pid) {
		MT_CHECK_EQ(setgroups(0, NULL), 0);
		MT_CHECK_EQ(setresgid(STRANGER, STRANGER, STRANGER), 0);
		MT_CHECK_EQ(setresuid(STRANGER, STRANGER, STRANGER), 0);
		body(rig);
		fflush(stdout);
		_exit(0);
	}
	MT_CHECK_EQ(waitpid(pid, &status, 0), pid);
	MT_CHECK_EQ(status, 0);
}

static void check_socket(const char *path, gid_t group)
{
	struct stat st;

	MT_CHECK_EQ(stat(path, &st), 0);
	MT_CHECK_EQ(st.st_mode & 0777, 0660);
	MT_CHECK_EQ(st.st_uid, geteuid());
	MT_CHECK_EQ(st.st_gid, group);
}

MT_TEST("the sockets are for root and one group")
{
	const struct group *group = getgrnam("nogroup");
	struct rig rig;
	char text[512];
	const char *args[] = {"memtided",   "--pool", "256M",    "--socket",           rig.socket,
			      "--swap-dir", rig.swap, "--group", "no-such-group-here", NULL};

	rig_make(&rig);
	if (!group || geteuid())
		MT_SKIP("needs root and a group 'nogroup'");
	rig_start(&rig, "256M", GROUP_LINES);
	check_socket(rig.socket, group->gr_gid);
	check_socket(rig.vm_socket, group->gr_gid);
	rig_stop(&rig);
	MT_CHECK(rig_run(args, text, sizeof(text)) != 0);
	MT_CHECK(strstr(text, "there is no group 'no-such-group-here'"));
}

static bool status_says(const struct rig *rig, const char *line)
{
	char path[64], text[256];
	bool found = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)rig->daemon);
	file = fopen(path, "re");
	MT_CHECK(file);
	while (!found && fgets(text, sizeof(text), file))
		found = !strcmp(text, line);
	fclose(file);
	return found;
}

MT_TEST("the daemon may make only the system calls it needs, unless it is told otherwise")
{
	struct rig rig;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
#ifndef __SANITIZE_ADDRESS__
	MT_CHECK(status_says(&rig, "Seccomp:\t2\n"));
	MT_CHECK(status_says(&rig, "NoNewPrivs:\t1\n"));
#endif
	rig_stop(&rig);
	rig_start(&rig, "256M", "sandbox = off\n");
	MT_CHECK(status_says(&rig, "Seccomp:\t0\n"));
	rig_stop(&rig);
}

static void stranger_has_his_own(const struct rig *rig)
{
	int ctl = ctl_open(rig), holder = ctl_open(rig);
	const char *create = "{\"cmd\":\"vm_create\",\"name\":\"mine\"}";

	MT_CHECK_STR(ctl_code(holder, create), "");
	MT_CHECK_STR(ctl_string(ctl, SHOW("mine"), "vm", "state"), "starting");
	MT_CHECK_STR(ctl_code(ctl, SHOW("roots")), "ENOENT");
	MT_CHECK_STR(ctl_code(ctl, "{\"cmd\":\"check\",\"vm\":\"roots\"}"), "ENOENT");
	MT_CHECK_STR(ctl_code(ctl, "{\"cmd\":\"set\",\"vm\":\"roots\",\"settings\":"
				   "{\"limit\":\"1M\"}}"),
		     "ENOENT");
	MT_CHECK_STR(ctl_code(ctl, "{\"cmd\":\"set\",\"host\":true,\"settings\":"
				   "{\"pool\":\"200M\"}}"),
		     "EPERM");
	MT_CHECK_STR(ctl_code(ctl, "{\"cmd\":\"set\",\"vm\":\"mine\",\"settings\":"
				   "{\"shares\":\"high\"}}"),
		     "EPERM");
	MT_CHECK_STR(ctl_code(ctl, "{\"cmd\":\"set\",\"vm\":\"mine\",\"settings\":"
				   "{\"reservation\":\"1M\"}}"),
		     "EPERM");
	MT_CHECK_STR(ctl_code(ctl, "{\"cmd\":\"set\",\"vm\":\"mine\",\"settings\":"
				   "{\"limit\":\"100M\"}}"),
		     "");
	MT_CHECK_STR(ctl_code(ctl, "{\"cmd\":\"set\",\"vm\":\"mine\",\"settings\":"
				   "{\"limit\":\"200M\"}}"),
		     "EPERM");
	MT_CHECK_STR(ctl_code(ctl, "{\"cmd\":\"vm_create\",\"name\":\"greedy\","
				   "\"reservation_bytes\":4096}"),
		     "EPERM");
	MT_CHECK_STR(
		ctl_code(ctl, "{\"cmd\":\"vm_create\",\"name\":\"greedy\",\"shares\":\"high\"}"),
		"EPERM");
	MT_CHECK_STR(ctl_code(ctl, "{\"cmd\":\"vm_create\",\"name\":\"roots\"}"), "EEXIST");
	MT_CHECK_STR(ctl_code(ctl, "{\"cmd\":\"qmp\",\"vm\":\"mine\",\"pid\":0,\"path\":\"/x\"}"),
		     "EPERM");
}

/* He may register a VM by itself; what it holds already he may tell only of one that was here. */
static void stranger_claims_memory(const struct rig *rig)
{
	struct peer peer = {.secret = "from nowhere", .grant = MIB_PAGES(64)};

	MT_CHECK_EQ(peer_again(rig, &peer, "before", MIB_PAGES(64)), -EPERM);
}

/* Neither the list nor the events tell of others' VMs. */
static void stranger_sees_no_others(const struct rig *rig)
{
	int ctl = ctl_open(rig);
	struct json_object *list = ctl_ask(ctl, "{\"cmd\":\"list\"}");
	struct json_object *events = ctl_ask(ctl, "{\"cmd\":\"events\",\"after\":0}");

	MT_CHECK(list && events);
	MT_CHECK(!strstr(json_object_to_json_string(list), "roots"));
	MT_CHECK(!strstr(json_object_to_json_string(events), "roots"));
	json_object_put(list);
	json_object_put(events);
}

MT_TEST("another user has the VMs he made, and sees and changes no others")
{
	struct rig rig;
	struct peer peer;
	int ctl;

	rig_make(&rig);
	if (geteuid() || !getgrnam("nogroup"))
		MT_SKIP("needs root and a group 'nogroup'");
	rig_start(&rig, "256M", GROUP_LINES);
	ctl = ctl_open(&rig);
	peer_join(&rig, &peer, "roots");
	as_stranger(&rig, stranger_has_his_own);
	as_stranger(&rig, stranger_claims_memory);
	as_stranger(&rig, stranger_sees_no_others);
	MT_CHECK_STR(ctl_string(ctl, SHOW("roots"), "vm", "state"), "starting");
	rig_stop(&rig);
}

static void stranger_hoards(const struct rig *rig)
{
	int ctl[MT_USER_CLIENTS_MAX], more;
	struct json_object *line;
	char create[80];

	for (unsigned int i = 0; i < MT_USER_CLIENTS_MAX; i++)
		ctl[i] = ctl_open(rig);
	more = mt_sock_connect(rig->socket, SOCK_STREAM, NULL);
	MT_CHECK(more >= 0);
	line = ctl_line(more, RIG_PATIENCE_MS);
	MT_CHECK(line && strstr(json_object_to_json_string(line), "EMFILE"));
	json_object_put(line);
	for (unsigned int i = 0; i <= MT_USER_VMS_MAX; i++) {
		snprintf(create, sizeof(create), "{\"cmd\":\"vm_create\",\"name\":\"h%u\"}", i);
		MT_CHECK_STR(ctl_code(ctl[0], create), i < MT_USER_VMS_MAX ? "" : "EMFILE");
	}
}

/*
 * One connection more than he may have. Return: false when that took so long that they may have
 * been dropped because nobody said hello for ten seconds.
 */
static bool one_too_many(const struct rig *rig)
{
	struct peer peer[MT_USER_LINKS_MAX + 1];
	double began = mt_now_s();
	bool last, others = false;

	for (unsigned int i = 0; i <= MT_USER_LINKS_MAX; i++)
		peer_connect(rig, &peer[i]);
	last = peer_dropped(&peer[MT_USER_LINKS_MAX], RIG_PATIENCE_MS);
	for (unsigned int i = 0; i < MT_USER_LINKS_MAX; i++)
		others |= peer_dropped(&peer[i], 0);
	for (unsigned int i = 0; i <= MT_USER_LINKS_MAX; i++)
		peer_close(&peer[i]);
	MT_CHECK(last);
	if (mt_now_s() - began > 9)
		return false;
	MT_CHECK(!others);
	return true;
}

static void stranger_says_nothing(const struct rig *rig)
{
	MT_CHECK(RIG_WAIT(one_too_many(rig)));
}

MT_TEST("one user can take his share of connections and names, and not one more")
{
	struct rig rig;
	struct peer peer;
	int ctl;

	rig_make(&rig);
	if (geteuid() || !getgrnam("nogroup"))
		MT_SKIP("needs root and a group 'nogroup'");
	rig_start(&rig, "256M", GROUP_LINES);
	as_stranger(&rig, stranger_hoards);
	as_stranger(&rig, stranger_says_nothing);
	ctl = ctl_open(&rig);
	peer_join(&rig, &peer, "a");
	/* his are gone when the daemon has seen the ends of his connections */
	MT_CHECK(RIG_WAIT(ctl_number(ctl, HOST, "host", "vms") == 1));
	rig_stop(&rig);
}

/* Sends @bytes of @packet with @count descriptors. */
static void send_with(int fd, const void *packet, size_t bytes, unsigned int count)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(256 * sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = (void *)(uintptr_t)packet, .iov_len = bytes};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (count) {
		memset(&control, 0, sizeof(control));
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(count * sizeof(int));
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(count * sizeof(int));
		for (unsigned int i = 0; i < count; i++)
			memcpy(CMSG_DATA(&control.head) + i * sizeof(int), &(int){STDIN_FILENO},
			       sizeof(int));
	}
	(void)sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

MT_TEST("a monitor may bring one descriptor, not two, and not two hundred")
{
	static const unsigned int counts[] = {0, 1, 2, 16, 17, 253};
	struct rig rig;
	unsigned int before;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	before = daemon_descriptors(&rig);
	for (unsigned int i = 0; i < MT_ARRAY_SIZE(counts); i++) {
		union mt_wire_msg hello, msg;
		struct peer peer;

		peer_connect(&rig, &peer);
		mt_wire_init(&hello, MT_WIRE_HELLO, 7);
		snprintf(hello.hello.name, sizeof(hello.hello.name), "vm%u", i);
		send_with(peer.fd, &hello, hello.head.length, counts[i]);
		if (counts[i] > 1) {
			MT_CHECK(peer_dropped(&peer, RIG_PATIENCE_MS));
		} else {
			MT_CHECK(peer_next(&peer, &msg, RIG_PATIENCE_MS));
			MT_CHECK_EQ(msg.head.type, MT_WIRE_WELCOME);
			mt_wire_init(&msg, MT_WIRE_BYE, 0);
			peer_send(&peer, &msg);
		}
		peer_close(&peer);
	}
	MT_CHECK(descriptors_back(&rig, before));
	rig_stop(&rig);
}

MT_TEST("nobody gets another VM's place: not by its name, not with its secret from another process")
{
	struct rig rig;
	struct peer peer, thief;
	uint64_t grant;
	int ctl, status = -1;
	pid_t pid;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	peer_join(&rig, &peer, "a");
	MT_CHECK_EQ(peer_region(&peer, 64 * MIB), 0);
	grant = peer_granted(&peer);
	peer_connect(&rig, &thief);
	MT_CHECK_EQ(peer_hello(&thief, "a", 0, 0), -EEXIST);
	thief = peer;
	thief.secret[0] ^= 1;
	MT_CHECK_EQ(peer_again(&rig, &thief, "a", MIB_PAGES(64)), -EPERM);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		thief = peer;
		_exit(peer_again(&rig, &thief, "a", MIB_PAGES(64)) == -EPERM ? 0 : 1);
	}
	MT_CHECK_EQ(waitpid(pid, &status, 0), pid);
	MT_CHECK_EQ(status, 0);
	MT_CHECK_EQ(ctl_number(ctl, SHOW("a"), "vm", "grant"), grant * 4);
	MT_CHECK_STR(ctl_string(ctl, SHOW("a"), "vm", "state"), "running");
	rig_stop(&rig);
}

MT_TEST("a VM may have sixty-four regions, and not one more")
{
	struct rig rig;
	struct peer peer;

	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	peer_join(&rig, &peer, "a");
	for (int i = 0; i < 64; i++)
		MT_CHECK_EQ(peer_region(&peer, 1 * MIB), 0);
	MT_CHECK_EQ(peer_region(&peer, 1 * MIB), -EMFILE);
	rig_stop(&rig);
}

/* A message of any type with fields of any value, cut or stretched now and then. */
static size_t rubbish_message(union mt_wire_msg *msg)
{
	static const uint64_t special[] = {0,          1,          4095,      4096,      1ULL << 31,
					   UINT32_MAX, 1ULL << 48, INT64_MAX, UINT64_MAX};
	uint32_t type = random_below(20) ? 1 + random_below(9) : random_below(80);
	size_t length;

	memset(msg, 0, sizeof(*msg));
	mt_wire_init(msg, (enum mt_wire_type)type, random_below(100));
	length = msg->head.length ? msg->head.length : 16 + random_below(1000);
	for (uint32_t n = random_below(8); n-- > 0;) {
		size_t at = sizeof(msg->head) + random_below(126) * 8;
		uint64_t value = random_below(2) ? special[random_below(9)] : random_below(100000);

		memcpy(msg->bytes + at, &value, sizeof(value));
	}
	if (!random_below(30))
		msg->bytes[random_below(16)] ^= (uint8_t)(1U << random_below(8));
	if (!random_below(30))
		length = random_below(1024);
	return length;
}

static void rubbish_monitor(const struct rig *rig, unsigned int number)
{
	union mt_wire_msg msg;
	struct peer peer;
	char name[16];

	peer_connect(rig, &peer);
	snprintf(name, sizeof(name), "r%u", number);
	if (random_below(4) && peer_hello(&peer, name, random_below(2) * MIB, 0))
		return;
	for (uint32_t n = 1 + random_below(30); n-- > 0;) {
		size_t length = rubbish_message(&msg);

		send_with(peer.fd, &msg, length, random_below(20) ? 0 : random_below(4));
	}
	if (random_below(2))
		peer_drain(&peer, 0);
	peer_close(&peer);
}

/* Lines that begin as requests do, and go wrong somewhere; often without an end. */
static void rubbish_client(const struct rig *rig)
{
	static const char *const parts[] = {"{\"cmd\":\"",
					    "list",
					    "\",\"vm\":\"",
					    "good",
					    "\"}\n",
					    "[[[[[[[[",
					    "\\u0000",
					    "{\"a\":",
					    "1e999",
					    "set",
					    "\"settings\":{",
					    "\"pool\":",
					    "\n",
					    "}",
					    "\xff\xfe",
					    "events",
					    "\"follow\":true",
					    "vm_create",
					    "\"name\":\"x\"",
					    ",",
					    "\""};
	int ctl = mt_sock_connect(rig->socket, SOCK_STREAM, NULL);
	char text[2048];

	if (ctl < 0)
		return;
	for (uint32_t n = random_below(6); n-- > 0;) {
		size_t used = 0;

		for (uint32_t k = random_below(30); k-- > 0 && used < sizeof(text) - 64;)
			used += (size_t)snprintf(text + used, sizeof(text) - used, "%s",
						 parts[random_below(MT_ARRAY_SIZE(parts))]);
		(void)send(ctl, text, used, MSG_NOSIGNAL | MSG_DONTWAIT);
	}
	close(ctl);
}

MT_TEST("rubbish from monitors and clients ends their connections and nothing else")
{
	struct rig rig;
	struct peer good;
	unsigned int before;
	int ctl;

	seed_random(1);
	rig_make(&rig);
	rig_start(&rig, "256M", NULL);
	ctl = ctl_open(&rig);
	peer_join(&rig, &good, "good");
	MT_CHECK_EQ(peer_region(&good, 32 * MIB), 0);
	peer_granted(&good);
	before = daemon_descriptors(&rig);
	for (unsigned int i = 0; i < RUBBISH; i++) {
		if (i % 2)
			rubbish_monitor(&rig, i);
		else
			rubbish_client(&rig);
		if (i % 50)
			continue;
		peer_drain(&good, 0);
		MT_CHECK_STR(ctl_string(ctl, SHOW("good"), "vm", "state"), "running");
		MT_CHECK(ctl_number(ctl, HOST, "host", "granted_out") <= 256 * 1024);
		/* The rubbish is this process, which lives: what it was granted stays on the books.
		 */
		while (peer_obey(&good))
			peer_drain(&good, 0);
	}
	/* what either says may be on its way to the other */
	MT_CHECK(RIG_WAIT((peer_drain(&good, PEER_QUIET_MS),
			   ctl_number(ctl, SHOW("good"), "vm", "grant") == good.grant * 4)));
	printf("# %u descriptors before, %u after\n", before, daemon_descriptors(&rig));
	rig_stop(&rig);
}

MT_TEST_MAIN
