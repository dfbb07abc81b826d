/* SPDX-License-Identifier: MIT */
/* svg.h - pieces of SVG pictures that several of ours are made of */
#ifndef MT_BASE_SVG_H
#define MT_BASE_SVG_H

#include <stdio.h>

/** mt_svg_text() - @text at a point, in the style @class; what would be markup is escaped */
void mt_svg_text(FILE *out, double x, double y, const char *class, const char *text);

#endif
