#!/bin/bash
# SPDX-License-Identifier: MIT
#
# test_qemu.sh - real guests in an unmodified QEMU under "memtide run": TAP.
#
# Why: the test VM (tests/testvm) is our own idea of a VMM; this is the real one. How: each test has a daemon of its own
# and boots a guest that checks its own memory or disk (guest/workloads) while it has less memory than it was promised.
# guests.sh has the tools. Under TCG a boot takes some ten seconds. ONLY=words runs the tests whose names hold them.

set -u

# shellcheck source-path=SCRIPTDIR source=guests.sh
. "$(dirname "${BASH_SOURCE[0]}")/guests.sh"
trap 'guests_end' EXIT
trap 'exit 1' INT TERM HUP

# Boot a guest of 256 MiB on this machine, squeeze it to 130 MiB while it checks 150 MiB.
squeezed_guest() {
	local machine=$1 smp=$2
	shift 2
	daemon_start 1G || return 1
	guest_start g "guestmem --size 150M $on --threads $smp" --machine "$machine" --smp "$smp" \
		--mem 256M "$@"
	guest_managed g && field_is g '.regions | length' 1 || return 1
	guest_says g 'guestmem: ' || { guest_show g; return 1; }
	squeeze g 130 && guest_check g && guest_reads_back g
}

q35_one_cpu() {
	squeezed_guest q35 1
}

pc_two_cpus() {
	squeezed_guest pc 2
}

microvm_two_cpus() {
	squeezed_guest microvm 2
}

# The whole boot in half of what was promised, by a limit set before the start.
limited_from_the_start() {
	daemon_start 1G || return 1
	RUN_OPTIONS="--limit 128M" guest_start g "guestmem --size 120M $on" --mem 256M
	guest_managed g && guest_booted g || return 1
	field_most g .held $((128 * 1024)) && guest_check g && guest_reads_back g &&
		field_most host .heldMax $((128 * 1024))
}

small_pool_two_guests() {
	daemon_start 330M || return 1
	guest_start a "guestmem --size 130M $on --seed 1" --mem 256M
	guest_managed a || return 1
	guest_start b "guestmem --size 130M $on --seed 2" --mem 256M
	guest_managed b && guest_says b 'guestmem: ' && guest_check a && guest_check b || return 1
	guest_reads_back a && guest_reads_back b && field_most host .heldMax $((330 * 1024))
}

sandboxed() {
	squeezed_guest q35 1 -- -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
}

# The guest waits for the memory, then checks more than it was started with.
hot_added_memory() {
	# shellcheck disable=SC2016 # for the guest's shell
	local wait='while [ $(sed -n "s/^MemTotal: *\([0-9]*\).*/\1/p" /proc/meminfo) -lt 360000 ]; do sleep 0.5; done'
	daemon_start 1G || return 1
	qmp_pipes g
	guest_start g "echo waiting; $wait; echo grown; guestmem --size 300M $on" --mem 256M \
		-- -m 256M,slots=2,maxmem=1G -qmp "pipe:$work/g.qmp"
	guest_managed g && guest_says g waiting && qmp_open g >/dev/null || return 1
	qmp '{"execute":"object-add","arguments":{"qom-type":"memory-backend-ram","id":"m1","size":268435456}}' >/dev/null &&
		qmp '{"execute":"device_add","arguments":{"driver":"pc-dimm","id":"d1","memdev":"m1"}}' >/dev/null || return 1
	qmp_close
	guest_says g grown || { say "the guest does not see it"; guest_show g; return 1; }
	wait_until field_is g '.regions | length' 2 && field_is g .memsize $((512 * 1024)) || return 1
	squeeze g 220 && guest_check g && guest_reads_back g
}

balloon() {
	local before after
	daemon_start 1G || return 1
	qmp_pipes g
	guest_start g "guestmem --size 250M --work 1 --rounds 1; echo freed; guestmem --size 60M $on" --mem 384M --balloon \
		-- -qmp "pipe:$work/g.qmp"
	guest_managed g && guest_says g freed || { guest_show g; return 1; }
	qmp_open g >/dev/null || { say "QMP does not answer"; return 1; }
	before=$(field g .heldMax)
	qmp '{"execute":"balloon","arguments":{"value":209715200}}' >/dev/null || return 1
	wait_until field_most g .held $((215 * 1024)) || { say "held $(field g .held) KiB"; return 1; }
	wait_until field_least g .vmmemctl $((150 * 1024)) || { say "given up $(field g .vmmemctl) KiB"; return 1; }
	after=$(field g .held)
	say "held $before KiB at most before, $after KiB with 184 MiB in the balloon; released $(field g .vmmemctl) KiB"
	guest_check g || return 1
	squeeze g 120 || return 1
	memtide set g target_max=none >/dev/null
	qmp '{"execute":"balloon","arguments":{"value":402653184}}' >/dev/null || return 1
	qmp_close
	guest_check g && guest_reads_back g
}

