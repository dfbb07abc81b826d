/* SPDX-License-Identifier: MIT */
/* audit.c - count violations, keep the first in words; see audit.h */
#include "base/audit.h"

#include <stdarg.h>
#include <stdio.h>

void mt_finding(struct mt_findings *findings, const char *fmt, ...)
{
	va_list ap;

	if (findings->violations++ || !findings->text_bytes)
		return;
	va_start(ap, fmt);
	vsnprintf(findings->text, findings->text_bytes, fmt, ap);
	va_end(ap);
}
