/* SPDX-License-Identifier: MIT */
/* control_api.h - requests of the control socket, one function for each "cmd" (docs/protocol.md) */
#ifndef MT_HOST_CONTROL_API_H
#define MT_HOST_CONTROL_API_H

#include "host/client.h"

/** mt_control_request() - serve @request (borrowed, an object): answer now, or when a monitor has
 * answered */
void mt_control_request(struct mt_client *client, struct json_object *request);

/**
 * mt_control_text() - a string field, or a number as text
 *
 * Return: 0 with @ret NULL when it is missing; -EINVAL when it is something else, or holds a NUL.
 */
MT_MUST_CHECK int mt_control_text(struct json_object *object, const char *key, const char **ret,
				  struct mt_err *err);

/** mt_control_shares() - "low", "normal", "high" or a number; 0 is normal */
MT_MUST_CHECK int mt_control_shares(const char *text, struct mt_vm_settings *settings,
				    struct mt_err *err);

/** mt_control_set_vm() - apply "settings" of @request to @vm: all of them or none; in control_set.c
 */
MT_MUST_CHECK int mt_control_set_vm(struct mt_client *client, struct mt_vmrec *vm,
				    struct json_object *request, struct mt_err *err);

/** mt_control_set_host() - the same for the host */
MT_MUST_CHECK int mt_control_set_host(struct mt_server *server, struct json_object *request,
				      struct mt_err *err);

#endif
