#!/bin/bash
# SPDX-License-Identifier: MIT
#
# check-layers.sh - checks that the sources keep to the structure they claim; TAP.
#
# Why: layers, pure functions and short files stay so only when something looks. How: grep and awk over the
# sources, one test for each rule; what breaks a rule is printed as "# file:line: what". Deeper rules (who may change
# a page's state) are the business of reviews and of the tests themselves.

set -uo pipefail

top=${1:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
cd "$top" || exit 1
count=0

# tap SENTENCE: what stands on standard input breaks this rule.
tap() {
	local found
	found=$(cat)
	count=$((count + 1))
	if [ -z "$found" ]; then
		echo "ok $count - $1"
	else
		head -n 40 <<<"$found" | sed 's/^/# /'
		echo "not ok $count - $1"
	fi
}

# sources DIR...: the C files below, in order.
sources() {
	find "$@" -name '*.[ch]' -type f | LC_ALL=C sort
}

# includes LAYER PATTERN: lines of the layer that include a file of ours that does not match the pattern.
includes() {
	sources "src/$1" | xargs grep -nH '^ *# *include *"' | grep -vE "include *\"($2)"
}

# system_headers LAYER PATTERN: lines of the layer that include such a system header.
system_headers() {
	sources "src/$1" | xargs grep -nHE "^ *# *include *<($2)"
}

# The sources of monitor without the two files that tie it to the system.
monitor_includes() {
	includes monitor '(base|wire|monitor)/|memtide/memtide\.h' |
		grep -vE '^src/monitor/(vm\.c|vm_direct\.c|vm_region\.c|vm_internal\.h|link\.c|share_link\.c):[0-9]+:#include "sys/'
}

# code FILE...: the lines, without comments and strings, as "file:line:text".
code() {
	awk '
	FNR == 1 { inside = 0 }
	{
		line = $0
		gsub(/\\./, "", line)
		gsub(/"[^"]*"/, "\"\"", line)
		if (inside) {
			if (!(at = index(line, "*/")))
				next
			line = substr(line, at + 2)
			inside = 0
		}
		while ((at = index(line, "/*"))) {
			rest = substr(line, at + 2)
			end = index(rest, "*/")
			if (!end) {
				line = substr(line, 1, at - 1)
				inside = 1
				break
			}
			line = substr(line, 1, at - 1) " " substr(rest, end + 2)
		}
		sub(/\/\/.*/, "", line)
		if (line ~ /[^ \t]/)
			print FILENAME ":" FNR ":" line
	}' "$@"
}

# The opening comment stands in line 1 behind the SPDX line, or in line 2.
without_head() {
	local file
	for file in $(sources src include tests bench guest demo); do
		head -n 1 "$file" | grep -q '^/\* SPDX-License-Identifier: [A-Za-z0-9.-]* \*/$' ||
			echo "$file:1: no SPDX line"
		sed -n 2p "$file" | grep -q '^/\*' || echo "$file:2: no opening comment"
	done
}

long_files() {
	sources src include tests bench guest demo | xargs awk '
	{ lines[FILENAME] = FNR }
	END { for (f in lines) if (lines[f] > 600) print f ":1: " lines[f] " lines" }' | LC_ALL=C sort
}

# A function's body is between braces in the first column.
long_functions() {
	sources src include tests bench guest demo | xargs awk '
	FNR == 1 { start = 0 }
	/^{/ { start = FNR }
	/^}/ && start {
		if (FNR - start - 1 > 60)
			print FILENAME ":" start ": " FNR - start - 1 " lines"
		start = 0
	}'
}

banned_calls() {
	# shellcheck disable=SC2046 # no blanks in names of sources
	code $(sources src include) |
		grep -E '(^|[^A-Za-z0-9_.>])(strcpy|strcat|sprintf|gets|atoi|system|popen|alloca|usleep|sleep) *\('
}

scripts_without_head() {
	local file
	find demo guest scripts tests bench .ci -type f | LC_ALL=C sort | while read -r file; do
		head -n 1 "$file" | grep -aqE '^#!.*sh' || continue
		sed -n 2p "$file" | grep -q 'SPDX-License-Identifier' || echo "$file:2: no SPDX line"
	done
}

# "tap" must count in this shell, so its input comes from a process substitution.
rule() {
	tap "$1" < <("${@:2}" 2>&1)
}

rule "base includes only base" includes base 'base/'
rule "wire includes only base and wire" includes wire '(base|wire)/'
rule "qmp includes only base and qmp" includes qmp '(base|qmp)/'
rule "policy includes only base and policy" includes policy '(base|policy)/'
rule "mmu includes only base and mmu" includes mmu '(base|mmu)/'
rule "lab includes only base, mmu and lab" includes lab '(base|mmu|lab)/'
rule "monitor includes only base, wire and monitor; what puts the parts together also sys" monitor_includes
rule "sys includes only base, sys and the interfaces that monitor declares" \
	includes sys '(base|sys)/|monitor/(mem_ops|swap_io)\.h'
rule "host includes nothing of monitor, preload and cli" includes host '(base|wire|policy|sys|qmp|host)/'
rule "cli includes nothing of monitor, preload and host" includes cli '(base|wire|sys|qmp|sim|mmu|lab|cli)/'
rule "libvirt includes base, sys, qmp, libvirt, and of cli only the daemon's client" \
	includes libvirt '(base|sys|qmp|libvirt)/|cli/client\.h'
rule "sim includes only base, policy and sim" includes sim '(base|policy|sim)/'
rule "preload includes nothing of host, policy and cli" includes preload '(base|wire|monitor|sys|preload|memtide)/'
rule "policy makes no system calls and knows no clock and no threads" \
	system_headers policy 'sys/|pthread\.h|unistd\.h|time\.h|fcntl\.h|poll\.h|stdio\.h'
rule "mmu makes no system calls and knows no clock and no threads" \
	system_headers mmu 'sys/|pthread\.h|unistd\.h|time\.h|fcntl\.h|poll\.h|stdio\.h'
rule "wire makes no system calls and knows no clock and no threads" \
	system_headers wire 'sys/|pthread\.h|unistd\.h|time\.h|fcntl\.h|poll\.h'
rule "every C file begins with a licence line and says what it is for" without_head
rule "every script has a licence line" scripts_without_head
rule "no C file has more than 600 lines" long_files
rule "no function has more than 60 lines" long_functions
rule "no banned function is called in src" banned_calls
echo "1..$count"
