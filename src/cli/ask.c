/* SPDX-License-Identifier: MIT */
/* ask.c - one request, one answer; see ask.h */
#include "cli/ask.h"

int ask_daemon(const struct cli *cli, const struct cli_verb *verb, struct json_object *request,
	       int timeout_ms, struct json_object **ret_answer)
{
	struct client client;
	struct mt_err err = {0};
	int rc = client_open(&client, cli->socket, &err);

	if (rc) {
		json_object_put(request);
		return cli_failed(verb, "%s", err.msg);
	}
	rc = client_ask(&client, request, timeout_ms, ret_answer, &err);
	client_close(&client);
	return rc ? cli_failed(verb, "%s", err.msg) : 0;
}
