#!/bin/bash
# SPDX-License-Identifier: MIT
#
# bench_balloon.sh - what ballooning costs a guest, beside a smaller guest, beside compression and swap, and how fast it is.
#
# osdi    The experiment of the OSDI'02 paper: a guest ballooned to a part of its size against one booted with that much.
#         The load is of the disk cache (fio, skewed random reads of a disk larger than memory), as its dbench was. The
#         same load, shorter, goes before, so that both start from the cache that they have when it goes on for long.
# ways    The same load under the same pressure, met by the balloon, by compression alone, by swap alone; for two loads: one
#         that wants the cache, and one that wants fresh memory while the cache is dead.
# speed   128 MiB into the balloon: QEMU alone, and QEMU under Memtide, in turns.
#
# Figures are processor time of all of QEMU while the load runs, which a busy machine disturbs less than the clock; the
# clock's and, for the cache, what the guest had to read from its disk stand beside them, with the least and the most.
# What is compared runs in turns, in another order each time, and is compared within the turn: the median of the ratios
# counts. Before a load begins the balloon, or what was sent out, must be there and stand still, else that run is made
# again. Guests' disks and swap files are on a disk and go past the host's cache, which is emptied before each load.
# When others used more than BENCH_OTHERS_PCT (5) of the machine meanwhile, the verdict is "noisy", whatever came out.
#
# usage: bench_balloon.sh [BUILD DIRECTORY]; BENCH_PAIRS turns (5) of BENCH_REPEATS loads (4), BENCH_BALLOON="osdi ways speed" picks,
# BENCH_PCT="50 62 75 87" picks parts of the size, BENCH_IO_MIB (1800) is the length of the load,
# BENCH_DIR a directory on a disk (TMPDIR). A quick look: BENCH_PAIRS=1 BENCH_REPEATS=1 BENCH_PCT=50 BENCH_IO_MIB=100.

set -u

[ -z "${BENCH_DIR:-}" ] || export TMPDIR=$BENCH_DIR
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$(cd "${1:-$(dirname "$here")/build}" && pwd)
# shellcheck source-path=SCRIPTDIR source=guests.sh
. "$here/guests.sh"

pairs=${BENCH_PAIRS:-5}
io_mib=${BENCH_IO_MIB:-1800}
others_max_pct=${BENCH_OTHERS_PCT:-5}
times=$work/times
mkdir -p "$times"
repeats=${BENCH_REPEATS:-4}
size_mib=384
# What Memtide keeps of a target for itself: bookkeeping and room for faults.
own_mib=20
goal_osdi_pct=5

# load_of LOAD [BEFORE]: the guest fills its cache, leaves time for what is done to it, and times its load, several times.
load_of() {
	cat <<-END
	t() { echo "BENCH-TIME \$1 \$(cut -d" " -f1 /proc/uptime) \$(awk '{ print \$3 }' /sys/block/vda/stat)"; }
	cat /dev/vda >/dev/null; echo filled; sleep 15
	{ ${2:-true}; } >/dev/null 2>&1; echo warm; sleep 4
	for turn in \$(seq $repeats); do t begin; { $1; } >/tmp/out 2>&1 || cat /tmp/out; t end; sleep 4; done
	END
}
# fio_of MIB: the blocks that are read most are the same, however long it goes on.
fio_of() {
	echo "fio --name=l --filename=/dev/vda --readonly --rw=randread --random_distribution=zipf:1.1 --bs=16k" \
		"--size=300M --io_size=${1}M --ioengine=psync --invalidate=0 --randseed=7 --allrandrepeat=1"
}
cache_load=$(load_of "$(fio_of "$io_mib")" "$(fio_of $((io_mib / 3)))")
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

# Seconds of processor time that the machine has been busy.
busy() {
	awk -v hz="$(getconf CLK_TCK)" '/^cpu / { print ($2 + $3 + $4 + $7 + $8 + $9) / hz }' /proc/stat
}

# said WORDS [COUNT]: has the guest said so, that often?
said() {
	[ "$(grep -c "$1" "$work/g.serial")" -ge "${2:-1}" ]
}

# What was done to the guest: balloon, zipped and swapped in KiB.
done_to() {
	field g '"\(.vmmemctl) \(.zipped) \(.swapped)"'
}

