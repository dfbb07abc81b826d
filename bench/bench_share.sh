#!/bin/bash
# SPDX-License-Identifier: MIT
#
# bench_share.sh - how much N identical guests of one share group have in common: a table for N = 1, 2, ...
#
# Why: the OSDI'02 paper shows shared and reclaimed memory over the number of VMs; this is the same curve here. How: one
# guest after the other is started in one group, boots, reads the same files and rests; each is steered to less memory
# than it has (--target), so that what it does not use is offered for sharing before it is compressed. When the counters
# stand still a line is printed:
#
#   touched     guest memory that has contents, or known zeros: all but what was never touched or was given back
#   shared      zero pages and pages in frames; frames: the memory these are in
#   reclaimed   shared less frames
#   before      what the kernel says: anonymous memory of all QEMUs, each taken before it was steered to less
#   after       the same now, and the memory behind the frames; includes what was compressed, not what was swapped
#
# With the last guest there the scanner gets --rest SEC more, enough to look through all memory once, and the last line is
# printed again.
#
# At the end all guests are stopped and their memory is saved, twice with the same time between; --scan PROGRAM
# (bench_share_scan) says how many pages that did not change are alike, which is what sharing could have found at best.
#
# usage: bench_share.sh [--guests N] [--mem SIZE] [--target SIZE] [--pool SIZE] [--settle SEC] [--rest SEC] [--csv FILE]
#                       [--svg FILE] [--scan PROGRAM]

set -uo pipefail

guests=10 mem=128M target=32M pool=2G settle=40 rest=75 csv= svg= scan=
while [ $# -gt 0 ]; do
	case "$1" in
	--guests) guests=$2 ;; --mem) mem=$2 ;; --target) target=$2 ;; --pool) pool=$2 ;;
	--settle) settle=$2 ;; --rest) rest=$2 ;; --csv) csv=$2 ;; --svg) svg=$2 ;; --scan) scan=$2 ;;
	*) echo "bench_share: '$1' is not an option" >&2; exit 2 ;;
	esac
	shift 2
done

# shellcheck source=tests/live/guests.sh
. "$(dirname "$(dirname "$(realpath "${BASH_SOURCE[0]}")")")/tests/live/guests.sh"
guests_possible || { echo "bench_share: no guest image, or no QEMU" >&2; exit 1; }
trap 'guests_end' EXIT
work_in_guest='find /usr /lib /bin /etc -type f -size -400k 2>/dev/null | head -n 3000 | xargs cat >/dev/null 2>&1
sync; echo BENCH-READY; sleep 100000'

guests_end() {
	local name
	for name in "${!guest_pid[@]}"; do end_process "${guest_pid[$name]}"; done
	daemon_stop
	rm -rf "$work"
}

# all FILTER: of the host object.
host_is() {
	memtide host --json | jq -r "$1"
}

# Sum of a counter of all VMs, in KiB.
sum_of() {
	memtide list --json | jq "[.vms[].$1] | add"
}

# Anonymous memory of all VMs' processes, and the memory behind frames, in KiB: from the kernel.
anonymous_kib() {
	local pid anon=0
	for pid in $(memtide list --json | jq '.vms[].pid'); do
		anon=$((anon + $(awk '/^Anonymous:/ { print $2 }' "/proc/$pid/smaps_rollup")))
	done
	echo "$anon"
}

# Wait until sharing makes no more progress, within the time to settle.
settled() {
	local last=-1000 now end=$((SECONDS + settle))
	sleep 5
	while [ "$SECONDS" -lt "$end" ]; do
		now=$(sum_of shareMade)
		[ "$now" -gt "$((last + 50))" ] || return 0
		last=$now
		sleep 3
	done
}

# table_line N: what N guests have in common now.
table_line() {
	local n=$1 memsize empty shared zero frames after touched
	memsize=$(sum_of memsize) empty=$(($(sum_of untouched) + $(sum_of released)))
	# shellcheck disable=SC2046 # a list
	shared=$(host_is .shared) zero=$(host_is .zero) frames=$(host_is .sharedcommon) after=$(($(anonymous_kib) + $(frames_outside_kib $(frames_files))))
	touched=$((memsize - empty))
	awk -v n="$n" -v t="$touched" -v s="$shared" -v z="$zero" -v f="$frames" -v b="$before" -v o="$after" 'BEGIN {
		printf "%6d %8.1fM %8.1fM %6.1fM %8.1fM %8.1fM %9.1f %9.1f %8.1fM %8.1fM\n", n, t / 1024, s / 1024, z / 1024,
			f / 1024, (s - f) / 1024, 100 * s / t, 100 * (s - f) / t, b / 1024, o / 1024 }'
	echo "$n,$touched,$shared,$zero,$frames,$((shared - frames)),$before,$after" >>"$csv"
}

csv=${csv:-$work/table.csv}
daemon_start "$pool" || exit 1
memtide set --host Mem.ShareScanTime=1 >/dev/null
printf 'guests,touched_kib,shared_kib,zero_kib,frames_kib,reclaimed_kib,before_kib,after_kib\n' >"$csv"
printf '%6s %9s %9s %7s %9s %9s %9s %9s %9s %9s\n' guests touched shared zero frames reclaimed 'shared %' \
	'reclaim %' before after
before=0
for ((n = 1; n <= guests; n++)); do
	qmp_pipes "g$n"
	RUN_OPTIONS='--share-group bench' GUEST_LIMIT=100000 guest_start "g$n" "$work_in_guest" --mem "$mem" -- -qmp "pipe:$work/g$n.qmp"
	guest_booted "g$n" && guest_says "g$n" BENCH-READY || { guest_show "g$n"; exit 1; }
	before=$((before + $(awk '/^Anonymous:/ { print $2 }' "/proc/$(field "g$n" .pid)/smaps_rollup")))
	memtide set "g$n" target_max="$target" >/dev/null
	settled
	table_line "$n"
done
sleep "$rest"
table_line "$guests"
# The line before is the same number of guests: in the picture only the last one counts.
[ -z "$svg" ] || awk -F, 'NR > 1 && $1 != last { print line } { last = $1; line = $0 } END { print line }' "$csv" |
	awk -f "$(dirname "${BASH_SOURCE[0]}")/share_plot.awk" >"$svg"
for ((n = 1; n <= guests; n++)); do
	memtide check "g$n" || exit 1
done
memtide show g1 --json | jq -c '{resident, nominated, zero, sharedFrames, zipped, swapped, untouched, released,
	shareScanned, shareMade, shareUnchanged, shareNoMatch, shareVolatile, shareFull, shareDiffers, shareLarge, faultShared}'
[ -n "$scan" ] || exit 0
bytes=$(($(sum_of memsize) * 1024 / guests))

# save SUFFIX: all guests' memory, while all stand still.
save() {
	local n what
	for what in stop save cont; do
		for ((n = 1; n <= guests; n++)); do
			qmp_open "g$n" >/dev/null
			if [ $what = save ]; then
				qmp "{\"execute\":\"pmemsave\",\"arguments\":{\"val\":0,\"size\":$bytes,\"filename\":\"$work/g$n.$1\"}}"
			else
				qmp "{\"execute\":\"$what\"}"
			fi >/dev/null
		done
	done
}

found=$(sum_of sharedFrames)
save early
sleep "$rest"
found_late=$(sum_of sharedFrames)
save late
files=()
for ((n = 1; n <= guests; n++)); do files+=("$work/g$n.late:$work/g$n.early"); done
"$scan" "${files[@]}"
echo "in frames: $((found / 4)) pages, at the second time $((found_late / 4))"
