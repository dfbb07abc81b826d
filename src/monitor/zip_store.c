/* SPDX-License-Identifier: MIT */
/*
 * zip_store.c - memory for compressed pages, packed to within a few percent
 *
 * Memory spent on compressed pages is memory not won, so the store must not lose to rounding or
 * to holes what compression gained, whatever the guest does.
 *
 * A class is a slot size. Sizes are the largest multiples of 8 of which n fit into a 64 KiB block,
 * two percent apart where the choice of n allows it: finer classes would lose less to rounding
 * but more to the partly used page at the end of each class.
 *
 * A class's blocks form a stack, linked through prev; all are full but the last. A freed slot is
 * filled with the class's last object, so there never are holes. Invariants:
 *  - every block of a class holds per_block objects, but the last, which holds 1 .. per_block;
 *  - memory of a block is in use from its start up to block.pages; past the end of the last
 *    object that is at most one page, the spare, so that a class whose end moves to and fro over
 *    a page boundary does not go to the kernel each time. All spares together stay below
 *    1/MT_SPARE_FRACTION of the store, or a small store would be mostly spares;
 *  - a free block has no memory. Free blocks below `fresh` are linked through prev and reused
 *    first; blocks from `fresh` on were never touched, and neither was their table entry.
 *
 * What is in use is counted, not asked for: only pages that were written since their last drop
 * are counted, so the count is exact.
 */
#include "base/audit.h"
#include "monitor/zip_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MT_BLOCK_SHIFT    16
#define MT_BLOCK_BYTES    (1U << MT_BLOCK_SHIFT)
#define MT_UNIT           8U /* references count in these; every slot is a multiple */
#define MT_SLOT_BYTES_MAX (MT_ZIP_OBJECT_MAX + (uint32_t)sizeof(struct mt_zip_head))
#define MT_SLOT_BYTES_MIN 32U
#define MT_CLASS_MAX      128
#define MT_SPARE_FRACTION 256
#define MT_SPARE_MAX      8U /* pages kept past the end of a class, to be dropped together */
#define MT_ARENA_MAX      (1ULL << 43) /* what 40 bits of reference reach */

/* Stands before every object. */
struct mt_zip_head {
	uint32_t gpn;
	uint16_t bytes;
	uint16_t zero;
};

struct mt_zip_class {
	uint32_t last; /* block at the top of the stack, MT_NONE32 when the class is empty */
	uint16_t slot_bytes;
	uint16_t per_block;
};

struct mt_zip_block {
	uint32_t prev;  /* next lower block of the class, or next free block */
	uint16_t count; /* objects; 0 marks a free block */
	uint8_t class;
	uint8_t pages; /* 4 KiB pages that may be populated, from the block's start */
};

struct mt_zip_store {
	struct mt_zip_env env;
	uint8_t *arena;
	struct mt_zip_block *blocks; /* one for each block of the arena */
	uint32_t block_max;
	uint32_t fresh;      /* blocks from here on were never used */
	uint32_t free_first; /* stack of used and freed blocks, or MT_NONE32 */
	uint32_t class_count;
	uint64_t pages; /* 4 KiB pages of the arena in use, spares included */
	uint64_t spare_pages;
	uint64_t objects;
	uint64_t stored_bytes;
	struct mt_zip_class classes[MT_CLASS_MAX];
	uint8_t class_of_units[MT_SLOT_BYTES_MAX / MT_UNIT + 1]; /* by object size in units */
};

/* An object's place, taken apart. */
struct mt_zip_place {
	uint32_t block;
	uint32_t index;
	const struct mt_zip_class *class;
	struct mt_zip_head *head;
};

/* Distance to the next smaller class: fine where most pages end up, coarse where few do. */
static uint32_t class_step_bytes(uint32_t slot_bytes)
{
	return slot_bytes > 256 ? MT_MAX(MT_UNIT, slot_bytes / 50) : 2 * MT_UNIT;
}

