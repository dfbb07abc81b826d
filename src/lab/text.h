/* SPDX-License-Identifier: MIT */
/* text.h - the bytes of a file, packed by LZ4 or not; for traces */
#ifndef MT_LAB_TEXT_H
#define MT_LAB_TEXT_H

#include "base/compiler.h"

#define LAB_TEXT_MAX (512u << 20)

/* A NUL stands behind @length. Zeroed at first, bytes to be freed at last. */
struct lab_text {
	char *bytes;
	size_t length, room;
};

/** lab_text_add() - Return: 0; -ENOMEM; -EFBIG */
int lab_text_add(struct lab_text *text, const void *bytes, size_t length);

/** lab_text_unpack() - if these are LZ4 frames, what is in them. Return: also -EBADMSG */
int lab_text_unpack(struct lab_text *text);

#endif
