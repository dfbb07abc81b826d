/* SPDX-License-Identifier: MIT */
/*
 * peek.c - look at a guest page wherever it is, and leave it there; see peek.h
 *
 * Guest RAM is read through the kernel (process_vm_readv), so that a region that is unmapped at
 * this moment is an error and not the VMM's end; and only if the page is present, so that reading
 * brings nothing in. Should it leave in between, the read waits for it like a guest's touch: rare,
 * and right.
 */
#include "monitor/peek.h"
#include "monitor/swap_sum.h"

#include <errno.h>
#include <lz4.h>
#include <poll.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define PEEK_TRIES   50
#define PEEK_WAIT_MS 1

static void peek_unpack(struct mt_pager *pager, struct mt_peek *peek)
{
	const void *data;
	mt_gpn_t owner;

	peek->length = mt_zip_get(pager->zip, (mt_zref_t){peek->place}, &data, &owner);
	peek->copied = owner.n == peek->gpn.n &&
		       LZ4_decompress_safe(data, (char *)peek->page, (int)peek->length,
					   (int)MT_PAGE_SIZE) == (int)MT_PAGE_SIZE;
}

/* The pager's part. */
static bool peek_look(struct mt_pager *pager, void *arg)
{
	struct mt_peek *peek = arg;
	const struct mt_region *region = mt_region_of_addr(&pager->regions, peek->addr);

	peek->gpn = MT_GPN_NONE;
	peek->copied = false;
	if (!region)
		return true;
	peek->gpn = mt_region_gpn(region, peek->addr);
	peek->at = mt_region_addr(region, peek->gpn);
	peek->state = mt_page_state(&pager->map, peek->gpn);
	peek->place = 0;
	peek->length = 0;
	switch (peek->state) {
	case MT_PAGE_UNTOUCHED:
	case MT_PAGE_ZERO:
	case MT_PAGE_RELEASED:
		memset(peek->page, 0, sizeof(peek->page));
		peek->copied = true;
		break;
	case MT_PAGE_NOMINATED:
		peek->place = mt_page_place(&pager->map, peek->gpn);
		memcpy(peek->page, mt_staging_addr(&pager->staging, MT_STAGE(peek->place)),
		       MT_PAGE_SIZE);
		peek->copied = true;
		break;
	case MT_PAGE_ZIPPED:
		peek->place = mt_page_place(&pager->map, peek->gpn);
		peek_unpack(pager, peek);
		break;
	case MT_PAGE_SWAPPED:
		peek->place = mt_page_place(&pager->map, peek->gpn);
		peek->sum = mt_page_sum(&pager->map, peek->gpn);
		break;
	case MT_PAGE_SHARED:
		peek->place = mt_page_place(&pager->map, peek->gpn);
		peek->copied = mt_share_intact(pager, peek->gpn);
		if (peek->copied)
			memcpy(peek->page, mt_share_frame(pager, peek->gpn), MT_PAGE_SIZE);
		break;
	case MT_PAGE_RESIDENT:
	case MT_PAGE_FAILED:
	case MT_PAGE_STATES:
		break;
	}
	return true;
}

static int peek_ram(struct mt_pager *pager, struct mt_peek *peek)
{
	struct iovec to = {peek->page, MT_PAGE_SIZE}, from = {peek->at, MT_PAGE_SIZE};
	bool present = false;

	if (pager->mem.present(pager->mem.ctx, peek->at, 1, &present) || !present)
		return -EAGAIN; /* given up; the pager will know in a moment */
	if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) != (ssize_t)MT_PAGE_SIZE)
		return errno == EFAULT ? -EFAULT : -EAGAIN;
	return 0;
}

/* The slot may have been given to another page since: the checksum tells. */
static int peek_swap(struct mt_pager *pager, struct mt_peek *peek, int swap_fd)
{
	off_t at = (off_t)(peek->place << MT_PAGE_SHIFT);

	if (swap_fd < 0 || pread(swap_fd, peek->page, MT_PAGE_SIZE, at) != (ssize_t)MT_PAGE_SIZE)
		return -EAGAIN;
	mt_swap_io_reveal(&pager->swap, MT_SLOT(peek->place), peek->page);
	if (mt_swap_sum(peek->page, peek->gpn, MT_SLOT(peek->place)) != peek->sum)
		return -EAGAIN;
	return 0;
}

