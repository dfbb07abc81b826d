/* SPDX-License-Identifier: MIT */
/* test_run.c - "memtide run" against a fake daemon, with shells and sleeps as VMMs */
#include "cli/cli_call.h"
#include "cli/fake_daemon.h"

#include <sys/stat.h>

#define SHELL "/bin/sh", "-c"

/* A VMM that lives until memtide, whose errors go to the same file, has said so much. */
#define UNTIL_SAID(text) "until grep -q '" text "' /proc/self/fd/2; do sleep 0.05; done; "

/* Is the file there? When memtide gave up on a slow daemon it is started again. */
static bool is_ready(const char *ready, pid_t *pid, char *const args[], int out, int err)
{
	if (waitpid(*pid, NULL, WNOHANG) == *pid)
		*pid = cli_start(args, out, err);
	return !access(ready, F_OK);
}

/* Starts "memtide run -- sh -c SCRIPT" and waits for the shell to have made the file "ready". */
static pid_t start_script(const char *script, int out, int err)
{
	char *args[] = {(char *)"memtide", (char *)"run",  (char *)"--", (char *)"/bin/sh",
			(char *)"-c",      (char *)script, NULL};
	char ready[100];
	pid_t pid;

	snprintf(ready, sizeof(ready), "%s/ready", fake_dir());
	setenv("READY", ready, 1);
	pid = cli_start(args, out, err);
	MT_CHECK(MT_WAIT(100, is_ready(ready, &pid, args, out, err)));
	return pid;
}

MT_TEST("run checks its options before anything else")
{
	static const struct {
		const char *option, *value, *says;
	} bad[] = {
		{"--limit", "12Q", "--limit: '12Q' is not a size"},
		{"--limit", "-1", "--limit: '-1' is not a size"},
		{"--limit", "0", "--limit: must be more than 0"},
		{"--reservation", "lots", "--reservation: 'lots' is not a size"},
		{"--name", "not a name", "--name: 'not a name' is not a name"},
		{"--name", ".hidden", "is not a name"},
		{"--name", "", "is not a name"},
		{"--shares", "some", "--shares: 'some' is not low, normal, high or a number"},
		{"--shares", "0", "--shares: '0' is not"},
		{"--share-group", "a/b", "--share-group: 'a/b' is not a name"},
		{"--attach-timeout", "0", "--attach-timeout: '0' is not a number of seconds"},
		{"--attach-timeout", "soon", "is not a number of seconds"},
		{"--nonsense", "x", "unknown option '--nonsense'"},
	};

	setenv("MEMTIDE_SOCKET", fake_socket(), 1);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cli("run", bad[i].option, bad[i].value, "--", "/bin/true", NULL);
		CLI_FAILS(2, bad[i].says);
	}
	cli("run", "--reservation", "2G", "--limit", "1G", "--", "/bin/true", NULL);
	CLI_FAILS(2, "--reservation 2G is more than --limit 1G");
	cli("run", NULL);
	CLI_FAILS(2, "no VMM given");
}

MT_TEST("run says when the VMM is not there or is no program")
{
	setenv("MEMTIDE_SOCKET", fake_socket(), 1);
	cli("run", "--", "no-such-vmm", NULL);
	CLI_FAILS(1, "VMM not found: no 'no-such-vmm' in PATH");
	cli("run", "--", "/nonexistent/qemu", NULL);
	CLI_FAILS(1, "VMM not found: '/nonexistent/qemu'");
	cli("run", "--", "/etc/passwd", NULL);
	CLI_FAILS(1, "not a file that may be run");
	cli("run", "--", "/tmp", NULL);
	CLI_FAILS(1, "not a file that may be run");
}

MT_TEST("run refuses a statically linked VMM up front")
{
	cli("run", "--", getenv("MEMTIDE_STATIC_VMM"), NULL);
	CLI_FAILS(1, "is statically linked, so LD_PRELOAD can't bring the monitor in; use the "
		     "dynamically linked build");
	CLI_HAS(err, "C API");
}

MT_TEST("run refuses a setuid VMM up front")
{
	char path[100], command[200];

	snprintf(path, sizeof(path), "%s/setuid-vmm", fake_dir());
	snprintf(command, sizeof(command), "cp /bin/sleep %s", path);
	MT_CHECK(!system(command));
	MT_CHECK(!chmod(path, 04755));
	cli("run", "--", path, "1", NULL);
	CLI_FAILS(1, "is setuid, so the loader ignores LD_PRELOAD");
}

