/* SPDX-License-Identifier: MIT */
/*
 * client.h - a client of the daemon's control socket (docs/protocol.md)
 *
 * One connection, requests answered in order. Opening waits for the daemon's greeting, so that a
 * socket that belongs to something else is told from a daemon at once and not by a hang.
 */
#ifndef MT_CLI_CLIENT_H
#define MT_CLI_CLIENT_H

#include "base/err.h"

#include <json-c/json.h>
#include <sys/types.h>

#define CLIENT_ANSWER_MS 10000

struct client {
	int fd; /* -1 when closed */
	char *line;
	size_t used;
	size_t room;
	size_t eaten; /* length of the line handed out last, at the start of the buffer */
	pid_t daemon_pid;
	char daemon_version[32];
};

/**
 * client_open() - connect to @path and check the greeting
 *
 * Return: 0; -ENOENT or -ECONNREFUSED without a daemon, -EPROTO when what answers is not
 * memtided, -ETIMEDOUT when nothing answers, or another -errno. client_close() is needed only
 * after success.
 */
MT_MUST_CHECK int client_open(struct client *client, const char *path, struct mt_err *err);
void client_close(struct client *client);

/**
 * client_ask() - send a request and wait for its answer
 * @request: consumed
 * @ret_answer: the caller puts it; only after success, and "ok" is true in it. May be NULL.
 *
 * Return: 0; the daemon's own error as -errno and message; -EPIPE when the daemon has gone,
 * -ETIMEDOUT, -EPROTO. After the last three the connection is of no more use.
 */
MT_MUST_CHECK int client_ask(struct client *client, struct json_object *request, int timeout_ms,
			     struct json_object **ret_answer, struct mt_err *err);

/** client_post() - send a request (consumed) and leave the answer to client_read(). Return: 0,
 * -errno */
MT_MUST_CHECK int client_post(struct client *client, struct json_object *request, int timeout_ms,
			      struct mt_err *err);

/** client_read() - wait for one more line from the daemon, -1 ms: for ever. Return: as above. */
MT_MUST_CHECK int client_read(struct client *client, int timeout_ms, struct json_object **ret_line,
			      struct mt_err *err);

/** client_request() - a new request object for @cmd */
struct json_object *client_request(const char *cmd);

#endif
