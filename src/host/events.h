/* SPDX-License-Identifier: MIT */
/*
 * events.h - what was done to whom, and why: the last few thousand lines
 *
 * A ring in memory: the newest entries stay, each with a number that is never used again, so a
 * reader can ask for what came after the last one it saw and notice when it missed some.
 */
#ifndef MT_HOST_EVENTS_H
#define MT_HOST_EVENTS_H

#include "base/compiler.h"
#include "wire/wire.h"

#define MT_EVENTS_MAX 4096

struct mt_events;

struct mt_event {
	uint64_t id;      /* from 1 */
	uint64_t time_ns; /* since the epoch */
	enum mt_event_level level;
	char vm[MT_WIRE_NAME_MAX]; /* empty: about the host */
	char text[MT_WIRE_TEXT_MAX];
};

struct mt_events *mt_events_new(void);
void mt_events_free(struct mt_events *events);

/** mt_events_add() - @vm may be NULL; what is not printable is replaced */
void mt_events_add(struct mt_events *events, enum mt_event_level level, const char *vm,
		   const char *fmt, ...) MT_PRINTF(4, 5);

/** mt_events_last() - number of the newest event, 0 when there was none */
uint64_t mt_events_last(const struct mt_events *events);
/** mt_events_first() - number of the oldest that is still there; last + 1 when there is none */
uint64_t mt_events_first(const struct mt_events *events);
/** mt_events_get() - event @id, first to last */
const struct mt_event *mt_events_get(const struct mt_events *events, uint64_t id);

/** mt_event_level_name() - "info", "warning", "error" */
const char *mt_event_level_name(enum mt_event_level level);

/** mt_text_clean() - replace, in place, every byte that is not printable ASCII: it came from a peer
 */
void mt_text_clean(char *text);

#endif
