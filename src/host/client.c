/* SPDX-License-Identifier: MIT */
/* client.c - buffers, lines, backpressure; see client.h */
#include "host/client.h"
#include "base/cleanup.h"
#include "host/control_api.h"
#include "host/json_out.h"
#include "host/registry.h"
#include "host/rights.h"
#include "sys/sock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENT_LINE_MAX 65536
#define CLIENT_IN_ROOM  4096
/* With more than this unread no further request is served; one answer may exceed it. */
#define CLIENT_OUT_HIGH        65536
#define CLIENT_OUT_MAX         (8UL << 20)
#define CLIENT_TURN_BYTES      65536
#define CLIENT_JSON_DEPTH      8
#define CLIENT_ACCEPT_PAUSE_NS MT_NS_PER_S

/* Makes room for @more bytes. False: no memory, or above @most. */
static bool client_room(char **buffer, size_t *room, size_t used, size_t more, size_t most)
{
	size_t want = *room ? *room : CLIENT_IN_ROOM;
	char *fresh;

	if (used + more <= *room)
		return true;
	if (used + more > most)
		return false;
	while (want < used + more)
		want *= 2;
	want = MT_MIN(want, most);
	fresh = realloc(*buffer, want);
	if (!fresh)
		return false;
	*buffer = fresh;
	*room = want;
	return true;
}

static size_t client_unsent(const struct mt_client *client)
{
	return client->out_used - client->out_at;
}

static void client_put(struct mt_client *client, const char *text, size_t length)
{
	if (!client_room(&client->out, &client->out_room, client->out_used, length + 1,
			 CLIENT_OUT_MAX)) {
		client->broken = true;
		return;
	}
	memcpy(client->out + client->out_used, text, length);
	client->out[client->out_used + length] = '\n';
	client->out_used += length + 1;
}

void mt_client_answer(struct mt_client *client, struct json_object *answer)
{
	size_t length = 0;
	const char *text = json_object_to_json_string_length(
		answer, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &length);

	if (text)
		client_put(client, text, length);
	else
		client->broken = true;
	json_object_put(answer);
}

void mt_client_error(struct mt_client *client, const struct mt_err *err)
{
	mt_client_answer(client, mt_json_error(err));
}

static void client_request(struct mt_client *client, const char *line, size_t length)
{
	struct json_tokener *tokener = json_tokener_new_ex(CLIENT_JSON_DEPTH);
	struct json_object *request;
	struct mt_err err = {0};

	if (!tokener) {
		client->broken = true;
		return;
	}
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	/* the newline that ended the line, made a NUL, ends the document too */
	request = json_tokener_parse_ex(tokener, line, (int)length + 1);
	if (memchr(line, '\0', length) || json_tokener_get_error(tokener) != json_tokener_success ||
	    !json_object_is_type(request, json_type_object)) {
		mt_err_set(&err, -EINVAL, "request is not a line with one JSON object");
		mt_client_error(client, &err);
	} else {
		mt_control_request(client, request);
	}
	json_object_put(request);
	json_tokener_free(tokener);
}

static void client_too_long(struct mt_client *client)
{
	struct mt_err err = {0};

	mt_err_set(&err, -E2BIG, "request line is longer than %d bytes", CLIENT_LINE_MAX);
	mt_client_error(client, &err);
	client->in_used = 0;
	client->eof = true;
	shutdown(client->fd, SHUT_RD);
}

/* May the next request be served? */
static bool client_ready(const struct mt_client *client)
{
	return !client->broken && !client->check_serial && client_unsent(client) < CLIENT_OUT_HIGH;
}

/* Serves the complete lines that are there. */
static void client_pump(struct mt_client *client)
{
	size_t at = 0;

	while (client_ready(client) && at < client->in_used) {
		char *line = client->in + at;
		char *end = memchr(line, '\n', client->in_used - at);

		if (!end)
			break;
		*end = '\0';
		client_request(client, line, (size_t)(end - line));
		at = (size_t)(end - client->in) + 1;
	}
	if (at)
		memmove(client->in, client->in + at, client->in_used - at);
	client->in_used -= at;
	if (client->in_used >= CLIENT_LINE_MAX && client_ready(client) &&
	    !memchr(client->in, '\n', client->in_used))
		client_too_long(client);
}

