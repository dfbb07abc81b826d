/* SPDX-License-Identifier: MIT */
/*
 * checked_page.c - makes and checks the pages that checked_page.h describes.
 *
 * How: a splitmix64 sequence started from a hash of (seed, page number, version, kind) supplies all
 * that is random in a page. Noise pages are that sequence itself. Text pages are 16-byte phrases
 * chosen by it, which lz4 stores as one short match each. Half pages are 64-byte records of 20
 * random bytes and 44 bytes of phrase. Verifying builds the expected page on the stack, in a
 * microsecond or two, and compares all of it, so that nothing escapes; only when it differs is the
 * header read to find out what the page is instead.
 */
#include "checked_page.h"

#include <string.h>

#define CP_PHRASE       16u
#define CP_PHRASES      12u
#define CP_RECORD       64u
#define CP_RECORD_NOISE 20u

struct cp_header {
	uint32_t magic;
	uint32_t kind;
	uint64_t seed;
	uint64_t page_no;
	uint32_t version;
	uint32_t reserved;
	uint64_t checksum; /* of the payload */
};

#define CP_PAYLOAD (CP_PAGE_SIZE - sizeof(struct cp_header))

/* Phrases of sixteen bytes (more than twelve, and text would not reach 25 %), tails of forty-four.
 */
static const char phrases[CP_PHRASES][CP_PHRASE + 1] = {
	"the tide comes. ", "memory of guests", " is moved aside,", " and comes back ",
	"just as it was: ", "no byte changes ", "between one read", " and the next.  ",
	"struct page *p; ", "return -EAGAIN; ", "<td>value</td>  ", "\"name\": \"host\", ",
};

static const char tails[4][CP_RECORD - CP_RECORD_NOISE + 1] = {
	"|user=operator|state=running|disk=/dev/vda1|",
	"|user=database|state=waiting|disk=/dev/vdb1|",
	"|session open |cache entry  |refcount=1    |",
	"{\"type\":\"record\",\"valid\":true,\"next\":null}  ",
};

uint64_t cp_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* A well-mixed starting state: neighbouring pages and versions get unrelated sequences. */
static uint64_t start_state(uint64_t seed, uint64_t page_no, uint32_t version, enum cp_kind kind)
{
	uint64_t state = seed;

	state = cp_random(&state) ^ page_no;
	state = cp_random(&state) ^ ((uint64_t)version << 8 | (uint64_t)kind);
	return cp_random(&state);
}

static uint64_t checksum(const unsigned char *payload)
{
	uint64_t sum = 0x6d656d74696465ull;
	uint64_t word;
	size_t i;

	for (i = 0; i < CP_PAYLOAD; i += sizeof(word)) {
		memcpy(&word, payload + i, sizeof(word));
		sum = (sum ^ word) * 0x9fb21c651e98df25ull;
		sum ^= sum >> 32;
	}
	return sum;
}

static void fill_noise(unsigned char *at, size_t bytes, uint64_t *state)
{
	uint64_t word;

	for (; bytes >= sizeof(word); at += sizeof(word), bytes -= sizeof(word)) {
		word = cp_random(state);
		memcpy(at, &word, sizeof(word));
	}
	word = cp_random(state);
	memcpy(at, &word, bytes);
}

static void fill_text(unsigned char *at, size_t bytes, uint64_t *state)
{
	uint64_t choices = 0;
	unsigned int left = 0;
	size_t n;

	for (; bytes; at += n, bytes -= n) {
		if (!left) {
			choices = cp_random(state);
			left = 16;
		}
		n = bytes < CP_PHRASE ? bytes : CP_PHRASE;
		memcpy(at, phrases[(choices & 15) % CP_PHRASES], n);
		choices >>= 4;
		left--;
	}
}

static void fill_half(unsigned char *at, size_t bytes, uint64_t *state)
{
	size_t noise, tail;

	for (; bytes; at += noise + tail, bytes -= noise + tail) {
		noise = bytes < CP_RECORD_NOISE ? bytes : CP_RECORD_NOISE;
		tail = bytes < CP_RECORD ? bytes - noise : CP_RECORD - noise;
		fill_noise(at, noise, state);
		memcpy(at + noise, tails[cp_random(state) & 3], tail);
	}
}

