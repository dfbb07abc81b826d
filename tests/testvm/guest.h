/* SPDX-License-Identifier: MIT */
/*
 * guest.h - the test VM's memory: checked pages, their versions and their locks
 *
 * Every page has one word outside the managed memory: its version (30 bits, going up for ever, so
 * that an old page never passes for a new one), whether it must read as zeros now, and a lock bit
 * that lets any number of threads write and verify at once. A page is looked at and changed only
 * under its lock; tv_guest_peek() is the exception: it touches without caring for the content.
 */
#ifndef MT_TESTVM_GUEST_H
#define MT_TESTVM_GUEST_H

#include "options.h"

#include <memtide/memtide.h>
#include <stdatomic.h>

#define TV_LOCK    (1u << 31)
#define TV_ZEROED  (1u << 30)
#define TV_VERSION (TV_ZEROED - 1)

struct tv_region {
	unsigned char *base;
	uint64_t first; /* number of its first page */
	uint64_t pages;
};

struct tv_counts {
	_Atomic uint64_t ops, verified, written, discarded, pinned, churned, forked, errors;
};

struct tv_guest {
	struct mt_vm *vm; /* NULL when unmanaged */
	const struct tv_options *o;
	struct tv_region regions[TV_MAX_REGIONS];
	uint64_t pages;
	_Atomic uint32_t *words;
	struct tv_counts counts;
	atomic_bool stop;
};

/* What a page should hold, and where it is; for tv_expect(). */
struct tv_page {
	const void *at;
	uint64_t number;
	uint32_t word;
};

/* Map the regions and the words. Return: 0 or -errno. */
int tv_guest_init(struct tv_guest *guest, const struct tv_options *o);

void *tv_guest_at(const struct tv_guest *guest, uint64_t page);

/* The last page of the region that holds @page. */
uint64_t tv_guest_region_end(const struct tv_guest *guest, uint64_t page);

bool tv_guest_trylock(struct tv_guest *guest, uint64_t page);
void tv_guest_lock(struct tv_guest *guest, uint64_t page);
void tv_guest_unlock(struct tv_guest *guest, uint64_t page);

/* Lock up to @count pages from @page on, within one region. Return: how many from the first on. */
uint64_t tv_guest_trylock_run(struct tv_guest *guest, uint64_t page, uint64_t count);
void tv_guest_unlock_run(struct tv_guest *guest, uint64_t page, uint64_t count);

/* These want the page locked. */
bool tv_guest_verify(struct tv_guest *guest, uint64_t page, const char *when);
void tv_guest_write(struct tv_guest *guest, uint64_t page);
void tv_guest_discard(struct tv_guest *guest, uint64_t page, uint64_t count);

/* After a discard: some are read at once, some written at once; the rest is left to chance. */
void tv_guest_probe(struct tv_guest *guest, uint64_t page, uint64_t count);

/* Fill @page with what it should hold with this word; compare any memory with it. */
void tv_fill(const struct tv_guest *guest, void *at, uint64_t page, uint32_t word);
bool tv_expect(struct tv_guest *guest, const struct tv_page *page, const char *when);

/* Read one byte without the lock, to race with everybody else. */
void tv_guest_peek(const struct tv_guest *guest, uint64_t page);

/* Lock, verify and unlock every page. Return: true when all are right. */
bool tv_guest_verify_all(struct tv_guest *guest, const char *when);

double tv_now(void);

#endif
