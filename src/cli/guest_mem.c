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
/* RAM up to this size lies below 4 GiB in every machine of QEMU. */
#define SMALL_RAM 0xb0000000ULL

static const char *const state_names[GUEST_STATES] = {"untouched", "resident", "nominated",
						      "zero",      "shared",   "zipped",
						      "swapped",   "released", "failed"};

const char *guest_state_name(unsigned int state)
{
	return state < GUEST_STATES ? state_names[state] : "unknown";
}

static int find_ram(struct guest_mem *mem, struct mt_err *err)
{
	struct json_object *request = client_request("show"), *answer, *vm, *regions, *first;
	char path[64];
	int rc;

	json_object_object_add(request, "vm", json_object_new_string(mem->vm));
	rc = client_ask(&mem->client, request, CLIENT_ANSWER_MS, &answer, err);
	if (rc)
		return rc;
	vm = json_object_object_get(answer, "vm");
	regions = json_object_object_get(vm, "regions");
	first = json_object_is_type(regions, json_type_array) && json_object_array_length(regions)
			? json_object_array_get_idx(regions, 0)
			: NULL;
	if (first) {
		mem->addr = field_u64(first, "addr");
		mem->bytes = field_u64(first, "bytes");
		snprintf(path, sizeof(path), "/proc/%" PRIu64 "/pagemap", field_u64(vm, "pid"));
		mem->pagemap_fd = open(path, O_RDONLY | O_CLOEXEC);
	} else {
		rc = mt_err_set(err, -ENXIO, "VM '%s' has no managed memory", mem->vm);
	}
	json_object_put(answer);
	return rc;
}

/* Is the RAM QEMU has at @gpa what we take it for? */
static bool agrees(const struct guest_mem *mem, struct qmp *qmp, mt_gpa_t gpa)
{
	uint64_t ours, theirs;
	struct mt_err err;

	return !guest_mem_host_address(mem, gpa, &ours) &&
	       !qmp_host_address(qmp, gpa, &theirs, &err) && ours == theirs;
}

/* How much of RAM lies below 4 GiB: all, what was told, or what QEMU says. */
static int find_hole(struct guest_mem *mem, uint64_t told, struct qmp *qmp, struct mt_err *err)
{
	static const uint64_t usual[] = {0xc0000000, 0x80000000, 0xe0000000, 0xb0000000};
	mt_gpa_t low = MT_GPA(16u << 20), high = MT_GPA(GUEST_4G);

	mem->below_4g = told ? MT_MIN(told, mem->bytes) : mem->bytes;
	if (told || (mem->bytes < SMALL_RAM && !qmp))
		return 0;
	if (!qmp)
		return mt_err_set(err, -EINVAL,
				  "where this much RAM lies depends on the machine; give --qmp, or "
				  "--below-4g (3G for pc, 2G for q35)");
	if (mem->bytes < SMALL_RAM)
		return agrees(mem, qmp, low)
			       ? 0
			       : mt_err_set(err, -EINVAL, "the QMP socket is not that of VM '%s'",
					    mem->vm);
	for (size_t i = 0; i < MT_ARRAY_SIZE(usual); i++) {
		mem->below_4g = MT_MIN(usual[i], mem->bytes);
		if (agrees(mem, qmp, low) && agrees(mem, qmp, MT_GPA(mem->below_4g - 4096)) &&
		    (mem->below_4g == mem->bytes || agrees(mem, qmp, high)))
			return 0;
	}
	return mt_err_set(err, -EINVAL,
			  "QEMU has RAM in another order than known, or the QMP socket is not that "
			  "of VM '%s'; give --below-4g",
			  mem->vm);
}

int guest_mem_open(struct guest_mem *mem, const char *socket, const char *vm,
		   uint64_t below_4g_bytes, struct qmp *qmp, struct mt_err *err)
{
	int rc = client_open(&mem->client, socket, err);

	if (rc)
		return rc;
	mem->vm = vm;
	mem->pagemap_fd = -1;
	for (unsigned int i = 0; i < GUEST_CACHED; i++)
		mem->cache[i].tag = UINT64_MAX;
	rc = find_ram(mem, err);
	if (!rc)
		rc = find_hole(mem, below_4g_bytes, qmp, err);
	if (rc)
		guest_mem_close(mem);
	return rc;
}

void guest_mem_close(struct guest_mem *mem)
{
	client_close(&mem->client);
	if (mem->pagemap_fd >= 0)
		close(mem->pagemap_fd);
	mem->pagemap_fd = -1;
}

int guest_mem_host_address(const struct guest_mem *mem, mt_gpa_t gpa, uint64_t *ret)
{
	uint64_t offset = gpa.a;

	if (gpa.a >= GUEST_4G)
		offset = gpa.a - GUEST_4G + mem->below_4g;
	else if (gpa.a >= mem->below_4g)
		return -ENXIO;
	if (offset >= mem->bytes)
		return -ENXIO;
	*ret = mem->addr + offset;
	return 0;
}

mt_gpa_t guest_mem_gpa(const struct guest_mem *mem, uint64_t offset)
{
	return MT_GPA(offset < mem->below_4g ? offset : offset - mem->below_4g + GUEST_4G);
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
	int rc = guest_mem_host_address(mem, MT_GPA(gpa), &addr);

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
	int rc = guest_mem_host_address(mem, gpa, &ret->host_addr);

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
	ret->machine_pfn =
		ret->state == GUEST_RESIDENT ? machine_pfn(mem, ret->host_addr) : UINT64_MAX;
	json_object_put(answer);
	return 0;
}

uint8_t *guest_mem_states(struct guest_mem *mem, uint64_t *ret_pages, struct mt_err *err)
{
	uint64_t pages = mem->bytes >> MT_PAGE_SHIFT;
	uint8_t *states = calloc(pages, 1);

	if (!states)
		mt_err_set(err, -ENOMEM, "no memory for a map of %" PRIu64 " pages", pages);
	for (uint64_t i = 0; states && i < pages; i += STATES_PAGES) {
		unsigned int count = (unsigned int)MT_MIN(STATES_PAGES, pages - i);
		struct json_object *answer = NULL;
		int rc = client_ask(&mem->client,
				    look_request(mem, "states", mem->addr + (i << MT_PAGE_SHIFT),
						 "pages", count),
				    PEEK_MS, &answer, err);

		if (!rc)
			rc = read_hex(answer, states + i, count, err);
		json_object_put(answer);
		if (rc) {
			free(states);
			states = NULL;
		}
	}
	*ret_pages = pages;
	return states;
}
