/* SPDX-License-Identifier: MIT */
/*
 * live.c - processes of a live test: the daemon and the VMs
 *
 * Children are told to die with their parent, which is the test's own process (see mt_test.h), so
 * that a failed test leaves nothing running. The directory is removed when all went well; after a
 * failure it is left with the daemon's log, whose name is printed at the start.
 */
#include "live/live.h"
#include "common/mt_test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

double live_now(void)
{
	return mt_now_s();
}

void live_sleep(double seconds)
{
	struct timespec ts = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};

	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

static const char *live_program(const char *variable)
{
	const char *path = getenv(variable);

	if (!path || access(path, X_OK))
		MT_FAIL("%s is not set to a program; run the tests by meson", variable);
	return path;
}

/* Output to @out and @err, -1: our own. */
static pid_t live_spawn(const char *const argv[], int out, int err)
{
	pid_t parent = getpid(), pid = fork();

	MT_CHECK(pid >= 0);
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(127);
	if (out >= 0)
		dup2(out, STDOUT_FILENO);
	if (err >= 0)
		dup2(err, STDERR_FILENO);
	execv(argv[0], (char *const *)argv);
	_exit(127);
}

void live_restart_begin(struct live_daemon *daemon)
{
	char log[LIVE_PATH_MAX + 16], swap[LIVE_PATH_MAX + 16];
	const char *argv[] = {live_program("MEMTIDED_EXE"),
			      "--pool",
			      daemon->pool,
			      "--socket",
			      daemon->socket,
			      "--swap-dir",
			      swap,
			      daemon->option[0] ? daemon->option : NULL,
			      NULL};
	int fd;

	snprintf(log, sizeof(log), "%s/daemon.log", daemon->dir);
	snprintf(swap, sizeof(swap), "%s/swap", daemon->dir);
	fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	MT_CHECK(fd >= 0);
	daemon->pid = live_spawn(argv, fd, fd);
	close(fd);
}

void live_answers(struct live_daemon *daemon)
{
	double end = live_now() + LIVE_PATIENCE_SECONDS;
	json_object *answer;

	while (!(answer = live_try(daemon, "{\"cmd\":\"host\"}"))) {
		if (live_now() > end || waitpid(daemon->pid, NULL, WNOHANG) == daemon->pid)
			MT_FAIL("the daemon does not start; see %s/daemon.log", daemon->dir);
		live_sleep(0.05);
	}
	json_object_put(answer);
}

void live_start(struct live_daemon *daemon, const char *pool)
{
	live_start_with(daemon, pool, "");
}

void live_start_with(struct live_daemon *daemon, const char *pool, const char *option)
{
	char swap[LIVE_PATH_MAX + 16];
	const char *tmp = getenv("TMPDIR");

	snprintf(daemon->dir, sizeof(daemon->dir), "%s/memtide-live-XXXXXX", tmp ? tmp : "/tmp");
	MT_CHECK(mkdtemp(daemon->dir));
	snprintf(swap, sizeof(swap), "%s/swap", daemon->dir);
	MT_CHECK(!mkdir(swap, 0700));
	snprintf(daemon->socket, sizeof(daemon->socket), "%s/socket", daemon->dir);
	snprintf(daemon->pool, sizeof(daemon->pool), "%s", pool);
	snprintf(daemon->option, sizeof(daemon->option), "%s", option);
	printf("# daemon's log: %s/daemon.log\n", daemon->dir);
	live_restart(daemon);
}

void live_kill(struct live_daemon *daemon)
{
	MT_CHECK(waitpid(daemon->pid, NULL, WNOHANG) == 0); /* it had better be alive */
	kill(daemon->pid, SIGKILL);
	waitpid(daemon->pid, NULL, 0);
}

void live_restart(struct live_daemon *daemon)
{
	live_restart_begin(daemon);
	live_answers(daemon);
}

