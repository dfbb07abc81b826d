# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# guests.sh - what the tests with real guests share: a daemon, guests under "memtide run", questions, TAP.
#
# Why: the test of QEMU and the long stress start the same things. How: sourced by both, after "set -u". Programs come
# from the environment, as Meson sets it: MEMTIDED_EXE, MEMTIDE_EXE, MEMTIDE_PRELOAD; the guest image from
# build-guest (guest/build-image.sh). All lives in one temporary directory, $work; a daemon and guests started here are
# remembered by process number and ended by it. Every wait has a limit (wait.sh). Guests work until they are ended, so that
# none is done before it was looked at; what they say on their consoles is what is judged.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(dirname "$(dirname "$here")")
boot=$top/guest/boot.sh
: "${MEMTIDED_EXE:?set it to the daemon, or run the tests by meson}"
: "${MEMTIDE_EXE:?set it to the command line tool, or run the tests by meson}"
: "${MEMTIDE_PRELOAD:?set it to the preload library, or run the tests by meson}"
export MEMTIDE_PRELOAD
unset MEMTIDE_VM MEMTIDE_TOKEN MEMTIDE_SOCKET LD_PRELOAD
# shellcheck source-path=SCRIPTDIR source=wait.sh
. "$top/tests/live/wait.sh"

work=$(mktemp -d "${TMPDIR:-/tmp}/memtide-guests-XXXXXX")
socket=$work/socket
daemon_pid=
declare -A guest_pid=()

say() {
	printf '# %s\n' "$*"
}

# True when everything that guests need is there.
guests_possible() {
	command -v qemu-system-x86_64 >/dev/null && command -v jq >/dev/null &&
		[ -s "$top/build-guest/vmlinux" ] && [ -s "$top/build-guest/rootfs.ext4" ] && [ -r /dev/userfaultfd ]
}

daemon_answers() {
	"$MEMTIDE_EXE" --socket "$socket" host >/dev/null 2>&1
}

# daemon_start POOL [LINE-OF-CONFIGURATION...]
daemon_start() {
	mkdir -p "$work/swap"
	# A VM that starts may wait for slow others nearly as long as its monitor waits for the daemon (20 s).
	printf '%s\n' 'region-wait-ms = 18000' "${@:2}" >"$work/config"
	"$MEMTIDED_EXE" --config "$work/config" --pool "$1" --socket "$socket" --swap-dir "$work/swap" >>"$work/daemon.log" 2>&1 &
	daemon_pid=$!
	wait_until daemon_answers || { say "the daemon does not start:"; sed 's/^/#   /' "$work/daemon.log"; return 1; }
}

# end_process PID: politely, then not; it is a child of ours.
end_process() {
	kill "$1" 2>/dev/null || return 0
	PATIENCE=60 wait_until eval "! kill -0 $1 2>/dev/null" || kill -9 "$1" 2>/dev/null
	wait "$1" 2>/dev/null
	return 0
}

daemon_stop() {
	[ -z "$daemon_pid" ] || end_process "$daemon_pid"
	daemon_pid=
}

# memtide ARGUMENT...: the tool gives up soon on a daemon, a monitor or a QEMU that does not answer; being slow is no fault
# here, so it is asked again. Nothing is asked that does harm twice.
memtide() {
	local end=$((SECONDS + PATIENCE)) said=$work/said.$BASHPID status
	while :; do
		status=0
		timeout 600 "$MEMTIDE_EXE" --socket "$socket" "$@" >"$said.out" 2>"$said.err" || status=$?
		if [ "$status" = 0 ] || [ "$SECONDS" -ge "$end" ]; then break; fi
		grep -qE 'does not answer|did not answer|no greeting|temporarily unavailable|would not stand still' \
			"$said.out" "$said.err" || break
		sleep 0.25
	done
	cat "$said.err" >&2
	cat "$said.out"
	rm -f "$said.out" "$said.err"
	return "$status"
}

# field VM|host JQ-FILTER: from "memtide show" or "memtide host"; "null" when there is no such VM, nothing when nobody
# knows.
field() {
	local answer why=$work/why.$BASHPID
	if [ "$1" = host ]; then
		answer=$(memtide host --json 2>/dev/null)
	elif ! answer=$(memtide show "$1" --json 2>"$why") && grep -q 'there is no VM' "$why"; then
		echo null
		return
	fi
	jq -r "$2" 2>/dev/null <<<"$answer"
}

field_is() {
	[ "$(field "$1" "$2")" = "$3" ]
}

field_least() {
	local value
	value=$(field "$1" "$2")
	[[ $value =~ ^[0-9]+$ ]] && [ "$value" -ge "$3" ]
}

field_most() {
	local value
	value=$(field "$1" "$2")
	[[ $value =~ ^[0-9]+$ ]] && [ "$value" -le "$3" ]
}

