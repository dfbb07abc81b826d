/* SPDX-License-Identifier: MIT */
/* preload.h - what the preload library's files share */
#ifndef MT_PRELOAD_PRELOAD_H
#define MT_PRELOAD_PRELOAD_H

#include <stdbool.h>

/**
 * preload_is_inside() - is this call the library's own, not the VMM's?
 *
 * Such calls, those of its threads and those it makes while it takes a block in, go straight
 * through.
 */
bool preload_is_inside(void);

/** preload_direct_io() - the VMM has @fd open for direct I/O, and has done none through it yet */
void preload_direct_io(int fd);

#endif
