/* SPDX-License-Identifier: MIT */
/* guest_mem.c - a live VM's memory by guest physical address; see guest_mem.h */
#include "cli/guest_mem.h"
#include "cli/fields.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PEEK_MS         35000
#define STATES_PAGES    512u
#define PAGEMAP_PRESENT (1ULL << 63)
#define PAGEMAP_PFN     ((1ULL << 55) - 1)
static const char *const state_names[GUEST_STATES] = {"untouched", "resident", "nominated",
						      "zero",      "shared",   "zipped",
						      "swapped",   "released", "failed"};

const char *guest_state_name(unsigned int state)
{
	return state < GUEST_STATES ? state_names[state] : "unknown";
}

int guest_mem_open(struct guest_mem *mem, const char *socket, const char *vm, struct mt_err *err)
{
	struct json_object *request = client_request("show"), *answer, *object;
	char path[64];
	int rc;

	mem->vm = vm;
	mem->pagemap_fd = -1;
	for (unsigned int i = 0; i < GUEST_CACHED; i++)
		mem->cache[i].tag = UINT64_MAX;
	rc = client_open(&mem->client, socket, err);
	if (rc) {
		json_object_put(request);
		return rc;
	}
	json_object_object_add(request, "vm", json_object_new_string(vm));
	rc = client_ask(&mem->client, request, CLIENT_ANSWER_MS, &answer, err);
	if (!rc) {
		object = json_object_object_get(answer, "vm");
		snprintf(path, sizeof(path), "/proc/%" PRIu64 "/pagemap", field_u64(object, "pid"));
		rc = guest_layout_regions(&mem->layout, object, err);
		if (!rc)
			mem->pagemap_fd = open(path, O_RDONLY | O_CLOEXEC);
		json_object_put(answer);
	}
	if (rc)
		guest_mem_close(mem);
	return rc;
}

int guest_mem_place(struct guest_mem *mem, uint64_t below_4g_bytes, struct qmp *qmp,
		    struct mt_err *err)
{
	if (qmp && !below_4g_bytes)
		return guest_layout_qemu(&mem->layout, qmp, err);
	return guest_layout_pc(&mem->layout, below_4g_bytes, err);
}

void guest_mem_close(struct guest_mem *mem)
{
	client_close(&mem->client);
	if (mem->pagemap_fd >= 0)
		close(mem->pagemap_fd);
	mem->pagemap_fd = -1;
}

static struct json_object *look_request(const struct guest_mem *mem, const char *cmd, uint64_t addr,
					const char *key, unsigned int count)
{
	struct json_object *request = client_request(cmd);

	json_object_object_add(request, "vm", json_object_new_string(mem->vm));
	json_object_object_add(request, "addr", json_object_new_int64((int64_t)addr));
	json_object_object_add(request, key, json_object_new_int((int)count));
	return request;
}

/* Hex to bytes; what is too short is an answer that can't be believed. */
static int read_hex(struct json_object *answer, uint8_t *bytes, unsigned int count,
		    struct mt_err *err)
{
	struct json_object *data = json_object_object_get(answer, "data");
	const char *text =
		json_object_is_type(data, json_type_string) ? json_object_get_string(data) : "";

	if (strlen(text) < 2 * (size_t)count)
		return mt_err_set(err, -EPROTO, "the daemon's answer has too few bytes");
	for (unsigned int i = 0; i < count; i++) {
		char two[3] = {text[2 * i], text[2 * i + 1], 0};

		bytes[i] = (uint8_t)strtoul(two, NULL, 16);
	}
	return 0;
}

static int mem_load(void *ctx, uint64_t gpa, uint64_t *ret)
{
	struct guest_mem *mem = ctx;
	struct json_object *answer = NULL;
	uint64_t addr, tag;
	unsigned int slot;
	int rc = guest_layout_address(&mem->layout, MT_GPA(gpa), &addr);

	if (rc)
		return rc;
	tag = mt_align_down(addr, GUEST_CHUNK);
	slot = tag / GUEST_CHUNK % GUEST_CACHED;
	if (mem->cache[slot].tag != tag) {
		rc = client_ask(&mem->client, look_request(mem, "peek", tag, "bytes", GUEST_CHUNK),
				PEEK_MS, &answer, &mem->err);
		if (rc)
			return rc == -EFAULT ? -ENXIO : rc;
		rc = read_hex(answer, mem->cache[slot].bytes, GUEST_CHUNK, &mem->err);
		json_object_put(answer);
		mem->cache[slot].tag = rc ? UINT64_MAX : tag;
		if (rc)
			return rc;
	}
	memcpy(ret, mem->cache[slot].bytes + (addr - tag), sizeof(*ret));
	return 0;
}

