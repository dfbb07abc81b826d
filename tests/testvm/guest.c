/* SPDX-License-Identifier: MIT */
/*
 * guest.c - fill, verify, discard checked pages, and say exactly what is wrong with one
 *
 * A wrong page is printed with the kind of damage, which of its 64-byte lines differ, and what a
 * second look 20 ms later finds: damage that has passed points at a page that was put in place
 * before its content, damage that stays at a lost or exchanged one.
 */
#include "guest.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES    64u
#define ERRORS_SHOWN  20u
#define HUGE_BYTES    (2ull << 20)
#define DISCARD_PROBE 4u

double tv_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* Aligned to large pages, with a page on either side that nothing else is merged with. */
static unsigned char *map_region(uint64_t bytes, bool thp)
{
	uint64_t span = bytes + 2 * HUGE_BYTES;
	unsigned char *at =
		mmap(NULL, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	unsigned char *start;

	if (at == MAP_FAILED)
		return NULL;
	start = (unsigned char *)(((uintptr_t)at + HUGE_BYTES - 1) & ~(uintptr_t)(HUGE_BYTES - 1));
	if (mprotect(start, bytes, PROT_READ | PROT_WRITE))
		return NULL;
	madvise(start, bytes, thp ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	return start;
}

int tv_guest_init(struct tv_guest *guest, const struct tv_options *o)
{
	guest->o = o;
	for (unsigned int i = 0; i < o->regions; i++) {
		struct tv_region *region = &guest->regions[i];

		region->first = guest->pages;
		region->pages = o->mem_bytes / CP_PAGE_SIZE;
		region->base = map_region(o->mem_bytes, o->thp);
		if (!region->base)
			return -ENOMEM;
		guest->pages += region->pages;
	}
	guest->words = malloc(guest->pages * sizeof(*guest->words));
	if (!guest->words)
		return -ENOMEM;
	for (uint64_t i = 0; i < guest->pages; i++)
		atomic_init(&guest->words[i], TV_ZEROED);
	return 0;
}

static const struct tv_region *region_of(const struct tv_guest *guest, uint64_t page)
{
	return &guest->regions[page / guest->regions[0].pages];
}

void *tv_guest_at(const struct tv_guest *guest, uint64_t page)
{
	const struct tv_region *region = region_of(guest, page);

	return region->base + (page - region->first) * CP_PAGE_SIZE;
}

uint64_t tv_guest_region_end(const struct tv_guest *guest, uint64_t page)
{
	const struct tv_region *region = region_of(guest, page);

	return region->first + region->pages - 1;
}

bool tv_guest_trylock(struct tv_guest *guest, uint64_t page)
{
	return !(atomic_fetch_or_explicit(&guest->words[page], TV_LOCK, memory_order_acquire) &
		 TV_LOCK);
}

void tv_guest_lock(struct tv_guest *guest, uint64_t page)
{
	for (unsigned int tries = 0; !tv_guest_trylock(guest, page); tries++) {
		if (tries < 100)
			sched_yield();
		else
			usleep(200);
	}
}

void tv_guest_unlock(struct tv_guest *guest, uint64_t page)
{
	atomic_fetch_and_explicit(&guest->words[page], ~TV_LOCK, memory_order_release);
}

uint64_t tv_guest_trylock_run(struct tv_guest *guest, uint64_t page, uint64_t count)
{
	uint64_t end = tv_guest_region_end(guest, page), got = 0;

	while (got < count && page + got <= end && tv_guest_trylock(guest, page + got))
		got++;
	return got;
}

void tv_guest_unlock_run(struct tv_guest *guest, uint64_t page, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		tv_guest_unlock(guest, page + i);
}

static uint32_t word_of(const struct tv_guest *guest, uint64_t page)
{
	return atomic_load_explicit(&guest->words[page], memory_order_relaxed);
}

/* A page's kind changes with its versions, so that pages move between the stores. */
static enum cp_kind kind_of(const struct tv_guest *guest, uint64_t page, uint32_t word)
{
	if (word & TV_ZEROED)
		return CP_ZERO;
	return cp_kind_for(guest->o->seed, page * 31 + (word & TV_VERSION), &guest->o->mix);
}

void tv_fill(const struct tv_guest *guest, void *at, uint64_t page, uint32_t word)
{
	cp_fill(at, guest->o->seed, page, word & TV_VERSION, kind_of(guest, page, word));
}

static enum cp_verdict verdict_of(const struct tv_guest *guest, const struct tv_page *page)
{
	return cp_verify(page->at, guest->o->seed, page->number, page->word & TV_VERSION,
			 kind_of(guest, page->number, page->word));
}

/* "lines 3-7 9": which 64-byte lines of @at differ from @want. */
static void describe_lines(const unsigned char *at, const unsigned char *want, char *text,
			   size_t room)
{
	unsigned int lines = CP_PAGE_SIZE / LINE_BYTES, start = lines;
	size_t used = (size_t)snprintf(text, room, "lines");

	for (unsigned int i = 0; i <= lines && used < room; i++) {
		bool differs =
			i < lines && memcmp(at + i * LINE_BYTES, want + i * LINE_BYTES, LINE_BYTES);

		if (differs && start == lines) {
			start = i;
		} else if (!differs && start != lines) {
			used += (size_t)snprintf(text + used, room - used,
						 start + 1 == i ? " %u" : " %u-%u", start, i - 1);
			start = lines;
		}
	}
}

static void show_wrong(struct tv_guest *guest, const struct tv_page *page, enum cp_verdict verdict,
		       const char *when)
{
	unsigned char seen[CP_PAGE_SIZE], want[CP_PAGE_SIZE];
	char lines[256];

	memcpy(seen, page->at, sizeof(seen));
	tv_fill(guest, want, page->number, page->word);
	describe_lines(seen, want, lines, sizeof(lines));
	usleep(20000);
	fprintf(stderr,
		"testvm %s: WRONG PAGE %llu at %p version %u%s kind %s (%s): %s, %s; starts with "
		"%016llx; again: %s\n",
		guest->o->name, (unsigned long long)page->number, page->at, page->word & TV_VERSION,
		page->word & TV_ZEROED ? " discarded" : "",
		cp_kind_name(kind_of(guest, page->number, page->word)), when,
		cp_verdict_name(verdict), lines, *(unsigned long long *)(void *)seen,
		cp_verdict_name(verdict_of(guest, page)));
}

bool tv_expect(struct tv_guest *guest, const struct tv_page *page, const char *when)
{
	enum cp_verdict verdict = verdict_of(guest, page);

	atomic_fetch_add_explicit(&guest->counts.verified, 1, memory_order_relaxed);
	if (verdict == CP_OK)
		return true;
	if (atomic_fetch_add(&guest->counts.errors, 1) < ERRORS_SHOWN)
		show_wrong(guest, page, verdict, when);
	return false;
}

bool tv_guest_verify(struct tv_guest *guest, uint64_t page, const char *when)
{
	struct tv_page expected = {tv_guest_at(guest, page), page, word_of(guest, page)};

	return tv_expect(guest, &expected, when);
}

void tv_guest_write(struct tv_guest *guest, uint64_t page)
{
	uint32_t word = TV_LOCK | ((word_of(guest, page) + 1) & TV_VERSION);

	tv_fill(guest, tv_guest_at(guest, page), page, word);
	atomic_store_explicit(&guest->words[page], word, memory_order_relaxed);
	atomic_fetch_add_explicit(&guest->counts.written, 1, memory_order_relaxed);
}

void tv_guest_discard(struct tv_guest *guest, uint64_t page, uint64_t count)
{
	void *at = tv_guest_at(guest, page);
	int rc = guest->vm ? mt_vm_region_discard(guest->vm, at, count * CP_PAGE_SIZE)
			   : madvise(at, count * CP_PAGE_SIZE, MADV_DONTNEED);

	if (rc) {
		fprintf(stderr, "testvm %s: discard of %llu pages from %llu: %d\n", guest->o->name,
			(unsigned long long)count, (unsigned long long)page, rc);
		atomic_fetch_add(&guest->counts.errors, 1);
		return;
	}
	for (uint64_t i = 0; i < count; i++)
		atomic_fetch_or_explicit(&guest->words[page + i], TV_ZEROED, memory_order_relaxed);
	atomic_fetch_add_explicit(&guest->counts.discarded, count, memory_order_relaxed);
}

void tv_guest_probe(struct tv_guest *guest, uint64_t page, uint64_t count)
{
	for (uint64_t i = 0; i < count && i < DISCARD_PROBE; i++) {
		tv_guest_verify(guest, page + i, "after discard");
		if (i % 2)
			tv_guest_write(guest, page + i);
	}
	if (count > DISCARD_PROBE)
		tv_guest_write(guest, page + count - 1);
}

/* Whatever is being done to the page, as a guest's processors and devices do: no race to report. */
__attribute__((no_sanitize("thread"))) void tv_guest_peek(const struct tv_guest *guest,
							  uint64_t page)
{
	(void)*(volatile unsigned char *)tv_guest_at(guest, page);
}

bool tv_guest_verify_all(struct tv_guest *guest, const char *when)
{
	bool right = true;

	for (uint64_t page = 0; page < guest->pages; page++) {
		tv_guest_lock(guest, page);
		right &= tv_guest_verify(guest, page, when);
		tv_guest_unlock(guest, page);
	}
	return right;
}
