/* SPDX-License-Identifier: MIT */
/* test_cli.c - memtide's verbs that look and steer, against a fake daemon */
#include "cli/cli_call.h"
#include "cli/fake_daemon.h"
#include "sys/sock.h"

#include <json-c/json.h>
#include <sys/socket.h>

static struct json_object *parse_output(void)
{
	struct json_object *object = json_tokener_parse(cli_result.out);

	if (!object)
		MT_FAIL("not JSON: %s", cli_result.out);
	return object;
}

MT_TEST("without a verb, with an unknown verb or option, memtide exits with 2 and a hint")
{
	cli(NULL);
	CLI_FAILS(2, "--help");
	cli("frobnicate", NULL);
	CLI_FAILS(2, "unknown verb 'frobnicate'");
	cli("--frobnicate", NULL);
	CLI_FAILS(2, "unknown option '--frobnicate'");
	cli("list", "--frobnicate", NULL);
	CLI_FAILS(2, "try 'memtide list --help'");
	cli("list", "-x", NULL);
	CLI_FAILS(2, "unknown option '-x'");
	cli("host", "--json=yes", NULL);
	CLI_FAILS(2, "takes no value");
	cli("--socket", NULL);
	CLI_FAILS(2, "needs a value");
	cli("list", "surplus", NULL);
	CLI_FAILS(2, "unexpected argument 'surplus'");
}

MT_TEST("every verb has a help text and asks no daemon for it")
{
	static const char *const verbs[] = {"run", "list",   "show",  "host",  "set",
					    "top", "events", "check", "doctor"};
	char usage[64];

	setenv("MEMTIDE_SOCKET", "/nonexistent/socket", 1);
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		MT_CHECK_EQ(cli(verbs[i], "--help", NULL), 0);
		snprintf(usage, sizeof(usage), "usage: memtide %s", verbs[i]);
		CLI_HAS(out, usage);
		cli("--help", NULL);
		CLI_HAS(out, verbs[i]);
	}
	MT_CHECK_EQ(cli("--version", NULL), 0);
	MT_CHECK_STR(cli_result.out, "memtide 0.1.0\n");
}

MT_TEST("without a daemon each verb says how to start it")
{
	static const char *const verbs[] = {"list", "host", "events"};

	setenv("MEMTIDE_SOCKET", fake_socket(), 1);
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		cli(verbs[i], NULL);
		CLI_FAILS(1, "memtided is not running");
		CLI_HAS(err, "start it with 'memtided --pool");
	}
	cli("show", "web", NULL);
	CLI_FAILS(1, "memtided is not running");
	cli("check", "web", NULL);
	CLI_FAILS(1, "memtided is not running");
	cli("set", "web", "limit=1G", NULL);
	CLI_FAILS(1, "memtided is not running");
	cli("top", "-b", "-n", "1", NULL);
	CLI_FAILS(1, "memtided is not running");
}

MT_TEST("a socket left by a daemon that died counts as no daemon")
{
	int fd = mt_sock_listen(fake_socket(), SOCK_STREAM, NULL);

	MT_CHECK(fd >= 0);
	close(fd);
	cli("--socket", fake_socket(), "list", NULL);
	CLI_FAILS(1, "memtided is not running");
}

MT_TEST("a socket that does not greet is told from a daemon, and soon")
{
	struct fake_options o = {.greeting = ""};

	fake_start(&o);
	MT_CHECK(cli_gives_up("list", NULL) < CLI_SOON_S);
	CLI_FAILS(1, "is not memtided (no greeting within 3 s)");
}

MT_TEST("a socket that greets differently is told from a daemon")
{
	struct fake_options o = {.greeting = "220 mail.example.org ESMTP\n"};

	fake_start(&o);
	cli("list", NULL);
	CLI_FAILS(1, "is not memtided");
}

MT_TEST("a daemon of another protocol is named as such")
{
	struct fake_options o = {.greeting = "{\"memtide\":2,\"version\":\"9\",\"pid\":1}\n"};

	fake_start(&o);
	cli("list", NULL);
	CLI_FAILS(1, "speaks protocol 2");
}

