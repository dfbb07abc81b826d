/* SPDX-License-Identifier: MIT */
/* client.c - requests and answers over the control socket; see client.h */
#include "cli/client.h"
#include "sys/sock.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define GREETING_MS    3000
#define LINE_START     4096
#define LINE_MAX_BYTES (64U << 20) /* a list of all VMs of a large host is long */

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Waits for @events until @deadline_ms (negative: for ever). Return: 0, -ETIMEDOUT, -errno. */
static int client_wait(const struct client *client, short events, int64_t deadline_ms)
{
	struct pollfd pfd = {.fd = client->fd, .events = events};

	for (;;) {
		int64_t left = deadline_ms < 0 ? -1 : deadline_ms - now_ms();
		int rc;

		if (deadline_ms >= 0 && left < 0)
			left = 0;
		rc = poll(&pfd, 1, (int)left);
		if (rc > 0)
			return 0;
		if (rc == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

static int client_grow(struct client *client)
{
	size_t room = client->room ? client->room * 2 : LINE_START;
	char *line;

	if (room > LINE_MAX_BYTES)
		return -EPROTO;
	line = realloc(client->line, room);
	if (!line)
		return -ENOMEM;
	client->line = line;
	client->room = room;
	return 0;
}

/* Reads what is there. Return: 0, -EPIPE at the end of the connection, -EAGAIN, -errno. */
static int client_fill(struct client *client)
{
	ssize_t got;
	int rc = 0;

	if (client->used + 1 >= client->room)
		rc = client_grow(client);
	if (rc)
		return rc;
	got = recv(client->fd, client->line + client->used, client->room - client->used - 1,
		   MSG_DONTWAIT);
	if (got < 0 && errno == EINTR)
		return 0;
	if (got < 0)
		return errno == ECONNRESET ? -EPIPE : -errno;
	if (!got)
		return -EPIPE;
	client->used += (size_t)got;
	return 0;
}

/* The next line, terminated, in place: valid until the next call. */
static int client_line(struct client *client, int64_t deadline_ms, char **ret_line)
{
	size_t seen = 0;

	if (client->eaten) {
		client->used -= client->eaten;
		memmove(client->line, client->line + client->eaten, client->used);
		client->eaten = 0;
	}
	for (;;) {
		char *end = client->used > seen
				    ? memchr(client->line + seen, '\n', client->used - seen)
				    : NULL;
		int rc;

		if (end) {
			*end = '\0';
			client->eaten = (size_t)(end - client->line) + 1;
			*ret_line = client->line;
			return 0;
		}
		seen = client->used;
		rc = client_wait(client, POLLIN, deadline_ms);
		if (!rc)
			rc = client_fill(client);
		if (rc && rc != -EAGAIN)
			return rc;
	}
}

int client_read(struct client *client, int timeout_ms, struct json_object **ret_line,
		struct mt_err *err)
{
	struct json_object *object;
	char *line = NULL;
	int rc = client_line(client, timeout_ms < 0 ? -1 : now_ms() + timeout_ms, &line);

	if (rc == -EPIPE)
		return mt_err_set(err, rc,
				  "the daemon closed the connection; see its log, or start "
				  "it again");
	if (rc == -ETIMEDOUT)
		return mt_err_set(err, rc,
				  "the daemon does not answer; is it stopped or very busy?");
	if (rc)
		return mt_err_set(err, rc, "reading the daemon's answer: %s", strerror(-rc));
	object = json_tokener_parse(line);
	if (!json_object_is_type(object, json_type_object)) {
		json_object_put(object);
		return mt_err_set(err, -EPROTO,
				  "the daemon's answer is not a JSON object; is it of "
				  "this version?");
	}
	*ret_line = object;
	return 0;
}

/* The socket may be full when the daemon is stopped: wait for room like for an answer. */
static int client_send(struct client *client, const char *text, size_t bytes, int64_t deadline_ms)
{
	while (bytes) {
		ssize_t sent = send(client->fd, text, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
		int rc;

		if (sent > 0) {
			text += sent;
			bytes -= (size_t)sent;
			continue;
		}
		if (sent < 0 && errno != EAGAIN && errno != EINTR)
			return errno == ECONNRESET ? -EPIPE : -errno;
		rc = client_wait(client, POLLOUT, deadline_ms);
		if (rc)
			return rc;
	}
	return 0;
}

static int client_errno_of(const char *name)
{
	static const struct {
		const char *name;
		int code;
	} known[] = {
		{"EEXIST", -EEXIST},   {"ENOENT", -ENOENT},
		{"EINVAL", -EINVAL},   {"ENOSPC", -ENOSPC},
		{"EPERM", -EPERM},     {"EACCES", -EACCES},
		{"EFAULT", -EFAULT},   {"EIO", -EIO},
		{"ETIMEDOUT", -ETIME}, /* the daemon's own: the connection goes on */
	};

	for (size_t i = 0; name && i < MT_ARRAY_SIZE(known); i++)
		if (!strcmp(name, known[i].name))
			return known[i].code;
	return -EREMOTEIO;
}

static int client_refused(struct json_object *answer, struct mt_err *err)
{
	struct json_object *text = json_object_object_get(answer, "error");
	struct json_object *code = json_object_object_get(answer, "code");

	return mt_err_set(err, client_errno_of(code ? json_object_get_string(code) : NULL), "%s",
			  text ? json_object_get_string(text)
			       : "the daemon said no without a reason");
}

int client_post(struct client *client, struct json_object *request, int timeout_ms,
		struct mt_err *err)
{
	int64_t deadline_ms = now_ms() + timeout_ms;
	size_t length = 0;
	const char *text =
		json_object_to_json_string_length(request, JSON_C_TO_STRING_PLAIN, &length);
	int rc = client_send(client, text, length, deadline_ms);

	if (!rc)
		rc = client_send(client, "\n", 1, deadline_ms);
	json_object_put(request);
	return rc ? mt_err_set(err, rc, "sending to the daemon: %s", strerror(-rc)) : 0;
}

int client_ask(struct client *client, struct json_object *request, int timeout_ms,
	       struct json_object **ret_answer, struct mt_err *err)
{
	struct json_object *answer = NULL;
	int rc = client_post(client, request, timeout_ms, err);

	if (!rc)
		rc = client_read(client, timeout_ms, &answer, err);
	if (rc)
		return rc;
	if (!json_object_get_boolean(json_object_object_get(answer, "ok")))
		rc = client_refused(answer, err);
	if (rc || !ret_answer)
		json_object_put(answer);
	else
		*ret_answer = answer;
	return rc;
}

struct json_object *client_request(const char *cmd)
{
	struct json_object *request = json_object_new_object();

	json_object_object_add(request, "cmd", json_object_new_string(cmd));
	return request;
}

static int client_greeted(struct client *client, const char *path, struct mt_err *err)
{
	struct json_object *greeting = NULL, *magic, *version;
	int rc = client_read(client, GREETING_MS, &greeting, err);

	if (rc == -ETIMEDOUT || rc == -EPROTO || rc == -EPIPE)
		return mt_err_set(err, -EPROTO,
				  "what answers on '%s' is not memtided (no greeting%s); "
				  "give the daemon's socket with --socket",
				  path, rc == -ETIMEDOUT ? " within 3 s" : "");
	if (rc)
		return rc;
	magic = json_object_object_get(greeting, "memtide");
	version = json_object_object_get(greeting, "version");
	if (!json_object_is_type(magic, json_type_int)) {
		rc = mt_err_set(err, -EPROTO,
				"what answers on '%s' is not memtided (its greeting is "
				"another); give the daemon's socket with --socket",
				path);
	} else if (json_object_get_int(magic) != 1) {
		rc = mt_err_set(err, -EPROTO,
				"the daemon on '%s' speaks protocol %d, this memtide 1; "
				"use the memtide that came with it",
				path, json_object_get_int(magic));
	} else {
		snprintf(client->daemon_version, sizeof(client->daemon_version), "%s",
			 version ? json_object_get_string(version) : "unknown");
		client->daemon_pid = json_object_get_int(json_object_object_get(greeting, "pid"));
	}
	json_object_put(greeting);
	return rc;
}

static int client_no_daemon(int rc, const char *path, struct mt_err *err)
{
	switch (-rc) {
	case ENOENT:
	case ECONNREFUSED:
	case ENOTDIR:
		return mt_err_set(err, rc,
				  "memtided is not running on '%s'; start it with "
				  "'memtided --pool SIZE --socket %s', or give its socket "
				  "with --socket",
				  path, path);
	case EACCES:
	case EPERM:
		return mt_err_set(err, rc,
				  "no right to use '%s'; run as root or join the group that "
				  "owns the socket",
				  path);
	case EPROTOTYPE:
		return mt_err_set(err, rc,
				  "'%s' is not memtided's control socket but one of another "
				  "type; give the control socket with --socket",
				  path);
	default:
		return rc;
	}
}

int client_open(struct client *client, const char *path, struct mt_err *err)
{
	int rc;

	*client = (struct client){.fd = mt_sock_connect(path, SOCK_STREAM, err)};
	if (client->fd < 0)
		return client_no_daemon(client->fd, path, err);
	rc = client_greeted(client, path, err);
	if (rc)
		client_close(client);
	return rc;
}

void client_close(struct client *client)
{
	if (client->fd >= 0)
		close(client->fd);
	free(client->line);
	*client = (struct client){.fd = -1};
}
