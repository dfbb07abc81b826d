/* SPDX-License-Identifier: MIT */
/*
 * fake_daemon.c - answers of a script over the control socket; see fake_daemon.h
 *
 * A process for each connection, so that one that waits does not keep the others waiting.
 */
#include "cli/fake_daemon.h"
#include "base/compiler.h"
#include "common/mt_test.h"
#include "sys/sock.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define GOOD_GREETING "{\"memtide\": 1, \"version\": \"0.1.0\", \"pid\": 4711}"

#define HOST_JSON                                                                                 \
	"{\"pool\":2097152,\"granted_out\":1500000,\"free\":524288,\"ungranted\":400000,"         \
	"\"heldMax\":1600000,\"minfree\":65536,\"state\":\"high\",\"vms\":2,\"memsize\":4194304," \
	"\"overcommit_pct\":100,\"granted\":1400000,\"consumed\":1048576,\"shared\":204800,"      \
	"\"sharedcommon\":0,\"zero\":204800,\"vmmemctl\":0,\"zipped\":819200,\"zipHeld\":409600," \
	"\"zipSaved\":409600,\"swapused\":102400,\"swapin\":2048,\"swapout\":104448,"             \
	"\"overhead\":8192,\"swap_dir\":\"/tmp\",\"swap_dir_free\":10485760,\"uptime_s\":93784,"  \
	"\"version\":\"0.1.0\",\"pid\":4711}"

static char dir[64];

/*
 * A test may end at any point and in any way, so another process removes its directory: one that
 * waits for the last holder of a pipe to be gone.
 */
static void remove_dir_at_end(void)
{
	int fds[2], null = open("/dev/null", O_RDWR | O_CLOEXEC);
	char byte;

	MT_ASSERT(!pipe2(fds, O_CLOEXEC));
	if (fork() == 0) {
		/* Whoever reads the test's output must not wait for us. */
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		close(fds[1]);
		setsid();
		while (read(fds[0], &byte, 1) > 0)
			;
		execl("/bin/rm", "rm", "-rf", dir, (char *)NULL);
		_exit(1);
	}
	close(fds[0]);
}

const char *fake_dir(void)
{
	if (!dir[0]) {
		strcpy(dir, "/tmp/memtide-cli-XXXXXX");
		MT_ASSERT(mkdtemp(dir));
		remove_dir_at_end();
	}
	return dir;
}

const char *fake_socket(void)
{
	static char path[100];

	snprintf(path, sizeof(path), "%s/control.sock", fake_dir());
	return path;
}

static const char *requests_path(void)
{
	static char path[100];

	snprintf(path, sizeof(path), "%s/requests", fake_dir());
	return path;
}

bool fake_saw(const char *text)
{
	FILE *file = fopen(requests_path(), "re");
	char line[4096];
	bool seen = false;

	while (file && !seen && fgets(line, sizeof(line), file))
		seen = strstr(line, text) != NULL;
	if (file)
		fclose(file);
	return seen;
}

static void put_vm(FILE *out, const char *name, const struct fake_options *o)
{
	fprintf(out,
		"{\"name\":\"%s\",\"pid\":1234,\"state\":\"%s\",\"vmm\":\"qemu-system-x86\","
		"\"reason\":\"%s\",\"shares\":20480,\"reservation\":0,\"limit\":1048576,"
		"\"zip_max_pct\":10,\"share_group\":\"\",\"regions\":[{\"addr\":140737488355328,"
		"\"bytes\":2147483648}],\"memsize\":2097152,\"resident\":524288,\"nominated\":4096,"
		"\"zero\":204800,\"sharedFrames\":0,\"zipped\":819200,\"swapped\":102400,"
		"\"released\":0,\"untouched\":442368,\"failed\":0,\"zipHeld\":409600,"
		"\"zipStored\":400000,\"overhead\":8192,\"held\":946176,\"heldMax\":1048576,"
		"\"grant\":1048576,\"target\":943718,\"swapSpace\":2097152,\"faultNew\":1000,"
		"\"faultNominated\":200,\"faultZipped\":30,\"faultSwapped\":4,\"faultWaited\":7,"
		"\"zipin\":204800,\"zipout\":30,\"swapin\":16,\"swapout\":102416,"
		"\"faultP50\":9500,\"faultP99\":61000,\"faultMax\":2100000,\"granted\":733184,"
		"\"consumed\":528384,\"shared\":204800,\"vmmemctl\":0,\"zipSaved\":409600,"
		"\"entitlement\":943718,\"slack_pct\":2,\"balloon\":\"working\","
		"\"vmmemctltarget\":51200,\"vmmemctlmax\":1331200,\"guest\":{\"actual\":2097152,"
		"\"stale\":false,\"last_update\":1700000000,\"usable\":307200}}",
		name, o->state ? o->state : "running", o->reason ? o->reason : "");
}

