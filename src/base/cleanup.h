/* SPDX-License-Identifier: MIT */
/*
 * cleanup.h - give back local resources when they go out of scope
 *
 * For locals only. Constructors that publish state step by step use a goto ladder instead; never
 * both in one function.
 */
#ifndef MT_BASE_CLEANUP_H
#define MT_BASE_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

static inline void mt_cleanup_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void mt_cleanup_free(void *pointer)
{
	free(*(void **)pointer);
}

#define MT_AUTO_CLOSE __attribute__((cleanup(mt_cleanup_close)))
#define MT_AUTO_FREE  __attribute__((cleanup(mt_cleanup_free)))

/* Hand a descriptor on: returns it and leaves -1, so that its scope no longer closes it. */
static inline int mt_steal_fd(int *fd)
{
	int stolen = *fd;

	*fd = -1;
	return stolen;
}

#endif
