/* SPDX-License-Identifier: MIT */
/*
 * message.h - what travels on a QMP connection, whichever end one is at and whether one may wait
 *
 * Objects follow each other without a sign between them: a server may break one over many lines, so
 * the end of an object is its last brace. A reader takes bytes as they come, and no object beyond a
 * bound. Who asks when, and how long for, is the business of who reads.
 */
#ifndef MT_QMP_MESSAGE_H
#define MT_QMP_MESSAGE_H

#include "base/err.h"

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

/* Longest object that what Memtide asks all the time is answered with. */
#define MT_QMP_OBJECT_MAX 65536

struct mt_qmp_reader {
	struct json_tokener *tokener;
	size_t object_bytes; /* of the object under way */
	size_t object_max;   /* longest that is taken in */
};

/**
 * mt_qmp_reader_init() - @object_max: bytes of the longest object that is taken in
 * Return: 0 or -ENOMEM. mt_qmp_reader_fini() is fine after both.
 */
MT_MUST_CHECK int mt_qmp_reader_init(struct mt_qmp_reader *reader, size_t object_max);
void mt_qmp_reader_fini(struct mt_qmp_reader *reader);
/** mt_qmp_reader_reset() - another connection: forget the object under way */
void mt_qmp_reader_reset(struct mt_qmp_reader *reader);

/**
 * mt_qmp_read() - take in bytes, up to the end of an object
 * @bytes, @count: moved behind what was taken
 * @ret: the value, the caller's; NULL is the value null
 *
 * Return: 1 with a value; 0 when all bytes are taken and more are needed; -EPROTO for what is no
 * JSON, and for too long an object, after which the reader must be reset
 */
MT_MUST_CHECK int mt_qmp_read(struct mt_qmp_reader *reader, const char **bytes, size_t *count,
			      struct json_object **ret, struct mt_err *err);

/** mt_qmp_is_greeting() - is it what a QMP server says first? */
bool mt_qmp_is_greeting(struct json_object *object);

/** mt_qmp_command() - a command; @arguments are consumed and may be NULL. Return: NULL: no memory
 */
struct json_object *mt_qmp_command(const char *command, struct json_object *arguments, uint64_t id);

/** mt_qmp_error() - the words of an answer that is an error; NULL for any other. The object's. */
const char *mt_qmp_error(struct json_object *answer);

/** mt_qmp_text() - an object as it is sent, without the end of the line. The object's; NULL: no
 * memory. */
const char *mt_qmp_text(struct json_object *object, size_t *ret_length);

#endif