static void client_read(struct mt_client *client)
{
	size_t taken = 0;

	while (client_ready(client) && !client->eof && taken < CLIENT_TURN_BYTES) {
		ssize_t got;

		if (!client_room(&client->in, &client->in_room, client->in_used, 1,
				 CLIENT_LINE_MAX)) {
			client->broken = client->in_used < CLIENT_LINE_MAX;
			return;
		}
		got = recv(client->fd, client->in + client->in_used,
			   client->in_room - client->in_used, 0);
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (got < 0)
			client->broken = true;
		if (!got)
			client->eof = true;
		if (got <= 0)
			return;
		client->in_used += (size_t)got;
		taken += (size_t)got;
		client_pump(client);
	}
}

static void client_flush(struct mt_client *client)
{
	while (client_unsent(client) && !client->broken) {
		ssize_t sent = send(client->fd, client->out + client->out_at, client_unsent(client),
				    MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && errno == EAGAIN)
			break;
		if (sent < 0)
			client->broken = true;
		else
			client->out_at += (size_t)sent;
	}
	if (client->out_at && !client_unsent(client)) {
		free(client->out);
		client->out = NULL;
		client->out_at = client->out_used = client->out_room = 0;
	} else if (client->out_at >= CLIENT_OUT_HIGH) {
		memmove(client->out, client->out + client->out_at, client_unsent(client));
		client->out_used -= client->out_at;
		client->out_at = 0;
	}
}

static void client_on_event(void *ctx, uint32_t events)
{
	struct mt_client *client = ctx;

	if (events & EPOLLIN)
		client_read(client);
	else if (events & (EPOLLERR | EPOLLHUP))
		client->broken = true;
}

static int client_new(struct mt_server *server, int fd, pid_t pid, uid_t uid)
{
	struct mt_client *client = calloc(1, sizeof(*client));

	if (!client)
		return -ENOMEM;
	client->server = server;
	client->fd = fd;
	client->pid = pid;
	client->uid = uid;
	client->source = mt_loop_add(server->loop, fd, EPOLLIN, client_on_event, client);
	if (!client->source) {
		free(client);
		return -ENOMEM;
	}
	client->next = server->clients;
	server->clients = client;
	server->client_count++;
	mt_client_answer(client, mt_json_greeting());
	return 0;
}