# Direct I/O of the guest, and of QEMU into guest memory, with the target moving all the time.
direct_io() {
	local aio=$1 swinger status
	daemon_start 1G || return 1
	guest_start g "guestmem --size 60M $on & while fio-verify 4 16; do :; done; exit 1" --mem 256M --smp 2 \
		--scratch "$work/disk-$aio,aio=$aio,cache=none,size=64M"
	guest_managed g && guest_booted g || return 1
	swing_targets g 90 256 0.3 &
	swinger=$!
	guest_says g 'fio-verify: ' && guest_check g && guest_does_twice g 'fio-verify: PASS' && guest_reads_back g && guest_check g
	status=$?
	end_process "$swinger"
	grep -o 'fio-verify: .*' "$work/g.serial" | tr -d '\r' | sed 's/^/# /'
	rm -f "$work/disk-$aio"
	return "$status"
}

redis() {
	daemon_start 1G || return 1
	guest_start g "while redis-check 40000 4; do :; done; exit 1" --mem 320M --smp 2
	guest_managed g && guest_booted g || return 1
	squeeze g 110 && guest_check g && guest_does_twice g 'redis-check: PASS' && guest_check g
}

shared_memory() {
	daemon_start 1G || return 1
	guest_start g "guestmem --size 100M $on" --mem 256M \
		-- -object memory-backend-memfd,id=mem,size=256M,share=on -machine memory-backend=mem
	wait_until field_is g .state unmanaged || { say "state $(field g .state)"; guest_show g; return 1; }
	say "reason: $(field g .reason)"
	[[ $(field g .reason) == *shared* ]] && guest_reads_back g
}

# The daemon is killed while the guest is squeezed, and comes back.
daemon_killed() {
	daemon_start 1G || return 1
	guest_start g "guestmem --size 150M $on" --mem 256M
	guest_managed g && guest_says g 'guestmem: ' && squeeze g 150 || return 1
	kill -9 "$daemon_pid"
	wait "$daemon_pid" 2>/dev/null
	sleep 2
	daemon_start 1G && wait_until field_is g .state running && guest_check g && guest_reads_back g
}

# A VMM that can't be managed must not start as if it could.
refused_vmms() {
	local text status=0
	daemon_start 1G || return 1
	text=$(memtide run --name s -- "$top/build-guest/busybox" true 2>&1) && status=1
	say "static: $text"
	[[ $text == *static* ]] || status=1
	text=$(memtide run --name s -- /no/such/vmm 2>&1) && status=1
	say "missing: $text"
	[[ $text == *"/no/such/vmm"* ]] || status=1
	text=$(memtide run --name s --attach-timeout 2 -- sleep 100000 2>&1) && status=1
	say "no guest memory: $text"
	[[ $text == *"not under management"* ]] || status=1
	wait_until field_is s .state null || { say "the name is still taken"; status=1; }
	return "$status"
}

run_all() {
	tap "a VMM that can't be managed is refused with a message" refused_vmms
	tap "a guest on q35 with one CPU keeps its memory in half of what it was promised" q35_one_cpu
	tap "a guest on pc with two CPUs keeps its memory" pc_two_cpus
	tap "a guest on microvm with two CPUs keeps its memory" microvm_two_cpus
	tap "a guest boots and works in half of its memory from the start" limited_from_the_start
	tap "two guests live in a pool smaller than the sum of their memories" small_pool_two_guests
	tap "a guest in QEMU's sandbox is managed like any" sandboxed
	tap "memory added while the guest runs is managed too" hot_added_memory
	tap "what the balloon takes is given back" balloon
	tap "direct I/O with aio=native loses nothing while memory comes and goes" direct_io native
	tap "direct I/O with aio=io_uring loses nothing while memory comes and goes" direct_io io_uring
	tap "a redis server in a squeezed guest gives right answers" redis
	tap "a guest in shared memory runs unmanaged, and the reason is told" shared_memory
	tap "a daemon killed with -9 and restarted is not noticed by the guest" daemon_killed
	tap_end
}

if ! guests_possible; then
	echo "1..0 # SKIP needs QEMU, jq, /dev/userfaultfd and the guest image (guest/build-image.sh)"
	exit 0
fi
run_all
