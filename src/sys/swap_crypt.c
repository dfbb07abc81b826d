/* SPDX-License-Identifier: MIT */
/*
 * swap_crypt.c - see swap_crypt.h
 *
 * A write is encrypted into a buffer of ours, because its pages may still be the guest's only copy
 * and go back to it from where they are; a read is decrypted where it lies, when it is reported.
 * Both happen in the pager's thread. Transfers keep their place in a table while they are under
 * way; its number is the cookie that the disk sees.
 *
 * The expanded keys are only read after the start, so any thread may use them. They have a page of
 * their own that is in no core dump and in no child, and that the host does not swap where the VMM
 * may lock memory.
 */
#include "sys/swap_crypt.h"

#include <errno.h>
#include <nettle/xts.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#define CRYPT_NONE UINT32_MAX

struct crypt_keys {
	struct xts_aes256_key encrypt;
	struct xts_aes256_key decrypt;
};

_Static_assert(sizeof(struct crypt_keys) <= MT_PAGE_SIZE, "the keys have one page");

struct crypt_op {
	uint64_t cookie;
	mt_slot_t first;
	uint8_t *pages; /* of a read */
	uint32_t count;
	uint32_t buffer; /* of a write; CRYPT_NONE: a read */
};

struct mt_swap_crypt {
	struct mt_swap_io disk;
	struct crypt_keys *keys;
	uint8_t *buffers;
	uint64_t buffers_bytes;
	uint32_t run;
	struct crypt_op *op;   /* disk.depth of them */
	uint32_t *idle_op;     /* numbers of those that are not under way */
	uint32_t *idle_buffer; /* numbers of buffers in no write */
	uint32_t idle_ops;
	uint32_t idle_buffers;
};

/* The slot is the tweak. */
static void crypt_tweak(mt_slot_t slot, uint8_t tweak[static XTS_BLOCK_SIZE])
{
	memset(tweak, 0, XTS_BLOCK_SIZE);
	for (size_t i = 0; i < sizeof(slot.n); i++)
		tweak[i] = (uint8_t)(slot.n >> (8 * i));
}

static void crypt_seal(const struct mt_swap_crypt *crypt, mt_slot_t slot, const uint8_t *page,
		       uint8_t *to)
{
	uint8_t tweak[XTS_BLOCK_SIZE];

	crypt_tweak(slot, tweak);
	xts_aes256_encrypt_message(&crypt->keys->encrypt, tweak, MT_PAGE_SIZE, to, page);
}

static void crypt_open(const struct mt_swap_crypt *crypt, mt_slot_t slot, uint8_t *page)
{
	uint8_t tweak[XTS_BLOCK_SIZE];

	crypt_tweak(slot, tweak);
	xts_aes256_decrypt_message(&crypt->keys->decrypt, tweak, MT_PAGE_SIZE, page, page);
}

static void crypt_op_end(struct mt_swap_crypt *crypt, uint32_t number)
{
	if (crypt->op[number].buffer != CRYPT_NONE)
		crypt->idle_buffer[crypt->idle_buffers++] = crypt->op[number].buffer;
	crypt->idle_op[crypt->idle_ops++] = number;
}

static int crypt_write(void *ctx, mt_slot_t first, const void *pages, uint32_t count,
		       uint64_t cookie)
{
	struct mt_swap_crypt *crypt = ctx;
	uint32_t number, buffer;
	uint8_t *to;
	int rc;

	MT_ASSERT(count <= crypt->run);
	if (!crypt->idle_ops || !crypt->idle_buffers)
		return -EBUSY;
	number = crypt->idle_op[--crypt->idle_ops];
	buffer = crypt->idle_buffer[--crypt->idle_buffers];
	crypt->op[number] = (struct crypt_op){.cookie = cookie, .first = first, .buffer = buffer};
	to = crypt->buffers + (uint64_t)buffer * crypt->run * MT_PAGE_SIZE;
	for (uint32_t i = 0; i < count; i++)
		crypt_seal(crypt, MT_SLOT(first.n + i), (const uint8_t *)pages + i * MT_PAGE_SIZE,
			   to + i * MT_PAGE_SIZE);
	rc = mt_swap_io_write(&crypt->disk, first, to, count, number);
	if (rc)
		crypt_op_end(crypt, number);
	return rc;
}

static int crypt_read(void *ctx, mt_slot_t first, uint32_t count, void *pages, uint64_t cookie)
{
	struct mt_swap_crypt *crypt = ctx;
	uint32_t number;
	int rc;

	if (!crypt->idle_ops)
		return -EBUSY;
	number = crypt->idle_op[--crypt->idle_ops];
	crypt->op[number] = (struct crypt_op){.cookie = cookie,
					      .first = first,
					      .pages = pages,
					      .count = count,
					      .buffer = CRYPT_NONE};
	rc = mt_swap_io_read(&crypt->disk, first, count, pages, number);
	if (rc)
		crypt_op_end(crypt, number);
	return rc;
}

static int crypt_submit(void *ctx)
{
	struct mt_swap_crypt *crypt = ctx;

	return mt_swap_io_submit(&crypt->disk);
}