/* Classes go from large to small; a class no smaller than the one before by a step is left out. */
static void make_classes(struct mt_zip_store *store)
{
	uint32_t last_bytes = MT_BLOCK_BYTES, n = MT_BLOCK_BYTES / MT_SLOT_BYTES_MAX;
	uint32_t units = MT_SLOT_BYTES_MAX / MT_UNIT;

	for (; last_bytes > MT_SLOT_BYTES_MIN; n++) {
		uint32_t bytes = (uint32_t)mt_align_down(MT_BLOCK_BYTES / n, MT_UNIT);

		if (bytes > last_bytes - class_step_bytes(last_bytes) && bytes > MT_SLOT_BYTES_MIN)
			continue;
		MT_ASSERT(store->class_count < MT_CLASS_MAX);
		store->classes[store->class_count++] =
			(struct mt_zip_class){.last = MT_NONE32,
					      .slot_bytes = (uint16_t)bytes,
					      .per_block = (uint16_t)(MT_BLOCK_BYTES / bytes)};
		last_bytes = bytes;
	}
	for (uint32_t i = 0; i <= units; i++)
		for (uint32_t c = 0; c < store->class_count; c++)
			if (store->classes[c].slot_bytes >= i * MT_UNIT)
				store->class_of_units[i] = (uint8_t)c;
}

static uint64_t blocks_bytes(const struct mt_zip_store *store)
{
	return MT_MAX(store->block_max, 1U) * sizeof(*store->blocks);
}

