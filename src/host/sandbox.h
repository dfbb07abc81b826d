/* SPDX-License-Identifier: MIT */
/* sandbox.h - from its start on the daemon may make only the system calls it needs */
#ifndef MT_HOST_SANDBOX_H
#define MT_HOST_SANDBOX_H

#include "base/err.h"

/** mt_sandbox_enter() - for good; before the first peer is let in. 0 or -errno. */
MT_MUST_CHECK int mt_sandbox_enter(struct mt_err *err);

#endif
