/* SPDX-License-Identifier: MIT */
/* fuzz_config.c - configuration files and sizes as people type them */
#include "fuzz/fuzz_input.h"
#include "base/size.h"
#include "host/config.h"

static void sizes(const uint8_t *data, size_t bytes)
{
	char *text = fuzz_text(data, bytes), again[MT_SIZE_TEXT_MAX];
	uint64_t size = 0;

	if (!mt_size_parse(text, "size", &size, NULL)) {
		MT_ASSERT(size > 0 && size <= 1ULL << 48);
		/* What we print we can read. */
		mt_size_text(size, again);
		MT_ASSERT(!mt_size_parse(again, "size", &size, NULL));
	}
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static struct mt_config config;
	struct mt_err err = {0};
	char path[FUZZ_PATH_MAX];
	int fd;

	if (bytes > 1 && data[0] == 's') {
		sizes(data + 1, bytes - 1);
		return 0;
	}
	fd = fuzz_file(data, bytes, path);
	mt_config_init(&config);
	if (mt_config_read(&config, path, &err))
		MT_ASSERT(err.msg[0]);
	else if (mt_config_finish(&config, &err))
		MT_ASSERT(err.msg[0]);
	close(fd);
	return 0;
}
