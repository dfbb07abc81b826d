/* SPDX-License-Identifier: MIT */
/*
 * compare_svg.c - a comparison as a picture, without any library
 *
 * A row of bars for each trace: modelled time in each setup, as a multiple of native with 4 KiB
 * pages, cut into what it is spent on. Colours are Okabe and Ito's.
 */
#include "base/svg.h"
#include "lab/compare.h"

#include <errno.h>
#include <string.h>

#define WIDTH      1000
#define LEFT       70
#define ROW_HEIGHT 240
#define BASE       190 /* of the bars, in a row */
#define BAR_MAX    140 /* pixels of the longest bar */
#define STEP       90
#define BAR        52
#define HEAD       90

enum { PART_WORK, PART_FAULTS, PART_WALKS, PART_EXITS, PARTS };

static const char *const part_names[PARTS] = {"the program's accesses", "the guest's page faults",
					      "page walks", "exits to the hypervisor"};
static const char *const part_colours[PARTS] = {"#bbbbbb", "#56b4e9", "#e69f00", "#d55e00"};

static void part_cycles(const struct lab_result *result, double cycles[PARTS])
{
	cycles[PART_WORK] = (double)result->cost.base;
	cycles[PART_FAULTS] = (double)result->cost.faults;
	cycles[PART_WALKS] = (double)result->cost.walks;
	cycles[PART_EXITS] = (double)result->cost.exits;
}

static void svg_head(FILE *out, unsigned int count)
{
	fprintf(out,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%u\" "
		"viewBox=\"0 0 %d %u\">\n"
		"<style>text{font-family:system-ui,Helvetica,Arial,sans-serif;fill:#333}"
		".h{font-size:20px;font-weight:600}.t{font-size:15px;font-weight:600}"
		".m{font-size:11px;text-anchor:middle}.v{font-size:12px;font-weight:600;"
		"text-anchor:middle}.l{font-size:12px}</style>\n"
		"<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
		WIDTH, HEAD + count * ROW_HEIGHT, WIDTH, HEAD + count * ROW_HEIGHT);
	mt_svg_text(out, LEFT, 34, "h",
		    "Time under each way of translation, native with 4 KiB pages = 1 (model)");
	for (unsigned int i = 0; i < PARTS; i++) {
		fprintf(out, "<rect x=\"%u\" y=\"54\" width=\"12\" height=\"12\" fill=\"%s\"/>\n",
			LEFT + i * 210, part_colours[i]);
		mt_svg_text(out, LEFT + i * 210 + 18, 65, "l", part_names[i]);
	}
}

static void svg_bar(FILE *out, const struct lab_result *result, double x, double bottom,
		    double pixels_per_cycle)
{
	static const char *const sizes[] = {"4K", "2M"};
	double cycles[PARTS], y = bottom;
	char text[64];

	part_cycles(result, cycles);
	for (unsigned int i = 0; i < PARTS; i++) {
		double height = cycles[i] * pixels_per_cycle;

		y -= height;
		fprintf(out,
			"<rect x=\"%.1f\" y=\"%.2f\" width=\"%d\" height=\"%.2f\" fill=\"%s\"/>\n",
			x, y, BAR, height, part_colours[i]);
	}
	snprintf(text, sizeof(text), "%.2f", result->slowdown);
	mt_svg_text(out, x + BAR / 2.0, y - 5, "v", text);
	mt_svg_text(out, x + BAR / 2.0, bottom + 15, "m", mt_mmu_mode_name(result->setup.mode));
	if (result->setup.mode == MT_MMU_NATIVE)
		snprintf(text, sizeof(text), "%s", sizes[result->setup.guest_large]);
	else
		snprintf(text, sizeof(text), "%s on %s", sizes[result->setup.guest_large],
			 sizes[result->setup.host_large]);
	mt_svg_text(out, x + BAR / 2.0, bottom + 29, "m", text);
}

static void svg_row(FILE *out, const struct lab_comparison *comparison, double top)
{
	double most = 1;

	for (unsigned int i = 0; i < LAB_SETUPS; i++)
		most = MT_MAX(most, (double)comparison->results[i].cycles);
	mt_svg_text(out, LEFT, top + 16, "t", comparison->trace->name);
	fprintf(out, "<path d=\"M%d %.1fH%d\" stroke=\"#999\"/>\n", LEFT - 6, top + BASE,
		LEFT + LAB_SETUPS * STEP - (STEP - BAR) + 6);
	for (unsigned int i = 0; i < LAB_SETUPS; i++)
		svg_bar(out, &comparison->results[i], LEFT + i * STEP, top + BASE, BAR_MAX / most);
}

int lab_compare_svg(const struct lab_comparison *comparisons, unsigned int count, const char *path,
		    struct mt_err *err)
{
	FILE *out = fopen(path, "we");
	bool failed;

	if (!out)
		return mt_err_set(err, -errno, "%s: %s", path, strerror(errno));
	svg_head(out, count);
	for (unsigned int i = 0; i < count; i++)
		svg_row(out, &comparisons[i], HEAD + i * ROW_HEIGHT);
	fputs("</svg>\n", out);
	failed = ferror(out);
	if (fclose(out) || failed)
		return mt_err_set(err, -EIO, "%s: cannot be written; is the disk full?", path);
	return 0;
}
