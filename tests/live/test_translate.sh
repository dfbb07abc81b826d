#!/bin/bash
# SPDX-License-Identifier: MIT
#
# test_translate.sh - "memtide translate" and "memtide pagemap" on a live guest under QEMU: TAP.
#
# Why: translation must be right for real page tables, wherever the tables are. How: a guest is squeezed so that most of
# its memory, its page tables too, is compressed or swapped; translate_check asks QEMU and memtide about the
# same addresses while the guest is stopped. Then a guest with five levels of tables, page-table isolation and memory
# that is plugged in while it runs, and one with memory above 4 GiB. ONLY=words runs the tests whose names hold them.

set -u

# shellcheck source-path=SCRIPTDIR source=guests.sh
. "$(dirname "${BASH_SOURCE[0]}")/guests.sh"
trap 'guests_end' EXIT
trap 'exit 1' INT TERM HUP

HOLDER_KIB=40000 # what the guest's one large process has at least
kept='.active + .idle + .shared + .zero + .zipped + .swapped + .released + .untouched' # jq: KiB of a VM, or of a process

# squeezed NAME [QEMU OPTION...]: a guest that has booted and works on little of its memory.
squeezed() {
	daemon_start 1G || return 1
	guest_start "$1" "guestmem --size 120M --work 1 --rounds 1; echo settled; guestmem --size 40M --work 100000 --rounds 1" --mem 256M \
		--qmp "$work/a.qmp" -- -qmp "unix:$work/b.qmp,server=on,wait=off" "${@:2}"
	guest_managed "$1" && guest_says "$1" settled || { guest_show "$1"; return 1; }
	memtide set "$1" target_max=60M >/dev/null || return 1
	wait_until field_most "$1" .held 61500 || { say "held $(field "$1" .held) KiB"; return 1; }
}

# translates NAME COUNT: so many addresses as QEMU says. Where somebody did not answer in time it is asked again; a
# difference is one.
translates() {
	local text end=$((SECONDS + PATIENCE)) status
	while :; do
		status=0
		text=$("$TRANSLATE_CHECK" "$work/a.qmp" "$socket" "$1" "$work/b.qmp" "$2" 2>&1) || status=$?
		sed 's/^\(# \)*/# /' <<<"$text"
		[ "$status" != 0 ] && [ "$SECONDS" -lt "$end" ] &&
			grep -q 'does not answer\|did not answer\|no greeting\|would not stand still' <<<"$text" || return "$status"
	done
}

same_as_qemu() {
	squeezed "$@" && translates "$1" 10500 && guest_check "$1"
}

shows_every_step() {
	local text
	text=$(memtide translate g --gva ffffffff81000000 --qmp "$work/b.qmp") || { say "$text"; return 1; }
	say "${text//$'\n'/$'\n# '}"
	grep -q 'PML4 entry at' <<<"$text" && grep -q '^GPA 0x' <<<"$text" &&
		memtide translate g --gva ffffffff81000000 --qmp "$work/b.qmp" --json | jq -e '.steps | length >= 3' >/dev/null
}

# map_adds_up FILE: the map as JSON, which must add up whenever it is asked for.
map_adds_up() {
	memtide pagemap g --qmp "$work/b.qmp" --by-process --svg "$work/map.svg" --json >"$1" || { say "no map"; return 1; }
	jq -e "$kept + .lost == 256 * 1024" "$1" >/dev/null ||
		{ say "the states do not add up to the VM's memory"; return 1; }
	jq -e '[.runs[].pages] | add == 65536' "$1" >/dev/null || { say "runs do not cover memory"; return 1; }
	grep -q '<svg' "$work/map.svg" || { say "no picture"; return 1; }
}

# stored_in FILE: is something compressed, and something swapped?
stored_in() {
	jq -e '.zipped > 0 and .swapped > 0' "$1" >/dev/null ||
		{ say "nothing compressed, or nothing swapped: $(jq -c 'del(.runs)' "$1")"; return 1; }
}

# holder_is_in FILE: is there a process that has what the large one of the guest has?
holder_is_in() {
	local count largest
	count=$(jq '.processes | length' "$1")
	largest=$(jq "[.processes[] | $kept] | max" "$1")
	say "$count processes, the largest maps $largest KiB"
	[ "$count" -ge 2 ] && [ "$largest" -ge "$HOLDER_KIB" ] && [ "$largest" -le $((2 * HOLDER_KIB)) ]
}

