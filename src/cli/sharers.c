/* SPDX-License-Identifier: MIT */
/* sharers.c - whose pages a shared frame is; see sharers.h */
#include "cli/sharers.h"
#include "cli/fields.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define SHARERS_MS    35000
#define SHARERS_SHOWN 8u

static struct json_object *ask_about(const char *cmd, const char *vm, uint64_t frame)
{
	struct json_object *request = client_request(cmd);

	json_object_object_add(request, "vm", json_object_new_string(vm));
	json_object_object_add(request, "frame", json_object_new_int64((int64_t)frame));
	return request;
}

/* Where another VM has its memory, as far as that can be said without its QEMU. */
static void other_layout(struct guest_mem *mem, const char *vm, struct guest_layout *layout)
{
	struct json_object *request = client_request("show"), *answer;
	struct mt_err err;

	*layout = (struct guest_layout){0};
	json_object_object_add(request, "vm", json_object_new_string(vm));
	if (client_ask(&mem->client, request, CLIENT_ANSWER_MS, &answer, &err))
		return;
	if (guest_layout_regions(layout, json_object_object_get(answer, "vm"), &err) ||
	    guest_layout_pc(layout, 0, &err))
		layout->range_count = 0;
	json_object_put(answer);
}

static struct json_object *place_json(const struct guest_layout *layout, uint64_t addr)
{
	struct json_object *place = json_object_new_object();
	char text[32];
	mt_gpa_t gpa;
	bool known = guest_layout_gpa(layout, addr, &gpa);

	snprintf(text, sizeof(text), "0x%" PRIx64, known ? gpa.a : addr);
	json_object_object_add(place, known ? "gpa" : "hostAddress", json_object_new_string(text));
	return place;
}

/* The answer's addresses: 8 bytes each, as hex, the lowest byte first. */
static struct json_object *places_json(const struct guest_layout *layout,
				       struct json_object *answer)
{
	struct json_object *places = json_object_new_array();
	const char *data = json_object_get_string(json_object_object_get(answer, "data"));

	for (size_t i = 0; data && strlen(data + i) >= 16; i += 16) {
		uint64_t addr = 0;

		for (unsigned int k = 0; k < 8; k++) {
			char two[3] = {data[i + 2 * k], data[i + 2 * k + 1], 0};

			addr |= strtoull(two, NULL, 16) << (8 * k);
		}
		json_object_array_add(places, place_json(layout, addr));
	}
	return places;
}

/* Adds "at" to one VM's entry; without it when its monitor can't be asked at the moment. */
static void find_pages(struct guest_mem *mem, struct json_object *sharer, uint64_t frame)
{
	const char *vm = json_object_get_string(json_object_object_get(sharer, "vm"));
	struct json_object *answer = NULL;
	struct guest_layout other;
	const struct guest_layout *layout = &mem->layout;
	struct mt_err err;

	if (!vm)
		return;
	if (strcmp(vm, mem->vm) != 0) {
		other_layout(mem, vm, &other);
		layout = &other;
	}
	if (client_ask(&mem->client, ask_about("frame_pages", vm, frame), SHARERS_MS, &answer,
		       &err))
		return;
	json_object_object_add(sharer, "at", places_json(layout, answer));
	json_object_put(answer);
}

struct json_object *sharers_json(struct guest_mem *mem, uint64_t frame, struct mt_err *err)
{
	struct json_object *answer, *sharers;

	if (client_ask(&mem->client, ask_about("sharers", mem->vm, frame), CLIENT_ANSWER_MS,
		       &answer, err))
		return NULL;
	sharers = json_object_get(json_object_object_get(answer, "sharers"));
	json_object_put(answer);
	if (!json_object_is_type(sharers, json_type_array)) {
		json_object_put(sharers);
		mt_err_set(err, -EPROTO, "the daemon's answer names no VMs");
		return NULL;
	}
	for (size_t i = 0; i < json_object_array_length(sharers); i++)
		find_pages(mem, json_object_array_get_idx(sharers, i), frame);
	return sharers;
}

static void print_sharer(struct json_object *sharer)
{
	struct json_object *places = json_object_object_get(sharer, "at");
	size_t found = places ? json_object_array_length(places) : 0;
	uint64_t pages = field_u64(sharer, "pages");
	char name[FIELD_TEXT_MAX];

	printf("  used by %" PRIu64 " page%s of %s", pages, pages == 1 ? "" : "s",
	       field_text(sharer, "vm", name));
	for (size_t i = 0; i < MT_MIN(found, SHARERS_SHOWN); i++) {
		struct json_object *place = json_object_array_get_idx(places, i);
		struct json_object *gpa = json_object_object_get(place, "gpa");
		struct json_object *addr = json_object_object_get(place, "hostAddress");

		printf("%s %s%s", i ? "," : ":", gpa ? "GPA " : "host address ",
		       json_object_get_string(gpa ? gpa : addr));
	}
	printf("%s\n", found > SHARERS_SHOWN ? ", ..." : "");
}

void sharers_print(struct guest_mem *mem, uint64_t frame)
{
	struct mt_err err;
	struct json_object *sharers = sharers_json(mem, frame, &err);

	if (!sharers)
		printf("  its users: %s\n", err.msg);
	for (size_t i = 0; sharers && i < json_object_array_length(sharers); i++)
		print_sharer(json_object_array_get_idx(sharers, i));
	json_object_put(sharers);
}
