#!/bin/bash
# SPDX-License-Identifier: MIT
#
# demo.sh - four guests of 512 MiB in a pool of 1 GiB, live, and measured from outside.
#
# Why: the claim is that a host can promise twice the memory it has to unmodified guests in unmodified QEMU, that no
# byte comes back wrong, and that the pool is never exceeded; here everyone can watch that. How: a private daemon, four
# guests under "memtide run", each filling most of its memory with checked pages, working on a part and reading all of
# it again (guest/guestmem.c); pool_sampler asks the kernel ten times a second what they really take. The table is
# "memtide list" with what each guest says on its serial console. Exit status 0 means: every guest read back what it
# wrote, the audit of every page map was clean, and neither the counters nor the kernel ever saw more than the pool.

set -euo pipefail

top=$(dirname "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)")
build=$(realpath -m "${BUILD:-$top/build}")
image=$(realpath -m "${IMAGE:-$top/build-guest}")
pool_mib=1024 guest_mib=512 fill_mib=400 work_seconds=20 limit=${DEMO_LIMIT:-600}
names=(amber basalt cobalt dune)
mix=('20,45,20' '15,40,25' '10,30,30' '15,30,20')

usage() {
	cat <<-'END'
	usage: demo.sh [--accel auto|tcg|kvm]
	Four guests of 512 MiB in a pool of 1 GiB; about a minute.
	Environment: BUILD (build directory), IMAGE (guest image), DEMO_LIMIT (seconds, 600)
	END
}

die() {
	printf 'demo: %s\n' "$*" >&2
	exit 1
}

# field KEY FILE: a number or word of the JSON that memtide prints, one key a line.
field() {
	sed -n "/^ *\"$1\": /{s/^ *\"$1\": *\"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}$/\1/p;q}" "$2"
}

# ask ARGUMENT...: of the daemon. It may be slow, and then it is asked again as long as it lives.
ask() {
	local i answer
	for ((i = 0; i < 30; i++)); do
		if answer=$("$memtide" "$@" 2>&1); then
			printf '%s\n' "$answer"
			return
		fi
		case "$answer" in *'does not answer'* | *'did not answer'* | *'no greeting'*) ;; *) break ;; esac
		kill -0 "$daemon_pid" 2>/dev/null || break
		sleep 0.2
	done
	printf '%s\n' "$answer"
	return 1
}

# summary KEY: of what the sampler found so far.
summary() {
	sed -n "s/^$1 //p" "$work/summary" 2>/dev/null
}

mib() {
	echo "$((($1 + 512) / 1024))M"
}

seconds() {
	echo "$((SECONDS - started))"
}

# Wait up to $1 tenths of a second until the process $2 is gone.
gone_within() {
	local i
	for ((i = 0; i < $1; i++)); do
		kill -0 "$2" 2>/dev/null || return 0
		sleep 0.1
	done
	return 1
}

# End everything that was started, gently first, and leave nothing behind.
cleanup() {
	local pid vm
	trap '' INT TERM HUP
	[ -z "$terminal" ] || printf '\033[?7h'
	for pid in "${boots[@]}"; do kill "$pid" 2>/dev/null || true; done
	for pid in "${boots[@]}"; do gone_within 50 "$pid" || kill -9 "$pid" 2>/dev/null || true; done
	for vm in "${names[@]}"; do
		[ -s "$work/$vm.json" ] || continue
		pid=$(field pid "$work/$vm.json")
		if grep -qs "$work/$vm.serial" "/proc/$pid/cmdline"; then kill -9 "$pid" 2>/dev/null || true; fi
	done
	for pid in $sampler_pid $daemon_pid; do
		kill "$pid" 2>/dev/null || continue
		gone_within 50 "$pid" || kill -9 "$pid" 2>/dev/null || true
	done
	wait
	rm -rf "$work" "$swap"
}

# The swap directory must be on a disk: swap files in a tmpfs would be memory after all.
make_directories() {
	local dir
	mkdir -p "$build/demo"
	work=$(mktemp -d /tmp/memtide-demo.XXXXXX)
	for dir in "$build/demo" /var/tmp "$top"; do
		[ "$(stat -f -c %T "$dir")" = tmpfs ] || break
	done
	swap=$(mktemp -d "$dir/swap.XXXXXX")
}

