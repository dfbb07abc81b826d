/* SPDX-License-Identifier: MIT */
/* replay.c - calls a fuzz target with every file of a directory, in order: what was kept is a test
 */
#include "fuzz/fuzz_input.h"

#include <dirent.h>
#include <fcntl.h>

static size_t replay_file(const char *dir, const char *name)
{
	static uint8_t data[1 << 20];
	char path[4096];
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	MT_ASSERT(fd >= 0);
	got = read(fd, data, sizeof(data));
	MT_ASSERT(got >= 0);
	close(fd);
	/* In memory of just its size, so that a look behind its end is seen by a sanitizer. */
	uint8_t *copy = malloc((size_t)got + !got);

	MT_ASSERT(copy);
	memcpy(copy, data, (size_t)got);
	LLVMFuzzerTestOneInput(copy, (size_t)got);
	free(copy);
	return 1;
}

int main(int argc, char **argv)
{
	struct dirent **list;
	size_t count = 0;
	int files = argc > 1 ? scandir(argv[1], &list, NULL, alphasort) : -1;

	for (int i = 0; i < files; i++) {
		if (list[i]->d_name[0] != '.')
			count += replay_file(argv[1], list[i]->d_name);
		free(list[i]);
	}
	printf("# %zu inputs\n%sok 1 - every input that was kept is survived\n1..1\n", count,
	       count ? "" : "not ");
	fflush(stdout);
	return count == 0;
}
