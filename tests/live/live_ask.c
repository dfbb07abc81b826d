/* SPDX-License-Identifier: MIT */
/*
 * live_ask.c - questions to the daemon, as docs/protocol.md says, on a connection for each
 *
 * A connection of its own for each question keeps the helper free of state, so that tests may kill
 * the daemon between any two.
 */
#include "live/live.h"
#include "common/mt_test.h"

#include <poll.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/un.h>

#define ASK_MAX (4 << 20) /* all the events that a daemon keeps are long */

static int ask_connect(const struct live_daemon *daemon)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	MT_CHECK(fd >= 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", daemon->socket);
	if (!connect(fd, (struct sockaddr *)&address, sizeof(address)))
		return fd;
	close(fd);
	return -1;
}

/* The greeting and the answer: two lines. Return: the second, within @text; NULL if it breaks off.
 */
static char *ask_read(int fd, char *text)
{
	double end = live_now() + LIVE_PATIENCE_SECONDS;
	size_t used = 0;
	char *answer;

	for (;;) {
		struct pollfd pfd = {.fd = fd, .events = POLLIN};
		double left = end - live_now();
		ssize_t got;

		if (left < 0 || poll(&pfd, 1, (int)(left * 1000) + 1) <= 0)
			MT_FAIL("the daemon does not answer");
		got = read(fd, text + used, ASK_MAX - 1 - used);
		if (got <= 0)
			return NULL;
		used += (size_t)got;
		text[used] = '\0';
		answer = strchr(text, '\n');
		if (answer && strchr(answer + 1, '\n'))
			return answer + 1;
	}
}

static json_object *ask_line(const struct live_daemon *daemon, const char *line)
{
	json_object *answer = NULL;
	char *text = malloc(ASK_MAX), *second;
	int fd = ask_connect(daemon);

	MT_CHECK(text);
	if (fd >= 0) {
		if (send(fd, line, strlen(line), MSG_NOSIGNAL) == (ssize_t)strlen(line) &&
		    (second = ask_read(fd, text)))
			answer = json_tokener_parse(second);
		close(fd);
	}
	free(text);
	return answer;
}

static json_object *ask_va(const struct live_daemon *daemon, const char *fmt, va_list args)
{
	char line[2048];
	int length = vsnprintf(line, sizeof(line) - 1, fmt, args);

	MT_CHECK(length > 0 && length < (int)sizeof(line) - 1);
	line[length] = '\n';
	line[length + 1] = '\0';
	return ask_line(daemon, line);
}

json_object *live_try(const struct live_daemon *daemon, const char *fmt, ...)
{
	json_object *answer;
	va_list args;

	va_start(args, fmt);
	answer = ask_va(daemon, fmt, args);
	va_end(args);
	return answer;
}

/* Did the VM not answer, or could it not, for now? */
static bool ask_again(json_object *answer)
{
	const char *code = json_object_get_string(json_object_object_get(answer, "code"));

	return code && (!strcmp(code, "EAGAIN") || !strcmp(code, "ETIMEDOUT"));
}

json_object *live_ask(const struct live_daemon *daemon, const char *fmt, ...)
{
	double end = live_now() + LIVE_PATIENCE_SECONDS;
	json_object *answer = NULL;
	va_list args;

	do {
		json_object_put(answer);
		va_start(args, fmt);
		answer = ask_va(daemon, fmt, args);
		va_end(args);
	} while (ask_again(answer) && live_now() < end);
	if (!answer)
		MT_FAIL("the daemon can't be reached");
	if (!json_object_get_boolean(json_object_object_get(answer, "ok")))
		MT_FAIL("asked '%s', got %s", fmt, json_object_to_json_string(answer));
	return answer;
}

void live_fields(const struct live_daemon *daemon, const char *vm, const char *const *keys,
		 unsigned int count, int64_t *ret)
{
	json_object *answer, *object, *value;

	answer = vm ? live_ask(daemon, "{\"cmd\":\"show\",\"vm\":\"%s\"}", vm)
		    : live_ask(daemon, "{\"cmd\":\"host\"}");
	object = json_object_object_get(answer, vm ? "vm" : "host");
	for (unsigned int i = 0; i < count; i++) {
		if (!json_object_object_get_ex(object, keys[i], &value))
			MT_FAIL("%s has no field '%s': %s", vm ? vm : "the host", keys[i],
				json_object_to_json_string(answer));
		ret[i] = json_object_get_int64(value);
	}
	json_object_put(answer);
}

int64_t live_field(const struct live_daemon *daemon, const char *vm, const char *key)
{
	int64_t number;

	live_fields(daemon, vm, &key, 1, &number);
	return number;
}

