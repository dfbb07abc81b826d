/* SPDX-License-Identifier: MIT */
/* pagemap_svg.c - a VM's memory as a picture: a square for every few pages, coloured by state */
#include "cli/pagemap.h"
#include "base/size.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define COLUMNS 128u
#define ROWS    96u /* at most */
#define SQUARE  8u
#define MARGIN  20u
#define TOP     96u

static void svg_head(FILE *out, const struct pagemap *map, unsigned int rows, uint64_t cell)
{
	char size[MT_SIZE_TEXT_MAX], all[MT_SIZE_TEXT_MAX];
	unsigned int x = MARGIN, y = 62;

	fprintf(out,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%u\" height=\"%u\">\n"
		"<style>text{font-family:system-ui,Helvetica,Arial,sans-serif;fill:#333}"
		".h{font-size:20px;font-weight:600}.l{font-size:12px}</style>\n"
		"<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n"
		"<text x=\"%u\" y=\"34\" class=\"h\">%s: %s of memory, a square is %s</text>\n",
		2 * MARGIN + COLUMNS * SQUARE, TOP + MARGIN + rows * SQUARE, MARGIN, map->vm,
		mt_size_text(map->pages * MT_PAGE_SIZE, all),
		mt_size_text(cell * MT_PAGE_SIZE, size));
	for (unsigned int i = 0; i < PAGEMAP_CLASSES; i++) {
		if (!map->counts[i])
			continue;
		fprintf(out,
			"<rect x=\"%u\" y=\"%u\" width=\"11\" height=\"11\" fill=\"%s\" "
			"stroke=\"#999\"/><text x=\"%u\" y=\"%u\" class=\"l\">%s %s</text>\n",
			x, y, pagemap_kinds[i].colour, x + 16, y + 10, pagemap_kinds[i].name,
			mt_size_text(map->counts[i] * MT_PAGE_SIZE, size));
		x += 128;
	}
}

int pagemap_svg(const struct pagemap *map, const char *path, struct mt_err *err)
{
	uint64_t squares = (uint64_t)COLUMNS * ROWS;
	uint64_t cell = (map->pages + squares - 1) / squares;
	unsigned int rows = (unsigned int)((map->pages + cell * COLUMNS - 1) / (cell * COLUMNS));
	FILE *out = fopen(path, "we");
	bool failed;

	if (!out)
		return mt_err_set(err, -errno, "%s: %s", path, strerror(errno));
	svg_head(out, map, rows, cell);
	for (uint64_t at = 0; at * cell < map->pages; at++) {
		enum pagemap_class class = pagemap_of_cell(map, at * cell, cell);
		uint64_t run = 1;

		/* Neighbours of a kind in a row are one rectangle. */
		while ((at + run) % COLUMNS && (at + run) * cell < map->pages &&
		       pagemap_of_cell(map, (at + run) * cell, cell) == class)
			run++;
		fprintf(out, "<rect x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\" fill=\"%s\"/>\n",
			MARGIN + (unsigned int)(at % COLUMNS) * SQUARE,
			TOP + (unsigned int)(at / COLUMNS) * SQUARE, (unsigned int)run * SQUARE,
			SQUARE, pagemap_kinds[class].colour);
		at += run - 1;
	}
	fputs("</svg>\n", out);
	failed = ferror(out);
	if (fclose(out) || failed)
		return mt_err_set(err, -EIO, "%s: cannot be written; is the disk full?", path);
	return 0;
}
