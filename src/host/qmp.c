/* SPDX-License-Identifier: MIT */
/*
 * qmp.c - the states of a connection, numbers of commands, waiting; see qmp.h
 *
 *   PAUSED ──connect──▶ GREETING ──capabilities──▶ NEGOTIATING ──answer──▶ READY
 *     ▲                    │                           │                     │
 *     └────────────────────┴────────── fault ──────────┴─────────────────────┘
 */
#include "host/qmp.h"
#include "qmp/message.h"
#include "sys/local_path.h"
#include "sys/sock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define QMP_NS_PER_MS  1000000ULL
#define QMP_OUT_MAX    16384
#define QMP_READ_BYTES 4096
/* Read in one turn of the loop, so that a VMM that floods us does not keep others waiting. */
#define QMP_TURN_BYTES   65536
#define QMP_FAULT_MAX    160
#define QMP_PAUSE_DOUBLE 7 /* the pause doubles so often */

enum qmp_state {
	QMP_PAUSED,
	QMP_GREETING,
	QMP_NEGOTIATING,
	QMP_READY,
};

struct qmp_open {
	uint64_t id;
	uint64_t by_ns;
	mt_qmp_answer_fn *answer;
	void *ctx;
};

struct mt_qmp {
	struct mt_loop *loop;
	char path[MT_QMP_PATH_MAX];
	pid_t pid;
	struct mt_qmp_config config;
	const struct mt_qmp_ops *ops;
	void *ctx;

	enum qmp_state state;
	uint64_t due_ns;     /* PAUSED: next try; GREETING: end of patience */
	unsigned int faults; /* in a row, without an answer between them */
	bool told;           /* the owner knows that there is no connection */

	int fd;
	struct mt_source *source;
	struct mt_qmp_reader reader;
	char out[QMP_OUT_MAX];
	size_t out_used;
	struct qmp_open open[MT_QMP_OPEN_MAX]; /* a ring, oldest first */
	unsigned int open_first;
	unsigned int open_count;
	uint64_t last_id;
};

static uint64_t qmp_now_ns(const struct mt_qmp *qmp)
{
	return qmp->ops->now_ns(qmp->ctx);
}

struct mt_qmp *mt_qmp_new(struct mt_loop *loop, const char *path, pid_t pid,
			  const struct mt_qmp_config *config, const struct mt_qmp_ops *ops,
			  void *ctx, struct mt_err *err)
{
	struct mt_qmp *qmp;

	if (!path[0] || strlen(path) >= MT_QMP_PATH_MAX) {
		mt_err_set(err, -ENAMETOOLONG,
			   "QMP socket path '%.120s' is empty or longer than %d bytes", path,
			   MT_QMP_PATH_MAX - 1);
		return NULL;
	}
	qmp = calloc(1, sizeof(*qmp));
	if (!qmp || mt_qmp_reader_init(&qmp->reader, MT_QMP_OBJECT_MAX)) {
		free(qmp);
		mt_err_set(err, -ENOMEM, "no memory for a QMP connection");
		return NULL;
	}
	snprintf(qmp->path, sizeof(qmp->path), "%s", path);
	qmp->loop = loop;
	qmp->pid = pid;
	qmp->config = *config;
	qmp->ops = ops;
	qmp->ctx = ctx;
	qmp->fd = -1;
	return qmp;
}

static void qmp_hang_up(struct mt_qmp *qmp)
{
	mt_loop_remove(qmp->source);
	qmp->source = NULL;
	if (qmp->fd >= 0)
		close(qmp->fd);
	qmp->fd = -1;
	mt_qmp_reader_reset(&qmp->reader);
	qmp->out_used = 0;
	qmp->open_count = 0;
}

void mt_qmp_free(struct mt_qmp *qmp)
{
	if (!qmp)
		return;
	qmp_hang_up(qmp);
	mt_qmp_reader_fini(&qmp->reader);
	free(qmp);
}

bool mt_qmp_ready(const struct mt_qmp *qmp)
{
	return qmp->state == QMP_READY;
}

/* The one way down. */
static void MT_PRINTF(2, 3) qmp_fault(struct mt_qmp *qmp, const char *fmt, ...)
{
	unsigned int doubled = MT_MIN(qmp->faults, QMP_PAUSE_DOUBLE);
	uint32_t retry_ms = qmp->config.retry_ms << doubled;
	char what[QMP_FAULT_MAX];
	bool told = qmp->told;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	qmp_hang_up(qmp);
	qmp->state = QMP_PAUSED;
	qmp->faults++;
	qmp->told = true;
	qmp->due_ns = qmp_now_ns(qmp) + retry_ms * QMP_NS_PER_MS;
	if (!told)
		qmp->ops->fault(qmp->ctx, what, retry_ms);
}