int64_t live_sum(const struct live_daemon *daemon, const char *vm, const char *const *keys,
		 unsigned int count)
{
	int64_t number[8], sum = 0;

	MT_CHECK(count <= 8);
	live_fields(daemon, vm, keys, count, number);
	for (unsigned int i = 0; i < count; i++)
		sum += number[i];
	return sum;
}

const char *live_state(const struct live_daemon *daemon, const char *vm)
{
	json_object *answer = live_try(daemon, "{\"cmd\":\"show\",\"vm\":\"%s\"}", vm);
	json_object *object = json_object_object_get(answer, "vm");
	static char state[32];

	state[0] = '\0';
	if (object)
		snprintf(state, sizeof(state), "%s",
			 json_object_get_string(json_object_object_get(object, "state")));
	json_object_put(answer);
	return state;
}

void live_set(const struct live_daemon *daemon, const char *vm, const char *key, const char *value)
{
	json_object *answer;

	if (vm)
		answer = live_ask(daemon,
				  "{\"cmd\":\"set\",\"vm\":\"%s\",\"settings\":{\"%s\":\"%s\"}}",
				  vm, key, value);
	else
		answer = live_ask(daemon,
				  "{\"cmd\":\"set\",\"host\":true,\"settings\":{\"%s\":\"%s\"}}",
				  key, value);
	json_object_put(answer);
}

static bool wait_field(const struct live_daemon *daemon, const char *vm, const char *key,
		       int64_t value, bool below)
{
	int64_t now;

	if (LIVE_WAIT((now = live_field(daemon, vm, key)) == value || (now < value) == below))
		return true;
	printf("# %s of %s is %lld, not at %s %lld, after %d s\n", key, vm ? vm : "the host",
	       (long long)now, below ? "most" : "least", (long long)value, LIVE_PATIENCE_SECONDS);
	return false;
}

bool live_wait_at_most(const struct live_daemon *daemon, const char *vm, const char *key,
		       int64_t value)
{
	return wait_field(daemon, vm, key, value, true);
}

bool live_wait_at_least(const struct live_daemon *daemon, const char *vm, const char *key,
			int64_t value)
{
	return wait_field(daemon, vm, key, value, false);
}

void live_wait_state(const struct live_daemon *daemon, const char *vm, const char *state)
{
	if (!LIVE_WAIT(!strcmp(live_state(daemon, vm), state)))
		MT_FAIL("%s is \"%s\", not \"%s\", after %d s", vm, live_state(daemon, vm), state,
			LIVE_PATIENCE_SECONDS);
}

static int64_t faults(const struct live_daemon *daemon, const char *vm)
{
	static const char *const keys[] = {"faultNominated", "faultZero", "faultZipped",
					   "faultSwapped"};

	return live_sum(daemon, vm, keys, 4);
}

void live_wait_faults(const struct live_daemon *daemon, const char *vm, int64_t count)
{
	if (!LIVE_WAIT(faults(daemon, vm) >= count))
		MT_FAIL("%s has had %lld faults, not %lld, after %d s", vm,
			(long long)faults(daemon, vm), (long long)count, LIVE_PATIENCE_SECONDS);
}

/* A monitor that was too slow says hello again; until then it can't be asked. */
static bool checked(json_object *answer)
{
	const char *code = json_object_get_string(json_object_object_get(answer, "code"));

	return answer && !ask_again(answer) && !(code && !strcmp(code, "ENOTCONN"));
}

void live_check(const struct live_daemon *daemon, const char *vm)
{
	json_object *answer = NULL;
	int64_t violations;

	(void)LIVE_WAIT((json_object_put(answer),
			 answer = live_try(daemon, "{\"cmd\":\"check\",\"vm\":\"%s\"}", vm),
			 checked(answer)));
	violations = json_object_get_int64(json_object_object_get(answer, "violations"));
	if (violations || !json_object_get_int64(json_object_object_get(answer, "pages")))
		MT_FAIL("the audit of %s says %s", vm, json_object_to_json_string(answer));
	json_object_put(answer);
}

bool live_event_seen(const struct live_daemon *daemon, const char *vm, const char *text)
{
	json_object *answer = live_ask(daemon, "{\"cmd\":\"events\",\"after\":0}"), *list, *value;
	bool found = false;

	json_object_object_get_ex(answer, "events", &list);
	for (size_t i = 0; !found && i < json_object_array_length(list); i++) {
		json_object *event = json_object_array_get_idx(list, i);

		found = json_object_object_get_ex(event, "vm", &value) &&
			!strcmp(json_object_get_string(value), vm) &&
			json_object_object_get_ex(event, "text", &value) &&
			strstr(json_object_get_string(value), text);
	}
	json_object_put(answer);
	return found;
}

bool live_wait_event(const struct live_daemon *daemon, const char *vm, const char *text)
{
	return LIVE_WAIT(live_event_seen(daemon, vm, text));
}
