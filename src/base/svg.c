/* SPDX-License-Identifier: MIT */
/* svg.c - see svg.h */
#include "base/svg.h"

void mt_svg_text(FILE *out, double x, double y, const char *class, const char *text)
{
	fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\">", x, y, class);
	for (; *text; text++)
		if (*text == '<' || *text == '&')
			fprintf(out, "&#%d;", *text);
		else
			fputc(*text, out);
	fputs("</text>\n", out);
}
