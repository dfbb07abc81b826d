#!/bin/bash
# SPDX-License-Identifier: MIT
#
# test_translate.sh - "memtide translate" and "memtide pagemap" on a live guest under QEMU: TAP.
#
# Why: translation must be right for real page tables, wherever the tables are. How: a guest is squeezed so that most of
# its memory, its page tables too, is compressed or swapped; translate_check asks QEMU and memtide about the
# same addresses while the guest is stopped.

set -u

# shellcheck source-path=SCRIPTDIR source=guests.sh
. "$(dirname "${BASH_SOURCE[0]}")/guests.sh"
trap 'guests_end' EXIT
trap 'exit 1' INT TERM HUP

HOLDER_KIB=40000 # what the guest's one large process has at least

# squeezed NAME [QEMU OPTION...]: a guest that has booted and works on little of its memory.
squeezed() {
	daemon_start 1G || return 1
	GUEST_LIMIT=280 guest_start "$1" "guestmem --size 120M --work 1 --rounds 1; echo settled; guestmem --size 40M --work 90 --rounds 1" --mem 256M \
		--qmp "$work/a.qmp" -- -qmp "unix:$work/b.qmp,server=on,wait=off" "${@:2}"
	guest_managed "$1" && guest_says "$1" settled || { guest_show "$1"; return 1; }
	memtide set "$1" target_max=60M >/dev/null || return 1
	wait_until 30 field_most "$1" .held 61500 || { say "held $(field "$1" .held) KiB"; return 1; }
}

same_as_qemu() {
	squeezed "$@" && "$TRANSLATE_CHECK" "$work/a.qmp" "$socket" "$1" "$work/b.qmp" 10500 && guest_check "$1"
}

shows_every_step() {
	local text
	text=$(memtide translate g --gva ffffffff81000000 --qmp "$work/b.qmp") || { say "$text"; return 1; }
	say "${text//$'\n'/$'\n# '}"
	grep -q 'PML4 entry at' <<<"$text" && grep -q '^GPA 0x' <<<"$text" &&
		memtide translate g --gva ffffffff81000000 --qmp "$work/b.qmp" --json | jq -e '.steps | length >= 3' >/dev/null
}

# A process of known size must be found, with its memory where the whole VM's is.
maps_the_vm() {
	local json largest
	json=$(memtide pagemap g --qmp "$work/b.qmp" --by-process --svg "$work/map.svg" --json) || { say "$json"; return 1; }
	jq -e '[.active, .idle, .shared, .zero, .zipped, .swapped, .released, .untouched, .lost] | add == 256 * 1024' \
		<<<"$json" >/dev/null || { say "the states do not add up to the VM's memory"; return 1; }
	jq -e '[.runs[].pages] | add == 65536' <<<"$json" >/dev/null || { say "runs do not cover memory"; return 1; }
	jq -e '.zipped > 0 and .swapped > 0' <<<"$json" >/dev/null || return 1
	largest=$(jq '[.processes[] | .active + .idle + .shared + .zero + .zipped + .swapped + .released + .untouched] | max' <<<"$json")
	say "$(jq '.processes | length' <<<"$json") processes, the largest maps $largest KiB"
	[ "$(jq '.processes | length' <<<"$json")" -ge 2 ] && [ "$largest" -ge "$HOLDER_KIB" ] &&
		[ "$largest" -le $((2 * HOLDER_KIB)) ] || return 1
	memtide pagemap g --qmp "$work/b.qmp" --by-process | tail -n 4 | sed 's/^/# /'
	grep -q '<svg' "$work/map.svg" && memtide pagemap g | sed 's/^/# /'
}

refuses_nonsense() {
	local text
	text=$(memtide translate g --gva 8000000000000000 --qmp "$work/b.qmp")
	grep -q 'not an address' <<<"$text" || { say "$text"; return 1; }
	text=$(memtide translate g --gva 1000 --cr3 ffffff000)
	grep -q 'no memory' <<<"$text" || { say "$text"; return 1; }
	text=$(memtide translate g --gva 1000 --qmp "$work/none" 2>&1) && return 1
	[ "$(wc -l <<<"$text")" = 1 ] || { say "$text"; return 1; }
	memtide translate g --gva xyz --cr3 0 2>/dev/null
	[ $? = 2 ]
}

# test SENTENCE FUNCTION...
number=0
test_that() {
	local sentence=$1
	shift
	number=$((number + 1))
	if "$@"; then echo "ok $number - $sentence"; else echo "not ok $number - $sentence"; fi
}

if ! guests_possible; then
	echo "1..0 # SKIP no QEMU, no guest image (make image), or no /dev/userfaultfd"
	exit 0
fi
test_that "10,500 addresses translate as QEMU says, with pages in every state" same_as_qemu g
test_that "each step of a translation is shown, as text and as JSON" shows_every_step
test_that "the map of a VM adds up, and shows its processes" maps_the_vm
test_that "addresses and tables that are none get a clear answer" refuses_nonsense
echo "1..$number"
