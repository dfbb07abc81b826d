/* SPDX-License-Identifier: MIT */
/*
 * qmp.h - one VM's QEMU Machine Protocol: commands out, answers and events in, never waiting
 *
 * What sits at the other end may be in the hands of its guest, stopped, or not QEMU at all. So
 * nothing is believed: objects are taken in as their bytes come, up to a bounded size, every answer
 * must carry the number of the oldest open command, and every wait has an end. Whatever goes wrong
 * is one fault: the connection is dropped, what was asked is forgotten, the owner is told once, and
 * after a pause that doubles with every fault in a row there is another try. Tries that do not even
 * connect belong to the fault before them.
 *
 * The loop that everything runs on calls back when bytes come; what has to happen at a time is done
 * by mt_qmp_expire(), which the owner calls at mt_qmp_next_ns().
 */
#ifndef MT_HOST_QMP_H
#define MT_HOST_QMP_H

#include "base/err.h"
#include "host/loop.h"

#include <json-c/json.h>
#include <sys/types.h>

/* Longest path of a unix socket, with the ending NUL. */
#define MT_QMP_PATH_MAX 108
/* Commands that may wait for their answers at once. */
#define MT_QMP_OPEN_MAX 16

struct mt_qmp;

struct mt_qmp_config {
	uint32_t timeout_ms; /* for the greeting and for each answer */
	uint32_t retry_ms;   /* first pause before another try; the longest is 128 times that */
};

/* What the owner is told. None of these may free the connection. */
struct mt_qmp_ops {
	/** commands may be given from here on, until the next fault */
	void (*ready)(void *ctx);
	/** the connection is gone, and every command with it; @retry_ms until the next try */
	void (*fault)(void *ctx, const char *what, uint32_t retry_ms);
	/** an event of the VMM, at @at_s by its clock (since 1970; 0: not told); @data belongs to
	 * the caller and may be NULL */
	void (*event)(void *ctx, const char *name, int64_t at_s, struct json_object *data);
	/** monotonic time */
	uint64_t (*now_ns)(void *ctx);
};

/**
 * An answer: @value, which belongs to the caller, or @error, the VMM's own words, with @value NULL.
 * Not called for commands that a fault has cut off.
 */
typedef void mt_qmp_answer_fn(void *ctx, struct json_object *value, const char *error);

/**
 * mt_qmp_new() - a connection to the socket at @path, tried for the first time at the next expiry
 * @pid: the process that must listen there; 0: any
 *
 * Return: NULL with @err: no memory, or -ENAMETOOLONG.
 */
struct mt_qmp *mt_qmp_new(struct mt_loop *loop, const char *path, pid_t pid,
			  const struct mt_qmp_config *config, const struct mt_qmp_ops *ops,
			  void *ctx, struct mt_err *err);

/** mt_qmp_free() - hang up and forget, without a word to the owner; NULL is fine */
void mt_qmp_free(struct mt_qmp *qmp);

/** mt_qmp_ready() - may commands be given? */
bool mt_qmp_ready(const struct mt_qmp *qmp);

/**
 * mt_qmp_ask() - send a command
 * @arguments: consumed, also on failure; may be NULL
 *
 * Return: 0; -ENOTCONN when not ready; -EAGAIN when too many commands are open; -ENOMEM
 */
MT_MUST_CHECK int mt_qmp_ask(struct mt_qmp *qmp, const char *command, struct json_object *arguments,
			     mt_qmp_answer_fn *answer, void *ctx);

/** mt_qmp_expire() - do what is due: connect, or give up waiting */
void mt_qmp_expire(struct mt_qmp *qmp);

/** mt_qmp_next_ns() - when something will be due; MT_LOOP_NEVER while nothing is waited for */
uint64_t mt_qmp_next_ns(const struct mt_qmp *qmp);

#endif
