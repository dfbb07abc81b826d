/* SPDX-License-Identifier: MIT */
/* pause.c - ask, take the answer, ask again after a lost connection; see pause.h */
#include "host/pause.h"
#include "host/balloon.h"
#include "host/server.h"

#include <stdio.h>

static void pause_answer(void *ctx, struct json_object *value, const char *error)
{
	struct mt_vmrec *vm = ctx;
	char text[MT_WIRE_TEXT_MAX];

	vm->pause = MT_PAUSE_NONE;
	if (value) {
		mt_events_add(vm->server->events, MT_EVENT_ERROR, vm->name,
			      "paused over QMP, because it has lost a page");
		return;
	}
	snprintf(text, sizeof(text),
		 "QMP 'stop' was refused: %.160s; only who touches the page waits", error);
	mt_text_clean(text);
	mt_server_event_limited(vm->server, &vm->rate, MT_EVENT_ERROR, vm->name, text);
}

void mt_pause_ready(struct mt_vmrec *vm)
{
	struct mt_qmp *qmp = mt_balloon_qmp(vm);

	if (vm->pause != MT_PAUSE_DUE || !qmp || !mt_qmp_ready(qmp))
		return;
	/* too many open commands: they are answered, or cut off, and then this comes again */
	if (!mt_qmp_ask(qmp, "stop", NULL, pause_answer, vm))
		vm->pause = MT_PAUSE_ASKED;
}

void mt_pause(struct mt_vmrec *vm)
{
	if (!mt_balloon_qmp(vm)) {
		mt_events_add(vm->server->events, MT_EVENT_WARNING, vm->name,
			      "not paused: it has no QMP socket; only who touches the page waits");
		return;
	}
	vm->pause = MT_PAUSE_DUE;
	mt_pause_ready(vm);
}

void mt_pause_cut(struct mt_vmrec *vm, const char *what)
{
	char text[MT_WIRE_TEXT_MAX];

	if (vm->pause != MT_PAUSE_ASKED)
		return;
	vm->pause = MT_PAUSE_DUE;
	if (vm->pause_told)
		return;
	vm->pause_told = true;
	snprintf(
		text, sizeof(text),
		"told to stop over QMP, and no answer (%.100s): a processor that waits at the lost "
		"page may keep QEMU from it; the others stand still",
		what);
	mt_text_clean(text);
	mt_events_add(vm->server->events, MT_EVENT_ERROR, vm->name, "%s", text);
}