start_daemon() {
	local i
	export MEMTIDE_SOCKET=$work/socket
	"$memtided" --pool "${pool_mib}M" --socket "$MEMTIDE_SOCKET" --swap-dir "$swap" >"$work/daemon.log" 2>&1 &
	daemon_pid=$!
	for ((i = 0; i < 1200; i++)); do
		if "$memtide" host --json >"$work/host.json" 2>/dev/null; then return; fi
		kill -0 "$daemon_pid" 2>/dev/null || break
		sleep 0.1
	done
	cat "$work/daemon.log" >&2
	die "memtided did not start; 'memtide doctor' tells what this host lacks"
}

start_sampler() {
	mkfifo "$work/vms"
	"$sampler" --csv "$csv" --summary "$work/summary" --pool $((pool_mib * 1024)) --daemon "$daemon_pid" \
		<"$work/vms" 2>"$work/sampler.log" &
	sampler_pid=$!
	exec 8>"$work/vms"
}

start_guests() {
	local i vm
	for i in "${!names[@]}"; do
		vm=${names[i]}
		"$top/guest/boot.sh" --image "$image" --accel "$accel" --name "$vm" --mem "${guest_mib}M" --no-rootfs \
			--serial "$work/$vm.serial" --wrap "$memtide run --name $vm --" --stay --timeout $((limit + 30)) \
			--run "guestmem --size ${fill_mib}M --work $work_seconds --seed $((i + 1)) --mix ${mix[i]} --report 1" \
			8>&- >"$work/$vm.log" 2>&1 &
		boots+=($!)
		phase[$vm]=starting
	done
}

# Tell the sampler where a guest's memory is, as soon as it has some.
announce() {
	local vm=$1 pid
	[ -z "${announced[$vm]:-}" ] || return 0
	pid=$(field pid "$work/$vm.json")
	awk -v name="$vm" -v pid="$pid" '
		{ gsub(/[",:]/, "") }
		$1 == "addr" { addr = $2 }
		$1 == "bytes" { print name, pid, addr, $2 }' "$work/$vm.json" >"$work/regions"
	[ -s "$work/regions" ] || return 0
	cat "$work/regions" >&8
	announced[$vm]=1
}

# What a guest is at, from its serial console.
phase_of() {
	local serial=$work/$1.serial last
	last=$(grep -aE '^(guestmem|MEMTIDE-GUEST):' "$serial" 2>/dev/null | tail -n 1 | tr -d '\r' || true)
	case "$last" in
	*'exit 0') echo PASS ;;
	*'exit '*) echo FAIL ;;
	*': PASS'*) echo PASS ;;
	*': FAIL'*) echo FAIL ;;
	*': fill '*) echo "fill ${last##* }" ;;
	*': verify '*) echo "verify ${last##* }" ;;
	*': work '*)
		last=${last##*: work }
		echo "work ${last%%s*} s"
		;;
	*'start '*) echo "fill 0%" ;;
	*'booted'*) echo booted ;;
	*) echo booting ;;
	esac
}

# Look at everything once. Sets finished to the number of guests that are done.
look() {
	local i vm
	finished=0
	for i in "${!names[@]}"; do
		vm=${names[i]}
		if ask show "$vm" --json >"$work/new.json"; then
			mv "$work/new.json" "$work/$vm.json"
			announce "$vm"
		fi
		case "${phase[$vm]}" in
		PASS | FAIL | ended) ;;
		*)
			phase[$vm]=$(phase_of "$vm")
			kill -0 "${boots[i]}" 2>/dev/null || phase[$vm]=ended
			;;
		esac
		case "${phase[$vm]}" in PASS | FAIL | ended) finished=$((finished + 1)) ;; esac
	done
	ask host --json >"$work/host.json" || die "the daemon is gone: $(tail -n 1 "$work/daemon.log")"
	if ! kill -0 "$sampler_pid" 2>/dev/null; then
		cat "$work/sampler.log" >&2
		die "the sampler ended early"
	fi
}

