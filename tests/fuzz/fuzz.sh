#!/bin/bash
# SPDX-License-Identifier: MIT
#
# fuzz.sh - builds the fuzz targets with clang and lets libFuzzer work on each of them for a while.
#
# Why: decoders read what others wrote, and others are not to be trusted. How: each target is compiled with its
# sources, AddressSanitizer and UBSan, starts from its corpus in tests/fuzz/corpus, and runs for --seconds (60), as many
# at a time as there are processors. What crashes it is left in the build directory and named. --merge puts new inputs that reach new code into the corpus.

set -uo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$top" || exit 1
seconds=60 merge='' build=build-fuzz targets=()
while [ $# -gt 0 ]; do
	case "$1" in
	--seconds) seconds=$2; shift ;;
	--merge) merge=1 ;;
	-*) echo "usage: fuzz.sh [--seconds N] [--merge] [TARGET]..." >&2; exit 2 ;;
	*) targets+=("$1") ;;
	esac
	shift
done
[ ${#targets[@]} -gt 0 ] || targets=(wire config scenario trace walk qmp daemon)
command -v clang >/dev/null || { echo "fuzz.sh: clang is missing; run scripts/install-deps.sh --ci" >&2; exit 1; }

host=$(find src/host -name '*.c' ! -name main.c)
declare -A sources=(
	[wire]="src/wire/*.c src/base/*.c"
	[config]="src/host/config.c src/policy/*.c src/base/*.c"
	[scenario]="src/sim/*.c src/policy/*.c src/base/*.c"
	[trace]="src/lab/*.c src/mmu/*.c src/base/*.c"
	[walk]="src/mmu/*.c src/base/*.c"
	[qmp]="src/host/qmp.c src/host/loop.c src/host/balloon_find.c src/host/guest_stats.c src/qmp/*.c src/sys/*.c src/base/*.c"
	[daemon]="$host src/policy/*.c src/qmp/*.c src/sys/*.c src/wire/*.c src/base/*.c"
)
flags=(-g -O1 -std=gnu11 -D_GNU_SOURCE '-DMT_VERSION="fuzz"' -DXXH_INLINE_ALL -Isrc -Iinclude -Itests
	-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all)
libs=(-lpthread -ljson-c -luring -lseccomp -lnettle -llz4 -lm)

mkdir -p "$build" || exit 1
# one TARGET: from its corpus, for a while. What it says goes to a log, and the end of it to people.
one() {
	local target=$1 status=0
	ASAN_OPTIONS=detect_leaks=1 "$build/fuzz_$target" -max_total_time="$seconds" -timeout=120 -rss_limit_mb=2048 \
		-artifact_prefix="$build/crash-$target-" -print_final_stats=1 "$build/$target" "tests/fuzz/corpus/$target" \
		>"$build/$target.log" 2>&1 || status=1
	[ "$status" = 0 ] || tail -n 40 "$build/$target.log"
	echo "$target, $seconds s: $(grep -aE 'DONE' "$build/$target.log" | tail -n 1)"
	[ -z "$merge" ] || "$build/fuzz_$target" -merge=1 "tests/fuzz/corpus/$target" "$build/$target" >/dev/null 2>&1
	return "$status"
}

for target in "${targets[@]}"; do
	# shellcheck disable=SC2086 # the lists are lists
	clang "${flags[@]}" "tests/fuzz/fuzz_$target.c" ${sources[$target]} "${libs[@]}" -o "$build/fuzz_$target" || exit 1
	mkdir -p "$build/$target" "tests/fuzz/corpus/$target"
done
failed=0 running=0
for target in "${targets[@]}"; do
	one "$target" &
	running=$((running + 1))
	[ "$running" -lt "$(nproc)" ] || { wait -n || failed=$((failed + 1)); running=$((running - 1)); }
done
while [ "$running" -gt 0 ]; do
	wait -n || failed=$((failed + 1))
	running=$((running - 1))
done
exit "$failed"
