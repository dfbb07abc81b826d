#!/bin/bash
# SPDX-License-Identifier: MIT
#
# coverage.sh [MESON TEST ARGUMENT...] - which lines of the monitor, the policy, the wire and the daemon tests go through.
#
# Why: what no test goes through, no test has tried. How: a build of its own (build-coverage) that counts lines, the tests
# that need no guest (or those asked for), then gcovr's table. Lines count that any test program went through, those
# compiled into several of them included. Processes that are killed leave no counts, so the daemon's and the
# monitors' own figures are a little low. Exit status: 0 when the table could be made.

set -euo pipefail

top=$(dirname "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)")
cd "$top"
build=build-coverage
command -v gcovr >/dev/null || { echo "coverage.sh: gcovr is missing; apt-get install gcovr" >&2; exit 1; }
[ -f "$build/build.ninja" ] || meson setup "$build" -Db_coverage=true -Doptimization=1 >/dev/null
ninja -C "$build" >/dev/null
find "$build" -name '*.gcda' -delete
[ $# -gt 0 ] || set -- --suite unit --suite host --suite sim --suite cli --suite fuzz --suite live
meson test -C "$build" --no-rebuild --timeout-multiplier 4 "$@" | grep -E ' (FAIL|TIMEOUT|ERROR) |^(Ok|Fail|Timeout):' || true
for part in monitor policy wire host; do
	printf '%-8s ' "$part"
	gcovr --root . --filter "src/$part/" --gcov-ignore-parse-errors "$build" 2>/dev/null | awk "/^TOTAL/ { print \$4, \"of\", \$2, \"lines\" }"
done
