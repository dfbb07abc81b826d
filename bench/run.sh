#!/bin/bash
# SPDX-License-Identifier: MIT
#
# run.sh - runs all benchmarks and prints one table; "make bench".
#
# usage: run.sh [BUILD DIRECTORY] [JSON FILE]
#
# Quick look: BENCH_PAIRS=1 BENCH_ROUNDS=1 run.sh. BENCH_ONLY="fault victims tax" picks. Verdicts are for people to
# judge by the load that is printed with them: on a busy machine look at ratios and at processor time per page.
# Exit status: 0 when every benchmark ran, whatever it measured.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$(cd "${1:-$(dirname "$here")/build}" && pwd)
json=${2:-$build/bench.json}
only=${BENCH_ONLY:-reclaim fault break ksm victims guest tax balloon mmu}
rounds=${BENCH_ROUNDS:-5}
status=0

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export TMPDIR=$tmp BENCH_ROWS=$tmp/rows MEMTIDED=$build/src/host/memtided
: >"$BENCH_ROWS"

load_before=$(cut -d' ' -f1-3 /proc/loadavg)
for part in $only; do
	echo "bench: $part (load $(cut -d' ' -f1 /proc/loadavg))" >&2
	case "$part" in
	reclaim) "$here/zram.sh" "$build/bench/bench_reclaim" -r "$rounds" || status=1 ;;
	fault) "$here/zram.sh" "$build/bench/bench_fault" -r "$rounds" || status=1 ;;
	break) "$build/bench/bench_break" || status=1 ;;
	ksm) "$here/bench_ksm.sh" "$build" || status=1 ;;
	victims) "$build/bench/bench_victims" || status=1 ;;
	guest) "$here/bench_guest.sh" "$build" || status=1 ;;
	tax) "$here/idle_tax.sh" "$build" || status=1 ;;
	mmu) "$build/bench/bench_mmu" || status=1 ;;
	balloon) "$here/bench_balloon.sh" "$build" || status=1 ;;
	*) echo "bench: no part '$part'" >&2; exit 2 ;;
	esac
done
load_after=$(cut -d' ' -f1-3 /proc/loadavg)

{
	printf 'what\tunit\tgoal\tmeasured\tverdict\tbeside\n'
	awk -F'\t' -v OFS='\t' '{ print $2, $3, $4, $5, $7, $6 }' "$BENCH_ROWS"
} | column -t -s $'\t'
echo "load before $load_before, after $load_after; $(nproc) cores; $(uname -r); $(date -u +%FT%TZ)"

awk -F'\t' -v before="$load_before" -v after="$load_after" -v kernel="$(uname -r)" -v cores="$(nproc)" \
	-v date="$(date -u +%FT%TZ)" '
	function quote(s) { gsub(/[\\"]/, "\\\\&", s); return "\"" s "\"" }
	BEGIN { printf "{\"date\": %s, \"kernel\": %s, \"cores\": %d, \"load_before\": %s, \"load_after\": %s,\n \"results\": [",
		quote(date), quote(kernel), cores, quote(before), quote(after) }
	{ printf "%s\n  {\"id\": %s, \"what\": %s, \"unit\": %s, \"goal\": %s, \"measured\": %s, \"beside\": %s, \"verdict\": %s}",
		(NR > 1 ? "," : ""), quote($1), quote($2), quote($3), quote($4), $5 + 0, quote($6), quote($7) }
	END { print "\n ]}" }' "$BENCH_ROWS" >"$json"
echo "bench: $json"
exit $status
