/* SPDX-License-Identifier: MIT */
/* events.c - "memtide events": what was done to whom, and why */
#include "cli/ask.h"
#include "cli/fields.h"

#include <string.h>
#include <time.h>

static const char events_help[] =
	"usage: memtide events [--follow] [--json]\n"
	"Prints the events the daemon remembers: time, level, VM, what happened.\n\n"
	"  --follow  go on with each further event, until interrupted\n"
	"  --json    print an array of events; with --follow one event a line\n";

/* The level as a word, whether the daemon sends the word or the number of the wire. */
static const char *events_level(struct json_object *event, char buf[static FIELD_TEXT_MAX])
{
	static const char *const names[] = {"?", "info", "warning", "error"};
	struct json_object *level = json_object_object_get(event, "level");
	uint64_t n = field_u64(event, "level");

	if (json_object_is_type(level, json_type_int))
		return names[n < MT_ARRAY_SIZE(names) ? n : 0];
	return field_text(event, "level", buf);
}

static void events_print(struct json_object *event)
{
	char level[FIELD_TEXT_MAX], vm[FIELD_TEXT_MAX], text[FIELD_TEXT_MAX], when[32];
	uint64_t ns = field_u64(event, "time_ns");
	time_t seconds = (time_t)(ns / 1000000000);
	struct tm tm;

	localtime_r(&seconds, &tm);
	strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
	field_text(event, "vm", vm);
	printf("%s.%03u  %-7s  %-12s  %s\n", when, (unsigned int)(ns / 1000000 % 1000),
	       events_level(event, level), vm[0] ? vm : "-", field_text(event, "text", text));
}

static void events_line(struct json_object *event, bool json)
{
	if (json)
		puts(json_object_to_json_string_ext(event, JSON_C_TO_STRING_PLAIN |
								   JSON_C_TO_STRING_NOSLASHESCAPE));
	else
		events_print(event);
}

static void events_past(struct json_object *answer, bool json, bool follow)
{
	struct json_object *events = json_object_object_get(answer, "events");

	if (!json_object_is_type(events, json_type_array))
		return;
	if (json && !follow) {
		field_print_json(events);
		return;
	}
	for (size_t i = 0; i < json_object_array_length(events); i++)
		events_line(json_object_array_get_idx(events, i), json);
}

static int events_follow(struct client *client, const struct cli_verb *verb, bool json)
{
	struct json_object *line = NULL, *event;
	struct mt_err err = {0};

	/* Nobody reading any more (a closed pipe) ends it like an interrupt. */
	while (!fflush(stdout)) {
		if (client_read(client, -1, &line, &err))
			return cli_failed(verb, "%s", err.msg);
		event = json_object_object_get(line, "event");
		if (event)
			events_line(event, json);
		json_object_put(line);
	}
	return 0;
}

static int events_run(struct cli *cli, const struct cli_verb *verb, int argc, char **argv)
{
	bool follow = false;
	const struct cli_opt opts[] = {
		{"json", 0, CLI_OPT_FLAG, &cli->json}, {"follow", 'f', CLI_OPT_FLAG, &follow}, {0}};
	struct json_object *request, *answer = NULL;
	struct mt_err err = {0};
	struct client client;
	int first, rc = cli_options(cli, verb, opts, false, argc, argv, &first);

	if (rc >= 0)
		return rc;
	if (first < argc)
		return cli_usage(verb, "unexpected argument '%s'", argv[first]);
	if (client_open(&client, cli->socket, &err))
		return cli_failed(verb, "%s", err.msg);
	request = client_request("events");
	json_object_object_add(request, "after", json_object_new_int(0));
	json_object_object_add(request, "follow", json_object_new_boolean(follow));
	rc = client_ask(&client, request, CLIENT_ANSWER_MS, &answer, &err);
	if (rc) {
		rc = cli_failed(verb, "%s", err.msg);
	} else {
		events_past(answer, cli->json, follow);
		json_object_put(answer);
		if (follow)
			rc = events_follow(&client, verb, cli->json);
	}
	client_close(&client);
	return rc;
}

const struct cli_verb cli_verb_events = {"events", "print what was done to whom, and why",
					 events_help, events_run};
