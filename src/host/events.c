/* SPDX-License-Identifier: MIT */
/* events.c - the ring; see events.h */
#include "host/events.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct mt_events {
	uint64_t last;
	struct mt_event ring[MT_EVENTS_MAX]; /* event id is at id % MT_EVENTS_MAX */
};

struct mt_events *mt_events_new(void)
{
	return calloc(1, sizeof(struct mt_events));
}

void mt_events_free(struct mt_events *events)
{
	free(events);
}

void mt_text_clean(char *text)
{
	for (; *text; text++)
		if (*text < ' ' || *text > '~')
			*text = '?';
}

void mt_events_add(struct mt_events *events, enum mt_event_level level, const char *vm,
		   const char *fmt, ...)
{
	struct mt_event *event = &events->ring[++events->last % MT_EVENTS_MAX];
	struct timespec now;
	va_list args;

	clock_gettime(CLOCK_REALTIME, &now);
	event->id = events->last;
	event->time_ns = (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
	event->level = level;
	snprintf(event->vm, sizeof(event->vm), "%s", vm ? vm : "");
	va_start(args, fmt);
	vsnprintf(event->text, sizeof(event->text), fmt, args);
	va_end(args);
	mt_text_clean(event->text);
}

uint64_t mt_events_last(const struct mt_events *events)
{
	return events->last;
}

uint64_t mt_events_first(const struct mt_events *events)
{
	return events->last > MT_EVENTS_MAX ? events->last - MT_EVENTS_MAX + 1 : 1;
}

const struct mt_event *mt_events_get(const struct mt_events *events, uint64_t id)
{
	return &events->ring[id % MT_EVENTS_MAX];
}

const char *mt_event_level_name(enum mt_event_level level)
{
	switch (level) {
	case MT_EVENT_INFO:
		return "info";
	case MT_EVENT_WARNING:
		return "warning";
	case MT_EVENT_ERROR:
		return "error";
	}
	return "info";
}
