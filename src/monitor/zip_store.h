/* SPDX-License-Identifier: MIT */
/*
 * zip_store.h - memory for compressed pages, packed to within a few percent
 *
 * Compressed pages ("objects") of one VM live in an arena of 64 KiB blocks. Each block holds
 * objects of one size class; classes are spaced so that n objects fill a block exactly. A class
 * is always dense: when an object goes, the last one of the class moves into the hole, and the
 * page map is told where it went. So only the last block of a class can be partly used, its
 * unused 4 KiB pages go back to the kernel, and slack stays small whatever the order of frees.
 *
 * Not thread-safe: the pager owns it. Makes no system calls itself and allocates nothing after
 * _new(): the fault path can run in it.
 */
#ifndef MT_MONITOR_ZIP_STORE_H
#define MT_MONITOR_ZIP_STORE_H

#include "base/compiler.h"
#include "base/types.h"

#define MT_ZIP_OBJECT_MAX 2048 /* an object is kept only if it is at most half a page */

struct mt_zip_store;

/* What the store needs from around it. */
struct mt_zip_env {
	void *base;     /* arena: address range of zero-on-demand memory, 64 KiB aligned */
	uint64_t bytes; /* size of the range; memory is used only where objects are */
	void *ctx;      /* handed to the functions below */
	/* Give the memory of whole 4 KiB pages of the arena back; they read as zeros after. */
	void (*drop)(void *ctx, void *addr, uint64_t bytes);
	/* Object of @gpn is at @to now; called inside mt_zip_del() and mt_zip_put(). */
	void (*moved)(void *ctx, mt_gpn_t gpn, mt_zref_t to);
};

/** mt_zip_new() - make an empty store; @env is copied. Return: 0 or -ENOMEM. */
MT_MUST_CHECK int mt_zip_new(const struct mt_zip_env *env, struct mt_zip_store **ret_store);

/** mt_zip_free() - free the store's own bookkeeping, not the arena; NULL is fine */
void mt_zip_free(struct mt_zip_store *store);

/**
 * mt_zip_put() - store @bytes (1..MT_ZIP_OBJECT_MAX) of compressed data of page @gpn
 *
 * Return: 0, or -ENOSPC when the arena is used up.
 */
MT_MUST_CHECK int mt_zip_put(struct mt_zip_store *store, mt_gpn_t gpn, const void *data,
			     uint32_t bytes, mt_zref_t *ret_ref);

/** mt_zip_get() - the object at @ref, borrowed until the next put or del. Return: its length. */
uint32_t mt_zip_get(const struct mt_zip_store *store, mt_zref_t ref, const void **ret_data,
		    mt_gpn_t *ret_gpn);

/** mt_zip_del() - free the object at @ref; may move one other object */
void mt_zip_del(struct mt_zip_store *store, mt_zref_t ref);

/** mt_zip_held_bytes() - machine memory in use: whole 4 KiB pages of the arena and bookkeeping */
uint64_t mt_zip_held_bytes(const struct mt_zip_store *store);

/** mt_zip_held_bytes_after() - most that held_bytes can be after one more object of @bytes */
uint64_t mt_zip_held_bytes_after(const struct mt_zip_store *store, uint32_t bytes);

/** mt_zip_stored_bytes() - sum of the objects' compressed lengths */
uint64_t mt_zip_stored_bytes(const struct mt_zip_store *store);

/** mt_zip_objects() - number of objects */
uint64_t mt_zip_objects(const struct mt_zip_store *store);

/** mt_zip_trim() - give back memory kept in hand for soon reuse; cheap, call when idle */
void mt_zip_trim(struct mt_zip_store *store);

/**
 * mt_zip_audit() - recompute every count and check the structure
 * @text: first violation in words; @text_bytes its room
 *
 * Return: number of violations.
 */
uint64_t mt_zip_audit(const struct mt_zip_store *store, char *text, size_t text_bytes);

#endif
