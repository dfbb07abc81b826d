#!/bin/bash
# SPDX-License-Identifier: MIT
#
# bench_balloon.sh - what ballooning costs a guest, beside a smaller guest, beside compression and swap, and how fast it is.
#
# osdi    The experiment of the OSDI'02 paper: a guest ballooned to a part of its size against one booted with that much.
#         The load is of the disk cache (fio, skewed random reads of a disk larger than memory), as its dbench was.
# ways    The same load under the same pressure, met by the balloon, by compression alone, by swap alone.
# speed   128 MiB into the balloon: QEMU alone, and QEMU under Memtide, in turns.
#
# usage: bench_balloon.sh [BUILD DIRECTORY]; BENCH_PAIRS runs of each (1), BENCH_BALLOON="osdi ways speed" picks.

set -u

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$(cd "${1:-$(dirname "$here")/build}" && pwd)
export MEMTIDED_EXE=$build/src/host/memtided MEMTIDE_EXE=$build/src/cli/memtide
export MEMTIDE_PRELOAD=$build/src/preload/libmemtide-preload.so
# shellcheck source-path=SCRIPTDIR source=../tests/live/guests.sh
. "$here/../tests/live/guests.sh"
trap 'guests_end; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP

pairs=${BENCH_PAIRS:-1}
size_mib=384
# What Memtide keeps of a target for itself: bookkeeping and room for faults.
own_mib=20
goal_osdi_pct=5

# The guest fills its cache, leaves time for what is done to it, and times its load.
load='t() { echo "BENCH-TIME $1 $(cut -d" " -f1 /proc/uptime)"; }
cat /dev/vda >/dev/null; echo filled; sleep 15
t begin; fio --name=l --filename=/dev/vda --readonly --rw=randread --random_distribution=zipf:1.1 --bs=16k --size=300M \
--io_size=900M --ioengine=psync --invalidate=0 --randseed=7 --allrandrepeat=1 >/tmp/fio.out 2>&1 || cat /tmp/fio.out; t end'

median() {
	sort -g | awk '{ v[NR] = $1 } END { if (NR) print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}

# row ID WHAT UNIT GOAL MEASURED BESIDE VERDICT
row() {
	printf '%s\t%s\t%s\t%s\t%.4g\t%s\t%s\n' "$@" >>"${BENCH_ROWS:-/dev/stdout}"
}

# least A B: "ok" when A <= B
least() {
	awk -v a="$1" -v b="$2" 'BEGIN { print a <= b ? "ok" : "short" }'
}

ratio_pct() {
	awk -v a="$1" -v b="$2" 'BEGIN { print (a / b - 1) * 100 }'
}

# load_time MIB TARGET-MIB [SETTING...]: seconds of the load in a guest of this size, held to a target (0: none)
load_time() {
	local mib=$1 target=$2 setting
	shift 2
	daemon_start 2G >&2 || return 1
	for setting; do
		case "$setting" in
		Mem.*) memtide set --host "$setting" >/dev/null || return 1 ;;
		esac
	done
	GUEST_LIMIT=400 guest_start g "$load" --mem "${mib}M"
	guest_managed g >&2 && guest_says g filled || return 1
	for setting; do
		case "$setting" in
		Mem.*) ;;
		*) memtide set g "$setting" >/dev/null || return 1 ;;
		esac
	done
	[ "$target" = 0 ] || memtide set g "target_max=${target}M" >/dev/null || return 1
	wait_until 60 grep -q 'BENCH-TIME begin' "$work/g.serial" || return 1
	echo "bench: guest of $mib MiB, target $target, $*: balloon $(field g .vmmemctl), held $(field g .held), zipped" \
		"$(field g .zipped), swapped $(field g .swapped) KiB when the load begins" >&2
	wait_until 300 grep -q 'BENCH-TIME end' "$work/g.serial" || return 1
	tr -d '\r' <"$work/g.serial" | awk '/^BENCH-TIME/ { at[$2] = $3 } END { print at["end"] - at["begin"] }'
	guests_end >&2
	guest_pid=()
}