MT_TEST("--socket before or after the verb overrides MEMTIDE_SOCKET")
{
	fake_start(NULL);
	setenv("MEMTIDE_SOCKET", "/nonexistent/socket", 1);
	MT_CHECK_EQ(cli("--socket", fake_socket(), "list", NULL), 0);
	MT_CHECK_EQ(cli("list", "--socket", fake_socket(), NULL), 0);
	MT_CHECK_EQ(cli("list", NULL), 1);
}

MT_TEST("list fits 100 columns and ends with the host")
{
	fake_start(NULL);
	MT_CHECK_EQ(cli("list", NULL), 0);
	CLI_HAS(out, "NAME");
	CLI_HAS(out, "web   running");
	CLI_HAS(out, "924M");
	CLI_HAS(out, "1234\n");
	CLI_HAS(out, "\nhost: pool 2G, held 1.5G, free 512M, promised 4G, overcommit 100 %");
	for (const char *line = cli_result.out; *line; line += strcspn(line, "\n") + 1)
		MT_CHECK(strcspn(line, "\n") <= 100);
}

MT_TEST("list takes answers longer than 64 KiB")
{
	struct fake_options o = {.vms = 200};

	fake_start(&o);
	MT_CHECK_EQ(cli("list", NULL), 0);
	CLI_HAS(out, "vm199 ");
}

MT_TEST("with --json list, show, host, set, check and events print JSON")
{
	struct json_object *object;

	fake_start(NULL);
	MT_CHECK_EQ(cli("list", "--json", NULL), 0);
	object = parse_output();
	MT_CHECK_EQ(json_object_array_length(json_object_object_get(object, "vms")), 2);
	MT_CHECK(json_object_object_get(object, "host"));
	MT_CHECK_EQ(cli("show", "--json", "web", NULL), 0);
	object = parse_output();
	MT_CHECK_EQ(json_object_get_int(json_object_object_get(object, "zipped")), 819200);
	MT_CHECK_EQ(cli("host", "--json", NULL), 0);
	object = parse_output();
	MT_CHECK_EQ(json_object_get_int(json_object_object_get(object, "pool")), 2097152);
	MT_CHECK_EQ(cli("set", "web", "limit=1G", "--json", NULL), 0);
	MT_CHECK(json_object_object_get(parse_output(), "limit"));
	MT_CHECK_EQ(cli("check", "web", "--json", NULL), 0);
	MT_CHECK(json_object_object_get(parse_output(), "pages"));
	MT_CHECK_EQ(cli("events", "--json", NULL), 0);
	MT_CHECK_EQ(json_object_array_length(parse_output()), 2);
}

MT_TEST("show prints settings, a bar of where the pages are, and faults")
{
	fake_start(NULL);
	MT_CHECK_EQ(cli("show", "web", NULL), 0);
	CLI_HAS(out, "web: running, pid 1234, qemu-system-x86\n");
	CLI_HAS(out, "limit        1G");
	CLI_HAS(out, "  [####");
	CLI_HAS(out, "z zipped         800M   39 %");
	CLI_HAS(out, "9.5us");
	CLI_HAS(out, "1234 faults");
	CLI_HAS(out, "balloon      working, steered to 50M, at most 1.2G");
	CLI_HAS(out, "usable          300M  what it can use without swapping");
	cli("show", "nobody", NULL);
	CLI_FAILS(1, "no VM has this name");
	cli("show", NULL);
	CLI_FAILS(2, "name of one VM");
}

MT_TEST("host prints the pool and what it went to")
{
	fake_start(NULL);
	MT_CHECK_EQ(cli("host", NULL), 0);
	CLI_HAS(out, "up 1d 02:03:04");
	CLI_HAS(out, "pool              2G");
	CLI_HAS(out, "/tmp, 10G free");
}

MT_TEST("set sends sizes as text and numbers as numbers")
{
	fake_start(NULL);
	MT_CHECK_EQ(cli("set", "web", "limit=300M", "shares=high", "zip_max_pct=20", NULL), 0);
	MT_CHECK(fake_saw("\"vm\":\"web\",\"settings\":{\"limit\":\"300M\",\"shares\":\"high\","
			  "\"zip_max_pct\":20}"));
	MT_CHECK_EQ(cli("set", "web", "shares=500", "limit=none", "reservation=0", NULL), 0);
	MT_CHECK(fake_saw("{\"shares\":500,\"limit\":\"none\",\"reservation\":\"0\"}"));
	MT_CHECK_EQ(cli("set", "--host", "pool=2G", NULL), 0);
	MT_CHECK(fake_saw("\"host\":true,\"settings\":{\"pool\":\"2G\"}"));
	CLI_HAS(out, "host: pool 2G");
}

