# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# wait.sh - how tests in shell wait.
#
# Why: whoever is waited for - daemon, QEMU, guest, libvirt, this very shell - may stand still for half a minute on a busy
# machine, and numbers that move are on their way to where they belong. So a test never looks once at what is still coming; it
# waits for what a right product always reaches. How: sourced by guests.sh and test_service.sh.

# Seconds that one wait may take: far more than a slow machine needs, as only what never comes takes so long.
PATIENCE=${PATIENCE:-300}

# wait_until COMMAND...: try it four times a second until it succeeds, or patience ends.
wait_until() {
	local end=$((SECONDS + PATIENCE))
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.25
	done
}
