#!/bin/bash
# SPDX-License-Identifier: MIT
#
# test_service.sh - the daemon as the service that systemd runs from our unit: TAP.
#
# Why: the unit takes rights away from the daemon, and one that it takes too many from dies at its start, or later, at
# a call that only some VMs cause. How: a systemd of our own is process 1 in namespaces of its own, with /run, /etc/systemd/system and
# the daemon's directory empty, so that nothing of this machine's systemd is met or left behind. Only the path
# of the program is changed in the unit. Skipped where there is no systemd, or no namespaces.

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

unit=$(dirname "${BASH_SOURCE[0]}")/../../packaging/memtided.service.in
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
cp "$1/memtided.service" "$1/lab.target" /etc/systemd/system/
# Without what a machine has besides: there are no file systems to wait for.
mkdir /etc/systemd/system/memtided.service.d
printf '[Unit]\nDefaultDependencies=no\n' >/etc/systemd/system/memtided.service.d/lab.conf
exec env -i container=lab PATH="$PATH" "$2" --system --unit=lab.target --log-target=console --show-status=no
END
printf '[Unit]\nDescription=lab\nDefaultDependencies=no\nWants=memtided.service\n' >"$work/lab.target"
sed "s#@SBINDIR@/memtided#$MEMTIDED_EXE#" "$unit" >"$work/memtided.service"

# inside COMMAND...: beside the systemd.
inside() {
	timeout 120 nsenter --target "$init_pid" --mount --pid --cgroup "$@"
}

# wait_until COMMAND...: for two minutes, as guests.sh does.
wait_until() {
	local tries=1200
	while ! "$@" >/dev/null 2>&1; do
		[ $((tries--)) -gt 0 ] || return 1
		sleep 0.1
	done
}

answers() { inside "$MEMTIDE_EXE" host; }
field_is() { [ "$(inside "$MEMTIDE_EXE" show "$1" --json | jq "$2")" = true ]; }
why() { sed 's/^/# /' "$work/log"; inside systemctl status memtided | sed 's/^/# /'; }

started() {
	unshare "${namespaces[@]}" bash "$work/boot.sh" "$work" "$systemd" >"$work/log" 2>&1 &
	boot_pid=$!
	wait_until pgrep -P "$boot_pid" || return 1
	init_pid=$(pgrep -P "$boot_pid" | head -n 1)
	wait_until answers || return 1
	inside systemctl is-active memtided
}

# A VM at work, squeezed, and its service is restarted, then killed.
restarted() {
	inside "$MEMTIDE_TESTVM_EXE" --name v --mem 64M --seconds 3000 --threads 2 --discard-pct 1 --share-group g >"$work/vm" 2>&1 &
	local vm_pid=$! i
	wait_until field_is v '.state == "running"' || return 1
	inside "$MEMTIDE_EXE" set v target_max=30M || return 1
	wait_until field_is v '.swapped > 0 and .zipped > 0' || return 1
	for i in 1 2; do
		inside systemctl restart memtided || return 1
		wait_until field_is v '.state == "running"' || return 1
	done
	inside systemctl kill --signal KILL memtided
	wait_until field_is v '.state == "running"' || return 1
	inside "$MEMTIDE_EXE" check v || return 1
	inside pkill -TERM -x memtide-testvm
	wait "$vm_pid" || { sed 's/^/# /' "$work/vm"; return 1; }
	[ "$(jq -s '.[-1] | .event == "end" and .errors == 0' "$work/vm")" = true ]
}

# The daemon finds the VM's QMP socket, asks it, and stays alive over all the calls that takes.
balloon_reached() {
	command -v qemu-system-x86_64 >/dev/null || { echo "# no QEMU here"; return 0; }
	inside "$MEMTIDE_EXE" run --name q -- qemu-system-x86_64 -display none -m 256M -accel tcg >"$work/qemu" 2>&1 &
	wait_until field_is q '.balloon == "silent"' || { inside "$MEMTIDE_EXE" events | sed 's/^/# /'; return 1; }
	inside pkill -x qemu-system-x86
	wait_until inside systemctl is-active memtided
}

bad=0
test_is() {
	if "$2" >/dev/null 2>"$work/err"; then
		echo "ok $1 - $3"
	else
		why 2>/dev/null
		sed 's/^/# /' "$work/err"
		echo "not ok $1 - $3"
		bad=1
	fi
}

echo 1..3
test_is 1 started "systemd starts the daemon from our unit, and it answers"
test_is 2 restarted "a VM keeps its pages while systemd restarts the service, and when the daemon is killed"
test_is 3 balloon_reached "the service reaches the QMP socket of a QEMU"
exit $bad
