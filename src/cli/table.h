/* SPDX-License-Identifier: MIT */
/*
 * table.h - columns of text, as wide as their widest cell
 *
 * Cells are copied. If the table is wider than allowed, its first column (names) gives way: a cut
 * cell ends in "..".
 */
#ifndef MT_CLI_TABLE_H
#define MT_CLI_TABLE_H

#include <stdbool.h>
#include <stdio.h>

#define TABLE_COLUMNS_MAX 16

struct table {
	unsigned int columns;
	unsigned int rows; /* the heading is row 0 */
	unsigned int room;
	bool right[TABLE_COLUMNS_MAX]; /* column is aligned to the right */
	char **cells;
};

/** table_init() - @heading: names of the columns; one that starts with '>' is aligned right */
void table_init(struct table *table, unsigned int columns, const char *const heading[]);
void table_add(struct table *table, const char *const row[]);

/** table_print() - print at most @width characters a line */
void table_print(const struct table *table, FILE *out, unsigned int width);
void table_free(struct table *table);

#endif
