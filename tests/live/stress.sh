#!/bin/bash
# SPDX-License-Identifier: MIT
#
# stress.sh - four guests with twice the memory of the pool, under changing load and changing targets, for a long time.
#
# Why: races need time and company. How: guests of 512 MiB in a pool of 1 GiB run guestmem, redis and direct disk I/O
# (native and io_uring), each checking itself, again and again until the time is over; every VM's target_max jumps
# between 30 % and 100 % every second, and they share pages with each other; "memtide check" looks at every page map every 10 s; what the VMs' processes
# hold is measured from outside ten times a second, against the pool. Prints a table and PASS or FAIL; exits 0 or 1.

set -u

seconds=600
mem=512
pool=1024
usage() {
	cat <<-'END'
	usage: stress.sh [--seconds N (600)] [--mem MIB of each guest (512)] [--pool MIB (1024)] [--tap]
	END
}
tap_output=
while [ $# -gt 0 ]; do
	case "$1" in
	--seconds | --mem | --pool)
		[[ ${2:-} =~ ^[1-9][0-9]*$ ]] || { usage >&2; exit 2; }
		printf -v "${1#--}" '%s' "$2"
		shift
		;;
	--tap) tap_output=1 ;;
	--help) usage; exit 0 ;;
	*) usage >&2; exit 2 ;;
	esac
	shift
done

# shellcheck source-path=SCRIPTDIR source=guests.sh
. "$(dirname "${BASH_SOURCE[0]}")/guests.sh"
helpers=()
stop_all() {
	local pid
	for pid in "${helpers[@]}"; do
		end_process "$pid"
	done
	guests_end
}
trap stop_all EXIT
trap 'exit 1' INT TERM HUP

# The guests' commands. They end by themselves; the last round may take longer than the time left.
work_seconds=$((seconds > 40 ? seconds - 30 : 10))
rounds="end=\$((\$(cut -d. -f1 /proc/uptime) + $work_seconds)); while [ \$(cut -d. -f1 /proc/uptime) -lt \$end ]; do"
size=$((mem * 60 / 100))
declare -A commands=(
	[mem]="$rounds guestmem --size ${size}M --work 15 --rounds 1 --threads 2 --seed \$end || exit 1; done"
	[redis]="$rounds redis-check $((mem * 200)) 10 \$end || exit 1; done"
	[native]="guestmem --size $((size / 2))M --work $work_seconds --rounds 1 & fio-verify $work_seconds 32 && wait \$!"
	[uring]="guestmem --size $((size / 2))M --work $work_seconds --rounds 1 & fio-verify $work_seconds 32 && wait \$!"
)
names=(mem redis native uring)

start_guests() {
	local name options
	for name in "${names[@]}"; do
		options=(--mem "${mem}M" --smp 2)
		case "$name" in
		native) options+=(--scratch "$work/disk-native,aio=native,cache=none,size=128M") ;;
		uring) options+=(--scratch "$work/disk-uring,aio=io_uring,cache=none,size=128M") ;;
		esac
		qmp_pipes "$name"
		RUN_OPTIONS='--share-group stress' GUEST_LIMIT=$((seconds * 3 + 2000)) guest_start "$name" "${commands[$name]}" "${options[@]}" \
			-- -qmp "pipe:$work/$name.qmp"
	done
	for name in "${names[@]}"; do
		guest_managed "$name" || return 1
	done
}

# What the VMs' processes hold: guest memory, staging, stores. These are unnamed mappings of anonymous memory; QEMU's
# heap and what it translates guest code into (executable) do not belong to it. What else QEMU has of the kind is
# small and hardly grows: it is taken as the difference from the claims at the start.
anonymous_kib() {
	awk '/^[0-9a-f]+-[0-9a-f]+ / { other = $2 ~ /x/ || $6 != "" } /^Anonymous:/ && !other { sum += $2 }
		END { print sum + 0 }' "$@" 2>/dev/null
}

# Microseconds.
now_us() {
	echo "${EPOCHREALTIME//[!0-9]/}"
}

# Ten times a second, until after the last VM has gone, and its frames with it. One process is read after the other, so what
# moves from one to the next meanwhile is counted twice: a sample counts if it took less than 0.1 s, or on a slow machine less
# than twice as long as the fastest. Else somebody stood still in the middle of it.
measure() {
	local sum began took fastest=1000000000 samples=0 max=0 base=$baseline_kib
	while [ -e "$work/measuring" ]; do
		began=$(now_us)
		sum=$(($(anonymous_kib "$@") + $(frames_outside_kib "${frames[@]}" 2>/dev/null) - base))
		took=$(($(now_us) - began))
		[ "$took" -ge "$fastest" ] || fastest=$took
		[ "$took" -lt 100000 ] || [ "$took" -lt $((2 * fastest)) ] || continue
		samples=$((samples + 1))
		[ "$sum" -le "$max" ] || max=$sum
		printf '%d %d\n' "$samples" "$max" >"$work/measured.new"
		mv "$work/measured.new" "$work/measured"
		sleep 0.07
	done
}

# all_guests QMP-COMMAND
all_guests() {
	local name
	for name in "${names[@]}"; do
		exec 7<>"$work/$name.qmp.in" 8<>"$work/$name.qmp.out"
		qmp "{\"execute\":\"$1\"}" >/dev/null || { qmp_close; return 1; }
		qmp_close
	done
}

