/* SPDX-License-Identifier: MIT */
/* loop.c - epoll, level-triggered; see loop.h */
#include "host/loop.h"
#include "base/cleanup.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define LOOP_BATCH   64
#define NS_PER_MS    1000000ULL
#define LOOP_WAIT_MS 60000 /* longest sleep; an early wake costs nothing */

struct mt_source {
	struct mt_loop *loop;
	int fd;
	uint32_t events;
	mt_source_fn *fn; /* NULL once removed */
	void *ctx;
	struct mt_source *next_dead;
};

struct mt_loop {
	int epoll;
	uint64_t now_ns;
	struct mt_source *dead; /* removed, to be freed after the batch */
};

static uint64_t loop_clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

static void loop_bury(struct mt_loop *loop)
{
	while (loop->dead) {
		struct mt_source *source = loop->dead;

		loop->dead = source->next_dead;
		free(source);
	}
}

struct mt_loop *mt_loop_new(struct mt_err *err)
{
	struct mt_loop *loop = calloc(1, sizeof(*loop));

	if (!loop) {
		mt_err_set(err, -ENOMEM, "no memory for the event loop");
		return NULL;
	}
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll < 0) {
		mt_err_set(err, -errno, "epoll: %s", strerror(errno));
		free(loop);
		return NULL;
	}
	loop->now_ns = loop_clock_ns();
	return loop;
}

void mt_loop_free(struct mt_loop *loop)
{
	if (!loop)
		return;
	loop_bury(loop);
	close(loop->epoll);
	free(loop);
}

struct mt_source *mt_loop_add(struct mt_loop *loop, int fd, uint32_t events, mt_source_fn *fn,
			      void *ctx)
{
	struct mt_source *source = calloc(1, sizeof(*source));
	struct epoll_event event = {.events = events, .data.ptr = source};

	if (!source)
		return NULL;
	*source =
		(struct mt_source){.loop = loop, .fd = fd, .events = events, .fn = fn, .ctx = ctx};
	if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event)) {
		free(source);
		return NULL;
	}
	return source;
}

void mt_loop_want(struct mt_source *source, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = source};

	if (!source || source->events == events)
		return;
	source->events = events;
	/* can't fail for a descriptor that is in the set */
	MT_ASSERT(!epoll_ctl(source->loop->epoll, EPOLL_CTL_MOD, source->fd, &event));
}

void mt_loop_remove(struct mt_source *source)
{
	if (!source)
		return;
	epoll_ctl(source->loop->epoll, EPOLL_CTL_DEL, source->fd, NULL);
	source->fn = NULL;
	source->next_dead = source->loop->dead;
	source->loop->dead = source;
}

static int loop_timeout_ms(uint64_t deadline_ns)
{
	uint64_t now_ns = loop_clock_ns();
	uint64_t wait_ms;

	if (deadline_ns <= now_ns)
		return 0;
	wait_ms = (deadline_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS;
	return (int)MT_MIN(wait_ms, (uint64_t)LOOP_WAIT_MS);
}

int mt_loop_turn(struct mt_loop *loop, uint64_t deadline_ns, struct mt_err *err)
{
	struct epoll_event events[LOOP_BATCH];
	int count = epoll_wait(loop->epoll, events, LOOP_BATCH, loop_timeout_ms(deadline_ns));

	if (count < 0 && errno != EINTR)
		return mt_err_set(err, -errno, "epoll_wait: %s", strerror(errno));
	loop->now_ns = loop_clock_ns();
	for (int i = 0; i < count; i++) {
		struct mt_source *source = events[i].data.ptr;

		if (source->fn)
			source->fn(source->ctx, events[i].events);
	}
	loop_bury(loop);
	return 0;
}

uint64_t mt_loop_now_ns(const struct mt_loop *loop)
{
	return loop->now_ns;
}
