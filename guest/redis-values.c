/* SPDX-License-Identifier: MIT */
/*
 * redis-values.c - loads a redis server with values that can be checked, works on them and verifies all.
 *
 * Why: redis-benchmark stores constants, which compress and share far too well and hide damage. How: every value
 * is a pure function of (seed, key, version), pseudo-random letters of varied length, so that the only state kept
 * here is one version for each key. Requests go over a unix socket in the plain redis protocol, in batches of 64
 * (written whole, then all answers are read). Used by guest/workloads/redis-check. The last line is
 * "redis-values: PASS ..." or "redis-values: FAIL ...".
 * Exit status: 0 pass, 1 fail (a wrong value), 2 usage, or the server does not answer as it should.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define BATCH		64
#define VALUE_MIN	64
#define VALUE_MAX	1088
#define ANSWER_SECONDS	120	/* a server that is silent for so long is dead */

static uint64_t seed = 1;
static uint32_t *versions;
static FILE *from_server, *to_server;

static void die(const char *what, const char *detail)
{
	printf("redis-values: FAIL %s: %s\n", what, detail);
	exit(2);
}

static uint64_t next_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* Half the value is random letters, half is one of 16 letters repeated: it compresses, and no two are alike. */
static size_t make_value(char *value, unsigned long key, uint32_t version)
{
	uint64_t state = seed ^ (uint64_t)key << 32 ^ version, word = 0;
	size_t length = VALUE_MIN + next_random(&state) % (VALUE_MAX - VALUE_MIN);
	size_t i;

	for (i = 0; i < length; i++) {
		if (i % 16 == 0)
			word = next_random(&state);
		value[i] = (char)('a' + (i % 16 < 8 ? word >> i % 16 * 4 & 15 : word >> 60));
	}
	return length;
}

static void connect_to(const char *path)
{
	struct timeval limit = { .tv_sec = ANSWER_SECONDS };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(address.sun_path))
		die("socket path too long", path);
	memcpy(address.sun_path, path, strlen(path));
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)))
		die("cannot connect to the server", strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	from_server = fdopen(fd, "r");
	to_server = fdopen(dup(fd), "w");
	if (!from_server || !to_server)
		die("cannot open the socket", strerror(errno));
}

static void send_set(unsigned long key, const char *value, size_t length)
{
	char name[32];
	int n = snprintf(name, sizeof(name), "key:%lu", key);

	fprintf(to_server, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%zu\r\n", n, name, length);
	fwrite(value, 1, length, to_server);
	fputs("\r\n", to_server);
}

static void send_get(unsigned long key)
{
	char name[32];
	int n = snprintf(name, sizeof(name), "key:%lu", key);

	fprintf(to_server, "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", n, name);
}

static void read_line(char *line, int size)
{
	if (fflush(to_server) || !fgets(line, size, from_server))
		die("the server does not answer", strerror(errno));
}

static void expect_ok(void)
{
	char line[256];

	read_line(line, sizeof(line));
	if (strcmp(line, "+OK\r\n"))
		die("the server refused a SET", line);
}

static void expect_value(unsigned long key)
{
	char expected[VALUE_MAX], value[VALUE_MAX + 2], line[256];
	size_t length = make_value(expected, key, versions[key]);
	long got;

	read_line(line, sizeof(line));
	got = line[0] == '$' ? strtol(line + 1, NULL, 10) : -1;
	if (got >= 0 && got <= VALUE_MAX &&
	    fread(value, 1, (size_t)got + 2, from_server) != (size_t)got + 2)
		die("the server does not answer", strerror(errno));
	if (got == (long)length && !memcmp(value, expected, length))
		return;
	printf("redis-values: FAIL key=%lu version=%u length=%ld expected=%zu\n", key, versions[key], got, length);
	exit(1);
}

/* Set up to BATCH keys to their next version; keys in a batch must differ. */
static void set_batch(const unsigned long *keys, unsigned int count)
{
	char value[VALUE_MAX];
	unsigned int i;

	for (i = 0; i < count; i++) {
		versions[keys[i]]++;
		send_set(keys[i], value, make_value(value, keys[i], versions[keys[i]]));
	}
	for (i = 0; i < count; i++)
		expect_ok();
}

static void check_batch(const unsigned long *keys, unsigned int count)
{
	unsigned int i;

	for (i = 0; i < count; i++)
		send_get(keys[i]);
	for (i = 0; i < count; i++)
		expect_value(keys[i]);
}

static void for_all(unsigned long total, void (*run)(const unsigned long *, unsigned int), const char *name)
{
	unsigned long keys[BATCH], key = 0;
	unsigned int n;

	while (key < total) {
		for (n = 0; n < BATCH && key < total; n++)
			keys[n] = key++;
		run(keys, n);
		if (key % (BATCH * 256) == 0 || key == total)
			printf("redis-values: %s %lu%%\n", name, key * 100 / total);
	}
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Random runs of neighbouring keys: check them, and set every other run anew. */
static unsigned long work(unsigned long total, double seconds)
{
	double end = now() + seconds, reported = now();
	unsigned long keys[BATCH], ops = 0, first;
	uint64_t state = seed;
	unsigned int i;

	while (now() < end) {
		first = next_random(&state) % total;
		for (i = 0; i < BATCH; i++)
			keys[i] = (first + i) % total;
		check_batch(keys, BATCH);
		if (next_random(&state) & 1)
			set_batch(keys, BATCH);
		ops += BATCH;
		if (now() - reported >= 5) {
			printf("redis-values: work %lu ops\n", ops);
			reported = now();
		}
	}
	return ops;
}

int main(int argc, char **argv)
{
	unsigned long total, ops;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 4 || argc > 5 || strtoul(argv[2], NULL, 10) < BATCH) {
		fputs("usage: redis-values SOCKET KEYS SECONDS [SEED]   (at least 64 keys)\n", stderr);
		return 2;
	}
	total = strtoul(argv[2], NULL, 10);
	seed = argc == 5 ? strtoull(argv[4], NULL, 0) : 1;
	versions = calloc(total, sizeof(*versions));
	if (!versions)
		die("cannot allocate", strerror(errno));
	connect_to(argv[1]);
	for_all(total, set_batch, "load");
	ops = work(total, strtod(argv[3], NULL));
	for_all(total, check_batch, "verify");
	printf("redis-values: PASS keys=%lu ops=%lu\n", total, ops);
	return 0;
}