static void client_turn_away(int fd)
{
	static const char line[] =
		"{\"ok\":false,\"code\":\"EMFILE\",\"error\":\"memtided serves too "
		"many clients already; close some\"}\n";

	send(fd, line, sizeof(line) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void mt_client_accept(struct mt_server *server)
{
	for (;;) {
		MT_AUTO_CLOSE int fd =
			accept4(server->control_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		pid_t pid = 0;
		uid_t uid = 0;

		if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) {
			mt_server_pause_accept(server, CLIENT_ACCEPT_PAUSE_NS);
			return;
		}
		if (fd < 0)
			return;
		if (mt_sock_peer(fd, &pid, &uid))
			continue;
		if (server->client_count >= MT_CLIENTS_MAX || !mt_rights_client_fits(server, uid))
			client_turn_away(fd);
		else if (!client_new(server, fd, pid, uid))
			mt_steal_fd(&fd);
	}
}

/* Who waits for this VM's answer to @serial, from now on no longer. */
static struct mt_client *client_waiting(struct mt_server *server, const struct mt_vmrec *vm,
					uint32_t serial)
{
	for (struct mt_client *client = server->clients; client; client = client->next) {
		if (!client->check_serial || client->check_serial != serial ||
		    client->check_vm != vm->id)
			continue;
		client->check_serial = 0;
		return client;
	}
	return NULL;
}

void mt_client_checked(struct mt_server *server, const struct mt_vmrec *vm,
		       const struct mt_wire_checked *msg)
{
	struct mt_client *client = client_waiting(server, vm, msg->head.serial);

	if (client)
		mt_client_answer(client, mt_json_checked(msg));
}

void mt_client_peeked(struct mt_server *server, const struct mt_vmrec *vm,
		      const struct mt_wire_peeked *msg)
{
	struct mt_client *client = client_waiting(server, vm, msg->head.serial);
	struct mt_err err = {0};

	if (!client)
		return;
	if (!msg->code) {
		mt_client_answer(client, mt_json_peeked(msg));
		return;
	}
	mt_err_set(&err, msg->code, "VM '%s': %s", vm->name,
		   msg->code == -EFAULT ? "no guest memory at this address"
		   : msg->code == -EIO  ? "the page is lost"
					: "the page would not stand still; try again");
	mt_client_error(client, &err);
}

void mt_client_expire(struct mt_server *server)
{
	uint64_t now_ns = mt_server_now_ns(server);
	struct mt_err err = {0};

	for (struct mt_client *client = server->clients; client; client = client->next) {
		const struct mt_vmrec *vm;

		if (!client->check_serial)
			continue;
		vm = mt_registry_find_id(server, client->check_vm);
		if (vm && vm->link && client->check_by_ns > now_ns) {
			mt_server_arm(server, client->check_by_ns);
			continue;
		}
		if (vm && vm->link)
			mt_err_set(&err, -ETIMEDOUT, "VM '%s' did not answer in %u s", vm->name,
				   (server->config.check_timeout_ms + 999) / 1000);
		else
			mt_err_set(&err, -ENOTCONN, "the VM left before it answered");
		client->check_serial = 0;
		mt_client_error(client, &err);
	}
}

/* A follower that reads too slowly for the ring has lost lines: better no stream than one with
 * holes. */
static void client_follow(struct mt_client *client)
{
	const struct mt_events *events = client->server->events;

	if (client->event_last + 1 < mt_events_first(events)) {
		client->broken = true;
		return;
	}
	while (client->event_last < mt_events_last(events) &&
	       client_unsent(client) < CLIENT_OUT_HIGH && !client->broken) {
		const struct mt_event *event = mt_events_get(events, ++client->event_last);
		struct json_object *line;

		if (!mt_rights_event(client, event))
			continue;
		line = json_object_new_object();
		json_object_object_add(line, "event", mt_json_event(event));
		mt_client_answer(client, line);
	}
}

static void client_free(struct mt_client *client)
{
	mt_loop_remove(client->source);
	close(client->fd);
	free(client->in);
	free(client->out);
	free(client);
}

/* Brings one client up to date. Return: is it to be dropped? */
static bool client_tend(struct mt_client *client)
{
	uint32_t events = 0;

	client_pump(client);
	if (client->follow)
		client_follow(client);
	client_flush(client);
	/* room again: serve what had to wait */
	client_pump(client);
	client_flush(client);
	if (client->broken)
		return true;
	if (client->eof && !client->check_serial && !client_unsent(client))
		return true;
	if (client_ready(client) && !client->eof)
		events |= EPOLLIN;
	if (client_unsent(client))
		events |= EPOLLOUT;
	mt_loop_want(client->source, events);
	return false;
}

bool mt_client_sweep(struct mt_server *server)
{
	struct mt_client **place = &server->clients;
	bool dropped = false;

	while (*place) {
		struct mt_client *client = *place;

		if (!client_tend(client)) {
			place = &client->next;
			continue;
		}
		*place = client->next;
		server->client_count--;
		mt_registry_client_gone(server, client);
		client_free(client);
		dropped = true;
	}
	return dropped;
}

void mt_client_free_all(struct mt_server *server)
{
	while (server->clients) {
		struct mt_client *client = server->clients;

		server->clients = client->next;
		client_free(client);
	}
	server->client_count = 0;
}
