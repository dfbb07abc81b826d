/* SPDX-License-Identifier: MIT */
/*
 * line.c - accept, read commands, ask, answer; see line.h
 *
 * The line belongs to its thread, which frees it; whoever made it only sets an end. Both, and the
 * thread that brings libvirt's events, write to the connection, under the lock and without waiting:
 * a reader that does not keep up is hung up on.
 */
#include "libvirt/line.h"
#include "base/cleanup.h"
#include "base/thread.h"
#include "libvirt/domain.h"
#include "qmp/message.h"
#include "sys/sock.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define LINE_READ_BYTES 4096

struct lv_line {
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	unsigned char uuid[VIR_UUID_BUFLEN];
	virDomainPtr domain;
	int listen_fd;
	int wake_fd; /* readable from the end on */
	atomic_bool end;
	pthread_mutex_t lock;
	int fd;       /* [lock] who is connected; -1 */
	bool greeted; /* [lock] it has negotiated, so that events make sense */
	struct mt_qmp_reader reader;
};

static void line_free(struct lv_line *line)
{
	if (line->listen_fd >= 0)
		close(line->listen_fd);
	if (line->wake_fd >= 0)
		close(line->wake_fd);
	if (line->domain)
		virDomainFree(line->domain);
	mt_qmp_reader_fini(&line->reader);
	pthread_mutex_destroy(&line->lock);
	free(line);
}

/* Consumes @object. */
static void line_say(struct lv_line *line, struct json_object *object)
{
	size_t length = 0;
	const char *text = mt_qmp_text(object, &length);
	struct iovec iov[2] = {{.iov_base = (void *)(uintptr_t)text, .iov_len = length},
			       {.iov_base = (void *)(uintptr_t) "\n", .iov_len = 1}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};

	pthread_mutex_lock(&line->lock);
	/* whether it was only in part or not at all: the other side can't go on from there */
	if (line->fd >= 0 &&
	    sendmsg(line->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)length + 1)
		shutdown(line->fd, SHUT_RDWR);
	pthread_mutex_unlock(&line->lock);
	json_object_put(object);
}

static void line_greet(struct lv_line *line)
{
	struct json_object *object = json_object_new_object(), *greeting = json_object_new_object();

	json_object_object_add(greeting, "version", json_object_new_object());
	json_object_object_add(greeting, "capabilities", json_object_new_array());
	json_object_object_add(object, "QMP", greeting);
	line_say(line, object);
}

static struct json_object *line_error(const char *text)
{
	struct json_object *error = json_object_new_object();

	json_object_object_add(error, "class", json_object_new_string("GenericError"));
	json_object_object_add(error, "desc", json_object_new_string(text));
	return error;
}

static void line_command(struct lv_line *line, struct json_object *object)
{
	struct json_object *answer = json_object_new_object(), *value, *id = NULL;
	struct json_object *arguments = json_object_object_get(object, "arguments");
	struct json_object *command = json_object_object_get(object, "execute");
	const char *name = command ? json_object_get_string(command) : "";
	const char *error = "no reason given";

	value = lv_domain_ask(line->domain, name, arguments, &error);
	if (value)
		json_object_object_add(answer, "return", value);
	else
		json_object_object_add(answer, "error", line_error(error));
	if (json_object_object_get_ex(object, "id", &id))
		json_object_object_add(answer, "id", json_object_get(id));
	line_say(line, answer);
	if (value && !strcmp(name, "qmp_capabilities")) {
		pthread_mutex_lock(&line->lock);
		line->greeted = true;
		pthread_mutex_unlock(&line->lock);
	}
}

/* Carries out the commands that are complete. Return: false for what is no command. */
static bool line_commands(struct lv_line *line, const char *bytes, size_t count)
{
	while (count) {
		struct json_object *object = NULL;
		int rc = mt_qmp_read(&line->reader, &bytes, &count, &object, NULL);
		bool good = json_object_is_type(object, json_type_object);

		if (!rc)
			return true;
		if (rc > 0 && good)
			line_command(line, object);
		json_object_put(object);
		if (rc < 0 || !good || atomic_load(&line->end))
			return false;
	}
	return true;
}

