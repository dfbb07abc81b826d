/* SPDX-License-Identifier: MIT */
/*
 * test_libvirt.c - QMP's words and libvirt's calls, on libvirt's own test driver
 *
 * The driver plays domains within this process: no daemon of libvirt's, no QEMU.
 */
#include "libvirt/broker.h"
#include "libvirt/domain.h"
#include "libvirt/line.h"

#include "common/mt_test.h"

#include "sys/sock.h"

#include <libvirt/virterror.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/socket.h>

#define GIB (1ULL << 30)

static void silent(void *data, virErrorPtr error)
{
	(void)data;
	(void)error;
}

/* The driver's one domain, which runs and has 8 GiB. */
static virDomainPtr test_domain(virConnectPtr *ret)
{
	virDomainPtr domain;

	virSetErrorFunc(NULL, silent);
	*ret = virConnectOpen("test:///default");
	if (!*ret)
		MT_SKIP("this libvirt has no test driver");
	domain = virDomainLookupByName(*ret, "test");
	MT_CHECK(domain);
	return domain;
}

static struct json_object *ask(virDomainPtr domain, const char *command, const char *arguments,
			       const char **ret_error)
{
	struct json_object *object = arguments ? json_tokener_parse(arguments) : NULL, *answer;

	*ret_error = NULL;
	answer = lv_domain_ask(domain, command, object, ret_error);
	json_object_put(object);
	MT_CHECK(answer || *ret_error);
	return answer;
}

static uint64_t actual_bytes(virDomainPtr domain)
{
	const char *error;
	struct json_object *answer = ask(domain, "query-balloon", NULL, &error);
	uint64_t bytes = json_object_get_uint64(json_object_object_get(answer, "actual"));

	json_object_put(answer);
	return bytes;
}

MT_TEST("a balloon's size is told to libvirt and asked of it, in bytes")
{
	struct json_object *answer;
	virConnectPtr connection;
	virDomainPtr domain = test_domain(&connection);
	const char *error;

	MT_CHECK(actual_bytes(domain) > 0);
	answer = ask(domain, "balloon", "{\"value\":1073741824}", &error);
	MT_CHECK(answer);
	json_object_put(answer);
	MT_CHECK_EQ(actual_bytes(domain), GIB);
	/* more than it has, and what is no size */
	MT_CHECK(!ask(domain, "balloon", "{\"value\":1125899906842624}", &error));
	MT_CHECK(error[0]);
	MT_CHECK(!ask(domain, "balloon", "{\"value\":-1}", &error));
	MT_CHECK(!ask(domain, "balloon", NULL, &error));
	MT_CHECK_EQ(actual_bytes(domain), GIB);
	virDomainFree(domain);
	virConnectClose(connection);
}

MT_TEST("a guest's statistics have QEMU's names and units")
{
	virDomainMemoryStatStruct got[VIR_DOMAIN_MEMORY_STAT_NR];
	struct json_object *answer, *stats, *value;
	virConnectPtr connection;
	virDomainPtr domain = test_domain(&connection);
	const char *error;
	int count = virDomainMemoryStats(domain, got, VIR_DOMAIN_MEMORY_STAT_NR, 0);
	bool any = false;

	MT_CHECK(count > 0);
	answer = ask(domain, "qom-get", "{\"path\":\"/x\",\"property\":\"guest-stats\"}", &error);
	stats = json_object_object_get(answer, "stats");
	MT_CHECK(stats && json_object_object_get(answer, "last-update"));
	for (int i = 0; i < count; i++) {
		if (got[i].tag != VIR_DOMAIN_MEMORY_STAT_USABLE)
			continue;
		value = json_object_object_get(stats, "stat-available-memory");
		MT_CHECK_EQ(json_object_get_uint64(value), got[i].val * 1024);
		any = true;
	}
	MT_CHECK(any);
	json_object_put(answer);
	virDomainFree(domain);
	virConnectClose(connection);
}

MT_TEST("what libvirt refuses and what nobody knows is an error with a reason")
{
	virConnectPtr connection;
	virDomainPtr domain = test_domain(&connection);
	const char *error;

	MT_CHECK(!ask(domain, "quit", NULL, &error));
	MT_CHECK(!ask(domain, "qom-get", "{\"property\":\"rom-bar\"}", &error));
	MT_CHECK(!ask(domain, "qom-get", NULL, &error));
	MT_CHECK(!ask(domain, "qom-set",
		      "{\"property\":\"guest-stats-polling-interval\",\"value\":1e9}", &error));
	MT_CHECK(!virDomainDestroy(domain));
	MT_CHECK(!ask(domain, "query-balloon", NULL, &error));
	MT_CHECK(strstr(error, "running"));
	virDomainFree(domain);
	virConnectClose(connection);
}

#define DEVICES(balloon) "<domain>\n  <devices>\n    " balloon "\n  </devices>\n</domain>\n"