# A process of known size must be found. The guest runs: it may not have all its memory yet, and some is mapped nowhere
# while the guest's kernel makes a large page of it.
maps_the_vm() {
	local end=$((SECONDS + PATIENCE))
	until { map_adds_up "$work/map.json" || return 1; } && stored_in "$work/map.json" && holder_is_in "$work/map.json"; do
		[ "$SECONDS" -lt "$end" ] || { guest_show g; return 1; }
		sleep 0.25
	done
	memtide pagemap g --qmp "$work/b.qmp" --by-process | tail -n 4 | sed 's/^/# /'
	memtide pagemap g | sed 's/^/# /'
}

refuses_nonsense() {
	local text
	text=$(memtide translate g --gva 8000000000000000 --qmp "$work/b.qmp")
	grep -q 'not an address' <<<"$text" || { say "$text"; return 1; }
	text=$(memtide translate g --gva 1000 --cr3 ffffff000)
	grep -q 'no memory' <<<"$text" || { say "$text"; return 1; }
	text=$(memtide translate g --gva 1000 --qmp "$work/none" 2>&1) && return 1
	[ "$(wc -l <<<"$text")" = 1 ] || { say "$text"; return 1; }
	memtide translate g --gva xyz --cr3 0 2>/dev/null
	[ $? = 2 ]
}

# The guest takes most of its memory only once it has more than it began with.
plug_command='until awk "/MemTotal/ { exit !(\$2 > 350000) }" /proc/meminfo; do sleep 0.2; done; echo plugged
guestmem --size 300M --work 100000 --rounds 1'

plug_in() {
	qmp_open five >/dev/null &&
		qmp '{"execute":"object-add","arguments":{"qom-type":"memory-backend-ram","id":"more","size":268435456}}' &&
		qmp '{"execute":"device_add","arguments":{"driver":"pc-dimm","id":"dimm","memdev":"more"}}'
}

# largest NAME: KiB that the largest process maps.
largest_is_above() {
	[ "$(memtide pagemap "$1" --qmp "$work/b.qmp" --by-process --json |
		jq "[.processes[] | $kept] | max")" -gt "$2" ]
}

# It is somewhere: one that is looked at as a sample is away from its place for a while.
first_plugged_page() {
	text=$(memtide translate five --gpa 100000000 --qmp "$work/b.qmp")
	grep -q 'resident\|nominated\|zipped\|swapped\|shared\|zeros' <<<"$text"
}

plugged_and_deep() {
	local text
	daemon_start 1G && qmp_pipes five || return 1
	guest_start five "echo settled; $plug_command" --mem 256M,slots=2,maxmem=1G --append pti=on \
		--qmp "$work/a.qmp" -- -qmp "unix:$work/b.qmp,server=on,wait=off" -qmp "pipe:$work/five.qmp" \
		-cpu max,+la57 -kernel "$top/build-guest/bzImage"
	guest_managed five && guest_says five settled && plug_in >/dev/null && guest_says five plugged ||
		{ guest_show five; return 1; }
	wait_until largest_is_above five 250000 || { guest_show five; return 1; }
	text=$(memtide translate five --gva ffffffff81000000 --qmp "$work/b.qmp")
	grep -q '5 levels' <<<"$text" && grep -q 'PML5 entry at' <<<"$text" || { say "$text"; return 1; }
	wait_until first_plugged_page || { say "$text"; return 1; }
	text=$(memtide translate five --gpa 110000000 --qmp "$work/b.qmp")
	grep -q 'no memory of the guest' <<<"$text" || { say "$text"; return 1; }
	translates five 4000 && guest_check five
}

# Each process once, with both its roots. The guest runs: one that begins or ends while its tables are read may have but one.
isolated_now() {
	json=$(memtide pagemap five --qmp "$work/b.qmp" --by-process --json) || return 1
	jq -e '(.processes | length) >= 2 and all(.processes[]; .userCr3 != null) and
		([.processes[] | .cr3, .userCr3] | length == (unique | length))' <<<"$json" >/dev/null
}

isolated() {
	local json='' status=0
	wait_until isolated_now || status=1
	say "$(jq -c '[.processes[] | {cr3, userCr3, tables}]' <<<"$json"), regions: $(jq -c .regions <<<"$json")"
	[ "$status" = 0 ] && jq -e '(.regions | length) == 2 and ([.runs[].pages] | add) == 131072' <<<"$json" >/dev/null
}

