/* SPDX-License-Identifier: MIT */
/* size.c - parse and print memory sizes; see size.h */
#include "base/size.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define SIZE_MAX_BYTES (1ULL << 48)

/* Shift of a unit suffix, or -1. Accepts "", "B", "K", "KB", "KiB", and so on, in either case. */
static int size_unit_shift(const char *suffix)
{
	static const char units[] = "KMGT";
	const char *unit;
	int shift;

	if (!suffix[0] || !strcmp(suffix, "B"))
		return 0;
	unit = strchr(units, suffix[0] & ~0x20);
	if (!unit || !*unit)
		return -1;
	shift = 10 * (int)(unit - units + 1);
	suffix++;
	if (!suffix[0] || !strcmp(suffix, "B") || !strcmp(suffix, "iB"))
		return shift;
	return -1;
}

/* Digits of @text as a number; stops at the first other character. False on overflow or no digit.
 */
static bool size_digits(const char **text, uint64_t *ret, unsigned int *ret_count)
{
	uint64_t value = 0;
	unsigned int count = 0;

	while (**text >= '0' && **text <= '9') {
		if (value > SIZE_MAX_BYTES)
			return false;
		value = value * 10 + (uint64_t)(**text - '0');
		(*text)++;
		count++;
	}
	*ret = value;
	*ret_count = count;
	return count > 0;
}

static int size_parse(const char *text, const char *what, uint64_t *ret_bytes, struct mt_err *err)
{
	const char *p = text;
	uint64_t whole, fraction = 0, scale = 1;
	unsigned int digits = 0;
	int shift;

	if (!size_digits(&p, &whole, &digits))
		goto bad;
	if (*p == '.') {
		p++;
		if (!size_digits(&p, &fraction, &digits) || digits > 3)
			goto bad;
		while (digits--)
			scale *= 10;
	}
	shift = size_unit_shift(p);
	if (shift < 0 || (fraction && !shift))
		goto bad;
	if (whole > (SIZE_MAX_BYTES >> shift))
		return mt_err_set(err, -ERANGE, "%s: '%s' is too large; the most is 256T", what,
				  text);
	*ret_bytes = (whole << shift) + ((fraction << shift) / scale);
	return 0;
bad:
	return mt_err_set(err, -EINVAL, "%s: '%s' is not a size; write it like 512M or 2G", what,
			  text);
}

int mt_size_parse_zero_ok(const char *text, const char *what, uint64_t *ret_bytes,
			  struct mt_err *err)
{
	return size_parse(text, what, ret_bytes, err);
}

int mt_size_parse(const char *text, const char *what, uint64_t *ret_bytes, struct mt_err *err)
{
	uint64_t bytes = 0;
	int rc = size_parse(text, what, &bytes, err);

	if (rc)
		return rc;
	if (!bytes)
		return mt_err_set(err, -EINVAL, "%s: must be more than 0; write it like 512M or 2G",
				  what);
	*ret_bytes = bytes;
	return 0;
}

const char *mt_size_text(uint64_t bytes, char buf[static MT_SIZE_TEXT_MAX])
{
	static const char units[] = "BKMGTP";
	unsigned int unit = 0;
	uint64_t tenths;

	while (unit < 5 && (bytes >> (10 * unit)) >= 1024)
		unit++;
	tenths = unit ? (bytes >> (10 * (unit - 1))) * 10 / 1024 : bytes * 10;
	if (tenths < 100 && tenths % 10)
		snprintf(buf, MT_SIZE_TEXT_MAX, "%u.%u%c", (unsigned int)(tenths / 10),
			 (unsigned int)(tenths % 10), units[unit]);
	else
		snprintf(buf, MT_SIZE_TEXT_MAX, "%u%c", (unsigned int)(tenths / 10), units[unit]);
	return buf;
}
