#!/bin/bash
# SPDX-License-Identifier: MIT
#
# boot.sh - boots one guest of the image that build-image.sh makes.
#
# Why: people, examples and tests should all start guests the one way that was tried. How: turns a few options into
# a QEMU command line, then prints it (--print), or runs it under a time limit and exits with the status of the
# command that ran in the guest, which guest/init tells on the serial console.
#
# Under TCG the guest is told the rate of the time stamp counter, as calibration is unreliable there. KVM is used
# when a guest has really booted with it on this machine: the device node alone proves nothing where virtualisation
# is nested.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
image=$(dirname "$here")/build-guest
# Seconds that a guest may take to boot under KVM before it counts as not working.
kvm_trial_limit=10

usage() {
	cat <<-'END'
	usage: boot.sh [option...] [-- QEMU ARGUMENT...]
	Boot one guest; exit with the status of the command that it ran.
	  --run 'CMD'        shell command to run in the guest, e.g. 'guestmem --size 300M --work 20';
	                     without it: a shell on the console (end it with "exit")
	  --stay             keep the guest up after the command
	  --mem SIZE         memory, as for qemu -m (512M)
	  --smp N            virtual CPUs (1)
	  --machine TYPE     q35, pc or microvm (q35)
	  --accel KIND       tcg, kvm or auto: kvm where a guest really boots with it (auto)
	  --scratch FILE[,aio=threads|native|io_uring][,cache=none|writeback|...][,size=128M]
	                     a scratch disk for fio-verify; made if it is missing (threads, none, 128M)
	  --cache MODE       how the host caches the root disk: none, writeback, ... (QEMU's default)
  --no-rootfs        without the root disk: busybox and guestmem only
	  --balloon          with a virtio balloon (deflate-on-oom, free page reporting)
	  --qmp SOCKET       a QMP server on this unix socket
	  --name NAME        the guest's name (guest)
	  --serial FILE      serial console into this file (standard output)
	  --append 'ARGS'    more kernel arguments
	  --timeout SEC      end the guest after so long, 0: never (600; 0 with --stay or without --run)
	  --wrap 'PREFIX'    run 'PREFIX qemu...', e.g. 'memtide run --name x --'; split at spaces
	  --print            print the QEMU command line, one argument a line, and do not run it
	                     (a missing scratch disk is made all the same)
	  --image DIR        where the image is (build-guest at the top of the repository)
	Exit status: that of the command; 124 timeout; 125 the guest ended without finishing; 2 wrong usage.
	In the guest: guestmem, fio-verify, redis-check, stress-verify, and stress-ng, memtester, fio, redis.
	END
}

die() {
	echo "boot: $*" >&2
	exit 2
}

# A file name as part of a QEMU option: commas are doubled.
escaped() {
	printf '%s' "${1//,/,,}"
}

host_khz() {
	if [ -x "$image/tsc-khz" ]; then
		"$image/tsc-khz"
	else
		awk -F: '/^cpu MHz/ { printf "%d\n", $2 * 1000; exit }' /proc/cpuinfo
	fi
}

# True when a guest boots under KVM here; tried once for each boot of the machine and QEMU version.
kvm_works() {
	local key answer
	[ -r /dev/kvm ] && [ -w /dev/kvm ] || return 1
	key="$(cat /proc/sys/kernel/random/boot_id) $("$qemu" --version | head -n 1)"
	if [ "$(head -n 1 "$image/.kvm" 2>/dev/null)" != "$key" ]; then
		answer=no
		if "${BASH_SOURCE[0]}" --image "$image" --accel kvm --no-rootfs --mem 256M --run true \
			--timeout "$kvm_trial_limit" >/dev/null 2>&1; then
			answer=yes
		fi
		printf '%s\n%s\n' "$key" "$answer" >"$image/.kvm.$$"
		mv "$image/.kvm.$$" "$image/.kvm"
	fi
	[ "$(tail -n 1 "$image/.kvm")" = yes ]
}

# Sets accel to tcg or kvm.
choose_accel() {
	case "$accel" in
	tcg | kvm) ;;
	auto) if kvm_works; then accel=kvm; else accel=tcg; fi ;;
	*) die "--accel must be tcg, kvm or auto, not '$accel'" ;;
	esac
}

