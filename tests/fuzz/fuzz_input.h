/* SPDX-License-Identifier: MIT */
/*
 * fuzz_input.h - what the fuzz targets share
 *
 * A target is one function that takes any bytes and must survive them. libFuzzer calls it with what
 * it makes up (tests/fuzz/fuzz.sh); replay.c calls it with what was kept, in every test run.
 */
#ifndef MT_TESTS_FUZZ_INPUT_H
#define MT_TESTS_FUZZ_INPUT_H

#include "base/compiler.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define FUZZ_PATH_MAX 32

/* A file in memory with this content, for readers that want a path. Close the descriptor. */
static inline int fuzz_file(const void *data, size_t bytes, char path[FUZZ_PATH_MAX])
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	MT_ASSERT(fd >= 0);
	MT_ASSERT(write(fd, data, bytes) == (ssize_t)bytes);
	snprintf(path, FUZZ_PATH_MAX, "/proc/self/fd/%d", fd);
	return fd;
}

/* A string that ends where the input does. Free it. */
static inline char *fuzz_text(const void *data, size_t bytes)
{
	char *text = malloc(bytes + 1);

	MT_ASSERT(text);
	memcpy(text, data, bytes);
	text[bytes] = '\0';
	return text;
}

#endif
