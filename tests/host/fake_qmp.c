/* SPDX-License-Identifier: MIT */
/* fake_qmp.c - see fake_qmp.h */
#include "host/fake_qmp.h"
#include "sys/sock.h"

/* only the checks of the harness are wanted here, not its main */
#pragma GCC diagnostic ignored "-Wunused-function"
#include "common/mt_test.h"

#include <errno.h>
#include <sys/socket.h>

#define FAKE_LONG 80000

uint64_t fake_random(uint64_t *state, uint64_t below)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state % below;
}

void fake_qmp_start(struct fake_qmp *fake, const char *path, uint64_t seed)
{
	memset(fake, 0, sizeof(*fake));
	snprintf(fake->path, sizeof(fake->path), "%s", path);
	fake->random = seed ? seed : 1;
	fake->fd = -1;
	fake->memory_bytes = fake->actual_bytes = fake->wanted_bytes = 512ULL << 20;
	fake->total_bytes = 490ULL << 20;
	fake->available_bytes = 400ULL << 20;
	fake->step_bytes = 64ULL << 20;
	fake->listen_fd = mt_sock_listen(path, SOCK_STREAM, NULL);
	MT_CHECK(fake->listen_fd >= 0);
}

static void fake_hang_up(struct fake_qmp *fake)
{
	if (fake->fd < 0)
		return;
	close(fake->fd);
	fake->fd = -1;
	fake->in_used = fake->out_used = 0;
	fake->ended++;
}

void fake_qmp_stop(struct fake_qmp *fake)
{
	fake_hang_up(fake);
	if (fake->listen_fd >= 0)
		close(fake->listen_fd);
	fake->listen_fd = -1;
	unlink(fake->path);
	free(fake->out);
	fake->out = NULL;
}

static void fake_put(struct fake_qmp *fake, const char *text, size_t length)
{
	fake->out = realloc(fake->out, fake->out_used + length);
	MT_CHECK(fake->out);
	memcpy(fake->out + fake->out_used, text, length);
	fake->out_used += length;
}

