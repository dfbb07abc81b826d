/* SPDX-License-Identifier: MIT */
/*
 * svg.c - a simulation as a picture, without any library
 *
 * From top to bottom: memory held, stacked by "vm" line, under the pool's edge, with the guests'
 * active memory as a line; what is compressed and swapped; the state as a coloured ribbon. Colours
 * are told apart by people who see few of them, too (Okabe and Ito's, then their tints).
 */
#include "base/svg.h"
#include "sim/report.h"
#include "base/size.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH      1180
#define LEFT       78
#define RIGHT      960
#define HELD_TOP   96
#define HELD_BASE  466
#define OUT_TOP    506
#define OUT_BASE   606
#define STATE_TOP  630
#define STATE_BASE 650
#define HEIGHT     704
#define BANDS_MAX  16 /* "vm" lines beyond share the last band */

static const char *const colours[] = {
	"#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b5a900", "#6a51a3",
	"#7fb3d5", "#f3cf7f", "#7fcdb8", "#e5bbd2", "#aad9f4", "#eaae7f", "#dad47f", "#9a9a9a"};
static const char *const state_colours[MT_HOST_STATES] = {"#9bd3a5", "#d9e8a0", "#f7d774",
							  "#f0975a", "#cf4446"};

struct svg {
	const struct sim_result *result;
	FILE *out;
	unsigned int bands;
	double held_max, out_max, time_max; /* at the ends of the axes */
	double *stack;                      /* of each sample, as far as it is drawn */
};

static double svg_x(const struct svg *svg, double time_s)
{
	return LEFT + (RIGHT - LEFT) * time_s / svg->time_max;
}

static double svg_y(double value, double most, double top, double base)
{
	return base - (base - top) * value / most;
}

static const struct sim_point *svg_points(const struct svg *svg, unsigned int k)
{
	return svg->result->points + (size_t)k * svg->result->scenario->vm_count;
}

static unsigned int svg_band(const struct svg *svg, unsigned int vm)
{
	return MT_MIN(svg->result->scenario->vms[vm].spec, svg->bands - 1);
}

/* Sums over all VMs at sample @k. */
static struct sim_point svg_sum(const struct svg *svg, unsigned int k)
{
	const struct sim_point *points = svg_points(svg, k);
	struct sim_point sum = {0};

	for (unsigned int i = 0; i < svg->result->scenario->vm_count; i++) {
		sum.held += points[i].held;
		sum.active += points[i].active;
		sum.zipped += points[i].zipped;
		sum.swapped += points[i].swapped;
	}
	return sum;
}

/* A round size of at least @pages whose quarters are round, too: the end of an axis. */
static double svg_round(double pages)
{
	static const double steps[] = {1,  2,  4,   6,   8,   12,  16,  20,  24,  32,  40,  48,
				       60, 80, 100, 120, 160, 200, 240, 320, 400, 480, 600, 800};
	double unit = 256;

	for (;; unit *= 1024)
		for (size_t i = 0; i < MT_ARRAY_SIZE(steps); i++)
			if (steps[i] * unit >= pages)
				return steps[i] * unit;
}

static void svg_scale(struct svg *svg)
{
	const struct sim_result *result = svg->result;
	double held = (double)result->scenario->pool_pages, out = 256;

	for (unsigned int k = 0; k < result->sample_count; k++) {
		struct sim_point sum = svg_sum(svg, k);

		held = MT_MAX(held, MT_MAX(sum.held, sum.active));
		out = MT_MAX(out, sum.zipped + sum.swapped);
	}
	svg->held_max = svg_round(held * 1.02);
	svg->out_max = svg_round(out);
	svg->time_max = MT_MAX(result->moments[result->sample_count - 1].time_s, 1e-6);
}

static void svg_head(const struct svg *svg)
{
	const struct sim_result *result = svg->result;
	const struct sim_scenario *s = result->scenario;
	const char *slash = strrchr(s->path, '/');
	char title[400], pool[MT_SIZE_TEXT_MAX], all[MT_SIZE_TEXT_MAX];
	double promised = (double)sim_scenario_promised_pages(s);

	fprintf(svg->out,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
		"viewBox=\"0 0 %d %d\">\n"
		"<style>text{font-family:system-ui,'Segoe UI',Helvetica,Arial,sans-serif;fill:#333}"
		".h{font-size:20px;font-weight:600}.s{font-size:13px;fill:#666}"
		".a{font-size:12px;text-anchor:end}.m{font-size:12px;text-anchor:middle}"
		".l{font-size:12px}.t{font-size:13px;font-weight:600}"
		".g{stroke:#e3e3e3;stroke-width:1}</style>\n"
		"<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
		WIDTH, HEIGHT, WIDTH, HEIGHT);
	mt_svg_text(svg->out, LEFT, 36, "h", slash ? slash + 1 : s->path);
	snprintf(title, sizeof(title),
		 "%u VMs, promised %s on a pool of %s (%.2f times); guests ran at %.1f %%, "
		 "%.2f %% of active memory missing",
		 s->vm_count, mt_size_text((uint64_t)promised * MT_PAGE_SIZE, all),
		 mt_size_text(s->pool_pages * MT_PAGE_SIZE, pool), promised / (double)s->pool_pages,
		 sim_work_pct(&result->sums), sim_shortfall_pct(&result->sums));
	mt_svg_text(svg->out, LEFT, 58, "s", title);
}