MT_TEST("run without a daemon says how to start one and starts nothing")
{
	setenv("MEMTIDE_SOCKET", fake_socket(), 1);
	cli("run", "--", SHELL, "echo started", NULL);
	CLI_FAILS(1, "memtided is not running");
	MT_CHECK_STR(cli_result.out, "");
}

MT_TEST("run without the preload library says where it looked")
{
	setenv("MEMTIDE_PRELOAD", "/nonexistent/preload.so", 1);
	cli("run", "--", "/bin/true", NULL);
	CLI_FAILS(1, "MEMTIDE_PRELOAD='/nonexistent/preload.so'");
}

MT_TEST("run tells of a name that is taken")
{
	fake_start(NULL);
	cli("run", "--name", "taken", "--", "/bin/true", NULL);
	CLI_FAILS(1, "the name is taken (VM 'taken'); give another --name");
}

MT_TEST("run gives the VMM its environment and settings reach the daemon")
{
	char want[400];

	fake_start(NULL);
	setenv("LD_PRELOAD", "/old.so", 1);
	cli("run", "--name", "web", "--limit", "1G", "--reservation", "64M", "--shares", "high",
	    "--share-group", "web", "--", SHELL,
	    "echo $MEMTIDE_VM $MEMTIDE_TOKEN $MEMTIDE_SOCKET; echo $LD_PRELOAD", NULL);
	MT_CHECK_EQ(cli_result.status, 0);
	snprintf(want, sizeof(want), "web 0123456789abcdef0123456789abcdef %s\n%s:/old.so\n",
		 fake_socket(), getenv("MEMTIDE_PRELOAD"));
	MT_CHECK_STR(cli_result.out, want);
	MT_CHECK(fake_saw(
		"\"name\":\"web\",\"reservation_bytes\":67108864,\"limit_bytes\":1073741824,"
		"\"shares\":\"high\",\"share_group\":\"web\""));
}

MT_TEST("run makes the socket's path absolute for the VMM")
{
	char want[200];

	fake_start(NULL);
	MT_CHECK(!chdir(fake_dir()));
	cli("--socket", "control.sock", "run", "--", SHELL, "cd /; echo $MEMTIDE_SOCKET", NULL);
	snprintf(want, sizeof(want), "%s\n", fake_socket());
	MT_CHECK_STR(cli_result.out, want);
}

MT_TEST("run makes up a name from its process number")
{
	fake_start(NULL);
	MT_CHECK_EQ(cli("run", "/bin/true", NULL), 0);
	MT_CHECK(fake_saw("\"name\":\"vm-"));
}

MT_TEST("run exits with the VMM's status, or 128 and its signal")
{
	fake_start(NULL);
	MT_CHECK_EQ(cli("run", "--", SHELL, "exit 7", NULL), 7);
	MT_CHECK_EQ(cli("run", "--", SHELL, "kill -9 $$", NULL), 137);
	MT_CHECK_EQ(cli("run", "--", SHELL, "kill -TERM $$", NULL), 143);
	MT_CHECK_STR(cli_result.err, "");
}

MT_TEST("run passes standard input through to the VMM")
{
	int fds[2];

	fake_start(NULL);
	MT_CHECK(!pipe(fds));
	MT_CHECK(write(fds[1], "hello\n", 6) == 6);
	dup2(fds[0], STDIN_FILENO);
	MT_CHECK_EQ(cli("run", "--", SHELL, "read line; echo got $line", NULL), 0);
	MT_CHECK_STR(cli_result.out, "got hello\n");
}

MT_TEST("run passes SIGTERM, SIGINT, SIGHUP and SIGQUIT on to the VMM")
{
	static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};
	char ready[100];

	fake_start(NULL);
	snprintf(ready, sizeof(ready), "%s/ready", fake_dir());
	/* Whoever started the tests may ignore some (nohup), and then the shell can't heed them. */
	for (int i = 0; i < 4; i++)
		signal(signals[i], SIG_DFL);
	for (int i = 0; i < 4; i++) {
		int out = cli_temp(), err = cli_temp();
		pid_t pid = start_script(
			"for s in TERM INT HUP QUIT; do trap \"echo got $s; exit 9\" $s; "
			"done; : > $READY; while :; do sleep 0.05; done",
			out, err);

		kill(pid, signals[i]);
		cli_finish(pid, out, err);
		MT_CHECK_EQ(cli_result.status, 9);
		CLI_HAS(out, "got ");
		unlink(ready);
	}
}

