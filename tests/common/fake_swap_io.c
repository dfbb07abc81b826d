/* SPDX-License-Identifier: MIT */
/* fake_swap_io.c - a swap file in memory that fails when told to; see fake_swap_io.h */
#include "common/fake_swap_io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct fake_transfer {
	uint64_t cookie;
	uint64_t number; /* of its kind, from 1 */
	uint8_t *pages;
	uint32_t first;
	uint32_t count;
	uint32_t delay;
	bool write;
	bool submitted;
};

struct mt_fake_swap {
	struct mt_fake_swap_faults faults;
	struct mt_fake_swap_counts counts;
	uint8_t *file;
	bool *failed; /* of each slot: the last read that was to fail did */
	uint32_t slots;
	uint32_t depth;
	int event_fd;
	bool owns_event_fd;
	struct fake_transfer *transfer; /* in order of start; counts.under_way of them */
};

static uint32_t random_below(struct mt_fake_swap *fake, uint32_t limit)
{
	uint64_t z = (fake->faults.seed += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return (uint32_t)((z ^ (z >> 31)) % limit);
}

static void check_overlap(const struct mt_fake_swap *fake, const struct fake_transfer *new)
{
	for (uint32_t i = 0; i < fake->counts.under_way; i++) {
		const struct fake_transfer *old = &fake->transfer[i];
		bool apart = old->first + old->count <= new->first ||
			     new->first + new->count <= old->first;

		MT_ASSERT(apart || (!old->write && !new->write));
	}
}

static int start(struct mt_fake_swap *fake, bool write, mt_slot_t first, void *pages,
		 uint32_t count, uint64_t cookie)
{
	struct fake_transfer new = {
		.cookie = cookie, .pages = pages, .first = first.n, .count = count, .write = write};

	MT_ASSERT(count > 0 && first.n < fake->slots && count <= fake->slots - first.n);
	MT_ASSERT(((uintptr_t)pages & (MT_PAGE_SIZE - 1)) == 0);
	if (fake->faults.busy || fake->counts.under_way == fake->depth)
		return -EBUSY;
	check_overlap(fake, &new);
	new.number = write ? ++fake->counts.writes : ++fake->counts.reads;
	new.delay = fake->faults.delay_max ? random_below(fake, fake->faults.delay_max + 1) : 0;
	if (!write)
		memset(pages, 0xa5, count * MT_PAGE_SIZE);
	fake->transfer[fake->counts.under_way++] = new;
	return 0;
}

static int fake_write(void *ctx, mt_slot_t first, const void *pages, uint32_t count,
		      uint64_t cookie)
{
	return start(ctx, true, first, (void *)(uintptr_t)pages, count, cookie);
}

static int fake_read(void *ctx, mt_slot_t first, uint32_t count, void *pages, uint64_t cookie)
{
	return start(ctx, false, first, pages, count, cookie);
}

static int fake_submit(void *ctx)
{
	struct mt_fake_swap *fake = ctx;

	for (uint32_t i = 0; i < fake->counts.under_way; i++)
		fake->transfer[i].submitted = true;
	if (fake->counts.under_way)
		eventfd_write(fake->event_fd, 1);
	return 0;
}

static void write_pages(struct mt_fake_swap *fake, const struct fake_transfer *transfer,
			uint32_t bytes)
{
	uint64_t number = transfer->number;
	uint32_t first = transfer->first;
	uint8_t *to;

	if (number == fake->faults.lost_write)
		return;
	if (number == fake->faults.misdirected_write && first + transfer->count < fake->slots)
		first++;
	to = fake->file + first * MT_PAGE_SIZE;
	if (number != fake->faults.torn_write) {
		memcpy(to, transfer->pages, bytes);
		return;
	}
	for (uint32_t i = 0; i < transfer->count; i++)
		memcpy(to + i * MT_PAGE_SIZE, transfer->pages + i * MT_PAGE_SIZE, MT_PAGE_SIZE / 2);
}

/* Did the last read of one of these slots fail? If not, this one may. */
static bool spared(struct mt_fake_swap *fake, const struct fake_transfer *transfer)
{
	bool spare = false;

	for (uint32_t i = transfer->first; i < transfer->first + transfer->count; i++)
		spare |= fake->failed[i];
	memset(fake->failed + transfer->first, !spare, transfer->count);
	return spare;
}

/* The transfer takes place. Return: its result. */
static int carry_out(struct mt_fake_swap *fake, const struct fake_transfer *transfer)
{
	const struct mt_fake_swap_faults *faults = &fake->faults;
	uint32_t bytes = transfer->count << MT_PAGE_SHIFT;
	bool fail = transfer->number == (transfer->write ? faults->eio_write : faults->eio_read);

	if (faults->eio_percent && random_below(fake, 100) < faults->eio_percent)
		fail = true;
	fail = fail && !(faults->eio_passes && !transfer->write && spared(fake, transfer));
	if (fail)
		bytes /= 2;
	if (transfer->write)
		write_pages(fake, transfer, bytes);
	else
		memcpy(transfer->pages, fake->file + transfer->first * MT_PAGE_SIZE, bytes);
	if (!transfer->write && transfer->number == faults->rot_read)
		transfer->pages[random_below(fake, MT_PAGE_SIZE)] ^=
			(uint8_t)(1U << random_below(fake, 8));
	if (transfer->write)
		fake->counts.pages_written += transfer->count;
	else
		fake->counts.pages_read += transfer->count;
	fake->counts.failed += fail;
	return fail ? -EIO : 0;
}

/* A transfer that may end now; under_way when there is none. */
static uint32_t pick(struct mt_fake_swap *fake)
{
	uint32_t count = fake->counts.under_way;
	uint32_t from = fake->faults.reorder && count ? random_below(fake, count) : 0;

	if (fake->faults.stuck)
		return count;
	for (uint32_t i = 0; i < count; i++) {
		const struct fake_transfer *transfer = &fake->transfer[(from + i) % count];

		if (transfer->submitted && transfer->delay == 0)
			return (from + i) % count;
		if (!fake->faults.reorder)
			break;
	}
	return count;
}

static uint32_t fake_reap(void *ctx, struct mt_swap_done *done, uint32_t max)
{
	struct mt_fake_swap *fake = ctx;
	uint32_t count = 0, at;
	bool more = false;
	eventfd_t ignored;

	if (fake->owns_event_fd)
		eventfd_read(fake->event_fd, &ignored);
	for (uint32_t i = 0; i < fake->counts.under_way; i++)
		if (fake->transfer[i].submitted && fake->transfer[i].delay)
			fake->transfer[i].delay--;
	while (count < max && (at = pick(fake)) < fake->counts.under_way) {
		int result = carry_out(fake, &fake->transfer[at]);

		done[count++] = (struct mt_swap_done){fake->transfer[at].cookie, result};
		fake->counts.under_way--;
		memmove(&fake->transfer[at], &fake->transfer[at + 1],
			(fake->counts.under_way - at) * sizeof(*fake->transfer));
	}
	for (uint32_t i = 0; i < fake->counts.under_way; i++)
		more |= fake->transfer[i].submitted;
	if (more)
		eventfd_write(fake->event_fd, 1);
	return count;
}

static void fake_free(void *ctx)
{
	struct mt_fake_swap *fake = ctx;

	if (fake->owns_event_fd)
		close(fake->event_fd);
	free(fake->transfer);
	free(fake->failed);
	free(fake->file);
	free(fake);
}

static const struct mt_swap_io_ops fake_ops = {.write = fake_write,
					       .read = fake_read,
					       .submit = fake_submit,
					       .reap = fake_reap,
					       .free = fake_free};

struct mt_fake_swap *mt_fake_swap_new(uint32_t slots, uint32_t depth, int event_fd,
				      struct mt_swap_io *ret_io)
{
	struct mt_fake_swap *fake = calloc(1, sizeof(*fake));

	MT_ASSERT(fake && slots > 0 && depth > 0);
	fake->slots = slots;
	fake->depth = depth;
	fake->event_fd = event_fd;
	fake->owns_event_fd = event_fd < 0;
	if (fake->owns_event_fd)
		fake->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	fake->file = malloc(slots * MT_PAGE_SIZE);
	fake->transfer = calloc(depth, sizeof(*fake->transfer));
	fake->failed = calloc(slots, sizeof(*fake->failed));
	MT_ASSERT(fake->event_fd >= 0 && fake->file && fake->transfer && fake->failed);
	memset(fake->file, 0x5a, slots * MT_PAGE_SIZE);
	*ret_io = (struct mt_swap_io){.ops = &fake_ops,
				      .ctx = fake,
				      .name = "fake",
				      .event_fd = fake->event_fd,
				      .depth = depth,
				      .direct = true};
	return fake;
}

struct mt_fake_swap_faults *mt_fake_swap_faults(struct mt_fake_swap *fake)
{
	return &fake->faults;
}

struct mt_fake_swap_counts mt_fake_swap_counts(const struct mt_fake_swap *fake)
{
	return fake->counts;
}

void *mt_fake_swap_page(struct mt_fake_swap *fake, mt_slot_t slot)
{
	MT_ASSERT(slot.n < fake->slots);
	return fake->file + slot.n * MT_PAGE_SIZE;
}