static void svg_axis(const struct svg *svg, double most, double top, double base, const char *name)
{
	for (unsigned int i = 0; i <= 4; i++) {
		double value = most * i / 4, y = svg_y(value, most, top, base);
		char text[MT_SIZE_TEXT_MAX];

		if (i && base - top < 200 && i % 2)
			continue;
		fprintf(svg->out,
			"<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" class=\"g\"/>\n", LEFT,
			RIGHT, y, y);
		mt_svg_text(svg->out, LEFT - 8, y + 4, "a",
			    i ? mt_size_text((uint64_t)value * MT_PAGE_SIZE, text) : "0");
	}
	mt_svg_text(svg->out, LEFT, top - 8, "t", name);
}

static void svg_times(const struct svg *svg)
{
	static const double steps[] = {1,    5,    10,   30,    60,    300,   600,
				       1800, 3600, 7200, 14400, 21600, 86400, 604800};
	double step = steps[MT_ARRAY_SIZE(steps) - 1];

	for (size_t i = MT_ARRAY_SIZE(steps); i-- > 0;)
		if (svg->time_max / steps[i] <= 13)
			step = steps[i];
	for (double t = 0; t <= svg->time_max; t += step) {
		char text[32];

		if (step >= 3600)
			snprintf(text, sizeof(text), "%.0f h", t / 3600);
		else if (step >= 60)
			snprintf(text, sizeof(text), "%.0f min", t / 60);
		else
			snprintf(text, sizeof(text), "%.0f s", t);
		mt_svg_text(svg->out, svg_x(svg, t), STATE_BASE + 20, "m", text);
	}
}

/* An area between what is stacked already and that plus a value of each sample. */
struct svg_area {
	const char *colour;
	double most, top, base;
	int band; /* held memory of these VMs; -1 zipped, -2 swapped, of all */
};

static double svg_value(const struct svg *svg, const struct svg_area *area, unsigned int k)
{
	const struct sim_point *points = svg_points(svg, k);
	double sum = 0;

	for (unsigned int i = 0; i < svg->result->scenario->vm_count; i++) {
		if (area->band == -1)
			sum += points[i].zipped;
		else if (area->band == -2)
			sum += points[i].swapped;
		else if (svg_band(svg, i) == (unsigned int)area->band)
			sum += points[i].held;
	}
	return sum;
}

static void svg_draw_area(struct svg *svg, const struct svg_area *area)
{
	const struct sim_result *result = svg->result;

	fprintf(svg->out,
		"<path fill=\"%s\" fill-opacity=\"0.85\" stroke=\"#fff\" "
		"stroke-width=\"0.5\" d=\"",
		area->colour);
	for (unsigned int k = 0; k < result->sample_count; k++)
		fprintf(svg->out, "%s%.1f %.1f", k ? "L" : "M",
			svg_x(svg, result->moments[k].time_s),
			svg_y(svg->stack[k], area->most, area->top, area->base));
	for (unsigned int k = result->sample_count; k-- > 0;) {
		svg->stack[k] += svg_value(svg, area, k);
		fprintf(svg->out, "L%.1f %.1f", svg_x(svg, result->moments[k].time_s),
			svg_y(svg->stack[k], area->most, area->top, area->base));
	}
	fputs("Z\"/>\n", svg->out);
}