MT_TEST("a balloon is known by the domain's XML, and not by what people write into it")
{
	static const char good[] = DEVICES("<memballoon model='virtio' autodeflate='on'/>");
	static const char plain[] = DEVICES("<memballoon model='virtio-non-transitional'>\n");
	static const char other[] = DEVICES("<memballoon model='none'/>");
	static const char fake[] =
		"<domain>\n  <metadata>\n    <m:x xmlns:m='m'><memballoon model='virtio' "
		"autodeflate='on'/></m:x>\n  </metadata>\n  <devices>\n  </devices>\n</domain>\n";
	static const char later[] =
		DEVICES("<memballoon model='virtio'/>\n    <watchdog autodeflate='on'/>");

	MT_CHECK(lv_domain_has_balloon(good) && lv_domain_deflates(good));
	MT_CHECK(lv_domain_has_balloon(plain) && !lv_domain_deflates(plain));
	MT_CHECK(!lv_domain_has_balloon(other) && !lv_domain_deflates(other));
	MT_CHECK(!lv_domain_has_balloon(fake) && !lv_domain_deflates(fake));
	MT_CHECK(lv_domain_has_balloon(later) && !lv_domain_deflates(later));
	MT_CHECK(!lv_domain_has_balloon("") && !lv_domain_has_balloon("\n    <memballoon "));
}

/* The next line that comes. */
static struct json_object *next_line(int fd)
{
	struct pollfd wait = {.fd = fd, .events = POLLIN};
	char text[4096];
	size_t used = 0;

	while (used < sizeof(text) - 1 && poll(&wait, 1, 60000) > 0 &&
	       read(fd, text + used, 1) == 1)
		if (text[used++] == '\n')
			break;
	text[used] = '\0';
	MT_CHECK(used && text[used - 1] == '\n');
	return json_tokener_parse(text);
}

static void say(int fd, const char *text)
{
	MT_CHECK_EQ(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static void expect(int fd, const char *text)
{
	struct json_object *object = next_line(fd);

	MT_CHECK_STR(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN), text);
	json_object_put(object);
}

/* An event that has just come; the time it tells is left out of @text. */
static void expect_event(int fd, const char *text)
{
	struct json_object *object = next_line(fd), *at = NULL;
	int64_t now_s = time(NULL), at_s;

	MT_CHECK(json_object_object_get_ex(object, "timestamp", &at));
	at_s = json_object_get_int64(json_object_object_get(at, "seconds"));
	MT_CHECK(at_s <= now_s && at_s + 600 > now_s);
	json_object_object_del(object, "timestamp");
	MT_CHECK_STR(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN), text);
	json_object_put(object);
}

static int line_connect(const char *path)
{
	struct json_object *greeting;
	int fd = mt_sock_connect(path, SOCK_STREAM, NULL);

	MT_CHECK(fd >= 0);
	greeting = next_line(fd);
	MT_CHECK(json_object_object_get(greeting, "QMP"));
	json_object_put(greeting);
	return fd;
}

MT_TEST("a line speaks QMP: greeting, numbers, errors, and events once it was negotiated")
{
	char dir[] = "/tmp/memtide-line-XXXXXX", path[64];
	virConnectPtr connection;
	virDomainPtr domain = test_domain(&connection);
	struct lv_line *line;
	char byte;
	int fd;

	MT_CHECK(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/line", dir);
	line = lv_line_new(path, domain, NULL);
	MT_CHECK(line);
	fd = line_connect(path);
	lv_line_event(line, "RESET", NULL);
	say(fd, "{\"execute\":\"qmp_capabilities\",\"id\":1}\n{\"execute\":\"ballo");
	expect(fd, "{\"return\":{},\"id\":1}");
	/* the second command's end decides that the first one is done with */
	say(fd,
	    "on\",\"arguments\":{\"value\":1073741824},\"id\":2}\n{\"execute\":\"x\",\"id\":3}\n");
	expect(fd, "{\"return\":{},\"id\":2}");
	expect(fd, "{\"error\":{\"class\":\"GenericError\",\"desc\":\"no such command here\"},"
		   "\"id\":3}");
	lv_line_event(line, "RESET", NULL);
	expect_event(fd, "{\"event\":\"RESET\",\"data\":{}}");
	close(fd);
	/* one after another; what is no command ends a connection */
	fd = line_connect(path);
	say(fd, "nonsense\n");
	MT_CHECK_EQ(read(fd, &byte, 1), 0);
	close(fd);
	fd = line_connect(path);
	lv_line_end(line);
	MT_CHECK_EQ(read(fd, &byte, 1), 0);
	MT_CHECK(access(path, F_OK));
	close(fd);
	rmdir(dir);
	virDomainFree(domain);
	virConnectClose(connection);
}

MT_TEST("a process's number is read from libvirt's file, and from no other")
{
	char dir[] = "/tmp/memtide-pids-XXXXXX", path[64];
	FILE *file;

	MT_CHECK(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/my vm.pid", dir);
	file = fopen(path, "we");
	MT_CHECK(file);
	fputs("4711\n", file);
	fclose(file);
	MT_CHECK_EQ(lv_pid_read(dir, "my vm"), 4711);
	MT_CHECK_EQ(lv_pid_read(dir, "other"), 0);
	MT_CHECK_EQ(lv_pid_read("/", dir + 1), 0);
	snprintf(path, sizeof(path), "../%s/my vm", strrchr(dir, '/') + 1);
	MT_CHECK_EQ(lv_pid_read(dir, path), 0);
	snprintf(path, sizeof(path), "%s/my vm.pid", dir);
	file = fopen(path, "we");
	fputs("-4711\n", file);
	fclose(file);
	MT_CHECK_EQ(lv_pid_read(dir, "my vm"), 0);
	unlink(path);
	rmdir(dir);
}

MT_TEST_MAIN
