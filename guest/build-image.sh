#!/bin/bash
# SPDX-License-Identifier: MIT
#
# build-image.sh - builds the guest that tests boot: kernel, initrd and root disk, from Debian packages alone.
#
# Why: tests and examples need an unmodified Linux guest that anyone can rebuild on a fresh Debian 12 or 13
# machine, with nothing but the apt sources that machine is set up with. How: three parts, each made again only
# when the files it is made from have changed (a hash of them is kept beside it):
#
#   kernel   linux-image-cloud-amd64, unpacked; the ELF inside is taken out, which QEMU boots directly (PVH)
#   initrd   static busybox, the virtio modules in load order, guest/init, our programs and workloads
#   rootfs   minbase plus guest/packages.list as a read-only ext4 image
#
# At last the guest is booted once; if the extracted ELF does not boot, the bzImage takes its place. Parts are
# written aside and renamed, under a lock, so a broken or second run leaves no half-made image.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(dirname "$here")
modules="virtio_pci virtio_mmio virtio_blk virtio_balloon virtio_mem virtio_console"
applets="sh ash awk base64 basename cat chmod chroot cmp cp cut date dd df dirname dmesg echo env expr false
	find free grep head hexdump insmod kill ln ls lsmod md5sum mkdir mknod mount mv nproc od poweroff printf
	ps readlink reboot rm rmdir sed seq setsid sha256sum sleep sort stat stty sync tail tee test time timeout
	top touch tr true umount uname uniq uptime usleep vi wc xargs yes ["
# What an apt or dpkg command may take at most, in seconds.
limit=900

usage() {
	cat <<-'END'
	usage: build-image.sh [--force] [--no-trial] [OUTDIR]
	Build the guest image in OUTDIR (default: build-guest at the top of the repository): vmlinux,
	initrd.cpio.lz4, rootfs.ext4. Does nothing when they are up to date.
	  --force     build all anew, with the package versions that apt offers now
	  --no-trial  do not boot the guest at the end
	Needs root and an apt-based Debian; installs what is missing.
	END
}

die() {
	echo "build-image: $*" >&2
	exit 1
}

say() {
	echo "build-image: $*"
}

# Print a hash of the files and words given.
hash_of() {
	local item
	for item; do
		if [ -f "$item" ]; then cat "$item"; else echo "$item"; fi
	done | sha256sum | cut -d' ' -f1
}

# up_to_date PART KEY FILE...: true when the files exist and were made with this key.
up_to_date() {
	local part=$1 key=$2 file
	shift 2
	[ "$(cat "$out/.$part.key" 2>/dev/null)" = "$key" ] || return 1
	for file; do
		[ -s "$out/$file" ] || return 1
	done
}

apt_updated=
apt_update() {
	[ -z "$apt_updated" ] || return 0
	timeout "$limit" apt-get -qq -o Acquire::Retries=3 update ||
		say "apt-get update failed; going on with the package lists there are"
	apt_updated=1
}

# Install the packages that this machine lacks.
install_tools() {
	local need=() package
	for package in mmdebstrap e2fsprogs cpio lz4 xz-utils zstd kmod binutils gcc libc6-dev qemu-system-x86 seabios \
		ipxe-qemu; do
		dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed$' || need+=("$package")
	done
	[ ${#need[@]} -gt 0 ] || return 0
	say "installing ${need[*]}"
	apt_update
	DEBIAN_FRONTEND=noninteractive timeout "$limit" apt-get -qq -y -o Acquire::Retries=3 install \
		--no-install-recommends "${need[@]}" >"$work/install.log" 2>&1 ||
		{ tail -n 5 "$work/install.log" >&2; die "cannot install ${need[*]}"; }
}

# unpack PACKAGE DIR: download a Debian package and unpack it.
unpack() {
	mkdir -p "$work/deb-$1"
	(cd "$work/deb-$1" && timeout "$limit" apt-get -qq -o Acquire::Retries=3 -o APT::Sandbox::User=root \
		download "$1") || die "cannot download $1"
	dpkg-deb -x "$work/deb-$1"/*.deb "$2"
	rm -r "$work/deb-$1"
}

# A little-endian 32-bit number at offset $2 of file $1.
number_at() {
	od -An -t u4 -j "$2" -N 4 "$1" | tr -d ' '
}

# extract_elf BZIMAGE ELF: the boot header (Documentation/arch/x86/boot.rst) tells where the compressed kernel is.
extract_elf() {
	local sectors start length tool
	sectors=$(od -An -t u1 -j 497 -N 1 "$1" | tr -d ' ')
	start=$(((sectors + 1) * 512 + $(number_at "$1" 584)))
	length=$(number_at "$1" 588)
	case "$(od -An -t x4 -j "$start" -N 4 "$1" | tr -d ' ')" in
	184c2102) tool="lz4 -dc" ;;
	fd2fb528) tool="zstd -qdc" ;;
	587a37fd) tool="xz -qdc --single-stream" ;;
	*8b1f) tool="gzip -qdc" ;;
	*) return 1 ;;
	esac
	# The last four bytes are the size, not part of the compressed stream.
	tail -c +$((start + 1)) "$1" | head -c $((length - 4)) >"$2.packed"
	$tool <"$2.packed" >"$2" 2>/dev/null || true
	rm "$2.packed"
	readelf -n "$2" 2>/dev/null | grep -q Xen
}

build_kernel() {
	local key image release
	key=$(hash_of "$here/build-image.sh" kernel)
	if [ -z "$force" ] && up_to_date kernel "$key" bzImage vmlinux kernel/modules.dep; then
		return
	fi
	apt_update
	image=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
	[ -n "$image" ] || die "apt knows no linux-image-cloud-amd64"
	say "kernel: $image"
	unpack "$image" "$work/kernel"
	release=$(basename "$work"/kernel/boot/vmlinuz-*)
	release=${release#vmlinuz-}
	[ -d "$work/kernel/lib" ] || ln -s usr/lib "$work/kernel/lib"
	depmod -b "$work/kernel" "$release"
	if ! extract_elf "$work/kernel/boot/vmlinuz-$release" "$work/vmlinux"; then
		say "kernel: no PVH kernel inside, taking the bzImage"
		cp "$work/kernel/boot/vmlinuz-$release" "$work/vmlinux"
	fi
	copy_modules "$release"
	cp "$work/kernel/boot/vmlinuz-$release" "$work/bzImage"
	rm -rf "${out:?}/kernel"
	mv "$work/modules" "$out/kernel"
	mv "$work/bzImage" "$work/vmlinux" "$out/"
	echo "$release" >"$out/kernel/release"
	echo "$key" >"$out/.kernel.key"
}

# The modules and what they depend on, uncompressed, with a list in load order; those built in are left out.
copy_modules() {
	local module file name
	mkdir -p "$work/modules"
	cp "$work/kernel/lib/modules/$1/modules.dep" "$work/modules/"
	for module in $modules; do
		modprobe -d "$work/kernel" -S "$1" --show-depends "$module" 2>/dev/null || say "kernel: no module $module"
	done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' >"$work/module-files"
	while read -r file; do
		name=$(basename "$file")
		case "$name" in
		*.xz) xz -dc "$file" >"$work/modules/${name%.xz}" ;;
		*.zst) zstd -qdc "$file" >"$work/modules/${name%.zst}" ;;
		*) cp "$file" "$work/modules/$name" ;;
		esac
		name=${name%.xz}
		echo "${name%.zst}" >>"$work/modules/order"
	done <"$work/module-files"
}

# compile NAME SOURCE...: a static program for the guest.
compile() {
	local name=$1
	shift
	gcc -std=gnu11 -O2 -Wall -Wextra -static -s -pthread -o "$work/initrd/memtide/bin/$name" "$@"
}

build_initrd() {
	local key checked="$top/tests/common/checked_page" applet
	key=$(hash_of "$here/build-image.sh" "$here/init" "$here"/*.c "$checked.c" "$checked.h" "$here"/workloads/* \
		"$out/.kernel.key" "$(ls "$here/workloads")")
	if [ -z "$force" ] && up_to_date initrd "$key" initrd.cpio.lz4 tsc-khz; then
		return
	fi
	say "initrd"
	mkdir -p "$work"/initrd/{bin,dev,memtide/bin,modules,proc,rootfs,root,sys,tmp}
	if [ ! -s "$out/busybox" ] || [ -n "$force" ]; then
		apt_update
		unpack busybox-static "$work/busybox"
		cp "$(find "$work/busybox" -name busybox -type f -perm -u+x | head -n 1)" "$out/busybox"
	fi
	cp "$out/busybox" "$work/initrd/bin/busybox"
	for applet in $applets; do
		ln -s busybox "$work/initrd/bin/$applet"
	done
	cp "$out"/kernel/*.ko "$out/kernel/order" "$work/initrd/modules/"
	install -m 755 "$here/init" "$work/initrd/init"
	install -m 755 "$here"/workloads/* "$work/initrd/memtide/bin/"
	compile guestmem "$here/guestmem.c" "$checked.c"
	compile redis-values "$here/redis-values.c"
	gcc -std=gnu11 -O2 -o "$work/tsc-khz" "$here/tsc-khz.c"
	(cd "$work/initrd" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) |
		lz4 -q -l -9 - "$work/initrd.cpio.lz4"
	mv "$work/initrd.cpio.lz4" "$work/tsc-khz" "$out/"
	echo "$key" >"$out/.initrd.key"
}

# This machine's own Debian sources and proxy settings, for mmdebstrap.
apt_sources() {
	# shellcheck disable=SC2016 # apt fills these in
	apt-get indextargets --format 'deb $(SITE) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' |
		sort -u >"$work/sources.list"
	[ -s "$work/sources.list" ] || die "no Debian apt sources on this machine"
	apt-config dump --format '%f "%v";%n' Acquire::http Acquire::https | grep -v '""' >"$work/apt.conf" || true
}

build_rootfs() {
	local key suite packages kb
	key=$(hash_of "$here/build-image.sh" "$here/packages.list")
	if [ -z "$force" ] && up_to_date rootfs "$key" rootfs.ext4; then
		return
	fi
	apt_update
	apt_sources
	# shellcheck source=/dev/null
	suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
	packages=$(grep -v '^#' "$here/packages.list" | paste -sd,)
	say "rootfs: $suite with $packages"
	timeout "$limit" mmdebstrap --quiet --mode=root --variant=minbase --include="$packages" \
		--aptopt="$work/apt.conf" --dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
		--dpkgopt='path-exclude=/usr/share/info/*' \
		"$suite" "$work/rootfs" "$work/sources.list" >"$work/mmdebstrap.log" 2>&1 ||
		{ tail -n 15 "$work/mmdebstrap.log" >&2; die "mmdebstrap failed"; }
	rm -rf "$work"/rootfs/var/{cache,lib/apt/lists,log}/* "$work"/rootfs/etc/apt/{sources.list*,apt.conf*}
	rm -rf "$work"/rootfs/{dev,tmp,run}/*
	mkdir -p "$work/rootfs/memtide"
	kb=$(du -sk --apparent-size "$work/rootfs" | cut -f1)
	mke2fs -q -F -t ext4 -b 4096 -m 0 -O ^has_journal,^resize_inode -L rootfs -d "$work/rootfs" \
		"$work/rootfs.ext4" $((kb * 115 / 100 + 16384))k >/dev/null
	mv "$work/rootfs.ext4" "$out/"
	echo "$key" >"$out/.rootfs.key"
}

# Boot the guest once, from the ELF or else from the bzImage.
trial() {
	local key
	key=$(hash_of "$out/.kernel.key" "$out/.initrd.key" "$out/.rootfs.key" "$here/boot.sh")
	if [ -z "$force" ] && up_to_date trial "$key"; then
		return
	fi
	say "booting it once"
	if ! "$here/boot.sh" --image "$out" --accel tcg --timeout 120 --run true >"$work/trial.log" 2>&1; then
		cp "$out/bzImage" "$out/vmlinux"
		if ! "$here/boot.sh" --image "$out" --accel tcg --timeout 120 --run true >"$work/trial.log" 2>&1; then
			tail -n 20 "$work/trial.log" >&2
			die "the guest does not boot"
		fi
		say "the extracted kernel does not boot; taking the bzImage"
	fi
	echo "$key" >"$out/.trial.key"
}

force=
try=1
out=$top/build-guest
while [ $# -gt 0 ]; do
	case "$1" in
	--force) force=1 ;;
	--no-trial) try= ;;
	-h | --help) usage; exit 0 ;;
	-*) usage >&2; exit 2 ;;
	*) out=$1 ;;
	esac
	shift
done
[ "$(id -u)" = 0 ] || die "needs root (packages are installed and unpacked)"
command -v apt-get >/dev/null || die "needs a Debian machine with apt-get"
mkdir -p "$out"
out=$(cd "$out" && pwd)
exec 9>"$out/.lock"
flock -w 1800 9 || die "another build-image.sh holds $out/.lock"
work=$(mktemp -d "$out/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT

install_tools
build_kernel
build_initrd
build_rootfs
[ -z "$try" ] || trial
sizes=$(cd "$out" && du -h --apparent-size vmlinux initrd.cpio.lz4 rootfs.ext4 | awk '{ printf " %s %s", $2, $1 }')
say "done:$sizes"