MT_TEST("set refuses what is no size or no setting before it asks")
{
	fake_start(NULL);
	cli("set", "web", "limit=12Q", NULL);
	CLI_FAILS(1, "limit: '12Q' is not a size");
	cli("set", "web", "limit=-1", NULL);
	CLI_FAILS(1, "not a size");
	cli("set", "web", "limit=0", NULL);
	CLI_FAILS(1, "more than 0");
	cli("set", "web", "limit", NULL);
	CLI_FAILS(2, "not KEY=VALUE");
	cli("set", "web", "=1", NULL);
	CLI_FAILS(2, "not KEY=VALUE");
	cli("set", "web", NULL);
	CLI_FAILS(2, "nothing to set");
	cli("set", "--host", NULL);
	CLI_FAILS(2, "nothing to set");
	cli("set", "web", "limit=1G", "limit=2G", NULL);
	CLI_FAILS(2, "given twice");
	cli("set", "limit=1G", NULL);
	CLI_FAILS(2, "name of a VM, or --host");
	MT_CHECK(!fake_saw("set"));
	cli("set", "web", "zip_max_pct=101", NULL);
	CLI_FAILS(1, "101 is more than 100");
}

MT_TEST("events are lines with time, level and VM, and can't steer the terminal")
{
	setenv("TZ", "UTC", 1);
	fake_start(NULL);
	MT_CHECK_EQ(cli("events", NULL), 0);
	CLI_HAS(out, "2023-11-14 22:13:20.123  info     web           started\n");
	CLI_HAS(out, "warning  web           evil ?[31mtext\n");
}

/* Has it printed what came last? When it gave up on a slow daemon it is started again. */
static bool follows(pid_t *pid, char *const args[], int out, int err)
{
	char text[8192] = "";

	if (waitpid(*pid, NULL, WNOHANG) == *pid)
		*pid = cli_start(args, out, err);
	return pread(out, text, sizeof(text) - 1, 0) > 0 && strstr(text, "\"third\"");
}

MT_TEST("events --follow prints what comes, and ends with the daemon")
{
	char *args[] = {(char *)"memtide", (char *)"events", (char *)"--follow", (char *)"--json",
			NULL};
	int out = cli_temp(), err = cli_temp();
	pid_t pid;

	fake_start(NULL);
	pid = cli_start(args, out, err);
	MT_CHECK(MT_WAIT(100, follows(&pid, args, out, err)));
	kill(pid, SIGTERM);
	cli_finish(pid, out, err);
	CLI_HAS(out, "\"text\":\"third\"");
	MT_CHECK(json_tokener_parse(strrchr(cli_result.out, '{')));
}

MT_TEST("check prints the pages checked and exits with 0 when all is well")
{
	fake_start(NULL);
	MT_CHECK_EQ(cli("check", "web", NULL), 0);
	MT_CHECK_STR(cli_result.out, "web: 524288 pages checked, 0 violations\n");
}

MT_TEST("check exits with 1 on a broken invariant and names it")
{
	struct fake_options o = {.bad_audit = true};

	fake_start(&o);
	cli("check", "web", NULL);
	CLI_FAILS(1, "2 broken invariants, the first: page 7: zipped and resident");
	CLI_HAS(out, "524288 pages checked, 2 violations");
	MT_CHECK_EQ(cli("check", "web", "--json", NULL), 1);
	parse_output();
}

MT_TEST("top -b prints CSV with as many cells as the heading, the time first")
{
	unsigned int commas[3] = {0}, line = 0;

	fake_start(NULL);
	MT_CHECK_EQ(cli("top", "-b", "-n", "2", "-d", "0.1", NULL), 0);
	MT_CHECK(!strncmp(cli_result.out, "\"(PDH-CSV 4.0) (UTC)(0)\",\"\\\\", 28));
	CLI_HAS(out, "\\Memory\\Machine MBytes\"");
	CLI_HAS(out, "\\Group Memory(1234:web)\\Memory Size MBytes\"");
	CLI_HAS(out, "\"2048.00\"");
	for (const char *p = cli_result.out; *p && line < 3; p++) {
		commas[line] += *p == ',';
		line += *p == '\n';
	}
	MT_CHECK_EQ(line, 3);
	MT_CHECK(commas[0] > 30);
	MT_CHECK_EQ(commas[0], commas[1]);
	MT_CHECK_EQ(commas[1], commas[2]);
}

