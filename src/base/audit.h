/* SPDX-License-Identifier: MIT */
/*
 * audit.h - what an audit found: how many rules are broken, and the first of them in words
 *
 * Who looks over a structure goes on after a violation, so that the count is the whole damage; but
 * the first is mostly the cause of the others, and there is room for one line.
 */
#ifndef MT_BASE_AUDIT_H
#define MT_BASE_AUDIT_H

#include "base/compiler.h"

#include <stddef.h>
#include <stdint.h>

struct mt_findings {
	uint64_t violations;
	char *text; /* of the first; may be NULL when @text_bytes is 0 */
	size_t text_bytes;
};

/** mt_finding() - one more violation; printf-like */
void MT_PRINTF(2, 3) mt_finding(struct mt_findings *findings, const char *fmt, ...);

#endif
