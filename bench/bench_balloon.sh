#!/bin/bash
# SPDX-License-Identifier: MIT
#
# bench_balloon.sh - what ballooning costs a guest, beside a smaller guest, beside compression and swap, and how fast it is.
#
# osdi    The experiment of the OSDI'02 paper: a guest ballooned to a part of its size against one booted with that much.
#         The load is of the disk cache (fio, skewed random reads of a disk larger than memory), as its dbench was.
# ways    The same load under the same pressure, met by the balloon, by compression alone, by swap alone; for two loads: one
#         that wants the cache, and one that wants fresh memory while the cache is dead.
# speed   128 MiB into the balloon: QEMU alone, and QEMU under Memtide, in turns.
#
# Figures are processor time of all of QEMU while the load runs, which a busy machine disturbs less than the clock; the
# clock's and, for the cache, what the guest had to read from its disk stand beside them.
#
# usage: bench_balloon.sh [BUILD DIRECTORY]; BENCH_PAIRS runs of each (1), BENCH_BALLOON="osdi ways speed" picks.

set -u

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$(cd "${1:-$(dirname "$here")/build}" && pwd)
# shellcheck source-path=SCRIPTDIR source=guests.sh
. "$here/guests.sh"

pairs=${BENCH_PAIRS:-1}
times=$work/times
mkdir -p "$times"
size_mib=384
# What Memtide keeps of a target for itself: bookkeeping and room for faults.
own_mib=20
goal_osdi_pct=5

# The guest fills its cache, leaves time for what is done to it, and times its load.
load_of() {
	cat <<-END
	t() { echo "BENCH-TIME \$1 \$(cut -d" " -f1 /proc/uptime) \$(awk '{ print \$3 }' /sys/block/vda/stat)"; }
	cat /dev/vda >/dev/null; echo filled; sleep 15
	t begin; { $1; } >/tmp/out 2>&1 || cat /tmp/out; t end; sleep 2
	END
}
cache_load=$(load_of 'fio --name=l --filename=/dev/vda --readonly --rw=randread --random_distribution=zipf:1.1 --bs=16k \
	--size=300M --io_size=1800M --ioengine=psync --invalidate=0 --randseed=7 --allrandrepeat=1')
memory_load=$(load_of 'for i in 1 2 3 4; do guestmem --size 100M --work 0 --rounds 1; done')

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

# cpu_of PID: seconds of processor time so far
cpu_of() {
	awk -v hz="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); print ($12 + $13) / hz }' "/proc/$1/stat"
}

said() {
	grep -q "BENCH-TIME $1" "$work/g.serial"
}

# measure LOAD MIB TARGET-MIB [SETTING...]: "cpu clock read" in seconds and MiB, of a guest of this size, held to a target
# (0: none)
measure() {
	local load=$1 mib=$2 target=$3 setting pid begin end
	shift 3
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
	pid=$(field g .pid)
	wait_until 60 said begin || return 1
	begin=$(cpu_of "$pid")
	echo "bench: guest of $mib MiB, target $target, $*: balloon $(field g .vmmemctl), held $(field g .held), zipped" \
		"$(field g .zipped), swapped $(field g .swapped) KiB when the load begins" >&2
	wait_until 300 said end || return 1
	end=$(cpu_of "$pid")
	tr -d '\r' <"$work/g.serial" | awk -v cpu="$(echo "$end $begin" | awk '{ print $1 - $2 }')" '
		/^BENCH-TIME/ { at[$2] = $3; read[$2] = $4 }
		END { printf "%.2f %.2f %.0f\n", cpu, at["end"] - at["begin"], (read["end"] - read["begin"]) / 2048 }'
	guests_end >&2
	guest_pid=()
	# settings outlive the daemon
	rm -f "$socket.state"
}

# middle FILE COLUMN
middle() {
	cut -d' ' -f"$2" "$times/$1" | median
}

# words FILE: for people
words() {
	printf '%s s (clock %s s, read %s MiB)' "$(middle "$1" 1)" "$(middle "$1" 2)" "$(middle "$1" 3)"
}

osdi() {
	local pct mib i slower
	for pct in 50 62 75 87; do
		mib=$((size_mib * pct / 100))
		: >"$times/small"
		: >"$times/ballooned"
		for ((i = 0; i < pairs; i++)); do
			measure "$cache_load" "$mib" 0 >>"$times/small" || return 1
			measure "$cache_load" "$size_mib" $((mib + own_mib)) >>"$times/ballooned" || return 1
		done
		slower=$(ratio_pct "$(middle ballooned 1)" "$(middle small 1)")
		row "balloon-osdi-$pct" "guest of $size_mib MiB ballooned to $pct %, slower than one booted so by" % \
			"<= $goal_osdi_pct" "$slower" "booted $(words small), ballooned $(words ballooned)" \
			"$(least "$slower" "$goal_osdi_pct")"
	done
}

# ways_of NAME LOAD
ways_of() {
	local i way target=$((size_mib * 60 / 100))
	for way in none balloon zip swap; do : >"$times/$way"; done
	for ((i = 0; i < pairs; i++)); do
		measure "$2" "$size_mib" 0 >>"$times/none" || return 1
		measure "$2" "$size_mib" "$target" >>"$times/balloon" || return 1
		measure "$2" "$size_mib" "$target" Mem.CtlMaxPercent=0 zip_max_pct=100 >>"$times/zip" || return 1
		measure "$2" "$size_mib" "$target" Mem.CtlMaxPercent=0 zip_max_pct=0 >>"$times/swap" || return 1
	done
	row "balloon-ways-zip-${1%% *}" "$1: the same pressure by balloon, time of that by compression" x "<= 1" \
		"$(awk -v a="$(middle balloon 1)" -v b="$(middle zip 1)" 'BEGIN { print a / b }')" \
		"no pressure $(words none), balloon $(words balloon), compression $(words zip)" \
		"$(least "$(middle balloon 1)" "$(middle zip 1)")"
	row "balloon-ways-swap-${1%% *}" "$1: the same pressure by compression, time of that by swap" x "<= 1" \
		"$(awk -v a="$(middle zip 1)" -v b="$(middle swap 1)" 'BEGIN { print a / b }')" \
		"compression $(words zip), swap $(words swap)" "$(least "$(middle zip 1)" "$(middle swap 1)")"
}

ways() {
	ways_of "fresh memory" "$memory_load" && ways_of cache "$cache_load"
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
		GUEST_LIMIT=120 guest_start g "$cache_load" --mem "${size_mib}M" --balloon -- -qmp "pipe:$work/g.qmp"
	else
		rm -f "$work/g.serial"
		"$boot" --accel "${ACCEL:-tcg}" --timeout 120 --serial "$work/g.serial" --name g --run "$cache_load" \
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
	: >"$times/plain"; : >"$times/managed"
	for ((i = 0; i < pairs + 2; i++)); do
		inflate_time plain >>"$times/plain" || return 1
		inflate_time memtide >>"$times/managed" || return 1
	done
	plain=$(median <"$times/plain") managed=$(median <"$times/managed")
	row balloon-speed "128 MiB into the balloon, rate beside that of QEMU alone" x ">= 1" \
		"$(awk -v a="$plain" -v b="$managed" 'BEGIN { print a / b }')" \
		"QEMU $plain s ($(tr '\n' ' ' <"$times/plain")), under Memtide $managed s ($(tr '\n' ' ' <"$times/managed"))" \
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