MT_TEST("top without -b says that there is no screen yet")
{
	cli("top", NULL);
	CLI_FAILS(1, "use 'memtide top -b'");
	cli("top", "-b", "-d", "0", NULL);
	CLI_FAILS(2, "--delay: '0' is not a number of seconds");
	cli("top", "-b", "-n", "x", NULL);
	CLI_FAILS(2, "--samples: 'x' is not a number");
}

MT_TEST("a daemon that greets and then hangs is given up after ten seconds")
{
	struct fake_options o = {.no_answers = true};

	fake_start(&o);
	do /* the greeting, too, may come too late */
		cli_gives_up("list", NULL);
	while (strstr(cli_result.err, "no greeting within 3 s"));
	CLI_FAILS(1, "does not answer");
}

MT_TEST("a full disk under the output is an error")
{
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC), out = cli_temp(), err = cli_temp();
	char *args[] = {(char *)"memtide", (char *)"list", NULL};

	fake_start(NULL);
	cli_finish(cli_start(args, full, err), out, err);
	CLI_FAILS(1, "writing the output failed");
}

MT_TEST("doctor needs no daemon, and says where it found what")
{
	setenv("MEMTIDE_SOCKET", fake_socket(), 1);
	cli("doctor", "--swap-dir", fake_dir(), NULL);
	CLI_HAS(out, "memtided is not running");
	CLI_HAS(out, "uffd-move");
	CLI_HAS(out, "swap-space");
	cli("doctor", "--json", "--swap-dir", "/nonexistent", NULL);
	MT_CHECK_EQ(cli_result.status, 1);
	MT_CHECK(json_object_object_get(parse_output(), "checks"));
	CLI_HAS(out, "swap directory '/nonexistent' is not there");
}

MT_TEST("doctor takes pool and swap directory from the daemon, and fails a socket of others")
{
	struct fake_options o = {.greeting = "hello\n"};

	fake_start(NULL);
	cli("doctor", NULL);
	CLI_HAS(out, "memtided 0.1.0 answers");
	CLI_HAS(out, "a pool of 2G");
	CLI_HAS(out, "free in '/tmp'");
	unlink(fake_socket());
	fake_start(&o);
	MT_CHECK_EQ(cli("doctor", NULL), 1);
	CLI_HAS(out, "FAIL  daemon");
}

MT_TEST("doctor tells a VMM that is missing or statically linked")
{
	cli("doctor", "--vmm", "/nonexistent/vmm", NULL);
	MT_CHECK_EQ(cli_result.status, 1);
	CLI_HAS(out, "VMM not found");
	cli("doctor", "--vmm", getenv("MEMTIDE_STATIC_VMM"), NULL);
	MT_CHECK_EQ(cli_result.status, 1);
	CLI_HAS(out, "statically linked");
}

MT_TEST("translate and pagemap say what they lack")
{
	cli("translate", "web", NULL);
	CLI_FAILS(2, "--gva or --gpa");
	cli("translate", "web", "--gva", "1000", NULL);
	CLI_FAILS(2, "--qmp or --cr3");
	cli("translate", "--gva", "1000", "--cr3", "0", NULL);
	CLI_FAILS(2, "name of one VM");
	cli("translate", "web", "--gva", "1000", "--cr3", "zz", NULL);
	CLI_FAILS(2, "no hexadecimal number");
	cli("translate", "web", "--gva", "1000", "--cr3", "0", "--paging", "6level", NULL);
	CLI_FAILS(2, "4level, 5level, pae or 32bit");
	cli("translate", "web", "--gva", "1000", "--qmp", "/nonexistent/qmp", NULL);
	CLI_FAILS(1, "/nonexistent/qmp");
	cli("--socket", "/nonexistent/socket", "translate", "web", "--gpa", "0", NULL);
	CLI_FAILS(1, "/nonexistent/socket");
	cli("pagemap", NULL);
	CLI_FAILS(2, "name of one VM");
	cli("pagemap", "web", "--by-process", NULL);
	CLI_FAILS(2, "--by-process needs --qmp");
}

MT_TEST_MAIN
