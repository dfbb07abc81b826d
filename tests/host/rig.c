/* SPDX-License-Identifier: MIT */
/* rig.c - see rig.h */
#include "host/rig.h"
#include "base/size.h"
#include "sys/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

static const char *rig_daemon(void)
{
	const char *path = getenv("MEMTIDED");

	return path ? path : "build-host/src/host/memtided";
}

/* A process that removes @dir when this test has ended, however it ended. */
static void rig_clean_up_later(const char *dir)
{
	int alive[2];
	pid_t pid;
	char none;

	MT_CHECK_EQ(pipe2(alive, O_CLOEXEC), 0);
	fflush(stdout);
	pid = fork();
	MT_CHECK(pid >= 0);
	if (pid) {
		close(alive[0]);
		return;
	}
	setsid();
	for (int fd = 0; fd < 256; fd++)
		if (fd != alive[0])
			close(fd);
	while (read(alive[0], &none, 1) > 0)
		;
	execlp("rm", "rm", "-rf", "--", dir, (char *)NULL);
	_exit(1);
}

void rig_make(struct rig *rig)
{
	int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);

	if (device < 0)
		MT_SKIP("/dev/userfaultfd: %s", strerror(errno));
	close(device);
	memset(rig, 0, sizeof(*rig));
	snprintf(rig->dir, sizeof(rig->dir), "/tmp/memtide-test-XXXXXX");
	MT_CHECK(mkdtemp(rig->dir));
	rig_clean_up_later(rig->dir);
	snprintf(rig->socket, sizeof(rig->socket), "%s/control.sock", rig->dir);
	snprintf(rig->vm_socket, sizeof(rig->vm_socket), "%s.vm", rig->socket);
	snprintf(rig->swap, sizeof(rig->swap), "%s/swap", rig->dir);
	snprintf(rig->config, sizeof(rig->config), "%s/config", rig->dir);
}

static void rig_write_config(const struct rig *rig, const char *config)
{
	FILE *file = fopen(rig->config, "we");

	MT_CHECK(file);
	/* of two lines the later one counts */
	fputs("region_wait_ms = 600000\ncheck_timeout_ms = 600000\nqmp_timeout_ms = 600000\n",
	      file);
	fputs(config ? config : "", file);
	fclose(file);
}

/* A child that is the daemon, with its output in the returned descriptor. */
static pid_t rig_spawn(const char *const *args, int *ret_out)
{
	int out[2];
	pid_t pid;

	MT_CHECK_EQ(pipe(out), 0);
	fflush(stdout);
	pid = fork();
	MT_CHECK(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(out[1], 1);
		dup2(out[1], 2);
		close(out[0]);
		close(out[1]);
		execv(rig_daemon(), (char *const *)args);
		printf("exec %s: %s\n", rig_daemon(), strerror(errno));
		fflush(stdout);
		_exit(127);
	}
	close(out[1]);
	*ret_out = out[0];
	return pid;
}

void rig_start(struct rig *rig, const char *pool, const char *config)
{
	const char *args[] = {"memtided",   "--pool",  pool,       "--socket",  rig->socket,
			      "--swap-dir", rig->swap, "--config", rig->config, NULL};
	char text[512] = "";
	ssize_t got;
	int out;

	rig_write_config(rig, config);
	rig->daemon = rig_spawn(args, &out);
	got = read(out, text, sizeof(text) - 1);
	if (got <= 0 || strncmp(text, "memtided: ready, pool ", 22))
		MT_FAIL("daemon did not start: %s", text);
	/* left open on purpose: the daemon must not get SIGPIPE */
}

