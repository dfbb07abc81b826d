#!/bin/bash
# SPDX-License-Identifier: MIT
#
# idle_tax.sh - the idle-memory tax with two real guests, switched live.
#
# Why: the experiment of the paper (OSDI'02, figure 6), which the scheduler must be able to repeat. How: two guests of
# equal shares in a pool that is too small for both. Each fills most of its memory; then one does nothing, and the
# other works on all of it at random. Without a tax each keeps half, whatever it does with it; with 75 % the idle one's
# memory goes to the one that works. Reported: what they hold, and how many operations a second the busy one does in
# the last ten seconds of each phase.

set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$(cd "${1:-$(dirname "$here")/build}" && pwd)
# shellcheck source-path=SCRIPTDIR source=guests.sh
. "$here/guests.sh"

phase_seconds=${BENCH_TAX_SECONDS:-40}
row() { printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$@" >>"${BENCH_ROWS:-/dev/stdout}"; }

# Operations the busy guest has done so far.
ops() {
	grep -a '^guestmem: work' "$work/busy.serial" | tail -n 1 | tr -d '\r' | awk '{ print $4 }'
}

# phase TAX: prints "held of idle, held of busy, operations a second".
phase() {
	local before after
	memtide set --host "Mem.IdleTax=$1" >/dev/null || return 1
	sleep $((phase_seconds - 10))
	before=$(ops)
	sleep 10
	after=$(ops)
	echo "$(($(field idle .held) / 1024)) $(($(field busy .held) / 1024)) $(((after - before) / 10))"
}

if ! guests_possible; then
	echo "idle_tax: needs QEMU, jq, /dev/userfaultfd and the guest image (guest/build-image.sh)" >&2
	exit 1
fi
daemon_start 640M || exit 1
memtide set --host Mem.IdleTax=0 Mem.SamplePeriod=5 Mem.BalancePeriod=5 >/dev/null || exit 1
GUEST_LIMIT=600 guest_start idle "guestmem --size 380M --work 1; sleep 600" --mem 512M
GUEST_LIMIT=600 guest_start busy "guestmem --size 380M --work 500 --hot-pct 100 --report 1 --seed 2" --mem 512M
wait_until grep -qas 'guestmem: PASS' "$work/idle.serial" || { say "the idle guest does not get ready"; exit 1; }
wait_until grep -qas 'guestmem: work' "$work/busy.serial" || { say "the busy guest does not get ready"; exit 1; }
read -r idle0 busy0 ops0 <<<"$(phase 0)"
read -r idle75 busy75 ops75 <<<"$(phase 75)"
guest_check idle && guest_check busy || exit 1
ratio=$(awk "BEGIN { printf \"%.2f\", $ops75 / ($ops0 > 0 ? $ops0 : 1) }")
verdict=$(awk "BEGIN { print ($ratio >= 1.3) ? \"ok\" : \"short\" }")
row idle-tax "busy guest's work with an idle-memory tax of 75 %, of that with none" ratio ">= 1.3" "$ratio" \
	"tax 0: idle $idle0, busy $busy0 MiB, $ops0 operations/s; 75 %: $idle75, $busy75 MiB, $ops75" "$verdict"
