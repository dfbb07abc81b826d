#!/bin/bash
# SPDX-License-Identifier: MIT
#
# test_balloon.sh - balloons and free page reporting with real guests in an unmodified QEMU: TAP.
#
# Why: only a real guest's driver shows what a balloon does, and only a real QEMU hangs, reboots and dies as it does.
# How: as in test_qemu.sh, with the balloon and the QMP socket that "memtide run" adds by itself. Nothing timed fails:
# waits are long, and what took how long is printed. ONLY=words runs the tests whose names hold them.

set -u

# shellcheck source-path=SCRIPTDIR source=guests.sh
. "$(dirname "${BASH_SOURCE[0]}")/guests.sh"
trap 'guests_end' EXIT
trap 'exit 1' INT TERM HUP

seconds() {
	date +%s.%N
}

since() {
	awk -v a="$1" -v b="$(seconds)" 'BEGIN { printf "%.1f", b - a }'
}

# guest_ready NAME: managed, booted, and its balloon's driver reports.
guest_ready() {
	guest_managed "$1" && guest_booted "$1" || return 1
	wait_until field_is "$1" .balloon working || { say "balloon is $(field "$1" .balloon)"; guest_show "$1"; return 1; }
}

# The process that is QEMU.
qemu_pid() {
	field "$1" .pid
}

# out NAME: KiB of its memory that are compressed or swapped.
out() {
	field "$1" '.zipped + .swapped'
}

out_most() {
	field_most "$1" '.zipped + .swapped' "$2"
}

out_least() {
	field_least "$1" '.zipped + .swapped' "$2"
}

freed_comes_back() {
	local full begin
	daemon_start 2G || return 1
	guest_start g "guestmem --size 400M --work 4 --rounds 1; echo freed; $stay" --mem 768M
	guest_ready g && guest_says g 'freed' || return 1
	begin=$(seconds)
	full=$(field g .heldMax)
	wait_until field_most g .held $((full - 400 * 1024 * 9 / 10)) || { say "held $(field g .held) of $full KiB"; return 1; }
	say "400 MiB touched and freed: held $full -> $(field g .held) KiB in $(since "$begin") s, unasked"
	wait_until field_least g .reportedFree $((360 * 1024)) && field_is g .vmmemctl 0 && guest_check g
}

# With balloons switched off the pages go to the stores; freeing them empties the stores.
freed_leaves_the_stores() {
	local before told
	daemon_start 2G && memtide set --host Mem.CtlMaxPercent=0 >/dev/null || return 1
	# The guest frees when it is told to, by the first block of its disk.
	# shellcheck disable=SC2016 # for the guest's shell
	told='until dd if=$MEMTIDE_SCRATCH iflag=direct bs=512 count=1 2>/dev/null | grep -q free; do sleep 1; done'
	guest_start g "guestmem --size 300M --hot-pct 10 $on & $told; kill \$!; wait; echo freed; $stay" --mem 512M \
		--scratch "$work/word,cache=writeback,size=1M"
	guest_ready g && guest_says g 'guestmem: ' || return 1
	memtide set g target_max=150M >/dev/null || return 1
	guest_reads_back g || return 1
	wait_until out_least g $((100 * 1024)) || { say "only $(out g) KiB went out"; return 1; }
	before=$(out g)
	say "$before KiB compressed and swapped, zip store $(field g .zipHeld) KiB"
	printf free | dd of="$work/word" conv=notrunc status=none
	guest_says g 'freed' || return 1
	# What stays is the guest's own cold memory.
	wait_until out_most g $((before / 2)) || { say "$(out g) KiB are still there"; return 1; }
	say "after the guest freed them: $(out g) KiB, zip store $(field g .zipHeld) KiB"
	guest_check g
}

# Shell text that fills a guest's memory with the cache of its disk, as a guest does that has run for a while.
fill_cache='cat /dev/vda >/dev/null; echo filled;'

# until_ballooned MIB: shell text with which a guest waits until its own driver has so much in the balloon, and says so. What
# it does next needs no host that looks in time.
until_ballooned() {
	# shellcheck disable=SC2016 # for the guest's shell
	printf 'until awk "/^balloon_inflate/ { n += \\$2 } /^balloon_deflate/ { n -= \\$2 } END { exit n < %d }" /proc/vmstat; ' \
		$(($1 * 256))
	printf 'do sleep 0.3; done; echo ballooned;'
}

# guest_filled NAME MIB: ready, and holding at least so much.
guest_filled() {
	guest_ready "$1" && guest_says "$1" filled && wait_until field_least "$1" .held $(($2 * 1024)) ||
		{ say "it holds $(field "$1" .held) KiB"; guest_show "$1"; return 1; }
}

