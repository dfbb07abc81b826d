/* SPDX-License-Identifier: MIT */
/* fuzz_trace.c - traces of "memtide mmu compare", packed by LZ4 or not */
#include "fuzz/fuzz_input.h"
#include "lab/trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct lab_trace trace = {.ops = NULL};
	struct mt_err err = {0};
	char path[FUZZ_PATH_MAX];
	int fd = fuzz_file(data, bytes, path);

	if (lab_trace_read(&trace, path, &err))
		MT_ASSERT(err.msg[0]);
	else
		MT_ASSERT(trace.loop <= trace.count && trace.count <= trace.room);
	lab_trace_free(&trace);
	close(fd);
	return 0;
}