void live_stop(struct live_daemon *daemon)
{
	double end = live_now() + LIVE_PATIENCE_SECONDS;
	int status = 0;

	kill(daemon->pid, SIGTERM);
	while (waitpid(daemon->pid, &status, WNOHANG) != daemon->pid) {
		if (live_now() > end)
			MT_FAIL("the daemon does not end on SIGTERM");
		live_sleep(0.02);
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		MT_FAIL("the daemon ended with wait status 0x%x", status);
	live_call((const char *[]){"/bin/rm", "-rf", daemon->dir, NULL}, NULL, 0);
}

static int live_wait_exit(pid_t pid)
{
	double end = live_now() + LIVE_PATIENCE_SECONDS;
	int status;

	while (waitpid(pid, &status, WNOHANG) != pid) {
		if (live_now() > end)
			MT_FAIL("process %d has not ended after %d s", (int)pid,
				LIVE_PATIENCE_SECONDS);
		live_sleep(0.02);
	}
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Runs a program once, with its errors in @err. */
static int live_call_once(const char *const argv[], int err, char *text, size_t room)
{
	char discard[4096];
	size_t used = 0;
	int pipes[2];
	ssize_t got;
	pid_t pid;

	MT_CHECK(!pipe2(pipes, O_CLOEXEC));
	pid = live_spawn(argv, pipes[1], err);
	close(pipes[1]);
	while ((got = read(pipes[0], text && used + 1 < room ? text + used : discard,
			   text && used + 1 < room ? room - 1 - used : sizeof(discard))) > 0)
		used += text && used + 1 < room ? (size_t)got : 0;
	if (text)
		text[used] = '\0';
	close(pipes[0]);
	return live_wait_exit(pid);
}

/* Shows the errors in @err. Return: did the program give up on a daemon that is slow? */
static bool live_gave_up(int err)
{
	char text[4096] = "";

	if (pread(err, text, sizeof(text) - 1, 0) > 0)
		fputs(text, stderr);
	close(err);
	return strstr(text, "the daemon does not answer") || strstr(text, "no greeting within");
}

int live_call(const char *const argv[], char *text, size_t room)
{
	double end = live_now() + LIVE_PATIENCE_SECONDS;
	int err, status;

	do {
		err = memfd_create("errors", MFD_CLOEXEC);
		MT_CHECK(err >= 0);
		status = live_call_once(argv, err, text, room);
	} while (live_gave_up(err) && live_now() < end);
	return status;
}

void live_vm_begin(struct live_vm *vm, const struct live_daemon *daemon, const char *name,
		   const char *options)
{
	const char *argv[LIVE_ARGS_MAX + 1] = {live_program("MEMTIDE_TESTVM_EXE"),
					       "--socket",
					       daemon->socket,
					       "--name",
					       name,
					       "--dir",
					       daemon->dir,
					       "--seconds",
					       "3000"};
	char words[1024], *save = NULL;
	int count = 9, pipes[2];

	snprintf(words, sizeof(words), "%s", options);
	for (char *word = strtok_r(words, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		MT_CHECK(count < LIVE_ARGS_MAX);
		argv[count++] = word;
	}
	MT_CHECK(!pipe2(pipes, O_CLOEXEC));
	*vm = (struct live_vm){.daemon = daemon, .name = name, .out = pipes[0], .status = -1};
	vm->pid = live_spawn(argv, pipes[1], -1);
	close(pipes[1]);
}

/* One line without its end. Return: false at the end of the output. */
static bool live_vm_line(struct live_vm *vm, char *line, size_t room, double end)
{
	size_t used = 0;

	for (;;) {
		struct pollfd pfd = {.fd = vm->out, .events = POLLIN};
		double left = end - live_now();

		if (left < 0 || poll(&pfd, 1, (int)(left * 1000) + 1) <= 0)
			MT_FAIL("VM %s (pid %d) says nothing", vm->name, (int)vm->pid);
		if (read(vm->out, line + used, 1) != 1)
			return false;
		if (line[used] == '\n')
			break;
		if (used + 2 < room)
			used++;
	}
	line[used] = '\0';
	return true;
}

json_object *live_vm_event(struct live_vm *vm, const char *event)
{
	double end = live_now() + LIVE_PATIENCE_SECONDS;
	json_object *object, *word;
	char line[4096];

	while (live_vm_line(vm, line, sizeof(line), end)) {
		object = json_tokener_parse(line);
		if (object && json_object_object_get_ex(object, "event", &word) &&
		    !strcmp(json_object_get_string(word), event))
			return object;
		json_object_put(object);
	}
	MT_FAIL("VM %s ended (status %d) without saying \"%s\"", vm->name, live_wait_exit(vm->pid),
		event);
}

void live_vm_ready(struct live_vm *vm)
{
	static const char *const touched[] = {"resident", "nominated", "zero",    "sharedFrames",
					      "zipped",   "swapped",   "released"};
	json_object *ready = live_vm_event(vm, "ready");
	json_object *baseline = json_object_object_get(ready, "baseline_kib");
	json_object *filled = json_object_object_get(ready, "filled_kib");
	int64_t kib = json_object_get_int64(filled);

	vm->baseline_kib = (uint64_t)json_object_get_int64(baseline);
	json_object_put(ready);
	/* its counters are told every 250 ms; those of before it was filled would mislead */
	if (!LIVE_WAIT(live_field(vm->daemon, vm->name, "overhead") > 0 &&
		       live_sum(vm->daemon, vm->name, touched, 7) >= kib))
		MT_FAIL("the daemon does not hear that VM %s has filled its memory", vm->name);
}

void live_vm_start(struct live_vm *vm, const struct live_daemon *daemon, const char *name,
		   const char *options)
{
	live_vm_begin(vm, daemon, name, options);
	live_vm_ready(vm);
}

int64_t live_vm_figure(const struct live_vm *vm, const char *key)
{
	json_object *value;

	if (!vm->end || !json_object_object_get_ex(vm->end, key, &value))
		MT_FAIL("VM %s did not say its %s", vm->name, key);
	return json_object_get_int64(value);
}

void live_vm_finish(struct live_vm *vm)
{
	vm->end = live_vm_event(vm, "end");
	vm->status = live_wait_exit(vm->pid);
	close(vm->out);
	printf("# %s: %s\n", vm->name, json_object_to_json_string_ext(vm->end, 0));
	if (vm->status)
		MT_FAIL("VM %s ended with status %d", vm->name, vm->status);
	MT_CHECK_EQ(live_vm_figure(vm, "errors"), 0);
	MT_CHECK(live_vm_figure(vm, "verified") > 0);
}

void live_vm_end(struct live_vm *vm)
{
	kill(vm->pid, SIGTERM);
	live_vm_finish(vm);
}
