/* SPDX-License-Identifier: MIT */
/*
 * fuzz_daemon.c - the whole daemon, in a thread; inputs are what comes in at its sockets
 *
 * First byte 'm': packets to the monitors' socket, each after its length in two bytes; they begin
 * with a HELLO that is good. Anything else: bytes to the control socket. Afterwards a request that
 * must be answered shows that the daemon still serves.
 */
#include "fuzz/fuzz_input.h"
#include "host/server.h"
#include "sys/sock.h"

#include <errno.h>
#include <pthread.h>
#include <sys/socket.h>

static char dir[64], control_path[96], vm_path[104];

static void *serve(void *arg)
{
	struct mt_err err = {0};

	/* What it says when it is ready must not disturb the tests' output. */
	printf("# ");
	MT_ASSERT(!mt_server_run(arg, &err));
	return NULL;
}

static void clean_up(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	if (system(command))
		return;
}

static bool start(void)
{
	static struct mt_config config;
	struct mt_server *server;
	struct mt_err err = {0};
	pthread_t thread;

	snprintf(dir, sizeof(dir), "/tmp/memtide-fuzz-XXXXXX");
	MT_ASSERT(mkdtemp(dir));
	atexit(clean_up);
	mt_config_init(&config);
	config.pool_bytes = 256ULL << 20;
	config.check_timeout_ms = 1;
	config.region_wait_ms = 1;
	snprintf(config.socket, sizeof(config.socket), "%s/s", dir);
	snprintf(config.swap_dir, sizeof(config.swap_dir), "%s/swap", dir);
	snprintf(control_path, sizeof(control_path), "%s/s", dir);
	snprintf(vm_path, sizeof(vm_path), "%s/s" MT_WIRE_SUFFIX, dir);
	server = mt_server_new(&config, &err);
	if (!server) {
		printf("# no daemon here: %s\n", err.msg);
		return false;
	}
	MT_ASSERT(!pthread_create(&thread, NULL, serve, server));
	return true;
}

/* Reads until the daemon hangs up. Return: did it answer @wanted? */
static bool read_all(int fd, const char *wanted)
{
	static char text[1 << 20];
	bool answered = false;
	size_t used = 0;
	ssize_t got;

	/* libFuzzer has a timer whose signal a recv() with a limit does not outlive. */
	while ((got = recv(fd, text + used, sizeof(text) - 1 - used, 0)) > 0 ||
	       (got < 0 && errno == EINTR)) {
		if (got < 0)
			continue;
		used += (size_t)got;
		text[used] = '\0';
		answered = answered || strstr(text, wanted);
		/* All events, twice, are more than there is room for. */
		if (used == sizeof(text) - 1)
			used = 0;
	}
	if (answered)
		return true;
	text[used] = '\0';
	fprintf(stderr, "no %s in the answer (%s): %.400s\n", wanted,
		got < 0 ? strerror(errno) : "the daemon hung up", text);
	return false;
}

static void ask(const void *data, size_t bytes, const char *wanted)
{
	struct timeval limit = {.tv_sec = 10};
	int fd = mt_sock_connect(control_path, SOCK_STREAM, NULL);
	bool answered;

	MT_ASSERT(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	(void)send(fd, data, bytes, MSG_NOSIGNAL);
	shutdown(fd, SHUT_WR);
	answered = read_all(fd, wanted);
	MT_ASSERT(answered);
	close(fd);
}

static void monitor(const uint8_t *data, size_t bytes)
{
	int fd = mt_sock_connect(vm_path, SOCK_SEQPACKET, NULL);
	union mt_wire_msg msg;

	MT_ASSERT(fd >= 0);
	mt_wire_init(&msg, MT_WIRE_HELLO, 1);
	memcpy(msg.hello.name, "fuzz", 5);
	(void)mt_sock_send(fd, &msg, msg.head.length, -1);
	while (bytes > 2) {
		size_t length = data[0] | (size_t)data[1] << 8;

		data += 2;
		bytes -= 2;
		if (length > bytes)
			length = bytes;
		if (length > MT_WIRE_MAX)
			length = MT_WIRE_MAX;
		if (length)
			(void)send(fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);
		data += length;
		bytes -= length;
	}
	close(fd);
	/* This process lives, so the VM would stay on the books: it says hello again and goodbye.
	 */
	fd = mt_sock_connect(vm_path, SOCK_SEQPACKET, NULL);
	memcpy(msg.hello.secret, "x", 2);
	(void)mt_sock_send(fd, &msg, msg.head.length, -1);
	mt_wire_init(&msg, MT_WIRE_BYE, 2);
	(void)mt_sock_send(fd, &msg, msg.head.length, -1);
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static const char host[] = "{\"cmd\":\"host\"}\n";
	static int started;

	if (!started)
		started = start() ? 1 : -1;
	if (started < 0 || bytes < 2 || bytes > 60000)
		return 0;
	if (data[0] == 'm')
		monitor(data + 1, bytes - 1);
	else
		ask(data, bytes, "\"memtide\"");
	ask(host, sizeof(host) - 1, "granted_out");
	return 0;
}
