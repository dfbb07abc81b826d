#!/bin/bash
# SPDX-License-Identifier: MIT
#
# tidy.sh [FILE.c...] - has clang-tidy look through the sources, all of src without a FILE.
#
# Why: it sees what compilers do not: a null pointer three calls away, a macro that counts twice. How: the compiler's
# commands come from a build directory that clang has set up (made here if need be; nothing is built); .clang-tidy says
# what is looked for, and why what is not; files are shared among the processors. Only version 14 is asked: others find
# other things. Exit status: 0 nothing found, 1 something (printed), 77 no clang-tidy 14.

set -uo pipefail

top=$(dirname "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)")
cd "$top" || exit 1
build=build-tidy
tidy=clang-tidy
command -v clang-tidy-14 >/dev/null && tidy=clang-tidy-14
if ! $tidy --version 2>/dev/null | grep -q 'version 14\.'; then
	echo "tidy.sh: no clang-tidy 14 here" >&2
	exit 77
fi
[ -f "$build/compile_commands.json" ] || CC=clang meson setup "$build" >/dev/null || exit 1
found=$(mktemp)
trap 'rm -f "$found"' EXIT
if [ $# -gt 0 ]; then printf '%s\n' "$@"; else find src -name '*.c' | LC_ALL=C sort; fi |
	xargs -n 4 -P "${JOBS:-$(nproc)}" "$tidy" -quiet -p "$build" 2>/dev/null >"$found"
status=${PIPESTATUS[1]}
grep -E '(error|warning|note):' "$found" | sed "s|$top/$build/\.\./||; s|^\.\./||" | awk '!seen[$0]++' | head -n 200
[ "$status" = 0 ] && ! grep -q '\(error\|warning\):' "$found"
