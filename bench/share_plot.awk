# SPDX-License-Identifier: MIT
#
# share_plot.awk - the table of bench_share.sh (CSV) as a picture (SVG): memory over the number of guests
#
# usage: awk -f share_plot.awk TABLE.csv >PICTURE.svg. As the OSDI'02 paper draws it: the guests' memory, what of it is
# shared, what sharing gave back, and the zero pages among it.

function x(n) { return 70 + 560 * n / last }
function y(mib) { return 400 - 340 * mib / top }
function line(column, colour, name,    i, path) {
	path = "M" x(0) "," y(0)
	for (i = 1; i <= rows; i++) path = path " L" x(value[i, 1]) "," y(value[i, column] / 1024)
	printf "<path d=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n", path, colour
	for (i = 1; i <= rows; i++)
		printf "<circle cx=\"%g\" cy=\"%g\" r=\"3\" fill=\"%s\"/>\n", x(value[i, 1]), y(value[i, column] / 1024), colour
	printf "<text x=\"%g\" y=\"%g\" fill=\"%s\">%s</text>\n", x(last) + 10, y(value[rows, column] / 1024) + 4, colour, name
}
BEGIN { FS = "," }
NR > 1 {
	rows++
	for (i = 1; i <= NF; i++) value[rows, i] = $i
	last = $1
	if ($2 / 1024 > most) most = $2 / 1024
}
END {
	step = 50
	while (most / step > 8) step *= 2
	top = step * (int(most / step) + 1)
	print "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"460\" font-family=\"sans-serif\" font-size=\"13\">"
	print "<rect width=\"760\" height=\"460\" fill=\"white\"/>"
	print "<text x=\"70\" y=\"34\" font-size=\"16\">Memory that identical guests have in common (MiB)</text>"
	for (mib = 0; mib <= top; mib += step) {
		printf "<line x1=\"70\" x2=\"630\" y1=\"%g\" y2=\"%g\" stroke=\"#ddd\"/>\n", y(mib), y(mib)
		printf "<text x=\"62\" y=\"%g\" text-anchor=\"end\">%d</text>\n", y(mib) + 4, mib
	}
	for (i = 1; i <= rows; i++)
		printf "<text x=\"%g\" y=\"420\" text-anchor=\"middle\">%d</text>\n", x(value[i, 1]), value[i, 1]
	print "<text x=\"350\" y=\"444\" text-anchor=\"middle\">guests</text>"
	line(2, "#555555", "touched")
	line(3, "#0072b2", "shared")
	line(6, "#009e73", "reclaimed")
	line(4, "#d55e00", "zero")
	print "</svg>"
}