# balloon_by_limit BOOT-OPTION...: a guest with much cache is made to fit.
balloon_by_limit() {
	daemon_start 2G || return 1
	guest_start g "$fill_cache $stay" --mem 512M "$@"
	guest_filled g 350 || return 1
	memtide set g target_max=240M >/dev/null || return 1
	wait_until field_least g .vmmemctl $((250 * 1024)) || { say "balloon has $(field g .vmmemctl) KiB"; guest_show g; return 1; }
	say "balloon $(field g .vmmemctl) of at most $(field g .vmmemctlmax) KiB, guest $(field g '.guest.usable') KiB usable, out $(out g) KiB"
	wait_until field_most g .held $((240 * 1024)) || { say "held $(field g .held) KiB"; return 1; }
	guest_check g || return 1
	memtide set g target_max=none >/dev/null
	wait_until field_is g .vmmemctl 0 || { say "balloon keeps $(field g .vmmemctl) KiB"; return 1; }
	guest_check g
}

own_balloon() {
	RUN_OPTIONS=--verbose balloon_by_limit --balloon || return 1
	grep -q 'no balloon added: there is one' "$work/g.log" && ! grep -q 'added -device' "$work/g.log"
}

guest_reboots() {
	# Nobody says again that a guest was reset: a QEMU that is slow to answer must not be hung up on meanwhile.
	daemon_start 2G 'qmp-timeout-ms = 300000' || return 1
	qmp_pipes g
	guest_start g "$fill_cache $stay" --mem 384M -- -action reboot=reset -qmp "pipe:$work/g.qmp"
	guest_filled g 300 || return 1
	qmp_open g >/dev/null || return 1
	memtide set g target_max=200M >/dev/null
	wait_until field_least g .vmmemctl $((150 * 1024)) || { say "balloon has $(field g .vmmemctl) KiB"; return 1; }
	: >"$work/g.serial"
	qmp '{"execute":"system_reset"}' >/dev/null || return 1
	qmp_close
	wait_until event_seen 'the guest starts anew' || { guest_show g; return 1; }
	guest_booted g || return 1
	wait_until field_least g .vmmemctl $((150 * 1024)) || { say "balloon has $(field g .vmmemctl) KiB afterwards"; guest_show g; return 1; }
	guest_check g
}

# Takes the driver from its device, as rmmod does.
unbind='cd /sys/bus/virtio/drivers/virtio_balloon; for d in virtio[0-9]*; do echo $d >unbind; done; cd /;'

# The driver gives everything back when it goes; what the balloon held must then be had otherwise.
driver_unloaded() {
	daemon_start 2G || return 1
	guest_start g "guestmem --size 60M $on & $fill_cache $(until_ballooned 100) $unbind echo unloaded; wait" --mem 384M
	guest_filled g 300 || return 1
	memtide set g target_max=150M >/dev/null
	guest_says g ballooned || { say "balloon has $(field g .vmmemctl) KiB"; guest_show g; return 1; }
	guest_says g unloaded || { guest_show g; return 1; }
	wait_until field_most g .vmmemctl 1024 && wait_until field_is g .balloon silent || {
		say "balloon $(field g .balloon), $(field g .vmmemctl) KiB"
		return 1
	}
	wait_until field_most g .held $((150 * 1024)) && guest_check g && guest_reads_back g
}

# QEMU reads all guest memory: pages in the balloon are touched, as by a guest that is not to be trusted.
ballooned_touched() {
	daemon_start 2G || return 1
	qmp_pipes g
	guest_start g "guestmem --size 60M $on & $fill_cache wait" --mem 384M -- -qmp "pipe:$work/g.qmp"
	guest_filled g 300 && qmp_open g >/dev/null || return 1
	memtide set g target_max=200M >/dev/null
	wait_until field_least g .vmmemctl $((150 * 1024)) || { say "balloon has $(field g .vmmemctl) KiB"; return 1; }
	qmp '{"execute":"pmemsave","arguments":{"val":0,"size":402653184,"filename":"/dev/null"}}' >/dev/null || return 1
	qmp_close
	say "after all memory was read: held $(field g .held), balloon $(field g .vmmemctl), zero $(field g .zero), out $(out g) KiB"
	wait_until field_most g .held $((200 * 1024)) && guest_check g && guest_reads_back g &&
		wait_until field_least g .vmmemctl $((150 * 1024))
}

qemu_killed() {
	local qmp
	daemon_start 2G || return 1
	guest_start g "$fill_cache $stay" --mem 384M
	guest_filled g 300 || return 1
	memtide set g target_max=200M >/dev/null
	wait_until field_least g .vmmemctl $((100 * 1024)) || return 1
	qmp=$(field g .qmp)
	kill -9 "$(qemu_pid g)"
	wait_until field_is g .state null || { say "it is $(field g .state)"; return 1; }
	wait_until eval "[ ! -e '$qmp' ] && [ ! -e '${qmp%/*}' ]" || { say "its directory is still there"; return 1; }
	field_is host .vms 0
}

