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

# Without the device.
without() { unshare --mount sh -c 'mount -t tmpfs none /dev && exec "$@"' sh "$kqtrace" "$@"; }
without --help >out 2>&1 || fail "help needs no device"
without --version >out 2>&1 || fail "nor does the version"
grep -qE '^kqtrace [0-9.]+$' out || fail "the version"
without timer:x >out 2>&1
[ $? = 2 ] || fail "nor does a mistake"
RUST_BACKTRACE=1 without timer:5 >out 2>&1
[ $? = 1 ] || fail "no device"
[ "$(cat out)" = "kqtrace: there is no /dev/kqueue: load the module (modprobe kqueue)" ] || fail "one line"
exit 0