kernel_arguments() {
	local arguments="console=ttyS0 quiet loglevel=3 panic=-1 oops=panic reboot=t memhp_default_state=online"
	if [ "$accel" = tcg ]; then
		arguments+=" tsc_early_khz=$(host_khz) tsc=reliable"
	fi
	[ -z "$run" ] || arguments+=" memtide.run64=$(printf '%s' "$run" | base64 -w 0)"
	[ -z "$stay" ] || arguments+=" memtide.stay"
	arguments+=${append:+ $append}
	[ ${#arguments} -lt 2000 ] || die "the command is too long for a kernel command line"
	printf '%s' "$arguments"
}

# Add a virtio device; microvm has its own bus for them.
add_device() {
	if [ "$machine" = microvm ]; then
		command+=(-device "$1-device${2:+,$2}")
	else
		command+=(-device "$1-pci${2:+,$2}")
	fi
}

add_rootfs() {
	command+=(-drive "file=$(escaped "$image/rootfs.ext4"),if=none,id=rootfs,format=raw,readonly=on${cache:+,cache=$cache}")
	add_device virtio-blk drive=rootfs,serial=rootfs
}

# add_scratch FILE[,aio=...][,cache=...][,size=...]
add_scratch() {
	local file=${1%%,*} aio=threads cache=none size=128M word words
	IFS=, read -ra words <<<"$1"
	for word in "${words[@]:1}"; do
		case "$word" in
		aio=threads | aio=native | aio=io_uring) aio=${word#aio=} ;;
		cache=?*) cache=${word#cache=} ;;
		size=?*) size=${word#size=} ;;
		*) die "--scratch: '$word' is not understood" ;;
		esac
	done
	[ -n "$file" ] || die "--scratch: a file name is missing"
	if [ ! -e "$file" ]; then
		truncate -s "$size" "$file" || die "cannot make the scratch disk $file"
	fi
	command+=(-drive "file=$file,if=none,id=scratch,format=raw,aio=$aio,cache=$cache")
	add_device virtio-blk drive=scratch,serial=scratch
}

add_serial() {
	local signal=on
	[ -n "$run" ] || signal=off
	if [ -n "$serial" ]; then
		command+=(-chardev "file,id=serial0,path=$(escaped "$serial")")
	else
		command+=(-chardev "stdio,id=serial0,signal=$signal${log:+,logfile=$(escaped "$log")}")
	fi
	command+=(-serial chardev:serial0)
}

# Fills the array "command".
make_command() {
	command=("$qemu" -nodefaults -no-user-config -display none -no-reboot -name "$name,debug-threads=on"
		-machine "$machine" -m "$mem" -smp "$smp")
	if [ "$accel" = kvm ]; then
		command+=(-accel kvm -cpu host)
	elif [ "$smp" = 1 ]; then
		command+=(-accel "tcg,tb-size=64")
	else
		command+=(-accel "tcg,tb-size=64,thread=multi")
	fi
	command+=(-kernel "$image/vmlinux" -initrd "$image/initrd.cpio.lz4" -append "$(kernel_arguments)")
	add_serial
	[ -z "$rootfs" ] || add_rootfs
	[ -z "$scratch" ] || add_scratch "$scratch"
	[ -z "$balloon" ] || add_device virtio-balloon id=balloon0,deflate-on-oom=on,free-page-reporting=on
	[ -z "$qmp" ] || command+=(-qmp "unix:$(escaped "$qmp"),server=on,wait=off")
	command+=("$@")
}

# Run the command under the time limit and tell the guest's status. "timeout" gives it a process group of its own, so
# that a wrapper and the guest end together, at the time limit as well as when this script is told to end.
boot() {
	local status=0 answer child
	if [ -n "$run" ]; then
		timeout -k 5 "$timeout" "${wrap[@]}" "${command[@]}" </dev/null &
		child=$!
		# shellcheck disable=SC2064 # this very process
		trap "kill $child 2>/dev/null" INT TERM HUP
		wait "$child" || status=$?
		# A signal to us ends the wait before the guest has gone, and who starts the next one must not meet it.
		while kill -0 "$child" 2>/dev/null; do
			wait "$child" || status=$?
		done
	else
		timeout --foreground -k 5 "$timeout" "${wrap[@]}" "${command[@]}" || status=$?
	fi
	if [ "$status" = 124 ] || [ "$status" = 137 ]; then
		echo "boot: ended the guest after $timeout s" >&2
		return 124
	fi
	answer=$(sed -n 's/.*MEMTIDE-GUEST: exit \([0-9]*\).*/\1/p' "${serial:-$log}" | tail -n 1)
	if [ -z "$answer" ]; then
		echo "boot: the guest ended without finishing (status $status)" >&2
		return 125
	fi
	return "$answer"
}

qemu=qemu-system-x86_64 mem=512M smp=1 machine=q35 accel=auto name=guest rootfs=1 timeout=
run='' stay='' cache='' scratch='' balloon='' qmp='' serial='' append='' print='' log=''
wrap=() command=()

while [ $# -gt 0 ]; do
	case "$1" in
	--run | --mem | --smp | --machine | --accel | --scratch | --qmp | --name | --serial | --append | --timeout | \
		--image | --cache)
		[ $# -ge 2 ] || die "$1 needs a value"
		printf -v "${1#--}" '%s' "$2"
		shift
		;;
	--wrap) [ $# -ge 2 ] || die "$1 needs a value"; read -ra wrap <<<"$2"; shift ;;
	--stay) stay=1 ;;
	--no-rootfs) rootfs='' ;;
	--balloon) balloon=1 ;;
	--print) print=1 ;;
	-h | --help) usage; exit 0 ;;
	--) shift; break ;;
	*) usage >&2; die "unknown option '$1'" ;;
	esac
	shift
done

case "$machine" in q35 | pc | microvm) ;; *) die "--machine must be q35, pc or microvm, not '$machine'" ;; esac
[[ $smp =~ ^[1-9][0-9]*$ ]] || die "--smp must be a number, not '$smp'"
if [ -z "$timeout" ]; then
	if [ -n "$run" ] && [ -z "$stay" ]; then timeout=600; else timeout=0; fi
fi
[[ $timeout =~ ^[0-9]+$ ]] || die "--timeout must be a number of seconds, not '$timeout'"
command -v "$qemu" >/dev/null || die "$qemu is not installed"
for file in vmlinux initrd.cpio.lz4 ${rootfs:+rootfs.ext4}; do
	[ -s "$image/$file" ] || die "$image/$file is missing; run guest/build-image.sh"
done
image=$(cd "$image" && pwd)

choose_accel
if [ -n "$print" ]; then
	make_command "$@"
	printf '%s\n' "${command[@]}"
	exit 0
fi
if [ -z "$serial" ]; then
	log=$(mktemp)
	trap 'rm -f "$log"' EXIT
fi
make_command "$@"
boot