static int peek_once(struct mt_pager *pager, int swap_fd, struct mt_peek *peek)
{
	mt_command(pager, peek_look, peek);
	if (mt_gpn_is_none(peek->gpn))
		return -EFAULT;
	if (peek->copied)
		return 0;
	if (peek->state == MT_PAGE_RESIDENT)
		return peek_ram(pager, peek);
	if (peek->state == MT_PAGE_SWAPPED)
		return peek_swap(pager, peek, swap_fd);
	return -EIO; /* FAILED, or an object that does not unpack */
}

int mt_peek_page(struct mt_pager *pager, int swap_fd, struct mt_peek *peek)
{
	int rc = -EAGAIN;

	for (unsigned int i = 0; rc == -EAGAIN && i < PEEK_TRIES; i++) {
		if (i)
			poll(NULL, 0, PEEK_WAIT_MS);
		rc = peek_once(pager, swap_fd, peek);
	}
	return rc;
}

struct peek_states {
	uint64_t addr;
	uint32_t count;
	uint8_t *states;
	uint32_t found;
};

/* States of pages from an address on, to the end of the region at most. */
static bool peek_states(struct mt_pager *pager, void *arg)
{
	struct peek_states *ask = arg;
	const struct mt_region *region = mt_region_of_addr(&pager->regions, ask->addr);
	mt_gpn_t first;

	ask->found = 0;
	if (!region)
		return true;
	first = mt_region_gpn(region, ask->addr);
	ask->found = (uint32_t)MT_MIN(ask->count, mt_region_pages_from(region, first));
	for (uint32_t i = 0; i < ask->found; i++) {
		mt_gpn_t gpn = MT_GPN(first.n + i);
		unsigned int heat = MT_MIN(mt_page_heat(&pager->map, gpn).rounds, MT_PEEK_HEAT_MAX);

		ask->states[i] =
			(uint8_t)(mt_page_state(&pager->map, gpn) | heat << MT_PEEK_HEAT_SHIFT);
	}
	return true;
}

#define PEEK_WORDS_MAX (MT_PEEK_MAX / sizeof(uint64_t))

/* Reads the words of pages that are in place, in one call. Sets @done of those it has. */
static void words_in_place(struct mt_pager *pager, uint64_t addr, const struct peek_states *look,
			   uint64_t *words, bool *done)
{
	struct iovec to[PEEK_WORDS_MAX], from[PEEK_WORDS_MAX];
	bool present[PEEK_WORDS_MAX] = {false};
	unsigned int count = 0;
	ssize_t got;

	if (pager->mem.present(pager->mem.ctx, (void *)mt_align_down(addr, MT_PAGE_SIZE),
			       look->found, present))
		return;
	for (uint32_t i = 0; i < look->found; i++) {
		unsigned int state = look->states[i] & ((1u << MT_PEEK_HEAT_SHIFT) - 1);
		uint64_t at = addr + ((uint64_t)i << MT_PAGE_SHIFT);

		if (state != MT_PAGE_RESIDENT || !present[i])
			continue;
		to[count] = (struct iovec){&words[i], sizeof(uint64_t)};
		from[count++] = (struct iovec){(void *)at, sizeof(uint64_t)};
	}
	got = count ? process_vm_readv(getpid(), to, count, from, count, 0) : 0;
	for (unsigned int k = 0; k < count && got >= (ssize_t)((k + 1) * sizeof(uint64_t)); k++)
		done[(uint64_t *)to[k].iov_base - words] = true;
}

/* Those that are elsewhere page by page; ends at the first that can't be read. */
static void peek_answer_words(struct mt_pager *pager, int swap_fd, const struct mt_wire_peek *ask,
			      struct mt_wire_peeked *answer)
{
	uint64_t words[PEEK_WORDS_MAX];
	bool done[PEEK_WORDS_MAX] = {false};
	uint8_t states[PEEK_WORDS_MAX];
	struct peek_states look = {ask->addr, MT_MIN(ask->count, PEEK_WORDS_MAX), states, 0};
	struct mt_peek peek;
	uint32_t i = 0;
	int rc = 0;