/* Waits for @fd. Return: false at the end. */
static bool line_wait(const struct lv_line *line, int fd)
{
	struct pollfd fds[2] = {{.fd = fd, .events = POLLIN},
				{.fd = line->wake_fd, .events = POLLIN}};

	while (poll(fds, 2, -1) < 0)
		if (errno != EINTR)
			return false;
	return !atomic_load(&line->end);
}

static void line_serve(struct lv_line *line, int fd)
{
	char bytes[LINE_READ_BYTES];
	ssize_t got;

	mt_qmp_reader_reset(&line->reader);
	line_greet(line);
	while (line_wait(line, fd)) {
		got = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (got <= 0 || !line_commands(line, bytes, (size_t)got))
			return;
	}
}

static void line_set_peer(struct lv_line *line, int fd)
{
	pthread_mutex_lock(&line->lock);
	line->fd = fd;
	line->greeted = false;
	pthread_mutex_unlock(&line->lock);
}

static void *line_main(void *arg)
{
	struct lv_line *line = arg;

	while (line_wait(line, line->listen_fd)) {
		int fd = accept4(line->listen_fd, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			continue;
		line_set_peer(line, fd);
		line_serve(line, fd);
		line_set_peer(line, -1);
		close(fd);
	}
	/* whoever set the end is out of the lock after this */
	line_set_peer(line, -1);
	line_free(line);
	return NULL;
}

static int line_start(struct lv_line *line, struct mt_err *err)
{
	pthread_attr_t attr;
	pthread_t thread;
	int rc;

	line->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (line->wake_fd < 0)
		return mt_err_set(err, -errno, "eventfd: %s", strerror(errno));
	line->listen_fd = mt_sock_listen(line->path, SOCK_STREAM, err);
	if (line->listen_fd < 0)
		return line->listen_fd;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	rc = -pthread_create(&thread, &attr, line_main, line);
	pthread_attr_destroy(&attr);
	if (rc)
		unlink(line->path);
	return rc ? mt_err_set(err, rc, "a thread for a domain: %s", strerror(-rc)) : 0;
}

struct lv_line *lv_line_new(const char *path, virDomainPtr domain, struct mt_err *err)
{
	struct lv_line *line = calloc(1, sizeof(*line));

	if (!line || mt_qmp_reader_init(&line->reader, MT_QMP_OBJECT_MAX)) {
		free(line);
		mt_err_set(err, -ENOMEM, "no memory for a domain");
		return NULL;
	}
	line->fd = line->listen_fd = line->wake_fd = -1;
	pthread_mutex_init(&line->lock, NULL);
	snprintf(line->path, sizeof(line->path), "%s", path);
	virDomainGetUUID(domain, line->uuid);
	virDomainRef(domain);
	line->domain = domain;
	if (!line_start(line, err))
		return line;
	line_free(line);
	return NULL;
}

void lv_line_end(struct lv_line *line)
{
	if (!line)
		return;
	unlink(line->path);
	pthread_mutex_lock(&line->lock);
	if (line->fd >= 0)
		shutdown(line->fd, SHUT_RDWR);
	atomic_store(&line->end, true);
	/* from here on the thread may free it, but not before the lock is let go */
	mt_thread_wake(line->wake_fd);
	pthread_mutex_unlock(&line->lock);
}

void lv_line_event(struct lv_line *line, const char *event, struct json_object *data)
{
	struct json_object *object, *at;
	bool greeted;

	pthread_mutex_lock(&line->lock);
	greeted = line->greeted;
	pthread_mutex_unlock(&line->lock);
	if (!greeted) {
		json_object_put(data);
		return;
	}
	/* libvirt does not pass on when it was; later is on the safe side */
	at = json_object_new_object();
	json_object_object_add(at, "seconds", json_object_new_int64(time(NULL)));
	json_object_object_add(at, "microseconds", json_object_new_int(0));
	object = json_object_new_object();
	json_object_object_add(object, "timestamp", at);
	json_object_object_add(object, "event", json_object_new_string(event));
	json_object_object_add(object, "data", data ? data : json_object_new_object());
	line_say(line, object);
}

bool lv_line_is(const struct lv_line *line, const unsigned char *uuid)
{
	return !memcmp(line->uuid, uuid, sizeof(line->uuid));
}
