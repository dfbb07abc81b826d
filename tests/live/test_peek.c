/* SPDX-License-Identifier: MIT */
/*
 * test_peek.c - pages looked at through the daemon, wherever they are, are left there
 *
 * The test is the VMM: it fills a region with pages that compress, that don't and zeros, has them
 * squeezed out, and compares what "peek" says with what it wrote.
 */
#include "live/live.h"
#include "common/mt_test.h"

#include <inttypes.h>
#include <memtide/memtide.h>
#include <sys/mman.h>

#define PAGES    8192u
#define PAGE     4096u
#define STATES   9
#define ZERO     3
#define SHARED   4
#define ZIPPED   5
#define SWAPPED  6
#define RELEASED 7

static struct live_daemon d;
static uint8_t *memory;

/* What page @number holds: by its number zeros, something that compresses (some of it the same in
 * many pages), or noise. */
static void content(uint32_t number, uint8_t *page)
{
	uint64_t random = (number % 16 == 4 ? 4 : number) * 0x9e3779b97f4a7c15ULL + 1;

	memset(page, 0, PAGE);
	for (unsigned int i = 0; number % 8 && i < PAGE / 8; i++) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		if (number % 2 || i % 8 == 0)
			memcpy(page + i * 8, &random, 8);
	}
}

static struct mt_vm *start(void)
{
	struct mt_vm_options options = {
		.struct_size = sizeof(options), .name = "v", .socket = d.socket};
	struct mt_vm_error err = {0};
	struct mt_vm *vm = NULL;

