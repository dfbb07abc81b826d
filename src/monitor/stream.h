/* SPDX-License-Identifier: MIT */
/*
 * stream.h - notice guests that walk through memory, and how far ahead it pays to go
 *
 * A fault right behind the pages of an earlier one continues a stream, and each continuation
 * doubles how many pages are brought along. Anything else starts a stream with just its own page,
 * so that random access never pays for pages nobody wanted.
 */
#ifndef MT_MONITOR_STREAM_H
#define MT_MONITOR_STREAM_H

#include "base/types.h"

#define MT_STREAMS 8U

struct mt_streams {
	struct {
		mt_gpn_t next;   /* page whose fault would continue the stream */
		uint32_t window; /* pages to bring at the next fault */
	} stream[MT_STREAMS];
	uint32_t oldest;
	uint32_t last; /* stream of the last window */
};

/** mt_stream_window() - pages to bring for a fault at @gpn, @gpn included: 1..@max */
static inline uint32_t mt_stream_window(struct mt_streams *streams, mt_gpn_t gpn, uint32_t max)
{
	for (uint32_t i = 0; i < MT_STREAMS; i++) {
		uint32_t window = streams->stream[i].window;

		/* A page or two may have been in place already. */
		if (!window || gpn.n - streams->stream[i].next.n > 2)
			continue;
		window = window * 2 < max ? window * 2 : max;
		streams->stream[i].window = window;
		streams->stream[i].next = MT_GPN(gpn.n + window);
		streams->last = i;
		return window;
	}
	streams->stream[streams->oldest].next = MT_GPN(gpn.n + 1);
	streams->stream[streams->oldest].window = 1;
	streams->last = streams->oldest;
	streams->oldest = (streams->oldest + 1) % MT_STREAMS;
	return 1;
}

/** mt_stream_expected() - what mt_stream_window() would return; changes nothing */
static inline uint32_t mt_stream_expected(const struct mt_streams *streams, mt_gpn_t gpn,
					  uint32_t max)
{
	for (uint32_t i = 0; i < MT_STREAMS; i++) {
		uint32_t window = streams->stream[i].window;

		if (window && gpn.n - streams->stream[i].next.n <= 2)
			return window * 2 < max ? window * 2 : max;
	}
	return 1;
}

/** mt_stream_brought() - only @pages pages of the last window could be brought for @gpn */
static inline void mt_stream_brought(struct mt_streams *streams, mt_gpn_t gpn, uint32_t pages)
{
	streams->stream[streams->last].next = MT_GPN(gpn.n + pages);
}

#endif
