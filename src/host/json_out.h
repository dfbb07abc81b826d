/* SPDX-License-Identifier: MIT */
/* json_out.h - the objects of docs/protocol.md; each function returns a new one, owned by the
 * caller */
#ifndef MT_HOST_JSON_OUT_H
#define MT_HOST_JSON_OUT_H

#include "host/server.h"

#include <json-c/json.h>

struct json_object *mt_json_greeting(void);
struct json_object *mt_json_ok(void);
struct json_object *mt_json_error(const struct mt_err *err);
struct json_object *mt_json_event(const struct mt_event *event);
struct json_object *mt_json_checked(const struct mt_wire_checked *msg);
/** mt_json_peeked() - the answer to "peek", "states", "words" and "frame_pages" */
struct json_object *mt_json_peeked(const struct mt_wire_peeked *msg);
/** mt_json_sharer() - a VM @pages pages of which use a frame */
struct json_object *mt_json_sharer(const struct mt_vmrec *vm, uint64_t pages);
struct json_object *mt_json_vm(const struct mt_vmrec *vm);
struct json_object *mt_json_host(const struct mt_server *server);

#endif