struct mt_memory guest_mem_memory(struct guest_mem *mem)
{
	return (struct mt_memory){.ctx = mem, .load = mem_load};
}

static uint64_t machine_pfn(const struct guest_mem *mem, uint64_t addr)
{
	uint64_t entry;

	if (mem->pagemap_fd < 0 || pread(mem->pagemap_fd, &entry, sizeof(entry),
					 (off_t)(addr >> MT_PAGE_SHIFT) * 8) != sizeof(entry))
		return UINT64_MAX;
	/* Without privileges the kernel says 0. */
	return (entry & PAGEMAP_PRESENT) && (entry & PAGEMAP_PFN) ? entry & PAGEMAP_PFN
								  : UINT64_MAX;
}

int guest_mem_page(struct guest_mem *mem, mt_gpa_t gpa, struct guest_page *ret)
{
	struct json_object *answer = NULL;
	int rc = guest_layout_address(&mem->layout, gpa, &ret->host_addr);

	if (rc)
		return rc;
	rc = client_ask(&mem->client,
			look_request(mem, "peek", mt_align_down(ret->host_addr, 8), "bytes", 1),
			PEEK_MS, &answer, &mem->err);
	if (rc)
		return rc;
	ret->state = (unsigned int)field_u64(answer, "state");
	ret->place = field_u64(answer, "place");
	ret->length = field_u64(answer, "length");
	/* A shared frame may be mapped in the page's place. */
	ret->machine_pfn = ret->state == GUEST_RESIDENT || ret->state == GUEST_SHARED
				   ? machine_pfn(mem, ret->host_addr)
				   : UINT64_MAX;
	json_object_put(answer);
	return 0;
}

int guest_mem_words(struct guest_mem *mem, uint64_t addr, unsigned int count, uint64_t *ret)
{
	struct json_object *answer = NULL, *data;
	int rc = client_ask(&mem->client, look_request(mem, "words", addr, "pages", count), PEEK_MS,
			    &answer, &mem->err);

	if (rc)
		return rc;
	data = json_object_object_get(answer, "data");
	if (json_object_is_type(data, json_type_string))
		count = MT_MIN(count, (unsigned int)json_object_get_string_len(data) / 16);
	rc = read_hex(answer, (uint8_t *)ret, count * (unsigned int)sizeof(*ret), &mem->err);
	json_object_put(answer);
	return rc ? rc : (int)count;
}

/* States of one region's pages. */
static int region_states(struct guest_mem *mem, const struct guest_region *region, uint8_t *states,
			 struct mt_err *err)
{
	uint64_t pages = region->bytes >> MT_PAGE_SHIFT;
	int rc = 0;

	for (uint64_t i = 0; !rc && i < pages; i += STATES_PAGES) {
		unsigned int count = (unsigned int)MT_MIN(STATES_PAGES, pages - i);
		struct json_object *answer = NULL;

		rc = client_ask(&mem->client,
				look_request(mem, "states", region->addr + (i << MT_PAGE_SHIFT),
					     "pages", count),
				PEEK_MS, &answer, err);
		if (!rc)
			rc = read_hex(answer, states + i, count, err);
		json_object_put(answer);
	}
	return rc;
}

uint8_t *guest_mem_states(struct guest_mem *mem, struct mt_err *err)
{
	const struct guest_layout *layout = &mem->layout;
	uint8_t *states = calloc(layout->pages, 1);

	if (!states)
		mt_err_set(err, -ENOMEM, "no memory for a map of %" PRIu64 " pages", layout->pages);
	for (unsigned int i = 0; states && i < layout->region_count; i++) {
		const struct guest_region *region = &layout->regions[i];

		if (region_states(mem, region, states + region->first_page, err)) {
			free(states);
			states = NULL;
		}
	}
	return states;
}
