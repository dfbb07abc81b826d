/* SPDX-License-Identifier: MIT */
/*
 * client.h - a connection to the control socket: lines of JSON in, lines of JSON out
 *
 * Answers come in the order of requests: while one is pending (an audit), further lines wait. A
 * client that does not read its answers is first not read from, then dropped. What a client
 * must know afterwards (names it created, audits it waits for) hangs on its connection.
 */
#ifndef MT_HOST_CLIENT_H
#define MT_HOST_CLIENT_H

#include "host/server.h"

#include <json-c/json.h>

struct mt_client {
	struct mt_server *server;
	int fd;
	pid_t pid; /* that connected */
	uid_t uid;
	struct mt_source *source;
	bool broken;
	bool eof; /* sends no more; goes when all is answered */

	char *in;
	size_t in_used;
	size_t in_room;
	char *out;
	size_t out_at; /* sent so far */
	size_t out_used;
	size_t out_room;

	bool follow; /* wants every further event */
	uint64_t event_last;

	uint32_t check_serial; /* audit or peek under way; 0: none */
	uint32_t check_vm;
	uint64_t check_by_ns;
	struct mt_client *next;
};

/** mt_client_accept() - take every connection waiting at the control socket */
void mt_client_accept(struct mt_server *server);

/** mt_client_answer() - queue @answer (consumed) as a line */
void mt_client_answer(struct mt_client *client, struct json_object *answer);

/** mt_client_error() - queue an error */
void mt_client_error(struct mt_client *client, const struct mt_err *err);

/** mt_client_checked() - a monitor's audit is done: whoever waits for it gets his answer */
void mt_client_checked(struct mt_server *server, const struct mt_vmrec *vm,
		       const struct mt_wire_checked *msg);

/** mt_client_peeked() - the same for a peek */
void mt_client_peeked(struct mt_server *server, const struct mt_vmrec *vm,
		      const struct mt_wire_peeked *msg);

/** mt_client_sweep() - events to followers, output to sockets, broken clients out. Return: any
 * dropped? */
bool mt_client_sweep(struct mt_server *server);

/** mt_client_expire() - audits that took too long, or whose VM has gone */
void mt_client_expire(struct mt_server *server);

/** mt_client_free_all() - at the end of the daemon */
void mt_client_free_all(struct mt_server *server);

#endif