void cp_fill(void *page, uint64_t seed, uint64_t page_no, uint32_t version, enum cp_kind kind)
{
	uint64_t state = start_state(seed, page_no, version, kind);
	struct cp_header header = {
		.magic = CP_MAGIC,
		.kind = kind,
		.seed = seed,
		.page_no = page_no,
		.version = version,
	};
	unsigned char *payload = (unsigned char *)page + sizeof(header);

	if (kind == CP_ZERO) {
		memset(page, 0, CP_PAGE_SIZE);
		return;
	}
	if (kind == CP_TEXT)
		fill_text(payload, CP_PAYLOAD, &state);
	else if (kind == CP_HALF)
		fill_half(payload, CP_PAYLOAD, &state);
	else
		fill_noise(payload, CP_PAYLOAD, &state);
	header.checksum = checksum(payload);
	memcpy(page, &header, sizeof(header));
}

static int all_zero(const unsigned char *page)
{
	return !page[0] && !memcmp(page, page + 1, CP_PAGE_SIZE - 1);
}

/* The page is not what it should be: say what it is. */
static enum cp_verdict describe(const void *page, uint64_t seed, uint64_t page_no, uint32_t version,
				enum cp_kind kind)
{
	unsigned char other[CP_PAGE_SIZE];
	struct cp_header header;

	if (kind == CP_ZERO)
		return CP_NOT_ZERO;
	if (all_zero(page))
		return CP_UNEXPECTED_ZERO;
	memcpy(&header, page, sizeof(header));
	if (header.magic != CP_MAGIC || header.kind == CP_ZERO || header.kind >= CP_KINDS)
		return CP_BAD_HEADER;
	cp_fill(other, header.seed, header.page_no, header.version, (enum cp_kind)header.kind);
	if (memcmp(page, other, CP_PAGE_SIZE))
		return CP_BAD_CONTENT;
	if (header.seed != seed)
		return CP_WRONG_SEED;
	if (header.page_no != page_no)
		return CP_WRONG_PAGE;
	return header.version != version ? CP_WRONG_VERSION : CP_WRONG_KIND;
}

enum cp_verdict cp_verify(const void *page, uint64_t seed, uint64_t page_no, uint32_t version,
			  enum cp_kind kind)
{
	unsigned char expected[CP_PAGE_SIZE];

	if (kind == CP_ZERO)
		return all_zero(page) ? CP_OK : CP_NOT_ZERO;
	cp_fill(expected, seed, page_no, version, kind);
	if (!memcmp(page, expected, CP_PAGE_SIZE))
		return CP_OK;
	return describe(page, seed, page_no, version, kind);
}

size_t cp_first_difference(const void *page, uint64_t seed, uint64_t page_no, uint32_t version,
			   enum cp_kind kind)
{
	unsigned char expected[CP_PAGE_SIZE];
	const unsigned char *bytes = page;
	size_t i;

	cp_fill(expected, seed, page_no, version, kind);
	for (i = 0; i < CP_PAGE_SIZE && bytes[i] == expected[i]; i++)
		;
	return i;
}

enum cp_kind cp_kind_for(uint64_t seed, uint64_t page_no, const struct cp_mix *mix)
{
	uint64_t state = start_state(~seed, page_no, 0, CP_ZERO);
	unsigned int roll = (unsigned int)(cp_random(&state) % 100);

	if (roll < mix->zero)
		return CP_ZERO;
	if (roll < mix->zero + mix->text)
		return CP_TEXT;
	if (roll < mix->zero + mix->text + mix->half)
		return CP_HALF;
	return CP_NOISE;
}

const char *cp_verdict_name(enum cp_verdict verdict)
{
	static const char *const names[CP_VERDICTS] = {
		"ok",         "unexpected-zero", "not-zero",   "bad-header",  "wrong-seed",
		"wrong-page", "wrong-version",   "wrong-kind", "bad-content",
	};

	return (unsigned int)verdict < CP_VERDICTS ? names[verdict] : "unknown";
}

const char *cp_kind_name(enum cp_kind kind)
{
	static const char *const names[CP_KINDS] = {"zero", "text", "half", "noise"};

	return (unsigned int)kind < CP_KINDS ? names[kind] : "unknown";
}
