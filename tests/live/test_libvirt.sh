#!/bin/bash
# SPDX-License-Identifier: MIT
#
# test_libvirt.sh - a real guest that a real libvirtd runs, its balloon driven through libvirt: TAP.
#
# Why: libvirt starts QEMU in its own way - another user, a sandbox, no token, its own QMP - and answers in its own
# time. How: everything runs in a mount namespace of its own, with libvirt's directories empty and users added, so
# that nothing of this machine's libvirt is met or left behind. Skipped where libvirtd or the guest image is missing.

set -u

if [ -z "${MEMTIDE_LIBVIRT_PRIVATE:-}" ]; then
	skip() { printf '1..0 # SKIP %s\n' "$*"; exit 0; }
	[ -n "${MEMTIDE_LIBVIRT_EXE:-}" ] || skip "built without libvirt"
	[ "$(id -u)" = 0 ] || skip "needs root"
	command -v libvirtd >/dev/null && command -v virsh >/dev/null || skip "needs libvirtd and virsh"
	ls /usr/lib/*/libvirt/connection-driver/libvirt_driver_qemu.so >/dev/null 2>&1 || skip "needs libvirt's driver for QEMU"
	unshare --mount --propagation private true 2>/dev/null || skip "needs mount namespaces"
	MEMTIDE_LIBVIRT_PRIVATE=1 exec unshare --mount --propagation private "${BASH_SOURCE[0]}" "$@"
fi

# shellcheck source-path=SCRIPTDIR source=guests.sh
. "$(dirname "${BASH_SOURCE[0]}")/guests.sh"
# shellcheck source-path=SCRIPTDIR source=libvirt.sh
. "$(dirname "${BASH_SOURCE[0]}")/libvirt.sh"

libvirtd_pid='' broker_pid=''

# A libvirtd that is only slow is waited for: no keepalive.
libvirt() {
	timeout 120 virsh -q -k 0 -c qemu:///system "$@"
}

libvirt_end() {
	local name
	if [ -n "$libvirtd_pid" ]; then
		kill -CONT "$libvirtd_pid" 2>/dev/null
		for name in $(libvirt list --name); do
			wait_until domain_ended "$name"
		done
		end_process "$libvirtd_pid"
	fi
	[ -z "$broker_pid" ] || end_process "$broker_pid"
	libvirtd_pid='' broker_pid=''
	guests_end
}
trap 'libvirt_end' EXIT
trap 'exit 1' INT TERM HUP

libvirt_answers() {
	libvirt version >/dev/null 2>&1
}

# domain_ended NAME: libvirt gives up on a QEMU that is slow to die, and is asked again.
domain_ended() {
	libvirt destroy "$1" >/dev/null 2>&1 || [[ $(libvirt domstate "$1" 2>&1) == *'failed to get domain'* ]]
}

# Memory and disks of the guest must be readable for the user that libvirt runs QEMU as; else that is root.
qemu_user() {
	if setpriv --reuid libvirt-qemu --regid libvirt-qemu --clear-groups \
		test -r "$top/build-guest/rootfs.ext4" -a -r "$work/preload.so"; then
		echo libvirt-qemu
	else
		echo root
	fi
}

libvirt_start() {
	local user
	chmod 755 "$work"
	cp "$MEMTIDE_PRELOAD" "$work/preload.so" && chmod 755 "$work/preload.so" || return 1
	libvirt_users "$work" || return 1
	user=$(qemu_user)
	say "QEMU runs as $user"
	libvirt_empty "$user" || return 1
	libvirtd -f /etc/libvirt/libvirtd.conf -p /run/libvirt/libvirtd.pid >"$work/libvirtd.log" 2>&1 &
	libvirtd_pid=$!
	wait_until libvirt_answers || { say "libvirtd does not answer"; tail -n 5 "$work/libvirtd.log" | sed 's/^/#   /'; return 1; }
}

broker_start() {
	"$MEMTIDE_LIBVIRT_EXE" --socket "$socket" >>"$work/broker.log" 2>&1 &
	broker_pid=$!
}

# domain NAME MIB COMMAND: a guest that runs it.
domain() {
	local append
	append=$("$boot" --accel tcg --print --run "$3" | grep -A1 '^-append$' | tail -n 1)
	libvirt_domain "$1" "$2" "$work/preload.so" "$socket" "
		    <kernel>$top/build-guest/vmlinux</kernel>
		    <initrd>$top/build-guest/initrd.cpio.lz4</initrd>
		    <cmdline>$append</cmdline>" "
		    <disk type='file' device='disk'>
		      <driver name='qemu' type='raw'/>
		      <source file='$top/build-guest/rootfs.ext4'/>
		      <target dev='vda' bus='virtio'/>
		      <readonly/>
		      <serial>rootfs</serial>
		    </disk>
		    <serial type='file'><source path='/var/log/libvirt/$1.serial'/></serial>"
}

# filled COUNT: so many times the guest has booted and filled its memory with the cache of its disk.
filled() {
	[ "$(grep -ac '^filled' /var/log/libvirt/g.serial 2>/dev/null)" -ge "$1" ]
}

# Its connection to libvirt failed: how is a matter of who was slow.
line_lost='QMP: .*trying again'

# domain_started: libvirt gives up on a QEMU that is slow to start, and is asked again.
domain_started() {
	local text
	text=$(libvirt create "$work/g.xml" 2>&1) && return 0
	say "${text//$'\n'/$'\n# '}"
	[ "$(libvirt domstate g 2>/dev/null)" = running ]
}

# libvirt_stat NAME: what libvirt tells of the guest's memory, in KiB. QEMU tells it of its balloon at most once a second.
libvirt_stat() {
	libvirt dommemstat g | awk -v name="$1" '$1 == name { print $2 }'
}

actual_most() {
	local value
	value=$(libvirt_stat actual)
	[[ $value =~ ^[0-9]+$ ]] && [ "$value" -le "$1" ]
}

usable_told() {
	[[ $(libvirt_stat usable) =~ ^[1-9][0-9]*$ ]]
}

balloon_is() {
	wait_until field_is g .balloon "$1" && return 0
	say "balloon is $(field g .balloon), not $1"
	memtide events | tail -n 6 | sed 's/^/#   event: /'
	tail -n 5 "$work/broker.log" | sed 's/^/#   /'
	tail -n 5 /var/log/libvirt/qemu/g.log 2>/dev/null | cut -c1-300 | sed 's/^/#   /'
	return 1
}

guest_runs() {
	guests_possible || return 77
	libvirt_start && daemon_start 2G && broker_start || return 1
	domain g 512 "$(lost_file 120 /dev/shm/file) cat /dev/vda >/dev/null; echo filled; $stay" >"$work/g.xml"
	wait_until domain_started && wait_until field_is g .state running && balloon_is working || return 1
	[ "$(field g .pid)" = "$(cat /run/libvirt/qemu/g.pid)" ] || return 1
	wait_until filled 1 && wait_until field_least g .held $((350 * 1024)) || { say "it holds $(field g .held) KiB"; return 1; }
	guest_check g
}

balloon_driven() {
	local status
	memtide set g target_max=240M >/dev/null || return 1
	wait_until field_least g .vmmemctl $((250 * 1024)) || { say "balloon has $(field g .vmmemctl) KiB"; return 1; }
	wait_until actual_most $((265 * 1024)) && wait_until usable_told
	status=$?
	say "balloon $(field g .vmmemctl) KiB; memtide: $(field g .guest.usable) KiB; libvirt says: $(libvirt dommemstat g | tr '\n' ' ')"
	[ "$status" = 0 ] && guest_check g
}

hang_is_survived() {
	local begin before
	before=$(event_count "$line_lost")
	balloon_is working || return 1
	kill -STOP "$libvirtd_pid"
	balloon_is unreachable || return 1
	begin=$(date +%s%N)
	memtide host >/dev/null || return 1
	say "libvirtd is stopped: memtide host took $((($(date +%s%N) - begin) / 1000000)) ms"
	# Said a little later, as the VM might have ended.
	wait_until events_more_than "$before" "$line_lost" || { say "no event"; return 1; }
	field_least g .vmmemctl 1 || return 1
	kill -CONT "$libvirtd_pid"
	balloon_is working && guest_check g
}

broker_dies() {
	kill -9 "$broker_pid"
	wait "$broker_pid" 2>/dev/null
	balloon_is unreachable || return 1
	broker_start
	balloon_is working && field_least g .vmmemctl 1
}

# reset_told COUNT: there are more such events than before. Nobody says it again, so a connection that was lost meanwhile,
# for whoever was slow, loses it: then the guest is reset once more.
reset_told() {
	events_more_than "$1" 'the guest starts anew' && return 0
	events_more_than "$lost" "$line_lost" || return 1
	lost=$(event_count "$line_lost")
	say "the connection was lost: reset again"
	balloon_is working && wait_until field_least g .vmmemctl 1 && libvirt reset g
	return 1
}

guest_resets() {
	local before lost
	lost=$(event_count "$line_lost")
	# Only who has a balloon is let go.
	balloon_is working && wait_until field_least g .vmmemctl 1 || return 1
	before=$(event_count 'the guest starts anew')
	wait_until libvirt reset g || return 1
	wait_until reset_told "$before" || { say "no event of it"; return 1; }
	wait_until filled 2 && balloon_is working && guest_check g
}

domain_paused() {
	[ "$(libvirt domstate g)" = paused ]
}

# QEMU's own thread comes to the damaged pages when it is asked to migrate; what takes that in forgets it.
lost_and_paused() {
	local sink pid status=0
	memtide set --host Mem.CtlMaxPercent=0 >/dev/null && memtide set g zip_max_pct=0 target_max=100M >/dev/null || return 1
	wait_until field_most g .held $((100 * 1024)) || { say "held $(field g .held) KiB, swapped $(field g .swapped) KiB"; return 1; }
	pid=$(field g .pid)
	swap_damage "$pid" "$lost_pattern" || return 1
	sink=/var/lib/libvirt/sink
	perl -MIO::Socket::UNIX -e '$l = IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 1); chmod 0777, $ARGV[0];
		$c = $l->accept; 1 while sysread($c, $b, 65536)' $sink &
	# It is bound, then listens, then anybody may connect.
	wait_until eval "[ \"\$(stat -c %a $sink 2>/dev/null)\" = 777 ]" || return 1
	libvirt qemu-monitor-command g "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"unix:$sink\"}}" >/dev/null || return 1
	{ wait_until field_is g .state failed && wait_until domain_paused; } || status=1
	[ "$status" = 0 ] || memtide events | tail -n 6 | sed 's/^/#   event: /'
	kill $! 2>/dev/null
	[ "$status" = 0 ] && wait_until event_seen 'paused over QMP' && guest_check g
}

socket_is_there() {
	path=$(field g .qmp)
	[ -S "$path" ]
}

domain_goes() {
	local path
	wait_until socket_is_there || return 1
	wait_until domain_ended g || return 1
	wait_until field_is g .state null && wait_until eval "[ ! -e '$path' ]"
}

# The tests are steps of one course: what went wrong once goes wrong in all that follow.
broken=
step() {
	local status=0 begin=$SECONDS
	tests_run=$((tests_run + 1))
	[ -z "$broken" ] && { "$2" || status=$?; }
	[ "$status" = 0 ] || broken=$status
	case "$broken" in
	'') printf 'ok %d - %s\n' "$tests_run" "$1" ;;
	77) printf 'ok %d - %s # SKIP\n' "$tests_run" "$1" ;;
	*)
		printf 'not ok %d - %s\n' "$tests_run" "$1"
		tests_failed=$((tests_failed + 1))
		;;
	esac
	say "took $((SECONDS - begin)) s"
}

step "a VM that libvirt starts is managed, and known by the name that libvirt gave it" guest_runs
step "its balloon is driven through libvirt, and its guest's numbers come from there" balloon_driven
step "libvirt hangs: the daemon does not, one event tells, and later the balloon is driven again" hang_is_survived
step "memtide-libvirt is killed and started again: the balloon is as it was" broker_dies
step "a guest that libvirt restarts is let go, and driven again when its driver reports" guest_resets
step "a domain that lost a page is paused, and libvirt knows" lost_and_paused
step "a domain that ends leaves nothing behind" domain_goes
libvirt_end
umount /etc/passwd /etc/group 2>/dev/null
tap_end