# What the daemon remembers, by grep. Older events of the same kind are to be counted before what shall cause one.
event_seen() {
	memtide events 2>/dev/null | grep -q "$1"
}

event_count() {
	memtide events 2>/dev/null | grep -c "$1"
}

# events_more_than COUNT PATTERN
events_more_than() {
	[ "$(event_count "$2")" -gt "$1" ]
}

# Files that shared frames are in, as the daemon has them open.
frames_files() {
	local link
	for link in "/proc/$daemon_pid/fd/"*; do
		case "$(readlink "$link")" in *memtide-frames*) echo "$link" ;; esac
	done
}

# frames_outside_kib FILE...: memory behind frames, from the kernel. A file may be open more than once.
frames_outside_kib() {
	[ $# = 0 ] && echo 0 && return
	stat -Lc '%i %b' "$@" | sort -u | awk '{ sum += $2 / 2 } END { print sum + 0 }'
}

# What a guest does that stays until the test is over: nothing, or as options of guestmem, work and read all of it again,
# round after round (guest_reads_back).
# shellcheck disable=SC2034 # for who sources this
stay='sleep 100000' on='--work 4 --seconds 100000'

# guest_start NAME COMMAND [boot.sh OPTION...]: in the background; the command's status is boot.sh's.
guest_start() {
	local name=$1 command=$2
	shift 2
	rm -f "$work/$name.serial"
	"$boot" --accel "${ACCEL:-tcg}" --timeout "${GUEST_LIMIT:-3600}" --serial "$work/$name.serial" --name "$name" \
		--wrap "$MEMTIDE_EXE --socket $socket run --name $name --attach-timeout 600 ${RUN_OPTIONS:-} --" --run "$command" "$@" \
		>"$work/$name.log" 2>&1 &
	guest_pid[$name]=$!
}

guest_alive() {
	kill -0 "${guest_pid[$1]}" 2>/dev/null
}

# guest_managed NAME: wait until its memory is under management; one that has ended is not waited for.
guest_managed() {
	local managed=''
	wait_until eval "{ field_is $1 .state running && managed=1; } || ! guest_alive $1"
	[ -n "$managed" ] || { guest_show "$1"; return 1; }
}

guest_booted() {
	wait_until eval "grep -q 'MEMTIDE-GUEST: booted' '$work/$1.serial' 2>/dev/null || ! guest_alive $1"
	grep -q 'MEMTIDE-GUEST: booted' "$work/$1.serial" 2>/dev/null || { guest_show "$1"; return 1; }
}

# guest_says NAME PATTERN: on its console.
guest_says() {
	wait_until eval "grep -q '$2' '$work/$1.serial' 2>/dev/null || ! guest_alive $1"
	grep -q "$2" "$work/$1.serial"
}

guest_said_times() {
	grep -ac "$2" "$work/$1.serial" 2>/dev/null
}

# guest_does_twice NAME PATTERN: what ends with such a line it does two times more. The first may have begun long ago, so it
# is the second that was done from its beginning as things are now.
guest_does_twice() {
	local wanted
	wanted=$(($(guest_said_times "$1" "$2") + 2))
	wait_until eval "[ \"\$(guest_said_times $1 '$2')\" -ge $wanted ] || guest_said $1 FAIL || ! guest_alive $1"
	! guest_said "$1" FAIL && [ "$(guest_said_times "$1" "$2")" -ge "$wanted" ] && return 0
	say "guest $1: '$2' did not come twice more"
	guest_show "$1"
	return 1
}

guest_said() {
	grep -q "$2" "$work/$1.serial" 2>/dev/null
}

# guest_reads_back NAME: it finds all memory of its guestmem as it was written, two times.
guest_reads_back() {
	guest_does_twice "$1" 'guestmem: verify 100%'
}

guest_show() {
	say "$1: the end of its console and of what QEMU said:"
	tail -n 12 "$work/$1.serial" 2>/dev/null | tr -d '\r' | cut -c1-200 | sed 's/^/#   /'
	tail -n 6 "$work/$1.log" 2>/dev/null | cut -c1-300 | sed 's/^/#   /'
	memtide events 2>/dev/null | tail -n 6 | sed 's/^/#   event: /'
}

# guest_wait NAME: it must end with status 0.
guest_wait() {
	local status=0
	wait "${guest_pid[$1]}" || status=$?
	unset "guest_pid[$1]"
	[ "$status" = 0 ] && return 0
	say "guest $1 ended with status $status"
	guest_show "$1"
	return 1
}

# guest_check NAME: audit its page map. It must be there.
guest_check() {
	local text end=$((SECONDS + PATIENCE))
	until text=$(memtide check "$1" 2>&1); do
		# Broken once is broken; but who could not be asked is asked again.
		if [[ $text == *'broken invariants'* ]] || field_is "$1" .state null || [ "$SECONDS" -ge "$end" ]; then
			say "check $1: $text"
			return 1
		fi
		sleep 0.25
	done
}

# squeeze NAME MIB: hold it to so much, and see that it gets there while the guest works on.
squeeze() {
	memtide set "$1" "target_max=$2M" >/dev/null || return 1
	wait_until field_most "$1" .held $(($2 * 1024)) ||
		{ say "held is $(field "$1" .held) KiB"; return 1; }
}

# Random target_max for a VM between LOW and HIGH MiB, every PERIOD seconds, until the guest ends.
swing_targets() {
	local name=$1 low=$2 high=$3 period=$4
	while guest_alive "$name"; do
		memtide set "$name" "target_max=$((low + RANDOM % (high - low + 1)))M" >/dev/null 2>&1
		sleep "$period"
	done
}

# qmp_open NAME: guests started with "-- -qmp pipe:$work/NAME.qmp" after qmp_pipes NAME.
qmp_pipes() {
	rm -f "$work/$1.qmp.in" "$work/$1.qmp.out"
	mkfifo "$work/$1.qmp.in" "$work/$1.qmp.out"
}

qmp_open() {
	exec 7<>"$work/$1.qmp.in" 8<>"$work/$1.qmp.out"
	qmp '{"execute":"qmp_capabilities"}'
}

# qmp REQUEST: print the answer; fail on an error. A line may come in parts.
qmp() {
	local line='' part whole end=$((SECONDS + PATIENCE))
	printf '%s\n' "$1" >&7
	while [ "$SECONDS" -lt "$end" ]; do
		whole=
		read -r -t 5 part <&8 && whole=1
		line+=$part
		[ -n "$whole" ] || continue
		case "$line" in
		'{"return"'*) printf '%s\n' "$line"; return 0 ;;
		'{"error"'*) say "QMP: $1: $line"; return 1 ;;
		esac
		line=
	done
	say "QMP: $1: no answer"
	return 1
}