# A stopped QEMU answers nobody. The other VM must not notice, and afterwards all goes on.
qmp_hangs() {
	local pid before
	daemon_start 2G || return 1
	guest_start g "$fill_cache $stay" --mem 256M
	guest_start h "$fill_cache $stay" --mem 256M
	guest_filled g 200 && guest_filled h 200 || return 1
	pid=$(qemu_pid g)
	before=$(event_count " g .* QMP: .*trying again")
	wait_until field_is g .balloon working || return 1
	kill -STOP "$pid"
	wait_until events_more_than "$before" " g .* QMP: .*trying again" || { kill -CONT "$pid"; say "no event"; return 1; }
	memtide set g target_max=150M >/dev/null
	memtide set h target_max=150M >/dev/null
	wait_until field_least h .vmmemctl $((60 * 1024)) || { kill -CONT "$pid"; say "h: $(field h .vmmemctl) KiB"; return 1; }
	wait_until field_is g .balloon unreachable || { kill -CONT "$pid"; say "g is $(field g .balloon)"; return 1; }
	kill -CONT "$pid"
	wait_until field_is g .balloon working || { say "g stays $(field g .balloon)"; return 1; }
	wait_until field_least g .vmmemctl $((60 * 1024)) && guest_check g && guest_check h
}

# An idle guest is ballooned as far as it goes; then, three times, it suddenly needs nearly all it has.
near_its_limit() {
	local command
	command="$fill_cache $(until_ballooned 120) for i in 1 2 3; do guestmem --size 150M --work 1 --rounds 1 || echo lost; sleep 6; done
		echo oom \$(dmesg | grep -ciE 'out of memory|oom-kill|oom_reaper') times"
	daemon_start 2G || return 1
	guest_start g "$command" --mem 256M "$@"
	guest_filled g 200 || return 1
	memtide set g target_max=64M >/dev/null
	guest_says g ballooned || { say "balloon has $(field g .vmmemctl) KiB"; guest_show g; return 1; }
	guest_says g 'oom [0-9]* times' || { guest_show g; return 1; }
	memtide events | grep 'balloon .* -> ' | sed 's/^/#   /'
	say "$(grep -o 'oom [0-9]* times' "$work/g.serial")"
	grep -q 'oom 0 times' "$work/g.serial" && ! grep -q '^lost' "$work/g.serial" && guest_wait g
}

# The user's own balloon lets a guest run out of memory: it is not used.
unsafe_balloon() {
	daemon_start 2G || return 1
	guest_start g "$fill_cache $stay" --mem 256M -- -device virtio-balloon-pci,id=own
	guest_managed g && guest_says g filled && wait_until field_is g .balloon unsafe || { say "balloon is $(field g .balloon)"; return 1; }
	memtide set g target_max=120M >/dev/null
	wait_until field_most g .held $((120 * 1024)) && field_is g .vmmemctl 0 && guest_check g
}

# Two guests in a pool for one and a half: the one with free memory is asked, not paged.
balloon_before_paging() {
	daemon_start 620M || return 1
	guest_start a "$fill_cache $(until_ballooned 32) $stay" --mem 512M
	guest_filled a 350 || return 1
	guest_start b "guestmem --size 350M $on" --mem 512M
	guest_managed b || { guest_show b; return 1; }
	# What a is asked for may go back to it later; its own word stays.
	guest_says a ballooned || { say "a: balloon $(field a .vmmemctl) KiB"; guest_show a; return 1; }
	guest_reads_back b || return 1
	say "a: balloon $(field a .vmmemctl) KiB, out $(out a) KiB, b: held $(field b .held), out $(out b) KiB"
	guest_check a && guest_check b
}

run_all() {
	tap "memory that a guest frees comes back unasked" freed_comes_back
	tap "what a guest frees leaves the zip store and the swap file too" freed_leaves_the_stores
	tap "a guest full of cache is made to fit its limit by the balloon that run added" balloon_by_limit
	tap "so is one on microvm" balloon_by_limit --machine microvm
	tap "so is one with a balloon of the user's own" own_balloon
	tap "a guest that reboots is let go and driven again" guest_reboots
	tap "a balloon driver that is unloaded is replaced by compression" driver_unloaded
	tap "ballooned pages that are touched do no harm" ballooned_touched
	tap "a QEMU killed with a full balloon leaves nothing behind" qemu_killed
	tap "a QEMU that hangs is one event, and others go on" qmp_hangs
	tap "a guest near its limit is not driven into its OOM killer" near_its_limit
	tap "a balloon that could kill its guest is not driven" unsafe_balloon
	tap "a guest with memory to spare is asked before anything is paged" balloon_before_paging
	tap_end
}

if ! guests_possible; then
	echo "1..0 # SKIP needs QEMU, jq, /dev/userfaultfd and the guest image (guest/build-image.sh)"
	exit 0
fi
run_all
