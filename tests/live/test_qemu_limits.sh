#!/bin/bash
# SPDX-License-Identifier: MIT
#
# test_qemu_limits.sh - what people do to a running QEMU while Memtide manages it: TAP.
#
# Why: a guest is killed, stopped, saved, restored and given CPUs, its daemon dies again and again, and none of it may
# cost a page. How: as test_qemu.sh; guests check their own memory, squeezed, while one of these things happens.

set -u

# shellcheck source-path=SCRIPTDIR source=guests.sh
. "$(dirname "${BASH_SOURCE[0]}")/guests.sh"
trap 'guests_end' EXIT
trap 'exit 1' INT TERM HUP

# guest_with_qmp NAME COMMAND [boot.sh OPTION...]: 256 MiB, at work.
guest_with_qmp() {
	local name=$1 command=$2
	shift 2
	qmp_pipes "$name"
	guest_start "$name" "$command" --mem 256M --no-rootfs "$@" -qmp "pipe:$work/$name.qmp"
	guest_managed "$name" && guest_says "$name" 'guestmem: ' || { guest_show "$name"; return 1; }
}

vmm_killed() {
	local pid
	daemon_start 1G || return 1
	guest_start g "guestmem --size 150M $on" --mem 256M --no-rootfs
	guest_managed g && guest_says g 'guestmem: ' && squeeze g 130 || return 1
	pid=$(field g .pid)
	kill -9 "$pid" || return 1
	wait_until field_is g .state null || { say "it is still there: $(field g .state)"; return 1; }
	field_is host .granted_out 0 || { say "granted: $(field host .granted_out) KiB"; return 1; }
	# Its swap file went with it.
	! find "/proc/$daemon_pid/fd" -lname "$work/swap/*" | grep -q . || { say "its swap file is still open"; return 1; }
}

stopped_and_continued() {
	daemon_start 1G || return 1
	guest_with_qmp g "guestmem --size 150M $on" -- || return 1
	qmp_open g >/dev/null || return 1
	qmp '{"execute":"stop"}' >/dev/null || return 1
	# A stopped guest touches nothing: all of it may go.
	squeeze g 60 && guest_check g || return 1
	qmp '{"execute":"cont"}' >/dev/null || return 1
	memtide set g target_max=140M >/dev/null
	sleep 2
	qmp '{"execute":"stop"}' >/dev/null && sleep 1 && qmp '{"execute":"cont"}' >/dev/null || return 1
	qmp_close
	guest_check g && guest_reads_back g
}

migrated() {
	[[ $(qmp '{"execute":"query-migrate"}') == *'"completed"'* ]]
}

# The state goes to a file while most pages are out, and comes back in another process, squeezed from its start.
saved_and_restored() {
	local old
	daemon_start 1G || return 1
	guest_with_qmp g "guestmem --size 150M $on" -- || return 1
	squeeze g 110 && qmp_open g >/dev/null || return 1
	qmp '{"execute":"migrate-set-parameters","arguments":{"max-bandwidth":1000000000}}' >/dev/null
	qmp '{"execute":"stop"}' >/dev/null || return 1
	qmp "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"exec:cat > $work/state\"}}" >/dev/null || return 1
	wait_until migrated || { say "saving: $(qmp '{"execute":"query-migrate"}')"; return 1; }
	guest_check g || return 1
	old=${guest_pid[g]}
	qmp '{"execute":"quit"}' >/dev/null
	qmp_close
	wait "$old" 2>/dev/null
	unset "guest_pid[g]"
	say "saved: $(stat -c %s "$work/state") bytes"
	cp "$work/g.serial" "$work/before.serial"
	qmp_pipes g
	RUN_OPTIONS="--limit 130M" guest_start g "guestmem --size 150M $on" --mem 256M --no-rootfs \
		-- -qmp "pipe:$work/g.qmp" -incoming "exec:cat $work/state"
	guest_managed g || return 1
	qmp_open g >/dev/null || return 1
	# It was saved stopped, so it comes back stopped.
	wait_until migrated_in || { guest_show g; return 1; }
	qmp '{"execute":"cont"}' >/dev/null || return 1
	qmp_close
	guest_check g && guest_reads_back g && field_most host .heldMax $((300 * 1024))
}

migrated_in() {
	[[ $(qmp '{"execute":"query-status"}') == *'"paused"'* ]]
}

# hmp COMMAND: of QEMU's monitor for people; what it prints is an error.
hmp() {
	local answer
	answer=$(qmp "{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"$1\"}}") || return 1
	[[ $answer == '{"return": ""}'* ]] || { say "$1: $answer"; return 1; }
}

# snapshot_disk: an empty qcow2 image for snapshots, which QEMU makes itself.
snapshot_disk() {
	: >"$work/disk"
	qmp "{\"execute\":\"blockdev-add\",\"arguments\":{\"driver\":\"file\",\"node-name\":\"file\",\"filename\":\"$work/disk\"}}" >/dev/null &&
		qmp '{"execute":"blockdev-create","arguments":{"job-id":"j","options":{"driver":"qcow2","file":"file","size":1048576}}}' >/dev/null &&
		wait_until snapshot_disk_made && qmp '{"execute":"job-dismiss","arguments":{"id":"j"}}' >/dev/null &&
		qmp '{"execute":"blockdev-add","arguments":{"driver":"qcow2","node-name":"disk","file":"file"}}' >/dev/null
}

