#!/bin/bash
# SPDX-License-Identifier: MIT
#
# check-docs.sh - checks that what people can type is written down where they look for it; TAP.
#
# Why: a setting that no page names is found by nobody, and nobody remembers to name it. How: names are taken from the
# tables in the sources that the programs themselves read, one test for each kind; what no page says is printed as
# "# file: name: not in PAGE". The tables must be found, too: a test that finds no names fails.

set -uo pipefail

top=${1:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
cd "$top" || exit 1
count=0

# A page without roff's escapes.
page() {
	sed 's/\\-/-/g; s/\\f[A-Z]//g' "$@"
}

# said NAME PAGE...: is it there as a word?
said() {
	grep -qE -- "(^|[^A-Za-z0-9_-])$1(\$|[^A-Za-z0-9_-])" <(page "${@:2}")
}

# names PATTERN FILE...: what stands between the parentheses of the pattern.
names() {
	sed -nE "s/.*$1.*/\\1/p" "${@:2}"
}

# rule SENTENCE PREFIX "NAMES" PAGE...: each of the names is said, behind the prefix, on one of the pages.
rule() {
	local sentence=$1 prefix=$2 name missing=
	for name in $3; do
		said "$prefix$name" "${@:4}" || missing+="# $prefix$name: not in ${*:4}"$'\n'
	done
	[ -n "$3" ] || missing="# no names were found in the sources"$'\n'
	count=$((count + 1))
	printf '%s' "$missing"
	echo "${missing:+not }ok $count - $sentence"
}

# Options of a verb's table that its help text, in the same file, does not have.
unhelped() {
	local file name
	for file in src/cli/*.c; do
		for name in $(names '\{"([a-z0-9-]+)", [^,]+, CLI_OPT_[A-Z_0-9]+,' "$file"); do
			grep -qE "\"[^\"]*--$name([^a-z0-9-]|\$)" "$file" || echo "$name"
		done
	done
}

tool_pages="docs/man/memtide.1 docs/man/memtide-mmu.1 docs/man/memtide-sim.1"

# shellcheck disable=SC2086 # pages are words
{
	rule "every key of the daemon's configuration is in its manual" '(--)?' \
		"$(names '^\t\{"([a-z-]+)", config_set_[a-z_]+\},$' src/host/config.c)" docs/man/memtided.8
	rule "every option of the daemon is in its manual" '--' \
		"$(names '^\{"([a-z-]+)"$' <(grep -oE '\{"[a-z-]+"' src/host/main.c))" docs/man/memtided.8
	rule "every setting of the scheduler is in its page" '' \
		"$(names '^\t\{"(Mem\.[A-Za-z]+)",.*' src/policy/settings.c)" docs/scheduler.md
	rule "every verb has a section in the manual" '\.SS ' "$(names 'cli_verb cli_verb_([a-z]+) = .*' src/cli/*.c)" docs/man/memtide.1
	rule "every option of a verb is in a manual" '--' \
		"$(names '\{"([a-z0-9-]+)", [^,]+, CLI_OPT_[A-Z_0-9]+,' src/cli/*.c | sort -u)" $tool_pages
	rule "every variable of the environment is in a manual" '' \
		"$(names 'getenv\("(MEMTIDE_[A-Z_]+)"\)' src/*/*.c | sort -u)" docs/man/*.[18]
	rule "every request of the control socket is in its page" '"cmd":"' \
		"$(grep -oE '\{"[a-z_]+", control_[a-z_]+\}' src/host/control_api.c | cut -d'"' -f2)" docs/protocol.md
	[ ! -f src/libvirt/main.c ] || rule "every option of memtide-libvirt is in its manual" '--' \
		"$(names '^\{"([a-z-]+)"$' <(grep -oE '\{"[a-z-]+"' src/libvirt/main.c))" docs/man/memtide-libvirt.8
}

missing=$(unhelped)
count=$((count + 1))
[ -z "$missing" ] || sed 's/^/# /; s/$/: not in its help/' <<<"$missing"
echo "${missing:+not }ok $count - every option of a verb is in its help text"
echo "1..$count"
