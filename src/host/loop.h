/* SPDX-License-Identifier: MIT */
/*
 * loop.h - one thread, one epoll, callbacks
 *
 * A source may be removed at any time, from its own callback or another's: it is freed only after
 * the batch of events at hand, so a late event can't reach what is gone.
 */
#ifndef MT_HOST_LOOP_H
#define MT_HOST_LOOP_H

#include "base/err.h"

#include <stdbool.h>
#include <sys/epoll.h>

struct mt_loop;
struct mt_source;

typedef void mt_source_fn(void *ctx, uint32_t events);

#define MT_LOOP_NEVER UINT64_MAX

struct mt_loop *mt_loop_new(struct mt_err *err);
void mt_loop_free(struct mt_loop *loop);

/** mt_loop_add() - call @fn when @events happen on @fd (borrowed); NULL on failure, with errno */
struct mt_source *mt_loop_add(struct mt_loop *loop, int fd, uint32_t events, mt_source_fn *fn,
			      void *ctx);
/** mt_loop_want() - other events from now on; 0 for none but errors and hangups */
void mt_loop_want(struct mt_source *source, uint32_t events);
/** mt_loop_remove() - no further call, not even from this batch; NULL is fine */
void mt_loop_remove(struct mt_source *source);

/** mt_loop_turn() - wait until something happens, at most until @deadline_ns, and call back */
MT_MUST_CHECK int mt_loop_turn(struct mt_loop *loop, uint64_t deadline_ns, struct mt_err *err);

/** mt_loop_now_ns() - monotonic time when this turn's events were read */
uint64_t mt_loop_now_ns(const struct mt_loop *loop);

#endif