int mt_zip_new(const struct mt_zip_env *env, struct mt_zip_store **ret_store)
{
	struct mt_zip_store *store;

	MT_ASSERT(((uintptr_t)env->base & (MT_BLOCK_BYTES - 1)) == 0);
	MT_ASSERT(env->bytes <= MT_ARENA_MAX);
	store = calloc(1, sizeof(*store));
	if (!store)
		return -ENOMEM;
	store->env = *env;
	store->arena = env->base;
	store->block_max = (uint32_t)(env->bytes >> MT_BLOCK_SHIFT);
	store->free_first = MT_NONE32;
	/* From the kernel itself: malloc might touch all of it, where only what is used may cost.
	 */
	store->blocks = mmap(NULL, blocks_bytes(store), PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (store->blocks == MAP_FAILED) {
		free(store);
		return -ENOMEM;
	}
	make_classes(store);
	*ret_store = store;
	return 0;
}

void mt_zip_free(struct mt_zip_store *store)
{
	if (!store)
		return;
	munmap(store->blocks, blocks_bytes(store));
	free(store);
}

static uint32_t class_of_bytes(const struct mt_zip_store *store, uint32_t bytes)
{
	uint32_t need = bytes + (uint32_t)sizeof(struct mt_zip_head);

	MT_ASSERT(bytes > 0 && bytes <= MT_ZIP_OBJECT_MAX);
	return store->class_of_units[(need + MT_UNIT - 1) / MT_UNIT];
}

static uint8_t *block_address(const struct mt_zip_store *store, uint32_t block)
{
	return store->arena + ((uint64_t)block << MT_BLOCK_SHIFT);
}

static struct mt_zip_head *head_at(const struct mt_zip_store *store, uint32_t block, uint32_t index)
{
	uint32_t slot_bytes = store->classes[store->blocks[block].class].slot_bytes;

	return (struct mt_zip_head *)(void *)(block_address(store, block) + index * slot_bytes);
}

static mt_zref_t ref_of(const struct mt_zip_store *store, const struct mt_zip_head *head)
{
	return (mt_zref_t){(uint64_t)((const uint8_t *)head - store->arena) / MT_UNIT};
}

/* Find and check the object at @ref: whatever is wrong here is a bug that would lose a page. */
static struct mt_zip_place place_of(const struct mt_zip_store *store, mt_zref_t ref)
{
	uint64_t block = ref.n >> (MT_BLOCK_SHIFT - 3);
	uint32_t offset = (uint32_t)(ref.n * MT_UNIT) & (MT_BLOCK_BYTES - 1);
	struct mt_zip_place place;

	MT_ASSERT(block < store->fresh);
	place.block = (uint32_t)block;
	place.class = &store->classes[store->blocks[block].class];
	place.index = offset / place.class->slot_bytes;
	MT_ASSERT(place.index * place.class->slot_bytes == offset);
	MT_ASSERT(place.index < store->blocks[block].count);
	place.head = head_at(store, place.block, place.index);
	MT_ASSERT(place.head->bytes > 0 && place.head->zero == 0);
	MT_ASSERT(place.head->bytes + sizeof(*place.head) <= place.class->slot_bytes);
	return place;
}

/* Pages of a block used up by an object of @bytes at @index and all before it. */
static uint32_t pages_up_to(const struct mt_zip_class *class, uint32_t index, uint32_t bytes)
{
	uint32_t end = index * class->slot_bytes + (uint32_t)sizeof(struct mt_zip_head) + bytes;

	return (uint32_t)mt_pages_of_bytes(end);
}

static uint32_t pages_used(const struct mt_zip_store *store, uint32_t block)
{
	const struct mt_zip_block *b = &store->blocks[block];

	if (b->count == 0)
		return 0;
	return pages_up_to(&store->classes[b->class], b->count - 1U,
			   head_at(store, block, b->count - 1U)->bytes);
}

static void shrink_block(struct mt_zip_store *store, uint32_t block, uint32_t pages)
{
	struct mt_zip_block *b = &store->blocks[block];
	uint32_t surplus = b->pages - pages;

	if (surplus == 0)
		return;
	store->env.drop(store->env.ctx, block_address(store, block) + pages * MT_PAGE_SIZE,
			surplus * MT_PAGE_SIZE);
	b->pages = (uint8_t)pages;
	store->pages -= surplus;
}

/* Does the next object of @class need another block? */
static bool is_full(const struct mt_zip_store *store, const struct mt_zip_class *class)
{
	return class->last == MT_NONE32 || store->blocks[class->last].count == class->per_block;
}

/* Put a block onto @class; -ENOSPC when none is left. */
static int push_block(struct mt_zip_store *store, struct mt_zip_class *class)
{
	uint32_t block = store->free_first;

	if (block != MT_NONE32) {
		store->free_first = store->blocks[block].prev;
	} else {
		if (store->fresh == store->block_max)
			return -ENOSPC;
		block = store->fresh++;
	}
	store->blocks[block] = (struct mt_zip_block){.prev = class->last,
						     .class = (uint8_t)(class - store->classes)};
	class->last = block;
	return 0;
}

/* Take the emptied last block off @class. */
static void pop_block(struct mt_zip_store *store, struct mt_zip_class *class)
{
	uint32_t block = class->last;

	shrink_block(store, block, 0);
	class->last = store->blocks[block].prev;
	store->blocks[block].prev = store->free_first;
	store->free_first = block;
}

int mt_zip_put(struct mt_zip_store *store, mt_gpn_t gpn, const void *data, uint32_t bytes,
	       mt_zref_t *ret_ref)
{
	struct mt_zip_class *class = &store->classes[class_of_bytes(store, bytes)];
	struct mt_zip_block *block;
	struct mt_zip_head *head;
	uint32_t used, used_before;

	if (is_full(store, class)) {
		int rc = push_block(store, class);

		if (rc)
			return rc;
	}
	block = &store->blocks[class->last];
	used_before = pages_used(store, class->last);
	store->spare_pages -= block->pages - used_before;
	head = head_at(store, class->last, block->count);
	*head = (struct mt_zip_head){.gpn = gpn.n, .bytes = (uint16_t)bytes};
	memcpy(head + 1, data, bytes);
	used = pages_up_to(class, block->count, bytes);
	block->count++;
	if (used > block->pages) {
		store->pages += used - block->pages;
		block->pages = (uint8_t)used;
	}
	store->spare_pages += block->pages - used;
	store->objects++;
	store->stored_bytes += bytes;
	*ret_ref = ref_of(store, head);
	return 0;
}

uint32_t mt_zip_get(const struct mt_zip_store *store, mt_zref_t ref, const void **ret_data,
		    mt_gpn_t *ret_gpn)
{
	struct mt_zip_place place = place_of(store, ref);

	*ret_data = place.head + 1;
	*ret_gpn = MT_GPN(place.head->gpn);
	return place.head->bytes;
}

/* The last object of @class is gone or moved: give up its slot, and memory with it. */
static void drop_last(struct mt_zip_store *store, struct mt_zip_class *class, uint32_t used_before)
{
	struct mt_zip_block *block = &store->blocks[class->last];
	uint32_t used, spare;

	store->spare_pages -= block->pages - used_before;
	block->count--;
	if (block->count == 0) {
		pop_block(store, class);
		return;
	}
	used = pages_used(store, class->last);
	spare = store->spare_pages * MT_SPARE_FRACTION < store->pages ? MT_SPARE_MAX : 0;
	if (block->pages > used + spare)
		shrink_block(store, class->last, used);
	store->spare_pages += block->pages - used;
}

void mt_zip_del(struct mt_zip_store *store, mt_zref_t ref)
{
	struct mt_zip_place hole = place_of(store, ref);
	struct mt_zip_class *class = &store->classes[store->blocks[hole.block].class];
	uint32_t last_block = class->last;
	struct mt_zip_head *last = head_at(store, last_block, store->blocks[last_block].count - 1U);
	uint32_t used_before = pages_used(store, last_block);
	bool moved = last != hole.head;

	store->objects--;
	store->stored_bytes -= hole.head->bytes;
	if (moved)
		memcpy(hole.head, last, sizeof(*last) + last->bytes);
	drop_last(store, class, used_before);
	if (moved)
		store->env.moved(store->env.ctx, MT_GPN(hole.head->gpn), ref);
}

/* The store itself and as much of the block table as was ever written, in whole pages. */
static uint64_t bookkeeping_bytes(const struct mt_zip_store *store, uint32_t fresh)
{
	uint64_t table = fresh * sizeof(*store->blocks);

	return sizeof(*store) + mt_align_up(table, MT_PAGE_SIZE);
}

uint64_t mt_zip_held_bytes(const struct mt_zip_store *store)
{
	return store->pages * MT_PAGE_SIZE + bookkeeping_bytes(store, store->fresh);
}

uint64_t mt_zip_held_bytes_after(const struct mt_zip_store *store, uint32_t bytes)
{
	const struct mt_zip_class *class = &store->classes[class_of_bytes(store, bytes)];
	uint64_t pages = store->pages;
	const struct mt_zip_block *block;
	uint32_t used;

	if (is_full(store, class))
		return (pages + 1) * MT_PAGE_SIZE + bookkeeping_bytes(store, store->fresh + 1);
	block = &store->blocks[class->last];
	used = pages_up_to(class, block->count, bytes);
	if (used > block->pages)
		pages += used - block->pages;
	return pages * MT_PAGE_SIZE + bookkeeping_bytes(store, store->fresh);
}

uint64_t mt_zip_stored_bytes(const struct mt_zip_store *store)
{
	return store->stored_bytes;
}

uint64_t mt_zip_objects(const struct mt_zip_store *store)
{
	return store->objects;
}

void mt_zip_trim(struct mt_zip_store *store)
{
	for (uint32_t i = 0; i < store->class_count; i++)
		if (store->classes[i].last != MT_NONE32)
			shrink_block(store, store->classes[i].last,
				     pages_used(store, store->classes[i].last));
	store->spare_pages = 0;
}

struct mt_zip_audit {
	struct mt_findings found;
	uint64_t blocks;
	uint64_t pages;
	uint64_t spare_pages;
	uint64_t objects;
	uint64_t stored_bytes;
};

#define check(audit, ok, ...)                                     \
	do {                                                      \
		if (!(ok))                                        \
			mt_finding(&(audit)->found, __VA_ARGS__); \
	} while (0)

static void audit_objects(const struct mt_zip_store *store, uint32_t block,
			  struct mt_zip_audit *audit)
{
	const struct mt_zip_block *b = &store->blocks[block];

	for (uint32_t i = 0; i < b->count; i++) {
		const struct mt_zip_head *head = head_at(store, block, i);

		check(audit,
		      head->bytes > 0 && head->bytes <= MT_ZIP_OBJECT_MAX && head->zero == 0 &&
			      class_of_bytes(store, head->bytes) == b->class,
		      "zip block %u object %u: %u bytes in class %u", block, i, head->bytes,
		      b->class);
		audit->stored_bytes += head->bytes;
	}
	audit->objects += b->count;
}

static void audit_class(const struct mt_zip_store *store, uint32_t number,
			struct mt_zip_audit *audit)
{
	const struct mt_zip_class *class = &store->classes[number];
	uint32_t block = class->last;

	for (; block != MT_NONE32 && audit->blocks <= store->fresh; audit->blocks++) {
		const struct mt_zip_block *b = &store->blocks[block];
		bool last = block == class->last;

		if (block >= store->fresh || b->class != number || b->count == 0 ||
		    b->count > class->per_block) {
			check(audit, false, "zip class %u: bad block %u", number, block);
			return;
		}
		audit_objects(store, block, audit);
		check(audit, last || b->count == class->per_block,
		      "zip block %u: %u of %u objects, yet not the last of its class", block,
		      b->count, class->per_block);
		check(audit,
		      b->pages >= pages_used(store, block) &&
			      b->pages <= pages_used(store, block) + (last ? MT_SPARE_MAX : 0),
		      "zip block %u: %u pages counted, %u used", block, b->pages,
		      pages_used(store, block));
		audit->pages += b->pages;
		audit->spare_pages += b->pages - pages_used(store, block);
		block = b->prev;
	}
}

static void audit_free(const struct mt_zip_store *store, struct mt_zip_audit *audit)
{
	uint32_t block = store->free_first;

	for (; block != MT_NONE32 && audit->blocks <= store->fresh; audit->blocks++) {
		if (block >= store->fresh) {
			check(audit, false, "zip free list: bad block %u", block);
			return;
		}
		check(audit, store->blocks[block].count == 0 && store->blocks[block].pages == 0,
		      "zip block %u is free but in use", block);
		block = store->blocks[block].prev;
	}
}

uint64_t mt_zip_audit(const struct mt_zip_store *store, char *text, size_t text_bytes)
{
	struct mt_zip_audit audit = {.found = {.text = text, .text_bytes = text_bytes}};

	for (uint32_t i = 0; i < store->class_count; i++)
		audit_class(store, i, &audit);
	audit_free(store, &audit);
	check(&audit, audit.blocks == store->fresh, "zip: %llu blocks found of %u",
	      (unsigned long long)audit.blocks, store->fresh);
	check(&audit, audit.pages == store->pages, "zip: %llu pages found, %llu counted",
	      (unsigned long long)audit.pages, (unsigned long long)store->pages);
	check(&audit, audit.spare_pages == store->spare_pages,
	      "zip: %llu spare pages found, %llu counted", (unsigned long long)audit.spare_pages,
	      (unsigned long long)store->spare_pages);
	check(&audit, audit.objects == store->objects, "zip: %llu objects found, %llu counted",
	      (unsigned long long)audit.objects, (unsigned long long)store->objects);
	check(&audit, audit.stored_bytes == store->stored_bytes,
	      "zip: %llu bytes found, %llu counted", (unsigned long long)audit.stored_bytes,
	      (unsigned long long)store->stored_bytes);
	return audit.found.violations;
}
