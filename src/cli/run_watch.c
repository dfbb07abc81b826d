/* SPDX-License-Identifier: MIT */
/*
 * run_watch.c - the VMM as a child of "memtide run"
 *
 * The child stays in our process group, so the terminal treats both as one: ^C reaches the VMM from
 * the terminal itself. Signals that somebody sends to us alone are passed on. All of that comes in
 * through one signalfd, next to the daemon's connection, in one poll loop without races.
 */
#include "cli/run.h"
#include "cli/fields.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>

#define WATCH_POLL_MS 50
#define WATCH_TERM_MS 2000 /* from SIGTERM to SIGKILL */

enum watch_phase {
	WATCH_ATTACHING, /* no monitor has reported in yet */
	WATCH_RUNNING,   /* nothing to do but wait */
	WATCH_STOPPING,  /* the VMM was told to end, for a reason already printed */
};

struct watch {
	const struct cli_verb *verb;
	const struct run_options *o;
	struct client *client;
	int signal_fd;
	pid_t child;
	enum watch_phase phase;
	int64_t since_ms; /* start of the child, or of stopping it */
	bool asked;       /* an answer is on its way */
	bool killed;
	sigset_t old_mask;
};

void run_say(const struct run_options *o, const char *fmt, ...)
{
	va_list ap;

	if (!o->verbose)
		return;
	va_start(ap, fmt);
	fputs("memtide: run: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
}

static int64_t watch_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* In the child. Return: -errno if the environment could not be set. */
static int child_environment(const struct run_options *o)
{
	const char *old = getenv("LD_PRELOAD");
	MT_AUTO_FREE char *both = NULL;

	if (asprintf(&both, "%s%s%s", o->preload, old && old[0] ? ":" : "", old ? old : "") < 0)
		return -ENOMEM;
	if (setenv("LD_PRELOAD", both, 1) || setenv("MEMTIDE_SOCKET", o->socket, 1) ||
	    setenv("MEMTIDE_VM", o->name, 1) || setenv("MEMTIDE_TOKEN", o->token, 1))
		return -errno;
	return 0;
}

/* Never returns. Tells the parent through @fd, which a successful exec closes, what failed. */
static void child_main(const struct watch *watch, int fd)
{
	int rc = child_environment(watch->o);

	sigprocmask(SIG_SETMASK, &watch->old_mask, NULL);
	if (!rc) {
		execv(watch->o->vmm_path, watch->o->vmm_argv);
		rc = -errno;
	}
	if (write(fd, &rc, sizeof(rc)) != sizeof(rc))
		_exit(126);
	_exit(127);
}

static int watch_start(struct watch *watch)
{
	int fds[2], rc = 0;

	if (pipe2(fds, O_CLOEXEC))
		return cli_failed(watch->verb, "pipe: %s", strerror(errno));
	watch->child = fork();
	if (watch->child == 0)
		child_main(watch, fds[1]);
	if (watch->child < 0) {
		rc = -errno;
		close(fds[0]);
		close(fds[1]);
		return cli_failed(watch->verb, "fork: %s", strerror(-rc));
	}
	close(fds[1]);
	if (read(fds[0], &rc, sizeof(rc)) != sizeof(rc))
		rc = 0;
	close(fds[0]);
	if (rc) {
		waitpid(watch->child, NULL, 0);
		return cli_failed(watch->verb, "running '%s': %s", watch->o->vmm_path,
				  strerror(-rc));
	}
	watch->since_ms = watch_now_ms();
	run_say(watch->o, "started '%s' as pid %d", watch->o->vmm_argv[0], (int)watch->child);
	return 0;
}

static void watch_stop_vmm(struct watch *watch)
{
	watch->phase = WATCH_STOPPING;
	watch->since_ms = watch_now_ms();
	kill(watch->child, SIGTERM);
	/* A stopped process must be woken to hear it. */
	kill(watch->child, SIGCONT);
}

/* The daemon has gone. Monitors carry on without it and find it again by themselves. */
static void watch_daemon_gone(struct watch *watch)
{
	client_close(watch->client);
	if (watch->phase == WATCH_ATTACHING) {
		cli_failed(watch->verb,
			   "warning: the daemon has gone before VM '%s' was under management; "
			   "it may run unmanaged: see 'memtide list' once memtided is back",
			   watch->o->name);
		watch->phase = WATCH_RUNNING;
	} else {
		run_say(watch->o, "the daemon has gone; the VM runs on");
	}
}

/* What the daemon says about our VM decides. */
static void watch_judge(struct watch *watch, struct json_object *vm)
{
	char state[FIELD_TEXT_MAX], reason[FIELD_TEXT_MAX];

	field_text(vm, "state", state);
	field_text(vm, "reason", reason);
	if (!strcmp(state, "running")) {
		run_say(watch->o, "VM '%s' is under management", watch->o->name);
		watch->phase = WATCH_RUNNING;
	} else if (!strcmp(state, "refused")) {
		cli_failed(watch->verb, "VM '%s' was refused: %s; the VMM is stopped",
			   watch->o->name,
			   reason[0] ? reason : "no reason was given, see the daemon's log");
		watch_stop_vmm(watch);
	} else if (!strcmp(state, "unmanaged")) {
		cli_failed(watch->verb, "warning: the memory of VM '%s' can't be managed: %s%s",
			   watch->o->name, reason[0] ? reason : "no reason was given",
			   strstr(reason, "balloon only") ? "" : " (balloon only)");
		watch->phase = WATCH_RUNNING;
	} else if (!strcmp(state, "failed")) {
		cli_failed(watch->verb, "warning: VM '%s' has failed: %s", watch->o->name, reason);
		watch->phase = WATCH_RUNNING;
	}
}

/* Asks without waiting: a daemon that hangs must not keep signals from the VMM. */
static void watch_ask(struct watch *watch)
{
	struct json_object *request;

	if (watch->asked)
		return;
	request = client_request("show");
	json_object_object_add(request, "vm", json_object_new_string(watch->o->name));
	watch->asked = true;
	if (client_post(watch->client, request, 0, NULL))
		watch_daemon_gone(watch);
}

static void watch_connection(struct watch *watch)
{
	struct json_object *line = NULL, *vm;
	int rc;

	while (!(rc = client_read(watch->client, 0, &line, NULL))) {
		watch->asked = false;
		vm = json_object_object_get(line, "vm");
		if (vm && watch->phase == WATCH_ATTACHING)
			watch_judge(watch, vm);
		json_object_put(line);
	}
	if (rc != -ETIMEDOUT)
		watch_daemon_gone(watch);
}

static void watch_timeouts(struct watch *watch)
{
	int64_t passed_ms = watch_now_ms() - watch->since_ms;

	if (watch->phase == WATCH_ATTACHING && passed_ms >= (int64_t)watch->o->attach_timeout_ms) {
		cli_failed(watch->verb,
			   "VM '%s' was not under management after %.3g s, so '%s' is "
			   "stopped: it is no VMM, is statically linked, or has no private "
			   "guest memory; try 'memtide doctor --vmm %s'",
			   watch->o->name, (double)watch->o->attach_timeout_ms / 1000.0,
			   watch->o->vmm_argv[0], watch->o->vmm_argv[0]);
		watch_stop_vmm(watch);
	} else if (watch->phase == WATCH_STOPPING && !watch->killed && passed_ms >= WATCH_TERM_MS) {
		kill(watch->child, SIGKILL);
		watch->killed = true;
	}
}

/* Signals of the terminal (SI_KERNEL) have reached the child already, as it is in our group. */
static void watch_pass_on(const struct watch *watch, const struct signalfd_siginfo *info)
{
	if (info->ssi_code != SI_KERNEL)
		kill(watch->child, (int)info->ssi_signo);
}

/* Return: true when the child has ended, with its status. */
static bool watch_signals(struct watch *watch, int *ret_status)
{
	struct signalfd_siginfo info;

	while (read(watch->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo != SIGCHLD)
			watch_pass_on(watch, &info);
		else if (waitpid(watch->child, ret_status, WNOHANG) == watch->child)
			return true;
	}
	return false;
}

static int watch_loop(struct watch *watch)
{
	int status = 0;

	for (;;) {
		struct pollfd fds[2] = {{.fd = watch->signal_fd, .events = POLLIN},
					{.fd = watch->client->fd, .events = POLLIN}};
		int timeout_ms = watch->phase == WATCH_RUNNING ? -1 : WATCH_POLL_MS;

		if (poll(fds, 2, timeout_ms) < 0 && errno != EINTR)
			return cli_failed(watch->verb, "poll: %s", strerror(errno));
		if (watch_signals(watch, &status))
			return status;
		if (watch->client->fd >= 0 && fds[1].revents)
			watch_connection(watch);
		if (watch->phase == WATCH_ATTACHING && watch->client->fd >= 0)
			watch_ask(watch);
		watch_timeouts(watch);
	}
}

static int watch_signal_fd(struct watch *watch)
{
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGHUP);
	sigaddset(&mask, SIGQUIT);
	/* Whoever started us may ignore SIGCHLD, and then no child could be waited for. */
	signal(SIGCHLD, SIG_DFL);
	sigprocmask(SIG_BLOCK, &mask, &watch->old_mask);
	watch->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	return watch->signal_fd < 0 ? -errno : 0;
}

int run_watched(const struct cli_verb *verb, const struct run_options *o, struct client *client)
{
	struct watch watch = {.verb = verb, .o = o, .client = client};
	int status, rc = watch_signal_fd(&watch);

	if (rc)
		return cli_failed(verb, "signalfd: %s", strerror(-rc));
	rc = watch_start(&watch);
	if (!rc) {
		status = watch_loop(&watch);
		if (watch.phase == WATCH_STOPPING)
			rc = CLI_EXIT_FAILURE;
		else
			rc = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
		run_say(o, "the VMM ended: %s %d", WIFSIGNALED(status) ? "signal" : "status",
			WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	}
	close(watch.signal_fd);
	return rc;
}
