/* SPDX-License-Identifier: MIT */
/* tables.c - a pool of page-table pages; see tables.h */
#include "mmu/tables.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TABLE_BYTES (MT_ENTRIES_PER_TABLE * sizeof(uint64_t))

void mt_tables_init(struct mt_tables *tables, uint32_t max)
{
	memset(tables, 0, sizeof(*tables));
	tables->free = UINT32_MAX;
	tables->max = MT_MIN(max, MT_TABLES_MAX);
}

void mt_tables_destroy(struct mt_tables *tables)
{
	for (uint32_t i = 0; i < tables->made / MT_TABLES_CHUNK; i++)
		free(tables->chunks[i]);
	mt_tables_init(tables, tables->max);
}

/* A chunk more. Return: false without memory */
static bool grow(struct mt_tables *tables)
{
	uint64_t *chunk;

	if (tables->made + MT_TABLES_CHUNK > MT_TABLES_MAX)
		return false;
	chunk = aligned_alloc(MT_PAGE_SIZE, MT_TABLES_CHUNK * TABLE_BYTES);
	if (!chunk)
		return false;
	tables->chunks[tables->made / MT_TABLES_CHUNK] = chunk;
	tables->made += MT_TABLES_CHUNK;
	for (uint32_t i = 1; i <= MT_TABLES_CHUNK; i++) {
		mt_table_t table = MT_TABLE(tables->made - i);

		mt_table_entries(tables, table)[0] = tables->free;
		tables->free = table.n;
	}
	return true;
}

mt_table_t mt_tables_take(struct mt_tables *tables)
{
	mt_table_t table;

	if (tables->used >= tables->max || (tables->free == UINT32_MAX && !grow(tables)))
		return MT_TABLE_NONE;
	table = MT_TABLE(tables->free);
	tables->free = (uint32_t)mt_table_entries(tables, table)[0];
	memset(mt_table_entries(tables, table), 0, TABLE_BYTES);
	tables->used++;
	tables->used_peak = MT_MAX(tables->used_peak, tables->used);
	return table;
}

void mt_tables_give(struct mt_tables *tables, mt_table_t table)
{
	MT_ASSERT(table.n < tables->made && tables->used);
	mt_table_entries(tables, table)[0] = tables->free;
	tables->free = table.n;
	tables->used--;
}

static int tables_load(void *ctx, uint64_t address, uint64_t *ret)
{
	const struct mt_tables *tables = ctx;
	uint64_t number = (address - MT_TABLES_WINDOW) >> MT_PAGE_SHIFT;

	if (number >= tables->made)
		return -ENXIO;
	*ret = mt_table_entries(tables, MT_TABLE(number))[address % MT_PAGE_SIZE / 8];
	return 0;
}

struct mt_memory mt_tables_memory(struct mt_tables *tables)
{
	return (struct mt_memory){.ctx = tables, .load = tables_load};
}