static int rig_wait(pid_t pid)
{
	int status = 0;

	MT_CHECK_EQ(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

void rig_stop(struct rig *rig)
{
	kill(rig->daemon, SIGTERM);
	MT_CHECK_EQ(rig_wait(rig->daemon), 0);
	MT_CHECK(access(rig->socket, F_OK));
	MT_CHECK(access(rig->vm_socket, F_OK));
	rig->daemon = 0;
}

void rig_kill(struct rig *rig)
{
	kill(rig->daemon, SIGKILL);
	MT_CHECK_EQ(rig_wait(rig->daemon), 1000 + SIGKILL);
	rig->daemon = 0;
}

int rig_run(const char *const *args, char *text, size_t room)
{
	size_t used = 0;
	ssize_t got;
	int out;
	pid_t pid = rig_spawn(args, &out);

	while (used + 1 < room && (got = read(out, text + used, room - 1 - used)) > 0)
		used += (size_t)got;
	text[used] = '\0';
	close(out);
	return rig_wait(pid);
}

static FILE *rig_state(const struct rig *rig)
{
	char path[128];

	snprintf(path, sizeof(path), "%s.state", rig->socket);
	return fopen(path, "re");
}

bool rig_state_says(const struct rig *rig, const char *vm, enum rig_state field, uint64_t value)
{
	FILE *file = rig_state(rig);
	char line[512], *word, *save;
	bool right = false;

	while (file && fgets(line, sizeof(line), file)) {
		word = strtok_r(line, " ", &save);
		if (!word || strcmp(word, vm) != 0)
			continue;
		for (unsigned int i = 0; word && i < field; i++)
			word = strtok_r(NULL, " ", &save);
		right = word && strtoull(word, NULL, 10) == value;
	}
	if (file)
		fclose(file);
	return right;
}

uint64_t rig_state_frames(const struct rig *rig)
{
	FILE *file = rig_state(rig);
	unsigned long long frames;
	uint64_t sum = 0;
	char line[512];

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "%%group %*s %*s %*s %*s %llu", &frames) == 1)
			sum += frames;
	if (file)
		fclose(file);
	return sum;
}

void peer_connect(const struct rig *rig, struct peer *peer)
{
	struct mt_err err = {0};

	memset(peer, 0, sizeof(*peer));
	peer->uffd = peer->swap_fd = peer->frames_fd = -1;
	peer->addr = 1ULL << 32;
	peer->serial = 100;
	peer->fd = mt_sock_connect(rig->vm_socket, SOCK_SEQPACKET, &err);
	if (peer->fd < 0)
		MT_FAIL("%s", err.msg);
}

void peer_close(struct peer *peer)
{
	close(peer->fd);
	peer->fd = -1;
}

void peer_send(struct peer *peer, union mt_wire_msg *msg)
{
	MT_CHECK_EQ(mt_sock_send(peer->fd, msg, msg->head.length, -1), 0);
}

static void peer_take_fd(int *place, int passed)
{
	MT_CHECK(passed >= 0);
	if (*place >= 0)
		close(*place);
	*place = passed;
}

static void peer_book(struct peer *peer, const union mt_wire_msg *msg, int passed)
{
	switch (msg->head.type) {
	case MT_WIRE_WELCOME:
		peer->vmid = msg->welcome.vmid;
		memcpy(peer->secret, msg->welcome.secret, sizeof(peer->secret));
		peer_take_fd(&peer->uffd, passed);
		return;
	case MT_WIRE_REGION_OK:
		peer->swap_bytes = msg->region_ok.swap_bytes;
		if (passed >= 0)
			peer_take_fd(&peer->swap_fd, passed);
		return;
	case MT_WIRE_REFUSED:
		memcpy(peer->text, msg->refused.text, sizeof(peer->text));
		break;
	case MT_WIRE_GRANT_ADD:
		peer->grant += msg->grant_add.pages;
		break;
	case MT_WIRE_TARGET:
		peer->target = msg->target.pages;
		break;
	case MT_WIRE_SETTINGS:
		peer->zip_max_pct = msg->settings.zip_max_pct;
		peer->zip_known = true;
		peer->sample_period_s = msg->settings.sample_period_s;
		peer->sample_pages = msg->settings.sample_pages;
		break;
	case MT_WIRE_CHECK:
		peer->check = msg->head.serial;
		break;
	case MT_WIRE_SHARE_START:
		peer->share_start = msg->share_start.what;
		if (passed >= 0)
			peer_take_fd(&peer->frames_fd, passed);
		return;
	}
	MT_CHECK(passed < 0);
}

bool peer_next(struct peer *peer, union mt_wire_msg *msg, int timeout_ms)
{
	struct pollfd wait = {.fd = peer->fd, .events = POLLIN};
	struct mt_err err = {0};
	unsigned int fds = 0;
	int passed = -1;
	ssize_t got;

	if (poll(&wait, 1, timeout_ms) <= 0)
		return false;
	got = mt_sock_recv(peer->fd, msg, sizeof(*msg), &passed, &fds);
	if (got <= 0) {
		peer->closed = true;
		return false;
	}
	if (mt_wire_check(msg, (size_t)got, fds, false, &err))
		MT_FAIL("the daemon sent what it must not: %s", err.msg);
	peer_book(peer, msg, passed);
	return true;
}

void peer_drain(struct peer *peer, int quiet_ms)
{
	union mt_wire_msg msg;

	while (peer_next(peer, &msg, quiet_ms))
		;
}

