/* SPDX-License-Identifier: MIT */
/*
 * swap_io.h - what the pager asks of the disk: start page transfers, learn how they ended
 *
 * The pager must go on serving faults while a disk works, so nothing here ever waits: a transfer
 * is prepared, submitted with others, and its end reported later by reap(), in any order. An
 * eventfd becomes readable whenever there is something to reap. The real ones are in
 * sys/swap_io.h; tests put a disk with faults of its own behind the same table.
 *
 * From write() or read() until reap() reports its end, a transfer owns its pages and its slots:
 * the caller leaves the pages' content alone and starts no other transfer on those slots. Pages
 * are aligned to their size. All calls but reveal() are made by one thread.
 */
#ifndef MT_MONITOR_SWAP_IO_H
#define MT_MONITOR_SWAP_IO_H

#include "base/compiler.h"
#include "base/types.h"

/* How a transfer ended. */
struct mt_swap_done {
	uint64_t cookie;
	int result; /* 0: all of it is done; or -errno. Then any part of it may have been. */
};

struct mt_swap_io_ops {
	int (*write)(void *ctx, mt_slot_t first, const void *pages, uint32_t count,
		     uint64_t cookie);
	int (*read)(void *ctx, mt_slot_t first, uint32_t count, void *pages, uint64_t cookie);
	int (*submit)(void *ctx);
	uint32_t (*reap)(void *ctx, struct mt_swap_done *done, uint32_t max);
	void (*reveal)(void *ctx, mt_slot_t slot,
		       void *page); /* NULL: pages lie there as they are */
	void (*free)(void *ctx);
};

struct mt_swap_io {
	const struct mt_swap_io_ops *ops; /* NULL: no swap file */
	void *ctx;
	const char *name;       /* which implementation, for people */
	int event_fd;           /* readable when there is something to reap */
	uint32_t depth;         /* transfers that can be under way at a time */
	bool direct;            /* bypasses the host's page cache */
	bool encrypted;         /* what lies in the file can't be read by others */
	uint64_t buffers_bytes; /* memory of its own that transfers may take */
};

/**
 * mt_swap_io_write() - prepare to write @count pages at @pages to slots @first and following
 * @cookie: comes back from mt_swap_io_reap()
 *
 * Return: 0, or -EBUSY when depth transfers are under way: reap first.
 */
MT_MUST_CHECK static inline int mt_swap_io_write(const struct mt_swap_io *io, mt_slot_t first,
						 const void *pages, uint32_t count, uint64_t cookie)
{
	return io->ops->write(io->ctx, first, pages, count, cookie);
}

/** mt_swap_io_read() - prepare to read @count slots from @first on into @pages; as write() */
MT_MUST_CHECK static inline int mt_swap_io_read(const struct mt_swap_io *io, mt_slot_t first,
						uint32_t count, void *pages, uint64_t cookie)
{
	return io->ops->read(io->ctx, first, count, pages, cookie);
}

/**
 * mt_swap_io_submit() - start all that is prepared
 *
 * Return: 0, or -EAGAIN when the kernel takes no more for now: what is left stays prepared, the
 * eventfd is readable, and mt_swap_io_reap() tries again. Nothing is lost by ignoring it.
 */
static inline int mt_swap_io_submit(const struct mt_swap_io *io)
{
	return io->ops->submit(io->ctx);
}

/**
 * mt_swap_io_reap() - report up to @max transfers that have ended
 *
 * Return: how many. If more than @max have ended, the eventfd stays readable.
 */
static inline uint32_t mt_swap_io_reap(const struct mt_swap_io *io, struct mt_swap_done *done,
				       uint32_t max)
{
	return io->ops->reap(io->ctx, done, max);
}

/**
 * mt_swap_io_reveal() - turn what was read from the file itself at @slot into the page it is
 *
 * By any thread. That the result is right only the page's checksum tells.
 */
static inline void mt_swap_io_reveal(const struct mt_swap_io *io, mt_slot_t slot, void *page)
{
	if (io->ops && io->ops->reveal)
		io->ops->reveal(io->ctx, slot, page);
}

/** mt_swap_io_free() - wait for what is under way, forget its results, give everything back */
static inline void mt_swap_io_free(struct mt_swap_io *io)
{
	if (io->ops)
		io->ops->free(io->ctx);
	io->ops = NULL;
}

#endif
