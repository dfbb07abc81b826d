/* SPDX-License-Identifier: MIT */
/* balloon_find.c - one folder after the other, then the device's options; see balloon_find.h */
#include "host/balloon_find.h"

#include <stdio.h>
#include <string.h>

static const char *const find_folders[] = {"/machine/peripheral", "/machine/peripheral-anon"};

static const char *find_text(struct json_object *item, const char *key)
{
	struct json_object *value = NULL;

	json_object_object_get_ex(item, key, &value);
	return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : "";
}

/* Takes the first balloon of a folder's list. */
static bool find_in(struct mt_balloon_find *find, struct json_object *list)
{
	static const char type[] = "child<virtio-balloon";

	if (!json_object_is_type(list, json_type_array))
		return false;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *item = json_object_array_get_idx(list, i);
		int length;

		if (strncmp(find_text(item, "type"), type, sizeof(type) - 1))
			continue;
		length = snprintf(find->path, sizeof(find->path), "%s/%s",
				  find_folders[find->folder], find_text(item, "name"));
		if (length < (int)sizeof(find->path))
			return true;
		find->path[0] = '\0';
	}
	return false;
}

static void find_options(void *ctx, struct json_object *value, const char *error)
{
	struct mt_balloon_find *find = ctx;

	(void)error;
	find->deflates_on_oom = json_object_get_boolean(value);
	find->done(find->ctx);
}

static int find_ask_options(struct mt_balloon_find *find)
{
	struct json_object *arguments = json_object_new_object();

	json_object_object_add(arguments, "path", json_object_new_string(find->path));
	json_object_object_add(arguments, "property", json_object_new_string("deflate-on-oom"));
	return mt_qmp_ask(find->qmp, "qom-get", arguments, find_options, find);
}

static int find_ask(struct mt_balloon_find *find);

static void find_answer(void *ctx, struct json_object *value, const char *error)
{
	struct mt_balloon_find *find = ctx;

	(void)error;
	if (find_in(find, value)) {
		if (!find_ask_options(find))
			return;
	} else if (++find->folder < MT_ARRAY_SIZE(find_folders) && !find_ask(find)) {
		return;
	}
	find->done(find->ctx);
}

static int find_ask(struct mt_balloon_find *find)
{
	struct json_object *arguments = json_object_new_object();

	json_object_object_add(arguments, "path",
			       json_object_new_string(find_folders[find->folder]));
	return mt_qmp_ask(find->qmp, "qom-list", arguments, find_answer, find);
}

int mt_balloon_find(struct mt_balloon_find *find, struct mt_qmp *qmp, void (*done)(void *ctx),
		    void *ctx)
{
	*find = (struct mt_balloon_find){.qmp = qmp, .done = done, .ctx = ctx};
	return find_ask(find);
}