# settled TARGET-MIB: what it holds fits its target, if there is one, and nothing has moved for two seconds.
settled() {
	local before after
	before=$(done_to)
	sleep 2
	after=$(done_to)
	[ "$1" = 0 ] || field_most g .held $((($1 + 4) * 1024)) || return 1
	awk -v a="$before" -v b="$after" 'BEGIN {
		split(a, x); split(b, y)
		for (i = 1; i <= 3; i++) if (x[i] - y[i] > 1024 || y[i] - x[i] > 1024) exit 1 }'
}

drop_caches() {
	sync
	echo 3 >/proc/sys/vm/drop_caches 2>/dev/null || echo "bench: the host's caches can't be dropped: run as root" >&2
}

# one_load PID TURN: "cpu clock read others" of the load that the guest begins for the so many-th time
one_load() {
	local cpu all from
	wait_until said 'BENCH-TIME begin' "$2" || return 1
	cpu=$(cpu_of "$1") all=$(busy) from=$(date +%s.%N)
	PATIENCE=500 wait_until said 'BENCH-TIME end' "$2" || return 1
	cpu=$(awk -v a="$cpu" -v b="$(cpu_of "$1")" 'BEGIN { print b - a }')
	all=$(awk -v a="$all" -v b="$(busy)" -v own="$cpu" -v from="$from" -v to="$(date +%s.%N)" -v cores="$(nproc)" \
		'BEGIN { others = b - a - own; if (others < 0) others = 0; print others / (to - from) / cores * 100 }')
	tr -d '\r' <"$work/g.serial" | awk -v cpu="$cpu" -v others="$all" -v turn="$2" '
		/^BENCH-TIME/ { at[$2] = $3; read[$2] = $4; if ($2 == "end" && ++n == turn) exit }
		END { printf "%.2f %.2f %.0f %.0f\n", cpu, at["end"] - at["begin"], (read["end"] - read["begin"]) / 2048, others }'
}

# run_once LOAD MIB TARGET-MIB [SETTING...]: a line of one_load for each repetition, in a guest of this size, held to a
# target (0: none). Status 2: it was not as it should be when the load began.
run_once() {
	local load=$1 mib=$2 target=$3 setting pid turn
	shift 3
	daemon_start 2G >&2 || return 1
	for setting; do
		case "$setting" in
		Mem.*) memtide set --host "$setting" >/dev/null || return 1 ;;
		esac
	done
	GUEST_LIMIT=600 guest_start g "$load" --mem "${mib}M" --cache none
	guest_managed g >&2 && guest_says g filled || return 1
	for setting; do
		case "$setting" in
		Mem.*) ;;
		*) memtide set g "$setting" >/dev/null || return 1 ;;
		esac
	done
	[ "$target" = 0 ] || memtide set g "target_max=${target}M" >/dev/null || return 1
	pid=$(field g .pid)
	wait_until said warm && drop_caches || return 1
	settled "$target" || { echo "bench: not settled: $(done_to), held $(field g .held) KiB" >&2; return 2; }
	said 'BENCH-TIME begin' && { echo "bench: it took too long to see that all is settled" >&2; return 2; }
	echo "bench: guest of $mib MiB, target $target, $*: balloon, zipped, swapped $(done_to), held $(field g .held) KiB" >&2
	for ((turn = 1; turn <= repeats; turn++)); do one_load "$pid" "$turn" || return 1; done
}

# measure FILE ...: lines more of run_once in the file; three tries.
measure() {
	local file=$times/$1 try status=2
	shift
	for ((try = 0; try < 3 && status == 2; try++)); do
		status=0
		run_once "$@" >>"$file" || status=$?
		[ "$status" = 0 ] || guest_show g >&2
		guests_end >&2
		guest_pid=()
		# settings outlive the daemon
		rm -f "$socket.state"
	done
	return "$status"
}

