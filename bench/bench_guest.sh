#!/bin/bash
# SPDX-License-Identifier: MIT
#
# bench_guest.sh - what Memtide costs a real guest: overhead while memory is plenty, and the slack of its zip store.
#
# Overhead: the same guest does the same work under plain QEMU and under Memtide with a pool larger than the guest,
# in turns, which of the two goes first changing each time. The figure is the median of the pairs' ratios, so that a
# machine that gets slower during the benchmark does not show. The guest times its own work; boot is timed here.
#
# Slack: after its work a guest under Memtide is squeezed in steps with all of it allowed to be compressed; reported is
# the worst of what the zip store holds beyond the compressed bytes.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(dirname "$here")
build=${1:-$top/build}
pairs=${BENCH_PAIRS:-5}
mem=${BENCH_GUEST_MEM:-512M}
goal_pct=3
goal_slack_pct=6

work='t() { echo "BENCH-TIME $1 $(cut -d" " -f1 /proc/uptime)"; }
t boot; guestmem --size 200M --work 0 --rounds 2 --report 100; t guestmem
redis-server --port 0 --unixsocket /tmp/b.sock --save "" --appendonly no --dir /tmp >/dev/null 2>&1 &
while ! redis-cli -s /tmp/b.sock ping >/dev/null 2>&1; do sleep 0.1; done
t start; redis-benchmark -s /tmp/b.sock -t set,get -n 40000 -r 100000 -d 1000 -P 16 -q; t redis
kill $!; t end'

if [ ! -s "$top/build-guest/rootfs.ext4" ]; then
	echo "bench_guest: no guest image; run guest/build-image.sh" >&2
	exit 1
fi

dir=$(mktemp -d)
daemon=''
end() {
	local job
	for job in $(jobs -p); do kill "$job" 2>/dev/null || true; done
	wait 2>/dev/null || true
	rm -rf "$dir"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

memtide() {
	"$build/src/cli/memtide" --socket "$dir/sock" "$@"
}

start_daemon() {
	"$build/src/host/memtided" --pool 8G --socket "$dir/sock" --swap-dir "$dir" >"$dir/daemon.log" 2>&1 &
	daemon=$!
	for _ in $(seq 100); do
		[ -S "$dir/sock" ] && return
		sleep 0.05
	done
	cat "$dir/daemon.log" >&2
	exit 1
}

now() {
	date +%s.%N
}

# cpu_of FILE: what "times" wrote there, of all children that have ended; "times" in a pipe would tell of another shell
cpu_of() {
	awk 'NR == 2 { for (i = 1; i <= 2; i++) { split($i, t, /[ms]/); sum += t[1] * 60 + t[2] } print sum }' "$1"
}

# one_run plain|memtide: prints "boot guestmem redis cpu", in seconds; cpu is all that QEMU and Memtide's threads in it
# used, which a busy machine disturbs less than the clock
one_run() {
	local wrap=() log=$dir/serial begin end cpu
	[ "$1" = plain ] || wrap=(--wrap "$build/src/cli/memtide --socket $dir/sock run --name bench --")
	times >"$dir/times"
	cpu=$(cpu_of "$dir/times")
	begin=$(now)
	"$top/guest/boot.sh" --mem "$mem" --run "$work" --serial "$log" --timeout 300 "${wrap[@]}" >"$dir/boot.log" 2>&1 || {
		echo "bench_guest: the $1 guest failed:" >&2
		tail -n 5 "$dir/boot.log" "$log" >&2
		return 1
	}
	end=$(now)
	times >"$dir/times"
	cpu=$(awk -v a="$(cpu_of "$dir/times")" -v b="$cpu" 'BEGIN { print a - b }')
	tr -d '\r' <"$log" | awk -v cpu="$cpu" -v whole="$(echo "$end $begin" | awk '{ print $1 - $2 }')" '
		/^BENCH-TIME/ { at[$2] = $3 }
		END { printf "%.3f %.3f %.3f %.3f\n", whole - (at["end"] - at["boot"]),
			at["guestmem"] - at["boot"], at["redis"] - at["start"], cpu }'
}

# median of the numbers on standard input
median() {
	sort -g | awk '{ v[NR] = $1 } END { if (NR) print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}

# row ID WHAT UNIT GOAL(<=) MEASURED BESIDE
row() {
	local verdict
	verdict=$(awk -v g="$4" -v m="$5" 'BEGIN { print m <= g ? "ok" : "short" }')
	printf '%s\t%s\t%s\t<= %s\t%.4g\t%s\t%s\n' "$1" "$2" "$3" "$4" "$5" "$6" "$verdict" >>"${BENCH_ROWS:-/dev/stdout}"
}

overhead() {
	local i first second column=0 name plain managed ratio spread
	for ((i = 0; i < pairs; i++)); do
		first=plain second=memtide
		[ $((i % 2)) = 0 ] || { first=memtide second=plain; }
		one_run $first >>"$dir/$first"
		one_run $second >>"$dir/$second"
	done
	for name in boot guestmem redis cpu; do
		column=$((column + 1))
		cut -d' ' -f$column "$dir/plain" >"$dir/p"
		cut -d' ' -f$column "$dir/memtide" >"$dir/m"
		paste "$dir/p" "$dir/m" | awk '{ print ($2 / $1 - 1) * 100 }' >"$dir/r"
		ratio=$(median <"$dir/r")
		plain=$(median <"$dir/p") managed=$(median <"$dir/m")
		spread=$(sort -g "$dir/r" | awk 'NR == 1 { low = $1 } END { printf "%.1f..%.1f %%", low, $1 }')
		row "overhead-$name" "guest with plenty of memory, $name: slower by" % $goal_pct "$ratio" \
			"plain $plain s, Memtide $managed s; pairs $spread"
	done
}

# field NAME: of the VM
field() {
	memtide show bench --json | jq -r ".$1 // .vm.$1"
}

# Waits until the VM's memory has settled.
settle() {
	local before=-1 held
	for _ in $(seq 120); do
		held=$(field held)
		[ "$held" != "$before" ] || return 0
		before=$held
		sleep 1
	done
}

slack() {
	local worst=0 words='' target pct stored
	"$top/guest/boot.sh" --mem "$mem" --run "redis-check 60000 2; guestmem --size 100M --work 0; find / -xdev -type f | head -3000 | xargs cat >/dev/null" \
		--stay --serial "$dir/serial" --timeout 600 \
		--wrap "$build/src/cli/memtide --socket $dir/sock run --no-balloon --name bench --" >"$dir/boot.log" 2>&1 &
	for _ in $(seq 300); do
		sleep 1
		! grep -q 'MEMTIDE-GUEST: exit' "$dir/serial" 2>/dev/null || break
	done
	memtide set bench zip_max_pct=100 >/dev/null
	for target in 300M 200M 100M 64M; do
		memtide set bench "target_max=$target" >/dev/null
		settle
		pct=$(field slack_pct) stored=$(field zipStored)
		words+="${words:+; }$target $stored KiB in $(field zipHeld)"
		# A few pages at the ends of the classes are all there is to a small store.
		[ "$stored" -ge 4096 ] || continue
		worst=$(printf '%s\n%s\n' "$worst" "$pct" | sort -g | tail -n 1)
	done
	row zip-slack-guest "zip store, slack of a guest's pages, worst" % $goal_slack_pct "$worst" "$words"
}

start_daemon
[ "${BENCH_SKIP_OVERHEAD:-}" ] || overhead
slack
