/* SPDX-License-Identifier: MIT */
/*
 * tables.h - page-table pages that belong to the host: EPT and shadow tables
 *
 * Real tables in the real format, 4 KiB each, at made-up machine addresses in a window of their own
 * far above any RAM, so that an entry can name a table as hardware would. Pages have fixed places
 * once made (tables grow by chunks), so walking is one addition away from an array.
 */
#ifndef MT_MMU_TABLES_H
#define MT_MMU_TABLES_H

#include "base/compiler.h"
#include "mmu/entry.h"
#include "mmu/memory.h"

#define MT_TABLES_WINDOW 0x8000000000000ULL /* 2^51: machine address of table 0 */
#define MT_TABLES_CHUNK  64u
#define MT_TABLES_MAX    (1u << 20)

/* A page-table page of the host. */
typedef struct mt_table {
	uint32_t n;
} mt_table_t;

#define MT_TABLE(v)   ((mt_table_t){(uint32_t)(v)})
#define MT_TABLE_NONE MT_TABLE(UINT32_MAX)

struct mt_tables {
	uint64_t *chunks[MT_TABLES_MAX / MT_TABLES_CHUNK];
	uint32_t made; /* tables in all chunks */
	uint32_t free; /* first of the free ones; the next one's number is their entry 0 */
	uint32_t used, used_peak, max;
};

/** mt_tables_init() - an empty pool that holds at most @max tables */
void mt_tables_init(struct mt_tables *tables, uint32_t max);
void mt_tables_destroy(struct mt_tables *tables);

/** mt_tables_take() - a table of zeros; MT_TABLE_NONE when there are @max, or no memory */
mt_table_t mt_tables_take(struct mt_tables *tables);
void mt_tables_give(struct mt_tables *tables, mt_table_t table);

/** mt_table_entries() - the 512 entries of a table */
static inline uint64_t *mt_table_entries(const struct mt_tables *tables, mt_table_t table)
{
	return tables->chunks[table.n / MT_TABLES_CHUNK] +
	       (size_t)(table.n % MT_TABLES_CHUNK) * MT_ENTRIES_PER_TABLE;
}

static inline uint64_t mt_table_address(mt_table_t table)
{
	return MT_TABLES_WINDOW + ((uint64_t)table.n << MT_PAGE_SHIFT);
}

/** mt_table_at() - the table an address in an entry names; the address must be one */
static inline mt_table_t mt_table_at(const struct mt_tables *tables, uint64_t address)
{
	uint64_t number = ((address & MT_PTE_ADDRESS) - MT_TABLES_WINDOW) >> MT_PAGE_SHIFT;

	MT_ASSERT(number < tables->made);
	return MT_TABLE(number);
}

/** mt_tables_memory() - the tables as memory to walk in */
struct mt_memory mt_tables_memory(struct mt_tables *tables);

#endif
