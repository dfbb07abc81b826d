/* SPDX-License-Identifier: MIT */
/* fuzz_scenario.c - scenarios and traces of "memtide sim"; a trace starts with the word TRACE */
#include "fuzz/fuzz_input.h"
#include "sim/scenario.h"

static void trace(const uint8_t *data, size_t bytes)
{
	static const char vms[] = "pool 4G\nend 1h\nvm a mem=1G\nvm b count=3 mem=512M\n";
	char path[FUZZ_PATH_MAX], trace_path[FUZZ_PATH_MAX];
	int fd = fuzz_file(vms, sizeof(vms) - 1, path), trace_fd;
	struct sim_scenario scenario = {0};
	struct mt_err err = {0};

	trace_fd = fuzz_file(data, bytes, trace_path);
	if (!sim_scenario_read(&scenario, path, &err)) {
		if (sim_trace_read(&scenario, trace_path, &err))
			MT_ASSERT(err.msg[0]);
		sim_scenario_free(&scenario);
	}
	close(fd);
	close(trace_fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct sim_scenario scenario = {0};
	struct mt_err err = {0};
	char path[FUZZ_PATH_MAX];
	int fd;

	if (bytes >= 5 && !memcmp(data, "TRACE", 5)) {
		trace(data + 5, bytes - 5);
		return 0;
	}
	/* Other files are not for us to read. */
	if (memmem(data, bytes, "trace", 5))
		return 0;
	fd = fuzz_file(data, bytes, path);
	if (sim_scenario_read(&scenario, path, &err))
		MT_ASSERT(err.msg[0]);
	else
		sim_scenario_free(&scenario);
	close(fd);
	return 0;
}
