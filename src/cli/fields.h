/* SPDX-License-Identifier: MIT */
/*
 * fields.h - read and print the fields of the daemon's VM and host objects
 *
 * A field that is missing (an older daemon) reads as 0 or "". Texts are made safe to print: names
 * and reasons may come from a VMM that its guest has taken over, and must not steer a terminal.
 */
#ifndef MT_CLI_FIELDS_H
#define MT_CLI_FIELDS_H

#include "base/size.h"

#include <json-c/json.h>
#include <stdio.h>

#define FIELD_TEXT_MAX 400

uint64_t field_u64(struct json_object *object, const char *name);
int64_t field_i64(struct json_object *object, const char *name);

/** field_text() - the text with control characters replaced, in @buf. Returns @buf. */
const char *field_text(struct json_object *object, const char *name,
		       char buf[static FIELD_TEXT_MAX]);

/** field_size() - a KiB field as "1.5G". Returns @buf. */
const char *field_size(struct json_object *object, const char *name,
		       char buf[static MT_SIZE_TEXT_MAX]);

/** field_count_text() - "123", "45.6k", "7.8M": at most five characters. Returns @buf. */
const char *field_count_text(uint64_t count, char buf[static MT_SIZE_TEXT_MAX]);

/** field_ns_text() - "850ns", "12.3us", "4.5ms", "1.2s". Returns @buf. */
const char *field_ns_text(uint64_t ns, char buf[static MT_SIZE_TEXT_MAX]);

/** field_faults() - all faults of a VM object: the sum of its "fault…" counts */
uint64_t field_faults(struct json_object *vm);

/** field_print_json() - print @object, indented, with a newline */
void field_print_json(struct json_object *object);

/* One part of a bar: a letter and how much of the whole it stands for. */
struct field_part {
	char letter;
	const char *name;
	uint64_t kib;
	const char *meaning;
};

/** field_print_parts() - a bar of the parts of @whole_kib, and a line for each part */
void field_print_parts(const struct field_part *parts, unsigned int count, uint64_t whole_kib);

#endif
