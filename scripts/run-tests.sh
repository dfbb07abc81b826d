#!/bin/bash
# SPDX-License-Identifier: MIT
#
# run-tests.sh - runs all tests and counts every single one.
#
# Why: meson counts test programs, and one of them may hold thirty tests. How: meson runs them and keeps what they
# printed (testlog.json); the TAP lines in there are counted. A program that failed without a "not ok" (crash, time
# limit) counts as one more failure, and one that does not speak TAP counts by its result. The last line is
# "N passed, N failed", with ", N skipped" when some were; the exit status is 0 when none failed and one passed.

set -euo pipefail

top=$(dirname "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)")
cd "$top"
build=${BUILD:-build}

usage() {
	cat <<-'END'
	usage: run-tests.sh [MESON TEST ARGUMENT...]
	Run the tests in the build directory BUILD (build), e.g. run-tests.sh --suite unit
	END
}

# Prints the counts and, before them, what failed, with the last it said, or was skipped.
count() {
	awk '
	# The value of a string key; quotes inside of a value are escaped, so a bare one ends it.
	function value(key,   from, rest, i, c) {
		from = index($0, "\"" key "\": \"")
		if (!from)
			return ""
		rest = substr($0, from + length(key) + 5)
		for (i = 1; (c = substr(rest, i, 1)) != "\"" && c != ""; i++)
			if (c == "\\")
				i++
		return substr(rest, 1, i - 1)
	}
	# The last it said before this result.
	function tell(   k) {
		for (k = said > 15 ? said - 15 : 0; k < said; k++) {
			gsub(/\\"/, "\"", reason[k])
			printf "    %s\n", reason[k]
		}
	}
	{
		name = value("name")
		# The result stands behind the output, which may be long.
		result = match($0, /"result": "[A-Z]+"/) ? substr($0, RSTART + 11, RLENGTH - 12) : "ERROR"
		ok = bad = skip = said = 0
		n = split(value("stdout"), line, /\\n/)
		for (i = 1; i <= n; i++) {
			if (line[i] ~ /^not ok/ && line[i] !~ /# *TODO/) {
				bad++
				printf "failed: %s: %s\n", name, line[i]
				tell()
			} else if (line[i] ~ /^ok.*# *[Ss][Kk][Ii][Pp]/) {
				skip++
				printf "skipped: %s: %s\n", name, line[i]
			} else if (line[i] ~ /^ok/) {
				ok++
			}
			if (line[i] ~ /^(not )?ok/)
				said = 0
			else if (line[i] != "")
				reason[said++] = line[i]
		}
		if (result ~ /^(FAIL|ERROR|TIMEOUT|INTERRUPT|UNEXPECTEDPASS)$/ && !bad) {
			bad = 1
			printf "failed: %s: %s\n", name, result
			tell()
		} else if (!ok && !bad && !skip) {
			if (result == "SKIP")
				skip = 1
			else
				ok = 1
		}
		passed += ok; failed += bad; skipped += skip
	}
	END {
		printf "%d passed, %d failed%s\n", passed, failed, skipped ? ", " skipped " skipped" : ""
	}' "$1"
}

case "${1:-}" in -h | --help) usage; exit 0 ;; esac
log=$build/meson-logs/testlog.json
rm -f "$log"
status=0
# Limits are for what hangs; a test is not wrong because the machine is slow.
meson test -C "$build" --print-errorlogs --num-processes "${TEST_JOBS:-2}" --timeout-multiplier 10 "$@" </dev/null || status=$?
if [ ! -s "$log" ]; then
	echo "run-tests: no tests were run (status $status)"
	echo "0 passed, 1 failed"
	exit 1
fi
echo
answer=$(count "$log")
printf '%s\n' "$answer"
last=${answer##*$'\n'}
[[ $last =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed ]] && [ "${BASH_REMATCH[1]}" -gt 0 ] && [ "${BASH_REMATCH[2]}" = 0 ]