static void fake_flush(struct fake_qmp *fake)
{
	size_t most = fake->out_used;
	ssize_t sent;

	if (fake->fd < 0 || !most)
		return;
	if (fake->torn)
		most = 1 + fake_random(&fake->random, most);
	sent = send(fake->fd, fake->out, most, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (sent <= 0)
		return;
	fake->out_used -= (size_t)sent;
	memmove(fake->out, fake->out + sent, fake->out_used);
}

void fake_qmp_say(struct fake_qmp *fake, struct json_object *object)
{
	const char *text = json_object_to_json_string_ext(
		object, fake->pretty ? JSON_C_TO_STRING_PRETTY : JSON_C_TO_STRING_PLAIN);

	fake_put(fake, text, strlen(text));
	fake_put(fake, "\r\n", 2);
	json_object_put(object);
}

static void fake_garbage(struct fake_qmp *fake)
{
	char bytes[64];
	size_t count = 1 + fake_random(&fake->random, sizeof(bytes));

	for (size_t i = 0; i < count; i++)
		bytes[i] = (char)fake_random(&fake->random, 256);
	/* what could be the start of something right, or a blank, would only be a hang */
	bytes[0] = '}';
	fake_put(fake, bytes, count);
}

static void fake_long(struct fake_qmp *fake)
{
	char *text = malloc(FAKE_LONG);

	MT_CHECK(text);
	memset(text, 'x', FAKE_LONG);
	memcpy(text, "{\"event\": \"", 11);
	fake_put(fake, text, FAKE_LONG);
	free(text);
}

/* Out with everything that can go, then the end. */
static void fake_last_words(struct fake_qmp *fake)
{
	fake->torn = false;
	fake_flush(fake);
	fake_hang_up(fake);
}

static void fake_spoil(struct fake_qmp *fake, int64_t id)
{
	static const char *const no_objects[] = {"17 ", "[1,2]", "null ", "\"text\""};
	char text[128];

	fake->spoilt = true;
	switch (fake->fault) {
	case FAKE_CLOSE:
		fake_last_words(fake);
		break;
	case FAKE_GARBAGE:
		fake_garbage(fake);
		break;
	case FAKE_PARTIAL:
		fake_put(fake, "{\"return\": {\"actu", 17);
		fake_last_words(fake);
		break;
	case FAKE_HALF_HANG:
		fake_put(fake, "{\"return\": {\"actu", 17);
		break;
	case FAKE_TOO_LONG:
		fake_long(fake);
		break;
	case FAKE_WRONG_ID:
		snprintf(text, sizeof(text), "{\"return\": {}, \"id\": %lld}\r\n",
			 (long long)(id + 1 + (int64_t)fake_random(&fake->random, 9)));
		fake_put(fake, text, strlen(text));
		break;
	case FAKE_NO_ID:
		fake_put(fake, "{\"return\": {}}\r\n", 16);
		break;
	case FAKE_NO_OBJECT:
		snprintf(text, sizeof(text), "%s", no_objects[fake_random(&fake->random, 4)]);
		fake_put(fake, text, strlen(text));
		break;
	case FAKE_DEEP:
		memset(text, '[', 100);
		fake_put(fake, text, 100);
		break;
	case FAKE_NO_VALUE:
		snprintf(text, sizeof(text), "{\"id\": %lld}\r\n", (long long)id);
		fake_put(fake, text, strlen(text));
		break;
	case FAKE_HANG:
	case FAKE_NONE:
	case FAKE_FAULTS:
		break;
	}
}

static struct json_object *fake_stats(struct fake_qmp *fake)
{
	static const char *const names[] = {"stat-swap-in",          "stat-swap-out",
					    "stat-major-faults",     "stat-minor-faults",
					    "stat-free-memory",      "stat-total-memory",
					    "stat-available-memory", "stat-disk-caches"};
	const uint64_t values[] = {fake->swap_in_bytes,
				   0,
				   7,
				   9,
				   fake->available_bytes / 2,
				   fake->total_bytes,
				   fake->available_bytes,
				   fake->available_bytes / 2};
	struct json_object *stats = json_object_new_object(), *all = json_object_new_object();

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		json_object_object_add(stats, names[i], json_object_new_uint64(values[i]));
	/* what the guest does not tell */
	json_object_object_add(stats, "stat-htlb-pgalloc", json_object_new_uint64(UINT64_MAX));
	json_object_object_add(all, "stats", stats);
	json_object_object_add(all, "last-update", json_object_new_int64(fake->last_update_s));
	return all;
}

static struct json_object *fake_devices(const struct fake_qmp *fake, const char *path)
{
	struct json_object *list = json_object_new_array(), *item;

	if (strcmp(path, "/machine/peripheral"))
		return list;
	item = json_object_new_object();
	json_object_object_add(item, "name", json_object_new_string("disk0"));
	json_object_object_add(item, "type", json_object_new_string("child<virtio-blk-pci>"));
	json_object_array_add(list, item);
	if (fake->no_balloon)
		return list;
	item = json_object_new_object();
	json_object_object_add(item, "name", json_object_new_string("b0"));
	json_object_object_add(item, "type", json_object_new_string("child<virtio-balloon-pci>"));
	json_object_array_add(list, item);
	return list;
}

static const char *fake_text(struct json_object *arguments, const char *key)
{
	const char *text = json_object_get_string(json_object_object_get(arguments, key));

	return text ? text : "";
}

/* NULL: an error. */
static struct json_object *fake_run(struct fake_qmp *fake, const char *command,
				    struct json_object *arguments)
{
	struct json_object *value = json_object_new_object(), *number;

	if (!strcmp(fake_text(arguments, "property"), "deflate-on-oom")) {
		json_object_put(value);
		return json_object_new_boolean(!fake->no_deflate_on_oom);
	}
	if (!strcmp(command, "qom-list") || !strcmp(command, "qom-get")) {
		json_object_put(value);
		return !strcmp(command, "qom-get")
			       ? fake_stats(fake)
			       : fake_devices(fake, fake_text(arguments, "path"));
	}
	number = json_object_object_get(arguments, "value");
	if (!strcmp(command, "qom-set"))
		fake->interval_s = (unsigned int)json_object_get_int(number);
	if (!strcmp(command, "balloon")) {
		fake->wanted_bytes = json_object_get_uint64(number);
		fake->balloons++;
	}
	if (!strcmp(command, "query-balloon"))
		json_object_object_add(value, "actual", json_object_new_uint64(fake->actual_bytes));
	if (!strcmp(command, "echo"))
		json_object_object_add(value, "back", json_object_get(number));
	if (strcmp(command, "fail") && (strcmp(command, "stop") || !fake->no_stop))
		return value;
	json_object_put(value);
	return NULL;
}

static void fake_answer(struct fake_qmp *fake, struct json_object *request)
{
	struct json_object *answer = json_object_new_object(), *value, *error;
	struct json_object *id = json_object_object_get(request, "id");

	value = fake_run(fake, fake_text(request, "execute"),
			 json_object_object_get(request, "arguments"));
	if (value) {
		json_object_object_add(answer, "return", value);
	} else {
		error = json_object_new_object();
		json_object_object_add(error, "class", json_object_new_string("GenericError"));
		json_object_object_add(error, "desc", json_object_new_string("told to fail"));
		json_object_object_add(answer, "error", error);
	}
	json_object_object_add(answer, "id", json_object_get(id));
	fake_qmp_say(fake, answer);
}

static void fake_request(struct fake_qmp *fake, const char *line)
{
	struct json_object *request = json_tokener_parse(line);

	MT_CHECK(request);
	if (!fake->spoilt && !strcmp(fake_text(request, "execute"), "stop")) {
		fake->stops++;
		fake->spoilt = fake->hang_on_stop;
		fake->hang_on_stop = false;
	}
	if (!fake->spoilt && fake->fault && ++fake->commands >= fake->after)
		fake_spoil(fake, json_object_get_int64(json_object_object_get(request, "id")));
	else if (!fake->spoilt)
		fake_answer(fake, request);
	json_object_put(request);
}

static bool fake_read(struct fake_qmp *fake)
{
	ssize_t got = recv(fake->fd, fake->in + fake->in_used, sizeof(fake->in) - 1 - fake->in_used,
			   MSG_DONTWAIT);
	char *end;

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (got <= 0) {
		fake_hang_up(fake);
		return true;
	}
	fake->in_used += (size_t)got;
	while (fake->fd >= 0 && (end = memchr(fake->in, '\n', fake->in_used))) {
		size_t length = (size_t)(end + 1 - fake->in);

		*end = '\0';
		fake_request(fake, fake->in);
		if (fake->fd < 0)
			return true;
		fake->in_used -= length;
		memmove(fake->in, end + 1, fake->in_used);
	}
	return true;
}

static bool fake_accept(struct fake_qmp *fake)
{
	static const char greeting[] =
		"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 2, \"major\": 7}, "
		"\"package\": \"\"}, \"capabilities\": [\"oob\"]}}\r\n";

	if (fake->listen_fd < 0)
		return false;
	fake->fd = accept4(fake->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fake->fd < 0)
		return false;
	fake->connections++;
	fake->commands = 0;
	fake->spoilt = false;
	if (fake->fault && !fake->after)
		fake_spoil(fake, 0);
	else
		fake_put(fake, greeting, sizeof(greeting) - 1);
	return true;
}

/* The guest follows its balloon. */
static void fake_guest(struct fake_qmp *fake)
{
	uint64_t step = fake->step_bytes;

	if (fake->actual_bytes > fake->wanted_bytes)
		fake->actual_bytes -= step < fake->actual_bytes - fake->wanted_bytes
					      ? step
					      : fake->actual_bytes - fake->wanted_bytes;
	else
		fake->actual_bytes += step < fake->wanted_bytes - fake->actual_bytes
					      ? step
					      : fake->wanted_bytes - fake->actual_bytes;
}

void fake_qmp_turn_away(struct fake_qmp *fake)
{
	/* first of all nobody comes any more, then those who are waiting go */
	unlink(fake->path);
	fake->fault = FAKE_NONE;
	fake_hang_up(fake);
	while (fake_accept(fake))
		fake_hang_up(fake);
	fake_qmp_stop(fake);
}

bool fake_qmp_turn(struct fake_qmp *fake)
{
	bool busy = false;

	if (fake->fd < 0)
		busy = fake_accept(fake);
	if (fake->fd >= 0)
		busy |= fake_read(fake);
	busy |= fake->out_used != 0;
	fake_flush(fake);
	fake_guest(fake);
	return busy;
}