static int peer_hello_answer(struct peer *peer, const union mt_wire_msg *hello)
{
	union mt_wire_msg msg;

	if (!peer_next(peer, &msg, RIG_PATIENCE_MS))
		MT_FAIL("no answer to HELLO");
	MT_CHECK_EQ(msg.head.serial, hello->head.serial);
	if (msg.head.type == MT_WIRE_REFUSED)
		return msg.refused.code;
	MT_CHECK_EQ(msg.head.type, MT_WIRE_WELCOME);
	return 0;
}

int peer_hello_msg(struct peer *peer, union mt_wire_msg *hello)
{
	peer_send(peer, hello);
	return peer_hello_answer(peer, hello);
}

int peer_hello(struct peer *peer, const char *name, uint64_t reservation, uint64_t limit)
{
	union mt_wire_msg hello;

	mt_wire_init(&hello, MT_WIRE_HELLO, ++peer->serial);
	snprintf(hello.hello.name, sizeof(hello.hello.name), "%s", name);
	snprintf(hello.hello.vmm, sizeof(hello.hello.vmm), "test");
	hello.hello.reservation_bytes = reservation;
	hello.hello.limit_bytes = limit;
	return peer_hello_msg(peer, &hello);
}

void peer_join(const struct rig *rig, struct peer *peer, const char *name)
{
	peer_connect(rig, peer);
	if (peer_hello(peer, name, 0, 0))
		MT_FAIL("'%s' refused: %s", name, peer->text);
}

int peer_again_with(const struct rig *rig, struct peer *peer, const char *name,
		    uint64_t memsize_pages, int fd)
{
	struct peer fresh;
	union mt_wire_msg hello;
	int rc;

	peer_connect(rig, &fresh);
	mt_wire_init(&hello, MT_WIRE_HELLO, ++fresh.serial);
	snprintf(hello.hello.name, sizeof(hello.hello.name), "%s", name);
	memcpy(hello.hello.secret, peer->secret, sizeof(hello.hello.secret));
	hello.hello.memsize_pages = memsize_pages;
	hello.hello.grant_pages = peer->grant;
	hello.hello.held_pages = peer->grant;
	MT_CHECK_EQ(mt_sock_send(fresh.fd, &hello, hello.head.length, fd), 0);
	rc = peer_hello_answer(&fresh, &hello);
	fresh.grant = peer->grant;
	fresh.addr = peer->addr;
	*peer = fresh;
	return rc;
}

int peer_again(const struct rig *rig, struct peer *peer, const char *name, uint64_t memsize_pages)
{
	return peer_again_with(rig, peer, name, memsize_pages, -1);
}

uint32_t peer_region_send(struct peer *peer, uint64_t bytes)
{
	union mt_wire_msg msg;

	mt_wire_init(&msg, MT_WIRE_REGION_ADD, ++peer->serial);
	msg.region_add.addr = peer->addr;
	msg.region_add.bytes = bytes;
	peer->addr += 2 * bytes;
	peer_send(peer, &msg);
	return msg.head.serial;
}

int peer_region_wait(struct peer *peer, uint32_t serial, int timeout_ms)
{
	union mt_wire_msg msg;

	while (peer_next(peer, &msg, timeout_ms)) {
		if (msg.head.serial != serial)
			continue;
		if (msg.head.type == MT_WIRE_REGION_OK)
			return 0;
		if (msg.head.type == MT_WIRE_REFUSED)
			return msg.refused.code;
	}
	return 1;
}

int peer_region(struct peer *peer, uint64_t bytes)
{
	return peer_region_wait(peer, peer_region_send(peer, bytes), RIG_PATIENCE_MS);
}

uint64_t peer_granted(struct peer *peer)
{
	PEER_UNTIL(peer, peer->target && peer->grant == peer->target);
	return peer->grant;
}

void peer_return(struct peer *peer, uint64_t pages)
{
	union mt_wire_msg msg;

	mt_wire_init(&msg, MT_WIRE_GRANT_RETURN, 0);
	msg.grant_return.pages = pages;
	peer->grant -= pages;
	peer_send(peer, &msg);
}

uint64_t peer_obey(struct peer *peer)
{
	uint64_t over = peer->grant > peer->target ? peer->grant - peer->target : 0;

	if (over)
		peer_return(peer, over);
	return over;
}

void peer_stats(struct peer *peer, enum mt_counter counter, uint64_t value)
{
	union mt_wire_msg msg;

	mt_wire_init(&msg, MT_WIRE_STATS, 0);
	msg.stats.count = MT_COUNTER_MAX;
	msg.stats.value[counter] = value;
	peer_send(peer, &msg);
}