osdi() {
	local pct mib i small ballooned
	for pct in 50 62 75 87; do
		mib=$((size_mib * pct / 100))
		: >"$work/small"
		: >"$work/ballooned"
		for ((i = 0; i < pairs; i++)); do
			load_time "$mib" 0 >>"$work/small" || return 1
			load_time "$size_mib" $((mib + own_mib)) >>"$work/ballooned" || return 1
		done
		small=$(median <"$work/small") ballooned=$(median <"$work/ballooned")
		row "balloon-osdi-$pct" "guest of $size_mib MiB ballooned to $pct %, slower than one booted so by" % \
			"<= $goal_osdi_pct" "$(ratio_pct "$ballooned" "$small")" "booted $small s, ballooned $ballooned s" \
			"$(least "$(ratio_pct "$ballooned" "$small")" "$goal_osdi_pct")"
	done
}

ways() {
	local i target=$((size_mib * 60 / 100)) balloon zip swap none
	: >"$work/balloon"; : >"$work/zip"; : >"$work/swap"; : >"$work/none"
	for ((i = 0; i < pairs; i++)); do
		load_time "$size_mib" 0 >>"$work/none" || return 1
		load_time "$size_mib" "$target" >>"$work/balloon" || return 1
		load_time "$size_mib" "$target" Mem.CtlMaxPercent=0 zip_max_pct=100 >>"$work/zip" || return 1
		load_time "$size_mib" "$target" Mem.CtlMaxPercent=0 zip_max_pct=0 >>"$work/swap" || return 1
	done
	none=$(median <"$work/none") balloon=$(median <"$work/balloon")
	zip=$(median <"$work/zip") swap=$(median <"$work/swap")
	row balloon-ways-zip "the same pressure by balloon, time of that by compression" x "<= 1" \
		"$(awk -v a="$balloon" -v b="$zip" 'BEGIN { print a / b }')" \
		"no pressure $none s, balloon $balloon s, compression $zip s" "$(least "$balloon" "$zip")"
	row balloon-ways-swap "the same pressure by compression, time of that by swap" x "<= 1" \
		"$(awk -v a="$zip" -v b="$swap" 'BEGIN { print a / b }')" "compression $zip s, swap $swap s" "$(least "$zip" "$swap")"
}

# Bytes that QEMU says the guest has left.
actual() {
	qmp '{"execute":"query-balloon"}' | sed -n 's/.*"actual": *\([0-9]*\).*/\1/p'
}

# inflate_time plain|memtide: seconds for 128 MiB
inflate_time() {
	local left=$(((size_mib - 128) << 20)) begin
	qmp_pipes g
	if [ "$1" = memtide ]; then
		daemon_start 2G >&2 || return 1
		GUEST_LIMIT=120 guest_start g "$load" --mem "${size_mib}M" --balloon -- -qmp "pipe:$work/g.qmp"
	else
		rm -f "$work/g.serial"
		"$boot" --accel "${ACCEL:-tcg}" --timeout 120 --serial "$work/g.serial" --name g --run "$load" \
			--mem "${size_mib}M" --balloon -- -qmp "pipe:$work/g.qmp" >"$work/g.log" 2>&1 &
		guest_pid[g]=$!
	fi
	guest_says g filled && qmp_open g >/dev/null || return 1
	sleep 1
	begin=$(date +%s.%N)
	qmp "{\"execute\":\"balloon\",\"arguments\":{\"value\":$left}}" >/dev/null || return 1
	until [ "$(actual)" -le "$left" ]; do sleep 0.01; done
	awk -v a="$begin" -v b="$(date +%s.%N)" 'BEGIN { print b - a }'
	qmp_close
	guests_end >&2
	guest_pid=()
}

speed() {
	local i plain managed
	: >"$work/plain"; : >"$work/managed"
	for ((i = 0; i < pairs + 2; i++)); do
		inflate_time plain >>"$work/plain" || return 1
		inflate_time memtide >>"$work/managed" || return 1
	done
	plain=$(median <"$work/plain") managed=$(median <"$work/managed")
	row balloon-speed "128 MiB into the balloon, rate beside that of QEMU alone" x ">= 1" \
		"$(awk -v a="$plain" -v b="$managed" 'BEGIN { print a / b }')" \
		"QEMU $plain s ($(tr '\n' ' ' <"$work/plain")), under Memtide $managed s ($(tr '\n' ' ' <"$work/managed"))" \
		"$(least "$managed" "$plain")"
}

if ! guests_possible; then
	echo "bench_balloon: needs QEMU, jq, /dev/userfaultfd and the guest image (guest/build-image.sh)" >&2
	exit 1
fi
status=0
for part in ${BENCH_BALLOON:-osdi ways speed}; do
	"$part" || { echo "bench_balloon: $part could not be measured" >&2; guest_show g >&2; status=1; guests_end; guest_pid=(); }
done
exit $status