frames_there() {
	mapfile -t frames < <(frames_files)
	[ ${#frames[@]} -gt 0 ]
}

# What the processes have more than the VMs claim. Claims lag behind, so the guests stand still meanwhile, until what is
# measured and what is claimed have stayed the same; or else the smallest of many differences is the best.
find_baseline() {
	local measured claimed before='' i
	baseline_kib=
	for ((i = 0; i < 60; i++)); do
		sleep 0.5
		claimed=$(memtide list --json | jq '[.vms[].held] | add')
		measured=$(anonymous_kib "$@")
		[ -n "$baseline_kib" ] && [ $((measured - claimed)) -ge "$baseline_kib" ] || baseline_kib=$((measured - claimed))
		[ "$i" -lt 3 ] || [ "$measured $claimed" != "$before" ] || { baseline_kib=$((measured - claimed)); break; }
		before="$measured $claimed"
	done
	say "outside, at the start: $baseline_kib KiB more than the VMs claim, looked at $((i + 1)) times"
	[ "$baseline_kib" -gt 0 ] || baseline_kib=0
}

start_measuring() {
	local name files=()
	for name in "${names[@]}"; do
		files+=("/proc/$(field "$name" .pid)/smaps")
	done
	# Made when the first page is shared.
	wait_until frames_there || fail "the daemon has no file of frames"
	all_guests qmp_capabilities && all_guests stop && find_baseline "${files[@]}" && all_guests cont ||
		{ fail "the guests do not stop and go on"; return; }
	: >"$work/measuring"
	measure "${files[@]}" &
	helpers+=($!)
}

failures=()
fail() {
	failures+=("$*")
	say "FAIL: $*"
}

# A guest that has just ended has nothing to check; it is judged by its status.
guest_has_ended() {
	field_is "$1" .state null && wait_until eval "! guest_alive $1"
}

# Check all VMs that still run, every 10 s, until no guest is left or the limit is reached.
check_rounds() {
	local end=$((SECONDS + seconds * 3 + 1800)) name left checks=0
	while :; do
		left=0
		for name in "${names[@]}"; do
			guest_alive "$name" || continue
			left=$((left + 1))
			guest_check "$name" || guest_has_ended "$name" || fail "the audit of $name found something"
			checks=$((checks + 1))
			memtide show "$name" --json >"$work/$name.last.new" 2>/dev/null &&
				mv "$work/$name.last.new" "$work/$name.last"
		done
		[ "$left" -gt 0 ] || break
		[ "$SECONDS" -lt "$end" ] || { fail "guests do not end"; break; }
		sleep 10
	done
	say "$checks audits"
}

table() {
	local name
	printf '# %-8s %9s %9s %9s %9s %9s %9s %8s %8s %8s %8s %8s %8s\n' VM faults zipin zipout swapout swapin nominated \
		pinned p50/us p99/us shared mapped broken
	for name in "${names[@]}"; do
		jq -r --arg n "$name" '[$n, .faultNew + .faultNominated + .faultZero + .faultZipped + .faultSwapped, .zipin,
			.zipout, .swapout, .swapin, .nominations, .pinned, (.faultP50 / 1000 | round),
			(.faultP99 / 1000 | round), .shareMade, .faultMapped, .shareBroken] | @tsv' "$work/$name.last" 2>/dev/null |
			awk '{ printf "# %-8s %9s %9s %9s %9s %9s %9s %8s %8s %8s %8s %8s %8s\n", $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13 }'
	done
}

judge() {
	local name samples=0 max=0 slack=$((16 * 1024))
	for name in "${names[@]}"; do
		[ -n "${guest_pid[$name]:-}" ] || continue
		guest_wait "$name" || fail "guest $name"
	done
	grep -ho '\(fio-verify\|redis-check\): [PF].*' "$work"/*.serial | tr -d '\r' | sort | uniq -c | sed 's/^/#/'
	rm -f "$work/measuring"
	[ ! -e "$work/measured" ] || read -r samples max <"$work/measured"
	[ "$samples" -gt 0 ] || fail "nothing was measured"
	say "outside: $samples samples, at most $max KiB of $((pool * 1024)) KiB; claimed $(field host .heldMax) KiB"
	[ "$max" -le $((pool * 1024 + slack)) ] || fail "the pool was exceeded by $((max - pool * 1024)) KiB"
	table
}

main() {
	local name
	if ! daemon_start "${pool}M" || ! memtide set --host Mem.ShareScanTime=5 >/dev/null || ! start_guests; then
		fail "the guests do not start"
		return
	fi
	for name in "${names[@]}"; do
		guest_booted "$name" || { fail "$name does not boot"; return; }
	done
	start_measuring
	for name in "${names[@]}"; do
		swing_targets "$name" $((mem * 30 / 100)) "$mem" 1 &
		helpers+=($!)
	done
	check_rounds
	judge
}

if ! guests_possible; then
	echo "1..0 # SKIP needs QEMU, jq, /dev/userfaultfd and the guest image (guest/build-image.sh)"
	exit 0
fi
main
stop_all
sentence="four guests keep their memory in a pool of half their size for $seconds s"
if [ ${#failures[@]} = 0 ]; then
	rm -rf "$work"
	if [ -n "$tap_output" ]; then printf 'ok 1 - %s\n1..1\n' "$sentence"; else echo PASS; fi
	exit 0
fi
say "logs are in $work"
if [ -n "$tap_output" ]; then printf 'not ok 1 - %s\n1..1\n' "$sentence"; else echo FAIL; fi
exit 1