/* What does not go out now goes when the VMM reads; a broken connection shows when it is read. */
static void qmp_flush(struct mt_qmp *qmp)
{
	ssize_t sent;

	do {
		sent = send(qmp->fd, qmp->out, qmp->out_used, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (sent < 0 && errno == EINTR);
	if (sent > 0) {
		qmp->out_used -= (size_t)sent;
		memmove(qmp->out, qmp->out + sent, qmp->out_used);
	}
	mt_loop_want(qmp->source, qmp->out_used ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/* Queues a command as a line. */
static int qmp_put(struct mt_qmp *qmp, struct json_object *command)
{
	size_t length = 0;
	const char *text = mt_qmp_text(command, &length);

	if (!text)
		return -ENOMEM;
	if (qmp->out_used + length + 1 > QMP_OUT_MAX)
		return -EAGAIN;
	memcpy(qmp->out + qmp->out_used, text, length);
	qmp->out[qmp->out_used + length] = '\n';
	qmp->out_used += length + 1;
	return 0;
}

static int qmp_send(struct mt_qmp *qmp, const char *command, struct json_object *arguments,
		    mt_qmp_answer_fn *answer, void *ctx)
{
	struct json_object *object = mt_qmp_command(command, arguments, qmp->last_id + 1);
	struct qmp_open *open;
	int rc = -ENOMEM;

	if (object)
		rc = qmp->open_count < MT_QMP_OPEN_MAX ? qmp_put(qmp, object) : -EAGAIN;
	json_object_put(object);
	if (rc)
		return rc;
	open = &qmp->open[(qmp->open_first + qmp->open_count++) % MT_QMP_OPEN_MAX];
	*open = (struct qmp_open){.id = ++qmp->last_id,
				  .by_ns = qmp_now_ns(qmp) + qmp->config.timeout_ms * QMP_NS_PER_MS,
				  .answer = answer,
				  .ctx = ctx};
	qmp_flush(qmp);
	return 0;
}

int mt_qmp_ask(struct mt_qmp *qmp, const char *command, struct json_object *arguments,
	       mt_qmp_answer_fn *answer, void *ctx)
{
	if (qmp->state == QMP_READY)
		return qmp_send(qmp, command, arguments, answer, ctx);
	json_object_put(arguments);
	return -ENOTCONN;
}

static void qmp_negotiated(void *ctx, struct json_object *value, const char *error)
{
	struct mt_qmp *qmp = ctx;

	if (!value) {
		qmp_fault(qmp, "capabilities were refused: %.100s", error);
		return;
	}
	qmp->state = QMP_READY;
	qmp->ops->ready(qmp->ctx);
}

static void qmp_greeted(struct mt_qmp *qmp, struct json_object *object)
{
	if (!mt_qmp_is_greeting(object)) {
		qmp_fault(qmp, "what answers does not greet as QMP does");
		return;
	}
	qmp->state = QMP_NEGOTIATING;
	if (qmp_send(qmp, "qmp_capabilities", NULL, qmp_negotiated, qmp))
		qmp_fault(qmp, "no memory");
}

static bool qmp_answers_oldest(const struct mt_qmp *qmp, struct json_object *object)
{
	struct json_object *id = NULL;

	return qmp->open_count && json_object_object_get_ex(object, "id", &id) &&
	       json_object_is_type(id, json_type_int) &&
	       json_object_get_uint64(id) == qmp->open[qmp->open_first].id;
}

static void qmp_answered(struct mt_qmp *qmp, struct json_object *object)
{
	struct json_object *value = NULL;
	struct qmp_open open = qmp->open[qmp->open_first];

	if (!qmp_answers_oldest(qmp, object)) {
		qmp_fault(qmp, "an answer to nothing that was asked");
		return;
	}
	qmp->open_first = (qmp->open_first + 1) % MT_QMP_OPEN_MAX;
	qmp->open_count--;
	if (qmp->state == QMP_READY)
		qmp->faults = 0;
	if (json_object_object_get_ex(object, "return", &value) && value) {
		open.answer(open.ctx, value, NULL);
		return;
	}
	if (mt_qmp_error(object))
		open.answer(open.ctx, NULL, mt_qmp_error(object));
	else
		qmp_fault(qmp, "an answer with neither a value nor an error");
}

static void qmp_event(struct mt_qmp *qmp, const char *name, struct json_object *object)
{
	struct json_object *data = NULL, *at = NULL, *seconds = NULL;

	json_object_object_get_ex(object, "data", &data);
	if (json_object_object_get_ex(object, "timestamp", &at))
		json_object_object_get_ex(at, "seconds", &seconds);
	qmp->ops->event(qmp->ctx, name, json_object_get_int64(seconds), data);
}

static void qmp_object(struct mt_qmp *qmp, struct json_object *object)
{
	struct json_object *event = NULL;

	if (!json_object_is_type(object, json_type_object)) {
		qmp_fault(qmp, "something that is not an object");
	} else if (qmp->state == QMP_GREETING) {
		qmp_greeted(qmp, object);
	} else if (json_object_object_get_ex(object, "event", &event)) {
		if (json_object_is_type(event, json_type_string))
			qmp_event(qmp, json_object_get_string(event), object);
	} else {
		qmp_answered(qmp, object);
	}
}

/* Takes in what was read. Return: false after a fault. */
static bool qmp_feed(struct mt_qmp *qmp, const char *bytes, size_t count)
{
	struct mt_err err = {0};

	while (count) {
		struct json_object *object = NULL;
		int rc = mt_qmp_read(&qmp->reader, &bytes, &count, &object, &err);

		if (rc < 0) {
			qmp_fault(qmp, "%s", err.msg);
			return false;
		}
		if (!rc)
			return true;
		qmp_object(qmp, object);
		json_object_put(object);
		if (qmp->state == QMP_PAUSED)
			return false;
	}
	return true;
}

static void qmp_read(struct mt_qmp *qmp)
{
	char bytes[QMP_READ_BYTES];

	for (size_t taken = 0; taken < QMP_TURN_BYTES;) {
		ssize_t got = recv(qmp->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (got <= 0) {
			qmp_fault(qmp, "%s%s", got ? strerror(errno) : "closed by the VMM",
				  qmp->reader.object_bytes ? " in the middle of an object" : "");
			return;
		}
		if (!qmp_feed(qmp, bytes, (size_t)got))
			return;
		taken += (size_t)got;
	}
}

static void qmp_on_event(void *ctx, uint32_t events)
{
	struct mt_qmp *qmp = ctx;

	if (events & EPOLLOUT)
		qmp_flush(qmp);
	/* the end of the connection is found by reading too */
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		qmp_read(qmp);
}

static bool qmp_peer_right(struct mt_qmp *qmp)
{
	pid_t pid = 0;
	uid_t uid;

	if (!qmp->pid)
		return true;
	return !mt_sock_peer(qmp->fd, &pid, &uid) && pid == qmp->pid;
}

static void qmp_connect(struct mt_qmp *qmp)
{
	struct mt_err err = {0};
	/* unix sockets connect at once or, with the other side's queue full, not */
	int fd = mt_local_connect(qmp->path, SOCK_STREAM, &err);

	if (fd < 0) {
		qmp_fault(qmp, "%s", err.msg);
		return;
	}
	qmp->fd = fd;
	if (!qmp_peer_right(qmp)) {
		qmp_fault(qmp, "'%s' belongs to another process than the VM's", qmp->path);
		return;
	}
	qmp->source = mt_loop_add(qmp->loop, fd, EPOLLIN, qmp_on_event, qmp);
	if (!qmp->source) {
		qmp_fault(qmp, "no memory");
		return;
	}
	qmp->told = false;
	qmp->state = QMP_GREETING;
	qmp->due_ns = qmp_now_ns(qmp) + qmp->config.timeout_ms * QMP_NS_PER_MS;
}

uint64_t mt_qmp_next_ns(const struct mt_qmp *qmp)
{
	if (qmp->state <= QMP_GREETING)
		return qmp->due_ns;
	return qmp->open_count ? qmp->open[qmp->open_first].by_ns : MT_LOOP_NEVER;
}

void mt_qmp_expire(struct mt_qmp *qmp)
{
	if (mt_qmp_next_ns(qmp) > qmp_now_ns(qmp))
		return;
	if (qmp->state == QMP_PAUSED)
		qmp_connect(qmp);
	else
		qmp_fault(qmp, "no %s for %" PRIu32 " ms",
			  qmp->state == QMP_GREETING ? "greeting" : "answer",
			  qmp->config.timeout_ms);
}
