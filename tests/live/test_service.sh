#!/bin/bash
# SPDX-License-Identifier: MIT
#
# test_service.sh - the daemon, and what drives libvirt's balloons, as services that systemd runs from our units: TAP.
#
# Why: the unit takes rights away from the daemon, and one that it takes too many from dies at its start, or later, at
# a call that only some VMs cause. How: a systemd of our own is process 1 in namespaces of its own, with /run, /etc/systemd/system and
# the daemon's directory empty, so that nothing of this machine's systemd is met or left behind. Only the path
# of the programs is changed in the units. Skipped where there is no systemd, or no namespaces.

set -u

: "${MEMTIDED_EXE:?set it to the daemon, or run the tests by meson}"
: "${MEMTIDE_EXE:?set it to the command line tool, or run the tests by meson}"
: "${MEMTIDE_TESTVM_EXE:?set it to the test VM, or run the tests by meson}"
skip() { printf '1..0 # SKIP %s\n' "$*"; exit 0; }
systemd=$(ls /lib/systemd/systemd /usr/lib/systemd/systemd 2>/dev/null | head -n 1)
[ -n "$systemd" ] || skip "needs systemd"
[ "$(id -u)" = 0 ] || skip "needs root"
namespaces=(--mount --pid --fork --kill-child --ipc --uts --cgroup --mount-proc)
unshare "${namespaces[@]}" true 2>/dev/null || skip "needs namespaces"

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
units=$here/../../packaging
work=$(mktemp -d /tmp/memtide-service-XXXXXX)
boot_pid='' init_pid=''
service_end() {
	[ -z "$boot_pid" ] || kill -KILL "$boot_pid" 2>/dev/null
	wait 2>/dev/null
	rm -rf "$work"
}
trap 'service_end' EXIT
trap 'exit 1' INT TERM HUP

