/* SPDX-License-Identifier: MIT */
/* text.c - growing bytes, and what LZ4 frames unpack to; see text.h */
#include "lab/text.h"

#include <errno.h>
#include <lz4frame.h>
#include <stdlib.h>
#include <string.h>

static const unsigned char lz4_magic[4] = {0x04, 0x22, 0x4d, 0x18};

int lab_text_add(struct lab_text *text, const void *bytes, size_t length)
{
	if (length > LAB_TEXT_MAX - text->length)
		return -EFBIG;
	if (text->length + length >= text->room) {
		size_t room = (text->length + length + 1) * 2;
		char *more = realloc(text->bytes, room);

		if (!more)
			return -ENOMEM;
		text->bytes = more;
		text->room = room;
	}
	MT_ASSERT(text->bytes);
	memcpy(text->bytes + text->length, bytes, length);
	text->length += length;
	text->bytes[text->length] = '\0';
	return 0;
}

static int unpack(LZ4F_dctx *context, const struct lab_text *packed, struct lab_text *to)
{
	size_t at = 0, hint = 1;
	char chunk[65536];
	int rc = 0;

	while (!rc && hint && at <= packed->length) {
		size_t in = packed->length - at, out = sizeof(chunk);

		hint = LZ4F_decompress(context, chunk, &out, packed->bytes + at, &in, NULL);
		if (LZ4F_isError(hint) || (hint && !in && !out))
			return -EBADMSG;
		rc = lab_text_add(to, chunk, out);
		at += in;
	}
	return rc;
}

int lab_text_unpack(struct lab_text *text)
{
	struct lab_text to = {0};
	LZ4F_dctx *context;
	int rc;

	if (!text->bytes)
		return lab_text_add(text, "", 0);
	if (text->length < sizeof(lz4_magic) || memcmp(text->bytes, lz4_magic, sizeof(lz4_magic)))
		return 0;
	if (LZ4F_isError(LZ4F_createDecompressionContext(&context, LZ4F_VERSION)))
		return -ENOMEM;
	rc = lab_text_add(&to, "", 0);
	if (!rc)
		rc = unpack(context, text, &to);
	LZ4F_freeDecompressionContext(context);
	if (rc) {
		free(to.bytes);
		return rc;
	}
	free(text->bytes);
	*text = to;
	return 0;
}