	memory = mmap(NULL, PAGES * (size_t)PAGE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MT_CHECK(memory != MAP_FAILED);
	madvise(memory, PAGES * (size_t)PAGE, MADV_NOHUGEPAGE);
	if (mt_vm_new(&options, &vm, &err) ||
	    mt_vm_region_add(vm, memory, PAGES * (size_t)PAGE, &err))
		MT_FAIL("%s", err.message);
	for (uint32_t i = 0; i < PAGES; i++)
		content(i, memory + (size_t)i * PAGE);
	return vm;
}

static unsigned int hex_byte(const char *text)
{
	char two[3] = {text[0], text[1], 0};

	return (unsigned int)strtoul(two, NULL, 16);
}

/* Number of pages in each state. */
static void census(unsigned int counts[STATES])
{
	memset(counts, 0, STATES * sizeof(*counts));
	for (uint32_t i = 0; i < PAGES; i += 512) {
		json_object *answer = live_ask(
			&d, "{\"cmd\":\"states\",\"vm\":\"v\",\"addr\":%" PRIu64 ",\"pages\":512}",
			(uint64_t)(uintptr_t)memory + (uint64_t)i * PAGE);
		const char *data = json_object_get_string(json_object_object_get(answer, "data"));

		MT_CHECK_EQ(strlen(data), 1024);
		for (unsigned int k = 0; k < 512; k++)
			counts[hex_byte(data + 2 * k) & 63]++;
		json_object_put(answer);
	}
}

/* Part of page @number, as the daemon tells it, against what it must hold. */
static void peek(uint32_t number, uint32_t offset, uint32_t bytes, const uint8_t *want)
{
	json_object *answer =
		live_ask(&d, "{\"cmd\":\"peek\",\"vm\":\"v\",\"addr\":%" PRIu64 ",\"bytes\":%u}",
			 (uint64_t)(uintptr_t)memory + (uint64_t)number * PAGE + offset, bytes);
	const char *data = json_object_get_string(json_object_object_get(answer, "data"));
	uint32_t expected = bytes < PAGE - offset ? bytes : PAGE - offset;

	MT_CHECK_EQ(strlen(data), expected * 2);
	for (uint32_t i = 0; i < expected; i++)
		if (hex_byte(data + 2 * i) != want[offset + i])
			MT_FAIL("page %u byte %u is %02x, not %02x; the page's state is %lld",
				number, offset + i, hex_byte(data + 2 * i), want[offset + i],
				(long long)json_object_get_int64(
					json_object_object_get(answer, "state")));
	json_object_put(answer);
}

/* Squeezed, are there pages of every state? */
static bool all_states(unsigned int counts[STATES])
{
	census(counts);
	return counts[ZERO] > 100 && counts[SHARED] > 50 && counts[ZIPPED] > 100 &&
	       counts[SWAPPED] > 100;
}

static uint64_t faults_of(struct mt_vm *vm)
{
	struct mt_vm_stats stats = {.struct_size = sizeof(stats)};

	MT_CHECK(!mt_vm_stats_read(vm, &stats));
	return stats.faults;
}

/* Looks at every third page. Return: did those that were out stay there? */
static bool stay_where_they_are(struct mt_vm *vm)
{
	unsigned int before[STATES], after[STATES], moved = 0;
	uint64_t faults = faults_of(vm);
	uint8_t page[PAGE];

	census(before);
	for (uint32_t i = 0; i < PAGES; i += 3) {
		content(i, page);
		if (i >= 100 && i < 120)
			memset(page, 0, sizeof(page));
		peek(i, i % 2 ? 3600 : 8, 512, page);
	}
	census(after);
	faults = faults_of(vm) - faults;
	for (unsigned int i = 0; i < STATES; i++)
		moved += before[i] > after[i] ? before[i] - after[i] : 0;
	printf("# %u pages moved by themselves, %llu faults\n", moved, (unsigned long long)faults);
	/* The monitor's own second chances go on meanwhile; 2,731 pages were looked at. */
	return moved < 200 && faults < 20;
}

MT_TEST("pages of every state are read as they are, and stay where they are")
{
	unsigned int counts[STATES];
	struct mt_vm *vm;

	live_start(&d, "256M");
	vm = start();
	live_set(&d, "v", "target_max", "12M");
	MT_CHECK(live_wait_at_least(&d, "v", "swapped", 1024));
	MT_CHECK(live_wait_at_most(&d, "v", "held", 12 * 1024));
	MT_CHECK(!mt_vm_region_discard(vm, memory + 100 * PAGE, 20 * PAGE));
	MT_CHECK(LIVE_WAIT(all_states(counts)));
	for (unsigned int i = 0; i < STATES; i++)
		printf("# state %u: %u pages\n", i, counts[i]);
	MT_CHECK_EQ(counts[RELEASED], 20);
	/* The squeezing may not be over; were it the looking that moves pages, it would not end. */
	MT_CHECK(LIVE_WAIT(stay_where_they_are(vm)));
	live_check(&d, "v");
	live_stop(&d);
}

/* The frame of page @number; -1: it is in none now. */
static int64_t frame_of(uint32_t number)
{
	json_object *answer =
		live_ask(&d, "{\"cmd\":\"peek\",\"vm\":\"v\",\"addr\":%" PRIu64 ",\"bytes\":1}",
			 (uint64_t)(uintptr_t)memory + (uint64_t)number * PAGE);
	bool shared = json_object_get_int64(json_object_object_get(answer, "state")) == SHARED;
	int64_t frame = json_object_get_int64(json_object_object_get(answer, "place"));

	json_object_put(answer);
	return shared ? frame : -1;
}

/* Pages that the monitor says are in @frame, all asked for; each must hold what the others do. */
static unsigned int pages_in(int64_t frame)
{
	unsigned int found = 0;
	uint64_t from = 0;

	do {
		json_object *answer =
			live_ask(&d,
				 "{\"cmd\":\"frame_pages\",\"vm\":\"v\",\"frame\":%" PRId64
				 ",\"from\":%" PRIu64 "}",
				 frame, from);
		const char *data = json_object_get_string(json_object_object_get(answer, "data"));

		MT_CHECK(strlen(data) % 16 == 0 && strlen(data) <= 1024);
		for (size_t i = 0; i < strlen(data); i += 16, found++) {
			uint64_t addr = 0;

			for (unsigned int k = 0; k < 8; k++)
				addr |= (uint64_t)hex_byte(data + i + 2 * k) << (8 * k);
			MT_CHECK(addr >= (uint64_t)(uintptr_t)memory);
			addr = (addr - (uint64_t)(uintptr_t)memory) / PAGE;
			MT_CHECK(addr < PAGES && addr % 16 == 4);
		}
		from = (uint64_t)json_object_get_int64(json_object_object_get(answer, "place"));
		json_object_put(answer);
	} while (from);
	return found;
}

/* What the daemon counts, by its answer. */
static int64_t users_of(int64_t frame)
{
	json_object *answer =
		live_ask(&d, "{\"cmd\":\"sharers\",\"vm\":\"v\",\"frame\":%" PRId64 "}", frame);
	json_object *list = json_object_object_get(answer, "sharers");
	int64_t pages = 0;

	if (json_object_array_length(list) == 1)
		pages = json_object_get_int64(
			json_object_object_get(json_object_array_get_idx(list, 0), "pages"));
	json_object_put(answer);
	return pages;
}

/* "memtide translate" tells the same. */
static void translate_tells(uint32_t number, int64_t frame)
{
	char gpa[32], text[8192] = "", want[64];
	const char *argv[] = {
		getenv("MEMTIDE_EXE"), "--socket", d.socket, "translate", "v", "--gpa", gpa, NULL};

	snprintf(gpa, sizeof(gpa), "%x", number * PAGE);
	MT_CHECK_EQ(live_call(argv, text, sizeof(text)), 0);
	snprintf(want, sizeof(want), "shared, frame %lld of its share group", (long long)frame);
	if (!strstr(text, want) || !strstr(text, " pages of v: GPA 0x"))
		MT_FAIL("%s", text);
	printf("# %s", strchr(text, '\n') + 1);
}

MT_TEST("the pages that share a frame are found, all of them, and named")
{
	uint32_t number = 4;
	int64_t frame = -1, users;

	live_start(&d, "256M");
	start();
	live_set(&d, "v", "target_max", "12M");
	MT_CHECK(live_wait_at_least(&d, "v", "sharedFrames", 200 * 4));
	MT_CHECK(live_wait_at_most(&d, "v", "held", 12 * 1024));
	for (; number < PAGES && frame < 0; number += frame < 0 ? 16 : 0)
		frame = frame_of(number);
	MT_CHECK(frame >= 0);
	/* Pages come and go; the daemon hears of it a moment later. */
	MT_CHECK(LIVE_WAIT((users = users_of(frame)) > 100 && pages_in(frame) == users));
	printf("# frame %lld has %lld users\n", (long long)frame, (long long)users);
	MT_CHECK_EQ(pages_in(frame + 1000000), 0);
	translate_tells(number, frame);
	live_check(&d, "v");
	live_stop(&d);
}

/* Words of 64 pages from page @number on, against what they must hold. */
static void words(uint32_t number, uint32_t offset)
{
	json_object *answer =
		live_ask(&d, "{\"cmd\":\"words\",\"vm\":\"v\",\"addr\":%" PRIu64 ",\"pages\":64}",
			 (uint64_t)(uintptr_t)memory + (uint64_t)number * PAGE + offset);
	const char *data = json_object_get_string(json_object_object_get(answer, "data"));
	uint32_t expected = PAGES - number < 64 ? PAGES - number : 64;
	uint8_t page[PAGE];

	MT_CHECK_EQ(strlen(data), expected * 16);
	for (uint32_t i = 0; i < expected; i++) {
		content(number + i, page);
		for (unsigned int k = 0; k < 8; k++)
			if (hex_byte(data + 16 * i + 2 * k) != page[offset + k])
				MT_FAIL("word at %u of page %u is wrong", offset, number + i);
	}
	json_object_put(answer);
}

MT_TEST("words of many pages at once are what each page holds, wherever it is")
{
	unsigned int counts[STATES];

	live_start(&d, "256M");
	start();
	live_set(&d, "v", "target_max", "12M");
	MT_CHECK(live_wait_at_least(&d, "v", "swapped", 1024));
	MT_CHECK(live_wait_at_most(&d, "v", "held", 12 * 1024));
	MT_CHECK(LIVE_WAIT(all_states(counts)));
	for (uint32_t i = 0; i < PAGES; i += 251)
		words(i, i % 512 * 8);
	words(PAGES - 1, 4088);
	live_stop(&d);
}

/* A refusal, with its code. */
static void refused(const char *what, const char *code, int64_t addr, int count)
{
	json_object *answer =
		live_try(&d, "{\"cmd\":\"%s\",\"vm\":\"v\",\"addr\":%lld,\"%s\":%d}", what,
			 (long long)addr, !strcmp(what, "peek") ? "bytes" : "pages", count);

	MT_CHECK_STR(json_object_get_string(json_object_object_get(answer, "code")), code);
	json_object_put(answer);
}

MT_TEST("addresses outside of the guest and senseless sizes are refused")
{
	int64_t at;

	live_start(&d, "128M");
	start();
	at = (int64_t)(uintptr_t)memory;
	refused("peek", "EFAULT", at - 1, 8);
	refused("peek", "EFAULT", at + PAGES * (int64_t)PAGE, 8);
	refused("peek", "EFAULT", 0, 8);
	refused("peek", "EINVAL", at, 0);
	refused("peek", "EINVAL", at, 513);
	refused("peek", "EINVAL", -1, 8);
	refused("states", "EFAULT", at + PAGES * (int64_t)PAGE, 8);
	refused("states", "EINVAL", at, 100000);
	refused("words", "EFAULT", at + PAGES * (int64_t)PAGE, 8);
	refused("words", "EFAULT", at + 4, 8);
	refused("words", "EINVAL", at, 513);
	live_stop(&d);
}

MT_TEST_MAIN
