#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# kqtrace.sh KQTRACE: runs in a guest. Checks what kqtrace prints for each kind of event.
kqtrace=$1
here=$(mktemp -d /dev/shm/kqtrace.XXXXXX)
trap 'kill "$watcher" 2>/dev/null; rm -rf "$here"' EXIT
cd "$here" || exit

fail() { echo "$*"; cat out; exit 1; }
# Starts kqtrace, and waits until it has registered its knotes.
start() {
	"$kqtrace" "$@" >out 2>&1 &
	watcher=$!
	until grep -qs '^knote' /proc/$watcher/fdinfo/*; do
		kill -0 $watcher 2>/dev/null || break
		sleep 0.1
	done
}
finish() { wait "$watcher" || fail "kqtrace $*: failed"; }
expect() { grep -qxE "$1" out || fail "expected: $1"; }

touch watched
start --count 2 file:watched
echo more >>watched
rm watched
finish file
expect 'file watched: .*(write|extend).*'

start --count 1 signal:USR1
kill -USR1 $watcher
finish signal
expect 'signal USR1: 1'

start --count 3 --json timer:10
finish timer
[ "$(grep -c '^{"event":"timer","expirations":[0-9]*,"period":10,"time":[0-9.]*}$' out)" = 3 ] || fail "timer"

start --duration 1 user:5
finish user
expect 'user 5: 0x0'

start --count 1 mounts
mount -t tmpfs none "$here" && umount "$here"
finish mounts
expect 'mounts: (mount|unmount|mount unmount)'

# kqtrace watches a tree of processes until the last one exits.
start --run sh -c 'sleep 0 & sleep 0 & wait; exit 3'
finish run
[ "$(grep -c 'child of' out)" = 2 ] || fail "two children"
[ "$(grep -c 'exec.* sleep' out)" -le 2 ] || fail "programs"
expect 'process [0-9]+: .*exit.*, exit status: 3'
[ "$(grep -c 'exit' out)" = 3 ] || fail "three ends"

start --json --run sh -c 'kill -TERM $$'
finish run
grep -q '"signal":15' out || fail "killed by a signal"

printf 12345 | "$kqtrace" --count 1 read:0 >out
expect 'read 0: 5 bytes(, end)?(, hung up)?'
for mistake in no-such:thing timer:x read: signal:NONE --no-such-option; do
	"$kqtrace" "$mistake" >out 2>&1
	[ $? = 2 ] || fail "a mistake in the arguments: $mistake"
done
"$kqtrace" file:/no/such/file >out 2>&1 && fail "no such file"
"$kqtrace" process:999999999 >out 2>&1
[ $? = 1 ] || fail "no such process"

# The list of kqueues. A stopped program leaves its event pending.
start timer:1000000 signal:USR1
until grep -qs '^kqueue knotes: 2 ' /proc/$watcher/fdinfo/*; do sleep 0.1; done
kill -STOP $watcher
until grep -q '^State:.*T' /proc/$watcher/status; do sleep 0.1; done
kill -USR1 $watcher
"$kqtrace" list >out || fail "list"
expect ' *PID +FD +KNOTES +PENDING COMMAND'
expect " *$watcher +[0-9]+ +2 +1 kqtrace"
"$kqtrace" list --json >out || fail "list --json"
[ "$(grep -c "^{\"command\":\"kqtrace\",\"fd\":[0-9]*,\"knotes\":2,\"pending\":1,\"pid\":$watcher}$" out)" = 1 ] ||
	fail "list as JSON"
# A process of another user is not shown.
cp "$kqtrace" own && chmod 755 . own
setpriv --reuid 65534 --regid 65534 --clear-groups ./own list >out 2>&1 || fail "list of another user"
expect ' *PID +FD +KNOTES +PENDING COMMAND'
grep -q " $watcher " out && fail "the kqueue of another user"
kill -KILL $watcher
wait $watcher 2>/dev/null
"$kqtrace" list >out
grep -q "^ *$watcher " out && fail "the kqueue of a process that ended"
# Characters that control a terminal are escaped.
odd=$'a\033b'
cp "$kqtrace" "$odd"
kqtrace=./$odd start timer:1000000
"$kqtrace" list >out
expect " *$watcher .* a\\\\u\\{1b\\}b"
kill $watcher
"$kqtrace" list file:watched >out 2>&1
[ $? = 2 ] || fail "list of an event"
# The words are a command's own after --run.
"$kqtrace" --run echo list >out || fail "run with the argument list"
expect list
for shell in bash zsh fish; do
	"$kqtrace" completions $shell >out || fail "completions for $shell"
	grep -q 'duration' out || fail "an option in the completions for $shell"
done

# Without the device. The program can be in /dev/shm, so it is opened before /dev is hidden.
without() {
	# shellcheck disable=SC2016
	unshare --mount sh -c 'exec 9<"$0" && mount -t tmpfs none /dev && exec /proc/self/fd/9 "$@"' "$kqtrace" "$@"
}
without --help >out 2>&1 || fail "help needs no device"
without --version >out 2>&1 || fail "nor does the version"
grep -qE '^kqtrace [0-9.]+$' out || fail "the version"
without list >out || fail "nor does the list"
without timer:x >out 2>&1
[ $? = 2 ] || fail "nor does a mistake"
RUST_BACKTRACE=1 without timer:5 >out 2>&1
[ $? = 1 ] || fail "no device"
[ "$(cat out)" = "kqtrace: there is no /dev/kqueue: load the module (modprobe kqueue)" ] || fail "one line"
exit 0