static void svg_held(struct svg *svg)
{
	double y = svg_y((double)svg->result->scenario->pool_pages, svg->held_max, HELD_TOP,
			 HELD_BASE);

	svg_axis(svg, svg->held_max, HELD_TOP, HELD_BASE, "memory held");
	for (unsigned int band = 0; band < svg->bands; band++)
		svg_draw_area(svg, &(struct svg_area){colours[band], svg->held_max, HELD_TOP,
						      HELD_BASE, (int)band});
	fprintf(svg->out, "<path fill=\"none\" stroke=\"#111\" stroke-width=\"1.8\" d=\"");
	for (unsigned int k = 0; k < svg->result->sample_count; k++)
		fprintf(svg->out, "%s%.1f %.1f", k ? "L" : "M",
			svg_x(svg, svg->result->moments[k].time_s),
			svg_y(svg_sum(svg, k).active, svg->held_max, HELD_TOP, HELD_BASE));
	fprintf(svg->out,
		"\"/>\n<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#b00020\" "
		"stroke-width=\"1.5\" stroke-dasharray=\"7 4\"/>\n",
		LEFT, RIGHT, y, y);
	memset(svg->stack, 0, svg->result->sample_count * sizeof(*svg->stack));
}

static void svg_states(const struct svg *svg)
{
	const struct sim_result *result = svg->result;

	mt_svg_text(svg->out, LEFT - 8, STATE_BASE - 6, "a", "state");
	for (unsigned int k = 0, from = 0; k < result->sample_count; k++) {
		double x = svg_x(svg, result->moments[from].time_s);
		bool last = k + 1 == result->sample_count;

		if (!last && result->moments[k + 1].state == result->moments[from].state)
			continue;
		fprintf(svg->out,
			"<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n", x,
			STATE_TOP, svg_x(svg, result->moments[last ? k : k + 1].time_s) - x + 0.1,
			STATE_BASE - STATE_TOP, state_colours[result->moments[from].state]);
		from = k + 1;
	}
}

static double svg_key(const struct svg *svg, double y, const char *colour, const char *text)
{
	fprintf(svg->out,
		"<rect x=\"%d\" y=\"%.0f\" width=\"14\" height=\"12\" rx=\"2\" fill=\"%s\"/>\n",
		RIGHT + 24, y - 10, colour);
	mt_svg_text(svg->out, RIGHT + 46, y, "l", text);
	return y + 19;
}

static void svg_legend(const struct svg *svg)
{
	const struct sim_scenario *s = svg->result->scenario;
	double y = HELD_TOP + 8;
	char text[SIM_NAME_MAX + 32];

	y = svg_key(svg, y, "#b00020", "pool");
	y = svg_key(svg, y, "#111", "active memory");
	for (unsigned int band = svg->bands; band-- > 0;) {
		const struct sim_spec *spec = &s->specs[band];

		if (band == svg->bands - 1 && s->spec_count > svg->bands)
			snprintf(text, sizeof(text), "and %u others", s->spec_count - band);
		else if (spec->count > 1)
			snprintf(text, sizeof(text), "%s (%u)", spec->name, spec->count);
		else
			snprintf(text, sizeof(text), "%s", spec->name);
		y = svg_key(svg, y, colours[band], text);
	}
	y = svg_key(svg, OUT_TOP + 12, "#8a7fb8", "swapped");
	svg_key(svg, y, "#c5b3e6", "compressed");
	y = STATE_TOP - 66;
	for (unsigned int i = 0; i < MT_HOST_STATES; i++)
		y = svg_key(svg, y, state_colours[i], mt_state_name((enum mt_host_state)i));
}

static void svg_draw(struct svg *svg)
{
	svg_head(svg);
	svg_held(svg);
	svg_axis(svg, svg->out_max, OUT_TOP, OUT_BASE, "compressed and swapped");
	svg_draw_area(svg, &(struct svg_area){"#8a7fb8", svg->out_max, OUT_TOP, OUT_BASE, -2});
	svg_draw_area(svg, &(struct svg_area){"#c5b3e6", svg->out_max, OUT_TOP, OUT_BASE, -1});
	svg_states(svg);
	svg_times(svg);
	svg_legend(svg);
	fputs("</svg>\n", svg->out);
}

int sim_write_svg(const struct sim_result *result, const char *path, struct mt_err *err)
{
	struct svg svg = {.result = result,
			  .bands = MT_MIN(result->scenario->spec_count, BANDS_MAX),
			  .stack = calloc(result->sample_count, sizeof(double))};
	int bad;

	if (!svg.stack)
		return mt_err_set(err, -ENOMEM, "%s: not enough memory for the picture", path);
	svg.out = fopen(path, "we");
	if (!svg.out) {
		free(svg.stack);
		return mt_err_set(err, -errno, "%s: can't be written: %s", path, strerror(errno));
	}
	svg_scale(&svg);
	svg_draw(&svg);
	bad = ferror(svg.out);
	free(svg.stack);
	if (fclose(svg.out) || bad)
		return mt_err_set(err, -EIO, "%s: writing failed; is the disk full?", path);
	return 0;
}
