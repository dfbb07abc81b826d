/* SPDX-License-Identifier: MIT */
/* ask.h - for verbs that are one request and one answer: connect, ask, say what went wrong */
#ifndef MT_CLI_ASK_H
#define MT_CLI_ASK_H

#include "cli/cli.h"
#include "cli/client.h"

/**
 * ask_daemon() - connect, send @request (consumed), wait for the answer, disconnect
 * @ret_answer: the caller puts it; only after success
 *
 * Return: 0, or the exit status after the error was printed.
 */
MT_MUST_CHECK int ask_daemon(const struct cli *cli, const struct cli_verb *verb,
			     struct json_object *request, int timeout_ms,
			     struct json_object **ret_answer);

#endif