# in_turns COMMAND...: for each turn, forwards and backwards.
in_turns() {
	local i j
	for ((i = 0; i < pairs; i++)); do
		for ((j = 1; j <= $#; j++)); do
			if ((i % 2)); then ${*:$#-j+1:1} || return 1; else ${*:j:1} || return 1; fi
		done
	done
}

# middle FILE COLUMN
middle() {
	cut -d' ' -f"$2" "$times/$1" | median
}

# ratio A B COLUMN: the median, over turns, of what A took beside B
ratio() {
	paste -d' ' "$times/$1" "$times/$2" | awk -v c="$3" '$(4 + c) > 0 { print $c / $(4 + c) }' | median
}

# least and most of a column
span() {
	cut -d' ' -f"$2" "$times/$1" | sort -g | sed -n '1p;$p' | paste -sd-
}

# words FILE: for people
words() {
	printf '%s s (%s; clock %s s, %s; read %s MiB; others %s %%)' "$(middle "$1" 1)" "$(span "$1" 1)" \
		"$(middle "$1" 2)" "$(span "$1" 2)" "$(middle "$1" 3)" "$(middle "$1" 4)"
}

# verdict A B FILE...: as least, unless others used the machine
verdict() {
	local a=$1 b=$2 file
	shift 2
	for file; do
		if [ "$(least "$(middle "$file" 4)" "$others_max_pct")" != ok ]; then
			echo noisy
			return
		fi
	done
	least "$a" "$b"
}

osdi() {
	local pct mib slower clock
	small() { measure small "$cache_load" "$mib" 0; }
	ballooned() { measure ballooned "$cache_load" "$size_mib" $((mib + own_mib)); }
	for pct in ${BENCH_PCT:-50 62 75 87}; do
		mib=$((size_mib * pct / 100))
		: >"$times/small"
		: >"$times/ballooned"
		in_turns small ballooned || return 1
		slower=$(ratio_pct "$(ratio ballooned small 1)" 1) clock=$(ratio_pct "$(ratio ballooned small 2)" 1)
		row "balloon-osdi-$pct" "guest of $size_mib MiB ballooned to $pct %, slower than one booted so by" % \
			"<= $goal_osdi_pct" "$slower" "by the clock $clock %; booted $(words small), ballooned $(words ballooned)" \
			"$(verdict "$slower" "$goal_osdi_pct" small ballooned)"
	done
}

# ways_of NAME LOAD
ways_of() {
	local way target=$((size_mib * 60 / 100)) load=$2
	for way in none balloon zip swap; do : >"$times/$way"; done
	by_none() { measure none "$load" "$size_mib" 0; }
	by_balloon() { measure balloon "$load" "$size_mib" "$target"; }
	by_zip() { measure zip "$load" "$size_mib" "$target" Mem.CtlMaxPercent=0 zip_max_pct=100; }
	by_swap() { measure swap "$load" "$size_mib" "$target" Mem.CtlMaxPercent=0 zip_max_pct=0; }
	in_turns by_none by_balloon by_zip by_swap || return 1
	row "balloon-ways-zip-${1%% *}" "$1: the same pressure by balloon, time of that by compression" x "<= 1" \
		"$(ratio balloon zip 1)" \
		"by the clock $(ratio balloon zip 2); no pressure $(words none), balloon $(words balloon), compression $(words zip)" \
		"$(verdict "$(ratio balloon zip 1)" 1 balloon zip)"
	row "balloon-ways-swap-${1%% *}" "$1: the same pressure by compression, time of that by swap" x "<= 1" \
		"$(ratio zip swap 1)" \
		"by the clock $(ratio zip swap 2); compression $(words zip), swap $(words swap)" \
		"$(verdict "$(ratio zip swap 1)" 1 zip swap)"
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
	local plain managed
	: >"$times/plain"; : >"$times/managed"
	inflate_plain() { inflate_time plain >>"$times/plain"; }
	inflate_managed() { inflate_time memtide >>"$times/managed"; }
	in_turns inflate_plain inflate_managed || return 1
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
# Swap in memory, or in the host's cache, would be compared with disks that guests read for real.
if ! dd if=/dev/zero of="$work/direct" bs=4096 count=1 oflag=direct 2>/dev/null ||
	[[ $(stat -f -c %T "$work") =~ ^(tmpfs|ramfs)$ ]]; then
	echo "bench_balloon: $work is not on a disk with direct I/O; name a directory that is: BENCH_DIR" >&2
	exit 1
fi
status=0
for part in ${BENCH_BALLOON:-osdi ways speed}; do
	"$part" || { echo "bench_balloon: $part could not be measured" >&2; guest_show g >&2; status=1; guests_end; guest_pid=(); }
done
exit $status