snapshot_disk_made() {
	[[ $(qmp '{"execute":"query-jobs"}') == *'"concluded"'* ]]
}

# The guest is saved while it works, goes on, and is put back to what it was, squeezed all the while.
saved_and_loaded() {
	daemon_start 1G || return 1
	guest_with_qmp g "guestmem --size 150M $on" -- || return 1
	squeeze g 110 && qmp_open g >/dev/null && snapshot_disk || return 1
	hmp "savevm one" && guest_check g || return 1
	say "saved: $(stat -c %b "$work/disk") blocks"
	sleep 4
	hmp "loadvm one" && guest_check g || return 1
	field_is g .state running && field_is g .failed 0 || { guest_show g; return 1; }
	qmp_close
	guest_reads_back g && field_most host .heldMax $((300 * 1024))
}

cpu_added() {
	daemon_start 1G || return 1
	# shellcheck disable=SC2016 # for the guest's shell
	guest_with_qmp g 'c=/sys/devices/system/cpu/cpu1/online; guestmem --size 120M --work 2 --rounds 1 && until [ $(nproc) = 2 ]; do sleep 0.2; [ ! -e $c ] || echo 1 >$c; done; echo cpus $(nproc); '"guestmem --size 150M $on --threads 2" \
		-- -smp 1,maxcpus=2 || return 1
	qmp_open g >/dev/null || return 1
	qmp '{"execute":"device_add","arguments":{"driver":"qemu64-x86_64-cpu","id":"c1","socket-id":0,"core-id":1,"thread-id":0}}' >/dev/null ||
		return 1
	qmp_close
	guest_says g 'cpus 2' || { guest_show g; return 1; }
	squeeze g 120 && guest_check g && guest_reads_back g
}

# The daemon dies in the middle of everything.
daemon_dies_often() {
	local kills=0
	daemon_start 1G || return 1
	guest_start g "guestmem --size 150M $on" --mem 256M --no-rootfs
	guest_managed g && guest_says g 'guestmem: ' && squeeze g 150 || return 1
	while guest_alive g && [ "$kills" -lt 60 ]; do
		sleep "0.$((RANDOM % 5))$((RANDOM % 10))"
		kill -9 "$daemon_pid"
		wait "$daemon_pid" 2>/dev/null
		kills=$((kills + 1))
		"$MEMTIDED_EXE" --config "$work/config" --pool 1G --socket "$socket" --swap-dir "$work/swap" >>"$work/daemon.log" 2>&1 &
		daemon_pid=$!
	done
	say "$kills deaths"
	wait_until field_is g .state running && guest_check g && guest_reads_back g
}

paused() {
	[[ $(qmp '{"execute":"query-status"}') == *'"status": "paused"'* ]]
}

# QEMU's own thread comes to the damaged page, while its processor has nothing to do.
lost_and_paused() {
	daemon_start 1G && memtide set --host Mem.CtlMaxPercent=0 >/dev/null || return 1
	qmp_pipes g
	guest_start g "$(lost_file 400 /file) echo idle; $stay" --mem 256M --no-rootfs -- -qmp "pipe:$work/g.qmp"
	guest_managed g && guest_says g idle || { guest_show g; return 1; }
	memtide set g zip_max_pct=0 >/dev/null && squeeze g 70 || return 1
	wait_until field_least g .swapped $((60 * 1024)) || { say "swapped: $(field g .swapped) KiB"; return 1; }
	qmp_open g >/dev/null && swap_damage "$(field g .pid)" "$lost_pattern" || return 1
	qmp '{"execute":"migrate","arguments":{"uri":"exec:cat >/dev/null"}}' >/dev/null || return 1
	wait_until field_is g .state failed || { guest_show g; return 1; }
	wait_until event_seen 'page 0x.*wrong checksum' && wait_until event_seen 'paused over QMP' || { guest_show g; return 1; }
	guest_check g || return 1
	wait_until paused || { say "$(qmp '{"execute":"query-status"}')"; return 1; }
	qmp_close
}

run_all() {
	tap "a QEMU that is killed leaves nothing behind" vmm_killed
	tap "a guest that is stopped can be squeezed, and goes on with every page" stopped_and_continued
	tap "a guest saved to a file with most of its pages out is restored with all of them" saved_and_restored
	tap "a guest that is saved by savevm and put back by loadvm finds every page" saved_and_loaded
	tap "a CPU added to a squeezed guest finds the memory the others left" cpu_added
	tap "a guest whose daemon dies again and again keeps its memory" daemon_dies_often
	tap "a QEMU that lost a page is paused over QMP, and the page and the cause are told" lost_and_paused
	tap_end
}

if ! guests_possible; then
	echo "1..0 # SKIP needs QEMU, jq, /dev/userfaultfd and the guest image (guest/build-image.sh)"
	exit 0
fi
run_all