static void put_list(FILE *out, const struct fake_options *o)
{
	char name[64];

	fputs("{\"ok\":true,\"vms\":[", out);
	for (unsigned int i = 0; i < (o->vms ? o->vms : 2); i++) {
		snprintf(name, sizeof(name), i == 0 ? "db" : i == 1 ? "web" : "vm%u", i);
		fputs(i ? "," : "", out);
		put_vm(out, name, o);
	}
	fputs("],\"host\":" HOST_JSON "}\n", out);
}

static void put_events(FILE *out, bool follow)
{
	fputs("{\"ok\":true,\"events\":[{\"id\":1,\"time_ns\":1700000000123000000,"
	      "\"level\":\"info\",\"vm\":\"web\",\"text\":\"started\"},"
	      "{\"id\":2,\"time_ns\":1700000001000000000,\"level\":\"warning\",\"vm\":\"web\","
	      "\"text\":\"evil \\u001b[31mtext\"}]}\n",
	      out);
	if (follow)
		fputs("{\"event\":{\"id\":3,\"time_ns\":1700000002000000000,\"level\":\"error\","
		      "\"vm\":\"\",\"text\":\"third\"}}\n",
		      out);
}

static void put_error(FILE *out, const char *code, const char *text)
{
	fprintf(out, "{\"ok\":false,\"code\":\"%s\",\"error\":\"%s\"}\n", code, text);
}

static void put_answer(FILE *out, const char *request, const struct fake_options *o)
{
#define IS(text) strstr(request, text)
	if (IS("\"vm_create\"") && IS("\"taken\"")) {
		put_error(out, "EEXIST", "the name is taken");
	} else if (IS("\"qmp_new\":true")) {
		fprintf(out,
			"{\"ok\":true,\"token\":\"0123456789abcdef0123456789abcdef\","
			"\"qmp\":\"%s/qmp\"}\n",
			fake_dir());
	} else if (IS("\"vm_create\"")) {
		fputs("{\"ok\":true,\"token\":\"0123456789abcdef0123456789abcdef\"}\n", out);
	} else if (IS("\"list\"")) {
		put_list(out, o);
	} else if (IS("\"cmd\":\"host\"")) {
		fputs("{\"ok\":true,\"host\":" HOST_JSON "}\n", out);
	} else if (IS("\"nobody\"")) {
		put_error(out, "ENOENT", "no VM has this name; see 'memtide list'");
	} else if (IS("\"zip_max_pct\":101")) {
		put_error(out, "EINVAL", "zip_max_pct: 101 is more than 100; give 0 to 100");
	} else if (IS("\"host\":true")) {
		fputs("{\"ok\":true,\"host\":" HOST_JSON "}\n", out);
	} else if (IS("\"show\"") || IS("\"set\"")) {
		fputs("{\"ok\":true,\"vm\":", out);
		put_vm(out, "web", o);
		fputs("}\n", out);
	} else if (IS("\"events\"")) {
		put_events(out, IS("\"follow\":true"));
	} else if (IS("\"check\"")) {
		fprintf(out, "{\"ok\":true,\"pages\":524288,\"violations\":%d,\"first\":\"%s\"}\n",
			o->bad_audit ? 2 : 0, o->bad_audit ? "page 7: zipped and resident" : "");
	} else {
		put_error(out, "EINVAL", "unknown command");
	}
#undef IS
}

static void log_request(const char *line)
{
	FILE *log = fopen(requests_path(), "ae");

	MT_ASSERT(log);
	/* One form whatever the spacing of the sender's JSON. */
	for (; *line; line++)
		if (*line != ' ')
			fputc(*line, log);
	fclose(log);
}

static void serve(int fd, const struct fake_options *o)
{
	FILE *in = fdopen(fd, "r+"), *out = fdopen(dup(fd), "w");
	char line[65536];

	MT_ASSERT(in && out);
	if (!o->greeting)
		fputs(GOOD_GREETING "\n", out);
	else
		fputs(o->greeting, out);
	fflush(out);
	while (fgets(line, sizeof(line), in)) {
		log_request(line);
		if (!o->no_answers)
			put_answer(out, line, o);
		fflush(out);
		if (o->leave_after && strstr(line, o->leave_after))
			kill(0, SIGTERM);
	}
	_exit(0);
}

static void accept_all(int listener, const struct fake_options *o)
{
	for (;;) {
		struct pollfd pfd = {.fd = listener, .events = POLLIN};
		int fd;

		poll(&pfd, 1, -1);
		fd = accept(listener, NULL, NULL);
		if (fd < 0)
			continue;
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			close(listener);
			serve(fd, o);
		}
		close(fd);
	}
}

void fake_start(const struct fake_options *options)
{
	struct fake_options o = options ? *options : (struct fake_options){0};
	int listener = -1;

	/* one that has "left" may be about to end still */
	MT_ASSERT(MT_WAIT(60, (listener = mt_sock_listen(fake_socket(), SOCK_STREAM, NULL)) >= 0));
	MT_ASSERT(!setenv("MEMTIDE_SOCKET", fake_socket(), 1));
	if (fork() == 0) {
		/* Alone in its process group, so that "leaving" ends all of it and nothing else. */
		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		signal(SIGCHLD, SIG_IGN);
		accept_all(listener, &o);
	}
	close(listener);
}
