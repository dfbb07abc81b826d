#!/bin/bash
# SPDX-License-Identifier: MIT
#
# zram.sh - runs a command while the kernel swaps to a zram device, and takes it away again afterwards.
#
# Why: zram with lz4 is what Memtide's compression is measured against. How: takes /dev/zram0 if nobody uses it,
# otherwise, or without zram in the kernel, says so and runs the command without; the benchmarks then
# report their own figures only. Memory of the device is bounded, as an escape from a mistake.

set -euo pipefail

size=${ZRAM_SIZE:-4G}
device=/dev/zram0
sys=/sys/block/zram0

if [ $# -eq 0 ]; then
	echo "usage: zram.sh COMMAND [ARGUMENT...]" >&2
	exit 2
fi

modprobe zram 2>/dev/null || true
if [ ! -w "$sys/disksize" ]; then
	echo "zram: no zram device here, or no right to set it up; going on without" >&2
	exec "$@"
fi
exec 9<"$device"
if ! flock -w "${ZRAM_WAIT:-60}" 9 || [ "$(cat "$sys/disksize")" != 0 ]; then
	echo "zram: $device is in use; going on without" >&2
	exec "$@"
fi
# The device can't be reset while it is open.
exec 9<&-

off() {
	swapoff "$device" 2>/dev/null || true
	echo 1 >"$sys/reset" || true
}
trap off EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

echo lz4 >"$sys/comp_algorithm"
echo "$size" >"$sys/disksize"
echo "$size" >"$sys/mem_limit"
mkswap "$device" >/dev/null
swapon -p 32767 "$device"
"$@"