# Where its memory goes on at 4 GiB, QEMU and who knows its size say the same.
same_place() {
	local told known
	told=$(memtide translate large --gpa 100000000 --qmp "$work/b.qmp" --json | jq -r .hostAddress)
	known=$(memtide translate large --gpa 100000000 --below-4g 3G --json | jq -r .hostAddress)
	[[ $told == 0x* ]] && [ "$told" = "$known" ]
}

# 3.5 GiB of a PC: 3 GiB below the hole, the rest from 4 GiB on.
beyond_the_hole() {
	local text
	[ "$(df --output=avail -k "$work" | tail -n 1)" -gt 5000000 ] || { say "no disk for its swap file"; return 77; }
	daemon_start 2G || return 1
	guest_start large "echo settled; guestmem --size 400M --work 100000 --rounds 1" --mem 3584M --machine pc \
		--qmp "$work/a.qmp" -- -qmp "unix:$work/b.qmp,server=on,wait=off"
	guest_managed large && guest_says large settled || { guest_show large; return 1; }
	translates large 4000 || return 1
	text=$(memtide translate large --gpa c0000000 --qmp "$work/b.qmp")
	grep -q 'no memory of the guest' <<<"$text" || { say "$text"; return 1; }
	wait_until same_place || return 1
	wait_until largest_is_above large 400000 && guest_check large
}

# tables NAME PAE PAGING: a guest with tables of this kind, known in advance (tables32.S).
tables() {
	local text
	"${CC:-cc}" -m32 -c -DPAE="$2" -o "$work/$1.o" "$here/tables32.S" 2>/dev/null &&
		ld -m elf_i386 -Ttext=0x100000 -o "$work/$1.elf" "$work/$1.o" || { say "no assembler for 32 bits"; return 77; }
	daemon_start 1G || return 1
	rm -f "$work/a.qmp" "$work/b.qmp"
	"$MEMTIDE_EXE" --socket "$socket" run --name "$1" --attach-timeout 600 -- qemu-system-x86_64 -accel tcg -m 64M -nodefaults -display none \
		-no-reboot -kernel "$work/$1.elf" -qmp "unix:$work/a.qmp,server=on,wait=off" \
		-qmp "unix:$work/b.qmp,server=on,wait=off" >"$work/$1.log" 2>&1 &
	guest_pid[$1]=$!
	guest_managed "$1" || return 1
	wait_until eval "memtide translate $1 --gva 400000 --qmp $work/b.qmp 2>&1 | grep -q '$3'" || { guest_show "$1"; return 1; }
	text=$(memtide translate "$1" --gva 401008 --qmp "$work/b.qmp")
	say "${text//$'\n'/$'\n# '}"
	translates "$1" 1000 && guest_check "$1"
}

# test_that SENTENCE FUNCTION...
number=0
test_that() {
	local sentence=$1 status=0 begin=$SECONDS
	shift
	number=$((number + 1))
	[ -z "${ONLY:-}" ] || [[ $sentence == *"$ONLY"* ]] || { echo "ok $number - $sentence # SKIP"; return; }
	"$@" || status=$?
	case "$status" in
	0) echo "ok $number - $sentence" ;;
	77) echo "ok $number - $sentence # SKIP" ;;
	*)
		echo "not ok $number - $sentence"
		tests_failed=$((tests_failed + 1))
		;;
	esac
	say "took $((SECONDS - begin)) s"
}

# What comes next has another guest.
next_guest() {
	guests_end
	guest_pid=()
}

if ! guests_possible; then
	echo "1..0 # SKIP no QEMU, no guest image (make image), or no /dev/userfaultfd"
	exit 0
fi
test_that "10,500 addresses translate as QEMU says, with pages in every state" same_as_qemu g
test_that "each step of a translation is shown, as text and as JSON" shows_every_step
test_that "the map of a VM adds up, and shows its processes" maps_the_vm
test_that "addresses and tables that are none get a clear answer" refuses_nonsense
next_guest
test_that "five levels and hot-plugged memory translate as QEMU says" plugged_and_deep
test_that "a process with two roots, five levels deep, is one process" isolated
next_guest
test_that "memory above 4 GiB translates as QEMU says" beyond_the_hole
next_guest
test_that "tables of 32-bit paging translate as QEMU says" tables short 0 '2 levels'
next_guest
test_that "PAE tables translate as QEMU says" tables pae 1 '3 levels'
echo "1..$number"
guests_end
if [ "$tests_failed" = 0 ]; then rm -rf "$work"; else say "logs are in $work"; fi