bar() {
	local width=40 full
	full=$(($1 * width / (pool_mib * 1024)))
	printf '%*s' "$full" '' | tr ' ' '#'
	printf '%*s' $((width - full > 0 ? width - full : 0)) '' | tr ' ' '.'
}

table() {
	local line name outside peak vm seen=' '
	outside=$(summary now) peak=$(summary peak)
	printf '%4s s  pool %s [%s] measured outside: %s now, %s peak\n' "$(seconds)" "$(mib $((pool_mib * 1024)))" \
		"$(bar "${outside:-0}")" "$(mib "${outside:-0}")" "$(mib "${peak:-0}")"
	{ ask list || true; } | while IFS= read -r line; do
		name=${line%% *}
		case "$name" in
		NAME) printf '%s  GUEST\n' "$line" ;;
		host:)
			for vm in "${names[@]}"; do
				[[ $seen == *" $vm "* ]] || printf '%-6s  %s\n' "$vm" "${phase[$vm]:-starting}"
			done
			printf '%s\n' "$line"
			;;
		*)
			printf '%s  %s\n' "$line" "${phase[$name]:-}"
			seen+="$name "
			;;
		esac
	done
}

# On a terminal the table stays in its place; elsewhere it comes every five seconds.
show() {
	local text lines
	text=$(table)
	if [ -n "$terminal" ]; then
		lines=$(wc -l <<<"$text")
		[ "$shown" = 0 ] || printf '\033[%dA' "$shown"
		# Without line wrap, so that a narrow terminal has as many lines as we think.
		printf '\033[?7l'
		printf '%s\n' "$text" | sed $'s/$/\033[K/'
		printf '\033[?7h\033[J'
		shown=$lines
	elif [ $((SECONDS - last_shown)) -ge 5 ] || [ "$1" = last ]; then
		printf '%s\n\n' "$text"
		last_shown=$SECONDS
	fi
}

watch_guests() {
	local pause=0.2 vm
	finished=0
	while [ "$finished" -lt ${#names[@]} ]; do
		look
		show ''
		if [ "$(seconds)" -ge "$limit" ]; then
			problems+=("not finished within $limit s:$(for vm in "${names[@]}"; do
				case "${phase[$vm]}" in PASS | FAIL | ended) ;; *) printf ' %s (%s)' "$vm" "${phase[$vm]}" ;; esac
			done)")
			break
		fi
		[ "$(seconds)" -lt 5 ] || pause=0.7
		sleep "$pause"
	done
	look
	show last
}

# The daemon asks every monitor to check its page map.
audit() {
	local vm answer
	for vm in "${names[@]}"; do
		[ "${phase[$vm]}" != ended ] || continue
		if ! answer=$(ask check "$vm"); then problems+=("audit of $vm: $answer"); fi
		audits+=("$answer")
	done
}

microseconds() {
	awk -v ns="$1" 'BEGIN { us = ns / 1000; printf us < 1000 ? "%.0fus" : "%.1fms", us < 1000 ? us : us / 1000 }'
}

report_vm() {
	local vm=$1 json=$work/$1.json
	[ -s "$json" ] || { printf '%-8s never ran\n' "$vm"; return; }
	printf '%-8s %9s %6s %6s %6s %6s %8s %8s %8s %7s %7s  %s\n' "$vm" "$(mib "$(field memsize "$json")")" \
		"$(mib "$(field held "$json")")" "$(mib "$(field zero "$json")")" "$(mib "$(field zipped "$json")")" \
		"$(mib "$(field zipHeld "$json")")" "$(mib "$(field swapped "$json")")" "$(mib "$(field swapin "$json")")" \
		"$(awk -F': ' '/"fault[A-Z][a-z]*"/ && !/P50|P99|Max/ { n += $2 } END { print n + 0 }' "$json")" \
		"$(microseconds "$(field faultP50 "$json")")" "$(microseconds "$(field faultP99 "$json")")" "${phase[$vm]}"
}

