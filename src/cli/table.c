/* SPDX-License-Identifier: MIT */
/* table.c - column printing; see table.h */
#include "cli/table.h"
#include "base/compiler.h"

#include <stdlib.h>
#include <string.h>

#define TABLE_GAP         2
#define TABLE_FIRST_LEAST 8 /* the first column is never cut below this */

static void table_put(struct table *table, const char *const row[], unsigned int skip_mark)
{
	if (table->rows == table->room) {
		table->room = table->room ? table->room * 2 : 16;
		table->cells =
			realloc(table->cells, sizeof(*table->cells) * table->room * table->columns);
		MT_ASSERT(table->cells);
	}
	for (unsigned int i = 0; i < table->columns; i++) {
		char *copy = strdup(row[i] + (skip_mark && row[i][0] == '>'));

		MT_ASSERT(copy);
		table->cells[table->rows * table->columns + i] = copy;
	}
	table->rows++;
}

void table_init(struct table *table, unsigned int columns, const char *const heading[])
{
	MT_ASSERT(columns && columns <= TABLE_COLUMNS_MAX);
	*table = (struct table){.columns = columns};
	for (unsigned int i = 0; i < columns; i++)
		table->right[i] = heading[i][0] == '>';
	table_put(table, heading, 1);
}

void table_add(struct table *table, const char *const row[])
{
	table_put(table, row, 0);
}

static unsigned int table_widths(const struct table *table, unsigned int *widths)
{
	unsigned int total = TABLE_GAP * (table->columns - 1);

	memset(widths, 0, sizeof(*widths) * table->columns);
	for (unsigned int i = 0; i < table->rows * table->columns; i++) {
		unsigned int *width = &widths[i % table->columns];
		unsigned int length = (unsigned int)strlen(table->cells[i]);

		*width = MT_MAX(*width, length);
	}
	for (unsigned int i = 0; i < table->columns; i++)
		total += widths[i];
	return total;
}

static void table_print_cell(const char *cell, unsigned int width, bool right, bool last, FILE *out)
{
	if (strlen(cell) > width)
		fprintf(out, "%.*s..", (int)width - 2, cell);
	else if (right)
		fprintf(out, "%*s", (int)width, cell);
	else
		fprintf(out, "%-*s", last ? 0 : (int)width, cell);
	if (!last)
		fprintf(out, "%*s", TABLE_GAP, "");
}

void table_print(const struct table *table, FILE *out, unsigned int width)
{
	unsigned int widths[TABLE_COLUMNS_MAX];
	unsigned int total = table_widths(table, widths);

	if (total > width) {
		unsigned int cut =
			MT_MIN(total - width, widths[0] - MT_MIN(widths[0], TABLE_FIRST_LEAST));

		widths[0] -= cut;
	}
	for (unsigned int row = 0; row < table->rows; row++) {
		for (unsigned int i = 0; i < table->columns; i++)
			table_print_cell(table->cells[row * table->columns + i], widths[i],
					 table->right[i], i + 1 == table->columns, out);
		fputc('\n', out);
	}
}

void table_free(struct table *table)
{
	for (unsigned int i = 0; i < table->rows * table->columns; i++)
		free(table->cells[i]);
	free(table->cells);
	*table = (struct table){0};
}