qmp_close() {
	exec 7>&- 8>&-
}

guests_end() {
	local name
	for name in "${!guest_pid[@]}"; do
		end_process "${guest_pid[$name]}"
	done
	daemon_stop
	# What one test has set must not be there for the next.
	rm -f "$socket".state*
}

# swap_damage PID PATTERN: in the pages of a VM's swap file that hold PATTERN overwrite what follows it; say how many. Waits
# until there are some.
swap_damage() {
	local file at count=0 end=$((SECONDS + PATIENCE))
	file=$(find "/proc/$1/fd" -lname "$work/swap/*" | head -n 1)
	[ -n "$file" ] || { say "process $1 has no swap file"; return 1; }
	while [ "$count" = 0 ] && [ "$SECONDS" -lt "$end" ]; do
		# shellcheck disable=SC2013 # numbers
		for at in $(grep -abo -- "$2" "$file" | cut -d: -f1); do
			printf X | dd of="$file" bs=1 seek="$at" conv=notrunc,fsync status=none && count=$((count + 1))
		done
		[ "$count" -gt 0 ] || sleep 1
	done
	say "$count pages damaged"
	[ "$count" -gt 0 ]
}

# What swap_damage overwrites, and shell text that writes a file of COUNT * 300 KiB full of it: nobody in the guest looks
# at that again, and the kernel's command line does not hold it.
# shellcheck disable=SC2034 # for who sources this
lost_pattern='lost 1[0-3][0-9][0-9]'
lost_file() {
	# shellcheck disable=SC2016 # for the guest's shell
	printf 'i=1000; while [ $i -lt %d ]; do echo lost $i; dd if=/dev/urandom bs=300k count=1 2>/dev/null; i=$((i+1)); done >%s;' \
		"$((1000 + $1))" "$2"
}

# TAP: test "sentence" function; a function returns 0, or 77 for "can't be tested here".
tests_run=0 tests_failed=0
tap() {
	local sentence=$1 status=0 begin=$SECONDS
	shift
	[ -z "${ONLY:-}" ] || [[ $sentence == *"$ONLY"* ]] || return 0
	tests_run=$((tests_run + 1))
	"$@" || status=$?
	guests_end
	guest_pid=()
	# Settings outlive the daemon; they must not outlive the test.
	rm -f "$socket.state"
	case "$status" in
	0) printf 'ok %d - %s\n' "$tests_run" "$sentence" ;;
	77) printf 'ok %d - %s # SKIP\n' "$tests_run" "$sentence" ;;
	*)
		printf 'not ok %d - %s\n' "$tests_run" "$sentence"
		tests_failed=$((tests_failed + 1))
		;;
	esac
	say "took $((SECONDS - begin)) s"
}

tap_end() {
	printf '1..%d\n' "$tests_run"
	if [ "$tests_failed" = 0 ]; then
		rm -rf "$work"
		return 0
	fi
	say "logs are in $work"
	return 1
}
