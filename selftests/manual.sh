#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# manual.sh NAME PROGRAM: runs in a guest. Runs the example of that name from the manual or from
# README.md as the text describes it, and checks its output. Each program has to exit by itself.
name=$1 program=$(realpath "$2")
here=$(mktemp -d /dev/shm/manual.XXXXXX)
trap 'kill $example $other 2>/dev/null; rm -rf "$here"' EXIT
cd "$here" || exit

fail() { echo "$*"; cat out; exit 1; }
expect() { grep -qxE "$1" out || fail "expected: $1"; }
# Starts the program, with its standard input from descriptor 3.
launch() {
	"$program" "$@" <&3 >out 2>&1 &
	example=$!
}
# Waits for an effect of the program: repeats a command until it succeeds.
await() {
	until "$@"; do
		kill -0 $example 2>/dev/null || fail "ended before: $*"
		sleep 0.1
	done
}
# Checks that the kqueue has that many knotes and that none is pending.
is_settled() { grep -qsx "kqueue knotes: $1 pending: 0" /proc/$example/fdinfo/*; }
is_printed() { grep -qE "$1" out; }
finish() {
	local status=0
	wait $example || status=$?
	[ $status = "${1:-0}" ] || fail "status $status"
}

exec 3</dev/null
case $name in
readme)
	# Nothing comes, and then the end.
	exec 3< <(sleep 1000)
	other=$!
	launch
	await is_printed '^tick'
	kill $other
	finish
	printf 12345 | "$program" >out || fail "status $?"
	expect '5 bytes to read'
	;;
wait)
	sleep 1000 &
	other=$!
	exec 3< <(printf 12345)
	launch $other
	# At the end of the input only the process is watched, and nothing is pending any more.
	await is_settled 1
	kill -TERM $other
	finish
	expect '5 bytes'
	expect 'ended with status 15'
	;;
server)
	launch 7890
	await is_settled 2
	exec 4<>/dev/tcp/127.0.0.1/7890 5<>/dev/tcp/127.0.0.1/7890
	echo one >&4
	echo two >&5
	read -r answer <&5
	[ "$answer" = two ] || fail "answer: $answer"
	read -r answer <&4
	[ "$answer" = one ] || fail "answer: $answer"
	# The client sends more than the buffers hold, and reads only when the server stops reading.
	head -c 20000000 /dev/zero >&4 &
	other=$!
	await grep -qs '^knote filter: -1 .* state: disabled' /proc/$example/fdinfo/*
	[ "$(head -c 20000000 <&4 | wc -c)" = 20000000 ] || fail "an answer is missing"
	wait $other
	exec 4<&- 5<&-
	await is_settled 2
	kill -TERM $example
	finish
	;;
watcher)
	mkdir folder
	touch file
	launch file folder
	await is_settled 2
	echo more >>file
	await is_printed '^file: written extended'
	touch folder/new
	await is_printed '^folder: written'
	chmod 600 file
	await is_printed '^file: attributes'
	rm -r folder file
	finish
	expect 'file: deleted.* links'
	expect 'folder: .*deleted.*'
	;;
supervisor)
	launch sh -c 'sleep 0 & exit 3'
	finish 1
	[ "$(grep -c 'started$' out)" = 3 ] || fail "three starts"
	[ "$(grep -c 'child of' out)" = 3 ] || fail "three children"
	[ "$(grep -c 'ended$' out)" = 6 ] || fail "six ends"
	launch sleep 1000
	await is_printed 'started$'
	kill -TERM $example
	finish 1
	expect '[0-9]+: ended'
	launch true
	finish
	;;
timers)
	exec 3< <(echo; sleep 1000)
	other=$!
	launch
	finish
	expect 'idle'
	expect '[0-9]+ half seconds'
	kill $other
	# Input is always available; the timer must expire nevertheless.
	exec 3< <(yes)
	other=$!
	launch
	finish
	expect 'time is up'
	;;
poll)
	launch
	finish
	[ "$(grep -c '^expired: [1-9]' out)" -ge 1 ] || fail "nothing has expired"
	;;
device)
	launch
	finish
	[ "$(grep -c '^expired: [1-9]' out)" = 2 ] || fail "not two events"
	;;
threads)
	launch
	finish
	expect '1000000 bytes'
	;;
*) fail "no test of the example $name" ;;
esac
