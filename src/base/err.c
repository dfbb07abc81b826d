/* SPDX-License-Identifier: MIT */
/* err.c - fill and extend error objects; see err.h */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* see err.h: here the function itself is meant */
#undef mt_err_set

int mt_err_set(struct mt_err *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return code;
	err->code = code;
	va_start(ap, fmt);
	vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	return code;
}

void mt_err_prefix(struct mt_err *err, const char *fmt, ...)
{
	char prefix[MT_ERR_MSG_MAX];
	char rest[MT_ERR_MSG_MAX];
	va_list ap;

	if (!err)
		return;
	va_start(ap, fmt);
	vsnprintf(prefix, sizeof(prefix), fmt, ap);
	va_end(ap);
	memcpy(rest, err->msg, sizeof(rest));
	/* Truncation is fine: the prefix says where, and the start of the cause is kept. */
	int n = snprintf(err->msg, sizeof(err->msg), "%s: ", prefix);
	if (n > 0 && (size_t)n < sizeof(err->msg))
		strncat(err->msg, rest, sizeof(err->msg) - (size_t)n - 1);
}
