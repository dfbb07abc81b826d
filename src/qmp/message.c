/* SPDX-License-Identifier: MIT */
/* message.c - json-c's tokener within bounds; see message.h */
#include "qmp/message.h"
#include "base/compiler.h"

#include <errno.h>
#include <string.h>

#define MESSAGE_DEPTH 32

int mt_qmp_reader_init(struct mt_qmp_reader *reader, size_t object_max)
{
	*reader = (struct mt_qmp_reader){.tokener = json_tokener_new_ex(MESSAGE_DEPTH),
					 .object_max = object_max};
	if (!reader->tokener)
		return -ENOMEM;
	json_tokener_set_flags(reader->tokener,
			       JSON_TOKENER_STRICT | JSON_TOKENER_ALLOW_TRAILING_CHARS);
	return 0;
}

void mt_qmp_reader_fini(struct mt_qmp_reader *reader)
{
	if (reader->tokener)
		json_tokener_free(reader->tokener);
	reader->tokener = NULL;
}

void mt_qmp_reader_reset(struct mt_qmp_reader *reader)
{
	json_tokener_reset(reader->tokener);
	reader->object_bytes = 0;
}

/* Ends of lines between objects are nobody's. */
static void message_skip_blanks(const char **bytes, size_t *count)
{
	while (*count && **bytes && strchr(" \t\r\n", **bytes)) {
		(*bytes)++;
		(*count)--;
	}
}

int mt_qmp_read(struct mt_qmp_reader *reader, const char **bytes, size_t *count,
		struct json_object **ret, struct mt_err *err)
{
	enum json_tokener_error error;

	*ret = NULL;
	if (!reader->object_bytes)
		message_skip_blanks(bytes, count);
	if (!*count)
		return 0;
	/* the tokener would take it for the end of its input */
	if (memchr(*bytes, '\0', *count))
		return mt_err_set(err, -EPROTO, "no JSON: a NUL byte");
	*ret = json_tokener_parse_ex(reader->tokener, *bytes, (int)*count);
	error = json_tokener_get_error(reader->tokener);
	if (error == json_tokener_continue) {
		reader->object_bytes += *count;
		*bytes += *count;
		*count = 0;
		if (reader->object_bytes <= reader->object_max)
			return 0;
		return mt_err_set(err, -EPROTO, "an object longer than %zu bytes",
				  reader->object_max);
	}
	if (error != json_tokener_success)
		return mt_err_set(err, -EPROTO, "no JSON: %s", json_tokener_error_desc(error));
	*count -= json_tokener_get_parse_end(reader->tokener);
	*bytes += json_tokener_get_parse_end(reader->tokener);
	mt_qmp_reader_reset(reader);
	return 1;
}

bool mt_qmp_is_greeting(struct json_object *object)
{
	struct json_object *greeting = NULL;

	return json_object_object_get_ex(object, "QMP", &greeting) &&
	       json_object_is_type(greeting, json_type_object);
}

struct json_object *mt_qmp_command(const char *command, struct json_object *arguments, uint64_t id)
{
	struct json_object *object = json_object_new_object();

	if (!object) {
		json_object_put(arguments);
		return NULL;
	}
	json_object_object_add(object, "execute", json_object_new_string(command));
	if (arguments)
		json_object_object_add(object, "arguments", arguments);
	json_object_object_add(object, "id", json_object_new_uint64(id));
	return object;
}

const char *mt_qmp_error(struct json_object *answer)
{
	struct json_object *error = NULL, *text = NULL;

	if (!json_object_object_get_ex(answer, "error", &error) ||
	    !json_object_is_type(error, json_type_object))
		return NULL;
	json_object_object_get_ex(error, "desc", &text);
	return text ? json_object_get_string(text) : "no reason given";
}

const char *mt_qmp_text(struct json_object *object, size_t *ret_length)
{
	return json_object_to_json_string_length(
		object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, ret_length);
}
