/* SPDX-License-Identifier: MIT */
/*
 * line.h - QMP served for one domain, on a unix socket, by a thread
 *
 * libvirt's calls wait, so each domain has a thread for them: it reads a command, makes the call,
 * writes the answer. When a call hangs, the daemon's own time-out ends that connection, and the
 * next one is served once the call is over. One connection at a time, as with QEMU.
 */
#ifndef MT_LIBVIRT_LINE_H
#define MT_LIBVIRT_LINE_H

#include "base/err.h"

#include <json-c/json.h>
#include <libvirt/libvirt.h>
#include <stdbool.h>

struct lv_line;

/**
 * lv_line_new() - listen at @path and serve @domain
 * @domain: a reference is taken
 *
 * Return: NULL with @err: the socket, memory, a thread
 */
struct lv_line *lv_line_new(const char *path, virDomainPtr domain, struct mt_err *err);

/** lv_line_end() - hang up and remove the socket; what is left goes when the thread's call is over.
 * NULL is fine. */
void lv_line_end(struct lv_line *line);

/** lv_line_event() - tell who is connected, if anybody, of @event; never waits. @data is consumed.
 */
void lv_line_event(struct lv_line *line, const char *event, struct json_object *data);

/** lv_line_is() - does it serve the domain with this UUID? */
bool lv_line_is(const struct lv_line *line, const unsigned char *uuid);

#endif
