#!/bin/bash
# SPDX-License-Identifier: MIT
#
# bench_ksm.sh - page sharing beside the kernel's own (KSM): pages found in a minute, and what one costs
#
# Why: KSM is what people have today. How: the same guests, first under Memtide in one group, then under plain QEMU. All boot,
# read the same files and rest before anybody looks for equal pages. Then Memtide's scanner has 60 s, without any
# pressure, and its processor time is taken: of the daemon and of its threads in the VMMs, less what they need without it.
# Then ksmd runs for the same processor time, or 60 s. All guests report what they free. Large pages are off in both halves: KSM would split them,
# Memtide's scanner passes them over. Zero pages are not counted on either side.
#
# usage: bench_ksm.sh BUILD-DIRECTORY [GUESTS] [MEMORY]. Needs root, and KSM in the kernel.

set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$(cd "${1:?build directory}" && pwd)
guests=${2:-4} mem=${3:-128M} seconds=60
# shellcheck source=bench/guests.sh
. "$here/guests.sh"
ksm=/sys/kernel/mm/ksm thp=/sys/kernel/mm/transparent_hugepage/enabled
[ -w $ksm/run ] && guests_possible || { echo "bench_ksm: needs root, KSM, the guest image and QEMU" >&2; exit 1; }
work_in_guest='find /usr /lib /bin /etc -type f -size -400k 2>/dev/null | head -n 3000 | xargs cat >/dev/null 2>&1
sync; echo BENCH-READY; sleep 100000'

thp_was=$(sed 's/.*\[\(.*\)\].*/\1/' $thp)
ksm_was=$(cat $ksm/run) scan_was=$(cat $ksm/pages_to_scan) sleep_was=$(cat $ksm/sleep_millisecs)
zero_was=$(cat $ksm/use_zero_pages)
bench_over() {
	guests_end
	echo "$thp_was" >$thp
	echo 2 >$ksm/run
	echo "$scan_was" >$ksm/pages_to_scan
	echo "$sleep_was" >$ksm/sleep_millisecs
	echo "$zero_was" >$ksm/use_zero_pages
	echo "$ksm_was" >$ksm/run
	rm -rf "$work"
}
trap bench_over EXIT

# cpu_ns PID PATTERN: processor time of a process' threads of that name, in ns.
cpu_ns() {
	local task sum=0
	for task in /proc/"$1"/task/*; do
		# shellcheck disable=SC2053 # a pattern
		[[ $(cat "$task/comm" 2>/dev/null) == $2 ]] && sum=$((sum + $(cut -d' ' -f1 "$task/schedstat")))
	done
	echo "$sum"
}

memtide_cpu_ns() {
	local pid sum
	sum=$(cpu_ns "$daemon_pid" '*')
	for pid in $(memtide list --json | jq '.vms[].pid'); do sum=$((sum + $(cpu_ns "$pid" 'memtide-*'))); done
	echo "$sum"
}

plain_start() {
	"$boot" --accel tcg --timeout 100000 --serial "$work/$1.serial" --name "$1" --run "$work_in_guest" --mem "$mem" \
		--balloon >"$work/$1.log" 2>&1 &
	guest_pid[$1]=$!
}

all_ready() {
	local n
	for ((n = 1; n <= guests; n++)); do guest_booted "$1$n" && guest_says "$1$n" BENCH-READY || exit 1; done
	sleep 5
}

echo never >$thp
echo 2 >$ksm/run
daemon_start 4G || exit 1
memtide set --host Mem.ShareScanTime=0 >/dev/null
for ((n = 1; n <= guests; n++)); do
	RUN_OPTIONS='--share-group bench' GUEST_LIMIT=100000 guest_start "m$n" "$work_in_guest" --mem "$mem"
done
all_ready m
before=$(memtide_cpu_ns)
sleep $((seconds / 3))
idle_ns=$((3 * ($(memtide_cpu_ns) - before)))
before=$(memtide_cpu_ns)
memtide set --host Mem.ShareScanTime=1 >/dev/null
sleep $seconds
our_ns=$(($(memtide_cpu_ns) - before - idle_ns))
our_pages=$(memtide list --json | jq '[.vms[].sharedFrames] | add / 4')
for ((n = 1; n <= guests; n++)); do guest_check "m$n" || exit 1; done
guests_end
guest_pid=()

for ((n = 1; n <= guests; n++)); do plain_start "k$n"; done
all_ready k
ksmd=$(pgrep -x ksmd)
echo 500 >$ksm/pages_to_scan
echo 20 >$ksm/sleep_millisecs
echo 1 >$ksm/use_zero_pages
before=$(cpu_ns "$ksmd" '*') begin=$SECONDS
echo 1 >$ksm/run
while ksm_ns=$(($(cpu_ns "$ksmd" '*') - before)) && [ $((SECONDS - begin)) -lt $seconds ] && [ "$ksm_ns" -lt "$our_ns" ]; do
	sleep 0.05
done
ksm_pages=$(($(cat $ksm/pages_sharing) + $(cat $ksm/pages_shared))) ksm_s=$((SECONDS - begin))
echo 0 >$ksm/run

awk -v ks="$ksm_s" -v op="$our_pages" -v on="$our_ns" -v kp="$ksm_pages" -v kn="$ksm_ns" 'BEGIN { OFS = "\t"
	kp = kp ? kp : 1; op = op ? op : 1
	print "ksm-pages", "pages shared in 60 s at equal processor time", "pages", ">= " 3 * kp, int(op),
		"KSM " kp " pages, " int(kn / 1e6) " ms, in " ks " s; ours " int(on / 1e6) " ms", (op >= 3 * kp ? "ok" : "short")
	o = on / op / 1e3; k = kn / kp / 1e3
	print "ksm-cpu", "processor time for a shared page", "us", sprintf("<= %.2f", k / 3), sprintf("%.2f", o),
		sprintf("KSM %.2f", k), (o <= k / 3 ? "ok" : "short") }' >>"${BENCH_ROWS:-/dev/stdout}"