bool peer_dropped(struct peer *peer, int timeout_ms)
{
	union mt_wire_msg msg;

	while (peer_next(peer, &msg, timeout_ms))
		;
	return peer->closed;
}

int ctl_open(const struct rig *rig)
{
	struct json_object *line, *value = NULL;
	struct mt_err err = {0};
	int fd = mt_sock_connect(rig->socket, SOCK_STREAM, &err);

	if (fd < 0)
		MT_FAIL("%s", err.msg);
	line = ctl_line(fd, RIG_PATIENCE_MS);
	MT_CHECK(line && json_object_object_get_ex(line, "memtide", &value));
	MT_CHECK(json_object_object_get_ex(line, "pid", &value));
	MT_CHECK_EQ(json_object_get_int64(value), rig->daemon);
	json_object_put(line);
	return fd;
}

void ctl_send(int fd, const char *text)
{
	size_t length = strlen(text);

	MT_CHECK_EQ(send(fd, text, length, MSG_NOSIGNAL), length);
	MT_CHECK_EQ(send(fd, "\n", 1, MSG_NOSIGNAL), 1);
}

struct json_object *ctl_line(int fd, int timeout_ms)
{
	static char text[1 << 22];
	struct pollfd wait = {.fd = fd, .events = POLLIN};
	struct json_object *line;
	size_t used = 0;

	/* byte by byte is slow and leaves nothing behind for the next call */
	while (used < sizeof(text) - 1) {
		if (poll(&wait, 1, timeout_ms) <= 0 || recv(fd, text + used, 1, 0) != 1)
			return NULL;
		if (text[used] == '\n')
			break;
		used++;
	}
	text[used] = '\0';
	line = json_tokener_parse(text);
	if (!line)
		MT_FAIL("the daemon sent bad JSON: %.200s", text);
	return line;
}

struct json_object *ctl_ask(int fd, const char *text)
{
	struct json_object *answer;

	ctl_send(fd, text);
	answer = ctl_line(fd, RIG_PATIENCE_MS);
	if (!answer)
		MT_FAIL("no answer to %.200s", text);
	return answer;
}

static const char *ctl_copy(const char *text)
{
	static char copy[512];

	snprintf(copy, sizeof(copy), "%s", text ? text : "");
	return copy;
}

const char *ctl_code(int fd, const char *text)
{
	struct json_object *answer = ctl_ask(fd, text), *value = NULL;
	const char *code;

	MT_CHECK(json_object_object_get_ex(answer, "ok", &value));
	if (json_object_get_boolean(value)) {
		json_object_put(answer);
		return "";
	}
	MT_CHECK(json_object_object_get_ex(answer, "error", &value));
	MT_CHECK(json_object_get_string_len(value) > 0);
	MT_CHECK(json_object_object_get_ex(answer, "code", &value));
	code = ctl_copy(json_object_get_string(value));
	json_object_put(answer);
	return code;
}

static struct json_object *ctl_value(struct json_object *answer, const char *section,
				     const char *key)
{
	struct json_object *object = answer, *value = NULL;

	if (section && !json_object_object_get_ex(answer, section, &object))
		MT_FAIL("no '%s' in %s", section, json_object_to_json_string(answer));
	if (!json_object_object_get_ex(object, key, &value))
		MT_FAIL("no '%s' in %s", key, json_object_to_json_string(answer));
	return value;
}

uint64_t ctl_number(int fd, const char *text, const char *section, const char *key)
{
	struct json_object *answer = ctl_ask(fd, text);
	uint64_t number = json_object_get_uint64(ctl_value(answer, section, key));

	json_object_put(answer);
	return number;
}

const char *ctl_string(int fd, const char *text, const char *section, const char *key)
{
	struct json_object *answer = ctl_ask(fd, text);
	const char *copy = ctl_copy(json_object_get_string(ctl_value(answer, section, key)));

	json_object_put(answer);
	return copy;
}

bool ctl_event_there(int fd, const char *vm, const char *text)
{
	struct json_object *answer = ctl_ask(fd, "{\"cmd\":\"events\",\"after\":0}");
	struct json_object *events = ctl_value(answer, NULL, "events");
	bool found = false;

	for (size_t i = 0; i < json_object_array_length(events); i++) {
		struct json_object *event = json_object_array_get_idx(events, i);

		found |= !strcmp(json_object_get_string(ctl_value(event, NULL, "vm")), vm) &&
			 strstr(json_object_get_string(ctl_value(event, NULL, "text")), text);
	}
	json_object_put(answer);
	return found;
}

bool ctl_event_seen(int fd, const char *vm, const char *text)
{
	return RIG_WAIT(ctl_event_there(fd, vm, text));
}
