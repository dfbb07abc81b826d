/* SPDX-License-Identifier: MIT */
/*
 * translate_check.c - "memtide translate" against QEMU's own gva2gpa and gpa2hva
 *
 * usage: translate_check QMP SOCKET VM SECOND-QMP COUNT
 *
 * Stops the guest, takes COUNT addresses out of QEMU's "info tlb", asks QEMU about each, and has
 * one "memtide translate --gva -" (with the second QMP socket) say the same. Some addresses that
 * are mapped nowhere are among them. Prints what it found; exits with 1 on any difference.
 */
#include <json-c/json.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define UNMAPPED 300u

struct address {
	uint64_t gva, gpa, hva;
	int mapped, ram;
};

static FILE *qmp;
static struct address *addresses;
static unsigned int count;

static void die(const char *what)
{
	printf("# translate_check: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* One request; the caller puts the answer. */
static json_object *ask(const char *request)
{
	char *line = NULL;
	size_t room = 0;

	fprintf(qmp, "%s\n", request);
	fflush(qmp);
	while (getline(&line, &room, qmp) >= 0) {
		json_object *answer = json_tokener_parse(line);

		if (json_object_object_get_ex(answer, "return", NULL) ||
		    json_object_object_get_ex(answer, "error", NULL)) {
			free(line);
			return answer;
		}
		json_object_put(answer);
	}
	die("QMP");
	return NULL;
}

static json_object *human(const char *command)
{
	char request[256];

	snprintf(request, sizeof(request),
		 "{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"%s\"}}",
		 command);
	return ask(request);
}

static const char *text_of(json_object *answer)
{
	return json_object_get_string(json_object_object_get(answer, "return"));
}

static void connect_qmp(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char greeting[4096];

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)))
		die(path);
	qmp = fdopen(fd, "r+");
	if (!qmp || !fgets(greeting, sizeof(greeting), qmp))
		die("greeting");
	json_object_put(ask("{\"execute\":\"qmp_capabilities\"}"));
}

/* Addresses all over the mapped ones, each with an offset of its own. */
static void pick(void)
{
	json_object *answer = human("info tlb");
	const char *text = text_of(answer), *line;
	uint64_t lines = 0, random = 12345, number = 0, highest = 0;

	for (line = text; (line = strchr(line, '\n')); line++)
		lines++;
	printf("# info tlb has %" PRIu64 " pages\n", lines);
	for (line = text; line && *line && count + UNMAPPED; line = strchr(line, '\n') + 1) {
		uint64_t gva;

		/* Spread: take line n when n * wanted / lines grows; again and again if few. */
		if (sscanf(line, "%" SCNx64 ":", &gva) == 1)
			for (uint64_t k = number * count / lines;
			     k < (number + 1) * count / lines && k < count; k++) {
				random = random * 6364136223846793005ULL + 1;
				addresses[k].gva = gva | (random >> 40 & 0xff8);
				highest = gva > highest ? gva : highest;
			}
		number++;
		if (!strchr(line, '\n'))
			break;
	}
	json_object_put(answer);
	for (unsigned int i = 0; i < UNMAPPED; i++) {
		random = random * 6364136223846793005ULL + 1;
		/* A 32-bit guest: QEMU would leave off what is beyond its addresses. */
		if (highest >> 32)
			addresses[count + i].gva = random & (i % 2 ? 0x7ffffffff000ULL : ~7ULL);
		else
			addresses[count + i].gva = random >> 32;
	}
	count += UNMAPPED;
}

static void ask_qemu(void)
{
	char command[64];

	for (unsigned int i = 0; i < count; i++) {
		struct address *at = &addresses[i];
		json_object *answer;
		const char *is;

		snprintf(command, sizeof(command), "gva2gpa 0x%" PRIx64, at->gva);
		answer = human(command);
		at->mapped = sscanf(text_of(answer), "gpa: %" SCNx64, &at->gpa) == 1;
		json_object_put(answer);
		if (!at->mapped)
			continue;
		snprintf(command, sizeof(command), "gpa2hva 0x%" PRIx64, at->gpa);
		answer = human(command);
		is = strstr(text_of(answer), " is 0x");
		at->ram = is && sscanf(is, " is %" SCNx64, &at->hva) == 1;
		json_object_put(answer);
	}
}

static FILE *memtide(const char *const argv[])
{
	FILE *input = tmpfile(), *output = tmpfile();
	int status;
	pid_t pid;

	if (!input || !output)
		die("tmpfile");
	for (unsigned int i = 0; i < count; i++)
		fprintf(input, "%" PRIx64 "\n", addresses[i].gva);
	rewind(input);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		dup2(fileno(input), STDIN_FILENO);
		dup2(fileno(output), STDOUT_FILENO);
		execv(argv[0], (char *const *)argv);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) != pid || status)
		die("memtide translate failed");
	rewind(output);
	return output;
}

static int compare(FILE *output)
{
	unsigned int wrong = 0, mapped = 0, ram = 0, states[9] = {0};
	static const char *const names[] = {"untouched", "resident", "nominated", "zero",  "shared",
					    "zipped",    "swapped",  "released",  "failed"};
	char line[400];

	for (unsigned int i = 0; i < count; i++) {
		const struct address *at = &addresses[i];
		char gpa[32] = "", hva[32] = "", state[64] = "";
		uint64_t gva = 0;
		int good;

		if (!fgets(line, sizeof(line), output) ||
		    sscanf(line, "%" SCNx64 " %31s %31s %63s", &gva, gpa, hva, state) < 3)
			die("too few lines from memtide translate");
		good = gva == at->gva;
		if (at->mapped)
			good = good && strtoull(gpa, NULL, 16) == at->gpa && gpa[0] != '-';
		else
			good = good && gpa[0] == '-';
		if (at->ram && hva[0] != '-')
			good = good && strtoull(hva, NULL, 16) == at->hva;
		if (!good && wrong++ < 10)
			printf("# QEMU: %s gpa %" PRIx64 " hva %" PRIx64 "; memtide: %s",
			       at->mapped ? "mapped" : "not mapped", at->gpa, at->hva, line);
		mapped += at->mapped;
		ram += at->ram && hva[0] != '-';
		for (unsigned int k = 0; k < 9; k++)
			states[k] += !strcmp(state, names[k]);
	}
	printf("# %u addresses: %u mapped, %u in RAM, %u wrong;", count, mapped, ram, wrong);
	for (unsigned int k = 0; k < 9; k++)
		if (states[k])
			printf(" %s %u", names[k], states[k]);
	printf("\n");
	return wrong || ram < (count - UNMAPPED) / 2 || mapped == count;
}

int main(int argc, char **argv)
{
	char *exe = getenv("MEMTIDE_EXE");
	int rc;

	if (argc != 6 || !exe) {
		fprintf(stderr, "usage: translate_check QMP SOCKET VM SECOND-QMP COUNT\n");
		return 2;
	}
	count = (unsigned int)strtoul(argv[5], NULL, 10);
	addresses = calloc(count + UNMAPPED, sizeof(*addresses));
	connect_qmp(argv[1]);
	json_object_put(ask("{\"execute\":\"stop\"}"));
	pick();
	ask_qemu();
	rc = compare(memtide((const char *[]){exe, "--socket", argv[2], "translate", argv[3],
					      "--gva", "-", "--qmp", argv[4], NULL}));
	json_object_put(ask("{\"execute\":\"cont\"}"));
	return rc;
}