MT_TEST("run stops a VMM that no monitor attaches to, and says so")
{
	struct fake_options o = {.state = "starting"};
	double least;

	fake_start(&o);
	do
		least = cli_gives_up("run", "--attach-timeout", "1", "--", "/bin/sleep", "60",
				     NULL);
	while (cli_gave_up());
	CLI_FAILS(1, "was not under management after 1 s, so '/bin/sleep' is stopped");
	MT_CHECK(least < CLI_SOON_S);
}

MT_TEST("run kills a VMM that won't hear SIGTERM when it has to be stopped")
{
	struct fake_options o = {.state = "starting"};
	double least;

	fake_start(&o);
	do
		least = cli_gives_up("run", "--attach-timeout", "0.5", "--", SHELL,
				     "trap '' TERM; while :; do sleep 0.1; done", NULL);
	while (cli_gave_up());
	CLI_FAILS(1, "was not under management");
	MT_CHECK(least < CLI_SOON_S);
}

MT_TEST("run stops a VMM when the daemon hangs before it is under management")
{
	struct fake_options o = {.no_answers = true};

	fake_start(&o);
	do /* the greeting, too, may come too late */
		cli_gives_up("run", "--", "/bin/sleep", "60", NULL);
	while (strstr(cli_result.err, "no greeting within 3 s"));
	CLI_FAILS(1, "does not answer");
}

MT_TEST("run stops a VMM that the daemon refused and gives its reason")
{
	struct fake_options o = {.state = "refused", .reason = "no room in the pool"};

	fake_start(&o);
	cli("run", "--name", "web", "--", "/bin/sleep", "60", NULL);
	CLI_FAILS(1, "VM 'web' was refused: no room in the pool");
}

MT_TEST("run warns of a VMM whose memory can't be managed and goes on")
{
	struct fake_options o = {.state = "unmanaged", .reason = "its RAM is shared memory"};

	fake_start(&o);
	cli("run", "--", SHELL, UNTIL_SAID("can.t be managed") "exit 3", NULL);
	CLI_FAILS(3, "its RAM is shared memory (balloon only)");
}

MT_TEST("run warns when the daemon goes away before the VM is under management, and goes on")
{
	struct fake_options o = {.leave_after = "vm_create"};

	fake_start(&o);
	cli("run", "--", SHELL, UNTIL_SAID("the daemon has gone before") "exit 3", NULL);
	CLI_FAILS(3, "the daemon has gone before");
}

MT_TEST("run goes on without a word when the daemon goes away later, with one under --verbose")
{
	struct fake_options o = {.leave_after = "show"};

	fake_start(&o);
	MT_CHECK_EQ(cli("run", "--", SHELL, "sleep 0.5; exit 3", NULL), 3);
	MT_CHECK_STR(cli_result.err, "");
	fake_start(&o);
	MT_CHECK_EQ(cli("run", "--verbose", "--", SHELL,
			UNTIL_SAID("the daemon has gone; the VM runs on") "exit 3", NULL),
		    3);
	CLI_HAS(err, "the daemon has gone; the VM runs on");
}

MT_TEST("run warns of locked guest memory")
{
	fake_start(NULL);
	MT_CHECK_EQ(cli("run", "--", SHELL, "exit 0", "-overcommit", "mem-lock=on", NULL), 0);
	CLI_HAS(err, "locked guest memory can't be overcommitted");
	MT_CHECK_EQ(
		cli("run", "--", SHELL, "exit 0", "-overcommit", "cpu-pm=on,mem-lock=off", NULL),
		0);
	MT_CHECK_STR(cli_result.err, "");
}

MT_TEST("run --verbose says what it does")
{
	fake_start(NULL);
	MT_CHECK_EQ(cli("run", "--verbose", "--", SHELL, UNTIL_SAID("is under management") "exit 0",
			NULL),
		    0);
	CLI_HAS(err, "preloading ");
	CLI_HAS(err, "is under management");
	CLI_HAS(err, "the VMM ended: status 0");
}

MT_TEST_MAIN
