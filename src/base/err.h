/* SPDX-License-Identifier: MIT */
/*
 * err.h - error object: what failed, where, and what to do about it
 *
 * Caller-owned and of fixed size, so that reporting a failure never allocates and a forgotten
 * error never leaks. A failing function fills it once and returns -errno; callers may pass NULL.
 */
#ifndef MT_BASE_ERR_H
#define MT_BASE_ERR_H

#include "base/compiler.h"

#define MT_ERR_MSG_MAX 320

struct mt_err {
	int code; /* -errno, 0 when unset */
	char msg[MT_ERR_MSG_MAX];
};

/**
 * mt_err_set() - fill @err and return @code, so that a failure is one line at its place
 * @err: error to fill, may be NULL
 * @code: -errno
 * @fmt: one line without a full stop or newline: what failed, on what, what to do
 */
int mt_err_set(struct mt_err *err, int code, const char *fmt, ...) MT_PRINTF(3, 4);
#ifdef __clang_analyzer__
/* It sees one file at a time, and is to know that what failed does not return 0. */
#define mt_err_set(err, code, ...) mt_err_failed(mt_err_set(err, code, __VA_ARGS__))
static inline int mt_err_failed(int code)
{
	MT_ASSERT(code < 0);
	return code;
}
#endif

/** mt_err_prefix() - put "context: " before the message on the way up; @err may be NULL */
void mt_err_prefix(struct mt_err *err, const char *fmt, ...) MT_PRINTF(2, 3);

#endif