static uint32_t crypt_reap(void *ctx, struct mt_swap_done *done, uint32_t max)
{
	struct mt_swap_crypt *crypt = ctx;
	uint32_t count = mt_swap_io_reap(&crypt->disk, done, max);

	for (uint32_t i = 0; i < count; i++) {
		uint32_t number = (uint32_t)done[i].cookie;
		const struct crypt_op *op = &crypt->op[number];

		for (uint32_t page = 0; page < op->count && !done[i].result; page++)
			crypt_open(crypt, MT_SLOT(op->first.n + page),
				   op->pages + page * MT_PAGE_SIZE);
		done[i].cookie = op->cookie;
		crypt_op_end(crypt, number);
	}
	return count;
}

static void crypt_reveal(void *ctx, mt_slot_t slot, void *page)
{
	crypt_open(ctx, slot, page);
}

/* All but the disk. */
static void crypt_release(struct mt_swap_crypt *crypt)
{
	if (crypt->keys) {
		explicit_bzero(crypt->keys, MT_PAGE_SIZE);
		munmap(crypt->keys, MT_PAGE_SIZE);
	}
	if (crypt->buffers)
		munmap(crypt->buffers, crypt->buffers_bytes);
	free(crypt->op);
	free(crypt->idle_op);
	free(crypt->idle_buffer);
	free(crypt);
}

static void crypt_free(void *ctx)
{
	struct mt_swap_crypt *crypt = ctx;

	/* waits for what is under way in our buffers */
	mt_swap_io_free(&crypt->disk);
	crypt_release(crypt);
}

static const struct mt_swap_io_ops crypt_ops = {.write = crypt_write,
						.read = crypt_read,
						.submit = crypt_submit,
						.reap = crypt_reap,
						.reveal = crypt_reveal,
						.free = crypt_free};

static int crypt_make_key(struct mt_swap_crypt *crypt, struct mt_err *err)
{
	uint8_t key[2 * AES256_KEY_SIZE];
	void *page = mmap(NULL, MT_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);

	if (page == MAP_FAILED)
		return mt_err_set(err, -ENOMEM, "out of memory for the key of the swap file");
	crypt->keys = page;
	/* As far as these go: a VMM may lock little, and a kernel may be old. */
	(void)mlock(page, MT_PAGE_SIZE);
	(void)madvise(page, MT_PAGE_SIZE, MADV_DONTDUMP);
	(void)madvise(page, MT_PAGE_SIZE, MADV_WIPEONFORK);
	if (getrandom(key, sizeof(key), 0) != (ssize_t)sizeof(key))
		return mt_err_set(err, -EIO, "no random numbers for the key of the swap file");
	xts_aes256_set_encrypt_key(&crypt->keys->encrypt, key);
	xts_aes256_set_decrypt_key(&crypt->keys->decrypt, key);
	explicit_bzero(key, sizeof(key));
	return 0;
}

static int crypt_make_tables(struct mt_swap_crypt *crypt, uint32_t writes, struct mt_err *err)
{
	uint32_t depth = crypt->disk.depth;

	crypt->op = calloc(depth, sizeof(*crypt->op));
	crypt->idle_op = calloc(depth, sizeof(*crypt->idle_op));
	crypt->idle_buffer = calloc(writes, sizeof(*crypt->idle_buffer));
	crypt->buffers_bytes = (uint64_t)writes * crypt->run * MT_PAGE_SIZE;
	crypt->buffers = mmap(NULL, crypt->buffers_bytes, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (crypt->buffers == MAP_FAILED)
		crypt->buffers = NULL;
	if (!crypt->op || !crypt->idle_op || !crypt->idle_buffer || !crypt->buffers)
		return mt_err_set(err, -ENOMEM, "out of memory for encryption of the swap file");
	for (; crypt->idle_ops < depth; crypt->idle_ops++)
		crypt->idle_op[crypt->idle_ops] = crypt->idle_ops;
	for (; crypt->idle_buffers < writes; crypt->idle_buffers++)
		crypt->idle_buffer[crypt->idle_buffers] = crypt->idle_buffers;
	return 0;
}

int mt_swap_crypt_new(struct mt_swap_io *io, uint32_t writes, uint32_t run, struct mt_err *err)
{
	struct mt_swap_crypt *crypt = calloc(1, sizeof(*crypt));
	int rc;

	if (!crypt)
		return mt_err_set(err, -ENOMEM, "out of memory for encryption of the swap file");
	crypt->disk = *io;
	crypt->run = run;
	rc = crypt_make_tables(crypt, writes, err);
	if (!rc)
		rc = crypt_make_key(crypt, err);
	if (rc) {
		crypt_release(crypt);
		return rc;
	}
	*io = (struct mt_swap_io){.ops = &crypt_ops,
				  .ctx = crypt,
				  .name = "encrypted",
				  .event_fd = crypt->disk.event_fd,
				  .depth = crypt->disk.depth,
				  .direct = crypt->disk.direct,
				  .encrypted = true,
				  .buffers_bytes = crypt->buffers_bytes + MT_PAGE_SIZE};
	return 0;
}
