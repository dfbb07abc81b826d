/* SPDX-License-Identifier: MIT */
/* size.h - memory sizes as people write them: 512M, 2G, 1.5G, 4096K */
#ifndef MT_BASE_SIZE_H
#define MT_BASE_SIZE_H

#include "base/err.h"

#define MT_SIZE_TEXT_MAX 16

/**
 * mt_size_parse() - read a size: a decimal number, at most three decimals, and K, M, G or T
 * (KiB and so on; "B" or "iB" may follow; without a unit it is bytes)
 * @what: name of the option, for the message
 * @ret_bytes: result; untouched on failure
 *
 * Return: 0; -EINVAL for anything else, zero and negative numbers included; -ERANGE above 2^48
 */
MT_MUST_CHECK int mt_size_parse(const char *text, const char *what, uint64_t *ret_bytes,
				struct mt_err *err);

/** mt_size_parse_zero_ok() - the same, but 0 is a value too (a reservation may be 0) */
MT_MUST_CHECK int mt_size_parse_zero_ok(const char *text, const char *what, uint64_t *ret_bytes,
					struct mt_err *err);

/** mt_size_text() - "512M", "1.5G", "37K": at most four digits, for tables. Returns @buf. */
const char *mt_size_text(uint64_t bytes, char buf[static MT_SIZE_TEXT_MAX]);

#endif