	mt_command(pager, peek_states, &look);
	if (look.found && !(ask->addr % sizeof(uint64_t)))
		words_in_place(pager, ask->addr, &look, words, done);
	else
		rc = -EFAULT;
	for (; !rc && i < look.found; i++) {
		if (done[i])
			continue;
		peek.addr = ask->addr + ((uint64_t)i << MT_PAGE_SHIFT);
		rc = mt_peek_page(pager, swap_fd, &peek);
		if (rc)
			break;
		memcpy(&words[i], peek.page + peek.addr % MT_PAGE_SIZE, sizeof(words[i]));
	}
	answer->code = i ? 0 : rc;
	answer->count = i * (uint32_t)sizeof(uint64_t);
	memcpy(answer->data, words, answer->count);
}

/* Pages looked at in a turn; faults are served between turns. */
#define PEEK_FRAME_BATCH 4096U

struct peek_frame {
	uint64_t from; /* host address */
	uint64_t frame;
	uint32_t room;
	uint32_t found;
	uint64_t *addr; /* of those found */
	uint64_t next;  /* where to go on; 0: all are found */
};

/* The first page at or behind an address, in order of addresses; false: there is none. */
static bool peek_first(struct mt_regions *regions, uint64_t from, const struct mt_region **ret,
		       mt_gpn_t *ret_gpn)
{
	*ret = NULL;
	for (uint32_t i = 0; i < regions->count; i++) {
		const struct mt_region *region = &regions->region[i];
		uint64_t base = (uintptr_t)region->base;

		if (from < base + (region->pages << MT_PAGE_SHIFT) &&
		    (!*ret || region->base < (*ret)->base))
			*ret = region;
	}
	if (*ret)
		*ret_gpn = mt_region_gpn(*ret, MT_MAX(from, (uintptr_t)(*ret)->base));
	return *ret != NULL;
}

/* A batch of pages; called until all are through or there is no room. */
static bool peek_frame(struct mt_pager *pager, void *arg)
{
	struct peek_frame *ask = arg;
	const struct mt_region *region;
	mt_gpn_t gpn;
	uint64_t count;

	ask->next = 0;
	if (!peek_first(&pager->regions, ask->from, &region, &gpn))
		return true;
	count = MT_MIN(PEEK_FRAME_BATCH, mt_region_pages_from(region, gpn));
	for (; count; count--, gpn.n++) {
		uint64_t addr = (uintptr_t)mt_region_addr(region, gpn);

		if (mt_page_state(&pager->map, gpn) != MT_PAGE_SHARED ||
		    mt_page_place(&pager->map, gpn) != ask->frame)
			continue;
		if (ask->found == ask->room) {
			ask->next = addr;
			return true;
		}
		ask->addr[ask->found++] = addr;
	}
	ask->from = (uintptr_t)mt_region_addr(region, gpn);
	return false;
}

static void peek_answer_frame(struct mt_pager *pager, const struct mt_wire_peek *ask,
			      struct mt_wire_peeked *answer)
{
	uint64_t found[MT_PEEK_MAX / sizeof(uint64_t)];
	struct peek_frame look = {.from = ask->addr,
				  .frame = ask->frame,
				  .room = MT_ARRAY_SIZE(found),
				  .addr = found};

	mt_command(pager, peek_frame, &look);
	answer->count = look.found * (uint32_t)sizeof(uint64_t);
	memcpy(answer->data, found, answer->count);
	answer->place = look.next;
}

void mt_peek_answer(struct mt_pager *pager, int swap_fd, const struct mt_wire_peek *ask,
		    struct mt_wire_peeked *answer)
{
	uint32_t offset = (uint32_t)(ask->addr % MT_PAGE_SIZE);
	uint32_t count = MT_MIN(ask->count, MT_PEEK_MAX);

	if (ask->what == MT_PEEK_STATES) {
		struct peek_states states = {ask->addr, count, answer->data, 0};

		mt_command(pager, peek_states, &states);
		answer->count = states.found;
		answer->code = states.found ? 0 : -EFAULT;
	} else if (ask->what == MT_PEEK_WORDS) {
		peek_answer_words(pager, swap_fd, ask, answer);
	} else if (ask->what == MT_PEEK_FRAME) {
		peek_answer_frame(pager, ask, answer);
	} else {
		struct mt_peek peek = {.addr = ask->addr};

		answer->code = mt_peek_page(pager, swap_fd, &peek);
		answer->count = answer->code ? 0 : (uint32_t)MT_MIN(count, MT_PAGE_SIZE - offset);
		memcpy(answer->data, peek.page + offset, answer->count);
		answer->state = peek.state;
		answer->place = peek.place;
		answer->length = peek.length;
	}
}
