# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# guests.sh - what the benchmarks with real guests share: the tools of the tests (tests/live/guests.sh) on a build.
#
# How: sourced with $here, the folder of the benchmarks, and $build, the build directory.

: "${here:?}" "${build:?}"
export MEMTIDED_EXE=$build/src/host/memtided MEMTIDE_EXE=$build/src/cli/memtide
export MEMTIDE_PRELOAD=$build/src/preload/libmemtide-preload.so
# shellcheck source-path=SCRIPTDIR source=../tests/live/guests.sh
. "$here/../tests/live/guests.sh"
trap 'guests_end; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