# Runs as process 1 of the namespaces, and becomes systemd.
cat >"$work/boot.sh" <<'END'
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /var/lib/memtide
mount -t tmpfs tmpfs /etc/systemd/system
mount -t tmpfs tmpfs /var/lib/memtide
cp "$1"/*.service "$1/lab.target" /etc/systemd/system/
# The units hide /home, /root, /tmp and /var/tmp, where the build directory may be.
mkdir /run/lab
cp "$1/bin/"* /run/lab
. "$3/libvirt.sh"
libvirt_users "$1"
libvirt_empty root
# Without what a machine has besides: there are no file systems to wait for. And it is started as often as we like.
for service in memtided memtide-libvirt; do
	mkdir /etc/systemd/system/$service.service.d
	printf '[Unit]\nDefaultDependencies=no\nStartLimitIntervalSec=0\n' >/etc/systemd/system/$service.service.d/lab.conf
done
exec env -i container=lab PATH="$PATH" "$2" --system --unit=lab.target --log-target=console --show-status=no
END
printf '[Unit]\nDescription=lab\nDefaultDependencies=no\nWants=memtided.service\n' >"$work/lab.target"
mkdir "$work/bin"
cp "$MEMTIDED_EXE" ${MEMTIDE_LIBVIRT_EXE:+"$MEMTIDE_LIBVIRT_EXE"} "$work/bin"
for name in memtided memtide-libvirt; do
	sed "s#@SBINDIR@#/run/lab#" "$units/$name.service.in" >"$work/$name.service"
done

# shellcheck source-path=SCRIPTDIR source=wait.sh
. "$here/wait.sh"
# shellcheck source-path=SCRIPTDIR source=libvirt.sh
. "$here/libvirt.sh"

# inside COMMAND...: beside the systemd.
inside() {
	nsenter --target "$init_pid" --mount --pid --cgroup "$@"
}

# does COMMAND...: inside, again until it succeeds, as tools give up on who is only slow; what it said last is kept.
does() {
	wait_until try "$@" && return 0
	{ echo "$*:"; cat "$work/said"; } >&2
	return 1
}

try() {
	inside timeout 120 "$@" >"$work/said" 2>&1
}

# An audit that finds something has the last word.
audited() {
	try "$MEMTIDE_EXE" check v || grep -q 'broken invariants' "$work/said"
}

field_is() { [ "$(inside timeout 120 "$MEMTIDE_EXE" show "$1" --json 2>/dev/null | jq "$2" 2>/dev/null)" = true ]; }
why() { sed 's/^/# /' "$work/log"; inside systemctl status memtided | sed 's/^/# /'; }

# The daemon's process, once it answers. Another one shows that it was started anew.
daemon_is() {
	daemon=$(inside timeout 120 "$MEMTIDE_EXE" host --json 2>/dev/null | jq .pid 2>/dev/null)
	[ -n "$daemon" ]
}

daemon_is_another() {
	daemon_is && [ "$daemon" != "$1" ]
}

init_is_there() {
	init_pid=$(pgrep -P "$boot_pid" | head -n 1)
	[ -n "$init_pid" ]
}

started() {
	unshare "${namespaces[@]}" bash "$work/boot.sh" "$work" "$systemd" "$here" >"$work/log" 2>&1 &
	boot_pid=$!
	wait_until init_is_there && wait_until daemon_is && does systemctl is-active memtided || return 1
	# At the first attempt.
	does systemctl show --property NRestarts memtided && grep -qx 'NRestarts=0' "$work/said"
}

# A VM at work, squeezed, and its service is restarted, then killed.
restarted() {
	local vm_pid old
	inside "$MEMTIDE_TESTVM_EXE" --name v --mem 64M --seconds 100000 --threads 2 --discard-pct 1 --share-group g >"$work/vm" 2>&1 &
	vm_pid=$!
	wait_until field_is v '.state == "running"' || return 1
	does "$MEMTIDE_EXE" set v target_max=30M || return 1
	wait_until field_is v '.swapped > 0 and .zipped > 0' || return 1
	for _ in 1 2; do
		wait_until daemon_is && old=$daemon && does systemctl restart memtided || return 1
		wait_until daemon_is_another "$old" && wait_until field_is v '.state == "running"' || return 1
	done
	wait_until daemon_is && old=$daemon && does systemctl kill --signal KILL memtided || return 1
	wait_until daemon_is_another "$old" && wait_until field_is v '.state == "running"' || return 1
	wait_until audited && ! grep 'broken invariants' "$work/said" >&2 || return 1
	does pkill -TERM -x memtide-testvm
	wait "$vm_pid" || { sed 's/^/# /' "$work/vm"; return 1; }
	[ "$(jq -s '.[-1] | .event == "end" and .errors == 0' "$work/vm")" = true ]
}

# The daemon finds the VM's QMP socket, asks it, and stays alive over all the calls that takes.
balloon_reached() {
	local old
	command -v qemu-system-x86_64 >/dev/null || { echo "# no QEMU here"; return 0; }
	wait_until daemon_is || return 1
	old=$daemon
	inside "$MEMTIDE_EXE" run --name q --attach-timeout 600 -- qemu-system-x86_64 -display none -m 256M -accel tcg >"$work/qemu" 2>&1 &
	wait_until field_is q '.balloon == "silent"' || { inside "$MEMTIDE_EXE" events | sed 's/^/# /' >&2; return 1; }
	does pkill -x qemu-system-x86
	does systemctl is-active memtided && wait_until daemon_is && [ "$daemon" = "$old" ]
}

domain_runs() {
	try virsh -q -k 0 -c qemu:///system create "$work/d.xml" || inside virsh -q -c qemu:///system domstate d
}

# libvirt gives up on a QEMU that is slow to die, and is asked again.
domain_gone() {
	try virsh -q -k 0 -c qemu:///system destroy d || grep -q 'failed to get domain' "$work/said"
}

# Started before libvirt is there, it waits for it; and what it serves is there again when either service is started anew.
libvirt_served() {
	[ -n "${MEMTIDE_LIBVIRT_EXE:-}" ] && command -v libvirtd >/dev/null && command -v virsh >/dev/null || return 77
	ls /usr/lib/*/libvirt/connection-driver/libvirt_driver_qemu.so >/dev/null 2>&1 || return 77
	does systemctl start memtide-libvirt && does systemctl is-active memtide-libvirt || return 1
	inside libvirtd -f /etc/libvirt/libvirtd.conf -p /run/libvirt/libvirtd.pid >"$work/libvirtd" 2>&1 &
	# Without a guest that would report, a balloon that libvirt knows of is silent.
	libvirt_domain d 256 "$MEMTIDE_PRELOAD" /run/memtide/control.sock '' '' >"$work/d.xml"
	wait_until domain_runs || { tail "$work/libvirtd" "$work/said" >&2; return 1; }
	for service in memtide-libvirt memtided none; do
		wait_until field_is d '.balloon == "silent" and .state == "running"' || {
			inside "$MEMTIDE_EXE" events >&2
			inside systemctl status memtide-libvirt >&2
			return 1
		}
		[ $service = none ] || does systemctl restart $service || return 1
	done
	does systemctl show --property NRestarts memtide-libvirt && grep -qx 'NRestarts=0' "$work/said" &&
		wait_until domain_gone
}

bad=0
test_is() {
	local status=0
	"$2" >/dev/null 2>"$work/err" || status=$?
	if [ "$status" = 0 ]; then
		echo "ok $1 - $3"
	elif [ "$status" = 77 ]; then
		echo "ok $1 - $3 # SKIP"
	else
		why 2>/dev/null
		sed 's/^/# /' "$work/err"
		echo "not ok $1 - $3"
		bad=1
	fi
}

echo 1..4
test_is 1 started "systemd starts the daemon from our unit, and it answers"
test_is 2 restarted "a VM keeps its pages while systemd restarts the service, and when the daemon is killed"
test_is 3 balloon_reached "the service reaches the QMP socket of a QEMU"
test_is 4 libvirt_served "the service for libvirt reaches both daemons, whichever comes first or goes"
exit $bad
