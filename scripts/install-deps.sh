#!/bin/bash
# SPDX-License-Identifier: MIT
#
# install-deps.sh - installs the Debian packages that building and testing need and this machine lacks.
#
# Why: a fresh Debian 12 or 13 with make and git should need nothing said twice. How: dpkg is asked for each package,
# and apt-get only when something is missing, so that a second run is instant and works offline.

set -euo pipefail

build="meson ninja-build pkg-config gcc libc6-dev linux-libc-dev liblz4-dev libxxhash-dev liburing-dev libjson-c-dev libseccomp-dev nettle-dev"
guest="qemu-system-x86 seabios ipxe-qemu mmdebstrap e2fsprogs cpio lz4 xz-utils zstd kmod binutils busybox-static jq"
ci="clang clang-format clang-tidy libvirt-dev libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients systemd procps"
# What an apt-get command may take at most, in seconds.
limit=900

usage() {
	cat <<-'END'
	usage: install-deps.sh [--ci] [--print]
	Install the Debian packages that this machine lacks.
	  --ci     also what .ci/run needs: clang, clang-format, clang-tidy, and libvirt and systemd for their tests
	  --print  print the names of all of them, and install nothing
	END
}

die() {
	echo "install-deps: $*" >&2
	exit 1
}

packages="$build $guest" print=''
while [ $# -gt 0 ]; do
	case "$1" in
	--ci) packages+=" $ci" ;;
	--print) print=1 ;;
	-h | --help) usage; exit 0 ;;
	*) usage >&2; exit 2 ;;
	esac
	shift
done
read -ra packages <<<"$(tr '\n\t' '  ' <<<"$packages")"
if [ -n "$print" ]; then
	printf '%s\n' "${packages[@]}"
	exit 0
fi
command -v dpkg-query >/dev/null || die "no Debian; install the like of: ${packages[*]}"

need=()
for package in "${packages[@]}"; do
	# Also by another package that provides it.
	dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q ' installed$' || need+=("$package")
done
[ ${#need[@]} -gt 0 ] || exit 0
[ "$(id -u)" = 0 ] || die "run as root: apt-get install --no-install-recommends ${need[*]}"
echo "install-deps: installing ${need[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
timeout "$limit" apt-get -qq -o Acquire::Retries=3 update >"$log" 2>&1 ||
	echo "install-deps: apt-get update failed; going on with the package lists there are" >&2
timeout "$limit" apt-get -qq -y -o Acquire::Retries=3 install --no-install-recommends "${need[@]}" >"$log" 2>&1 </dev/null || {
	tail -n 20 "$log" >&2
	die "cannot install ${need[*]}"
}