judge() {
	local vm heldmax=$1 peak=$2
	for vm in "${names[@]}"; do
		case "${phase[$vm]}" in
		FAIL) problems+=("$vm: $(grep -a -m 1 'guestmem: FAIL' "$work/$vm.serial" || tail -n 1 "$work/$vm.serial")") ;;
		ended) problems+=("$vm: ended early: $(tail -n 1 "$work/$vm.log")") ;;
		esac
	done
	[ "${heldmax:-0}" -le $((pool_mib * 1024)) ] || problems+=("the counters saw $heldmax KiB held")
	[ "${peak:-0}" -gt 0 ] || problems+=("the sampler measured nothing")
	[ "${peak:-0}" -le $((pool_mib * 1024)) ] || problems+=("from outside, $peak KiB were seen in use")
}

report() {
	local vm heldmax peak
	heldmax=$(field heldMax "$work/host.json") peak=$(summary peak)
	judge "$heldmax" "$peak"
	printf '\n%-8s %9s %6s %6s %6s %6s %8s %8s %8s %7s %7s  %s\n' \
		VM PROMISED HELD ZERO ZIPPED "INTO" SWAPPED SWAPIN FAULTS P50 P99 VERDICT
	for vm in "${names[@]}"; do report_vm "$vm"; done
	printf '\npool     %8d KiB\n' $((pool_mib * 1024))
	printf 'peak     %8d KiB by our own counters, the daemon apart (heldMax)\n' "${heldmax:-0}"
	printf 'peak     %8d KiB measured from outside, with the daemon: %s samples, the slowest took %s ms\n' \
		"${peak:-0}" "$(summary samples)" "$(summary slowest_ms)"
	printf '         %8d KiB more are QEMU'\''s own firmware and video blocks\n' "$(summary vmm_own)"
	printf 'series   %s\n' "$csv"
	[ ${#audits[@]} = 0 ] || printf 'audit    %s\n' "${audits[@]}"
	printf 'time     %s s from the first guest'\''s start\n\n' "$took"
}

accel=auto
while [ $# -gt 0 ]; do
	case "$1" in
	--accel) [ $# -ge 2 ] || die "--accel needs a value"; accel=$2; shift ;;
	-h | --help) usage; exit 0 ;;
	*) usage >&2; exit 2 ;;
	esac
	shift
done

memtide=$build/src/cli/memtide memtided=$build/src/host/memtided sampler=$build/demo/pool_sampler
for program in "$memtide" "$memtided" "$sampler"; do
	[ -x "$program" ] || die "$program is missing; run 'make'"
done
[ -s "$image/vmlinux" ] || die "$image/vmlinux is missing; run 'make image'"
[[ $limit =~ ^[1-9][0-9]*$ ]] || die "DEMO_LIMIT must be a number of seconds, not '$limit'"
terminal='' shown=0 last_shown=-5
if [ -t 1 ] && [ -z "${CI:-}" ] && [ "${TERM:-dumb}" != dumb ]; then terminal=1; fi
csv=$build/demo/pool.csv
work='' swap='' daemon_pid='' sampler_pid='' took='' started=$SECONDS
boots=() problems=() audits=()
declare -A phase announced

# With auto: the accelerator that boot.sh finds a guest really boots with.
if [ "$accel" = auto ]; then
	printf 'trying whether a guest boots under KVM here ...\n'
	# All of it is read first: who reads no further ends boot.sh by a signal, and that would count as no.
	words=$("$top/guest/boot.sh" --image "$image" --print --no-rootfs) || words=
	if grep -qx kvm <<<"$words"; then accel=kvm; else accel=tcg; fi
fi

make_directories
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
printf '%d guests of %d MiB, promised %d MiB, in a pool of %d MiB; QEMU with %s\n' ${#names[@]} "$guest_mib" \
	$((guest_mib * ${#names[@]})) "$pool_mib" "$accel"
printf 'each fills %d MiB, works on a quarter of it for %d s, then reads every byte again\n\n' "$fill_mib" "$work_seconds"
start_daemon
start_sampler
started=$SECONDS
start_guests
watch_guests
took=$(seconds)
audit
look
report
if [ ${#problems[@]} -gt 0 ]; then
	printf 'demo: FAILED: %s\n' "${problems[@]}"
	exit 1
fi
printf 'demo: PASS: %d guests read back every byte; the pool was never exceeded\n' ${#names[@]}
