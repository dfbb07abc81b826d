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

# A squeezed guest that has booted, idle but for a loop.
squeezed() {
	daemon_start 1G || return 1
	guest_start g "guestmem --size 120M --work 1 --rounds 1; echo settled; sleep 60" --mem 256M "$@" \
		--qmp "$work/a.qmp" -- -qmp "unix:$work/b.qmp,server=on,wait=off"
	guest_managed g && guest_says g settled || { guest_show g; return 1; }
	memtide set g target_max=60M >/dev/null || return 1
	wait_until 30 field_most g .held 61500 || { say "held $(field g .held) KiB"; return 1; }
}

same_as_qemu() {
	squeezed && "$TRANSLATE_CHECK" "$work/a.qmp" "$socket" g "$work/b.qmp" 10500 && guest_check g
}

shows_every_step() {
	local text
	text=$(memtide translate g --gva ffffffff81000000 --qmp "$work/b.qmp") || { say "$text"; return 1; }
	say "${text//$'\n'/$'\n# '}"
	grep -q 'PML4 entry at' <<<"$text" && grep -q '^GPA 0x' <<<"$text" &&
		memtide translate g --gva ffffffff81000000 --qmp "$work/b.qmp" --json | jq -e '.steps | length >= 3' >/dev/null
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
test_that "10,500 addresses translate as QEMU says, with pages in every state" same_as_qemu
test_that "each step of a translation is shown, as text and as JSON" shows_every_step
test_that "addresses and tables that are none get a clear answer" refuses_nonsense
echo "1..$number"
