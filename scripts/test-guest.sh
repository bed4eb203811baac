#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# test-guest.sh: checks that the guest runner can fail. A run in which the kernel warns, a run in
# which it panics, and a run that takes too long must fail, and must print the reason. Prints "ok
# NAME" or "not ok NAME" for each.
source "$(dirname "$0")/common.sh"
cd "$top"
tree=$(scripts/kernel.sh debug)
out=$top/build/guest-test
mkdir -p "$out"
modules=$(scripts/guest-modules.sh)

# red NAME SECONDS WORDS COMMAND...: checks that the run fails and that its output contains WORDS.
red() {
	local name=$1 limit=$2 words=$3
	shift 3
	if scripts/guest.sh "$tree" "$limit" "$out/$name" "$@" >"$out/$name.log" 2>&1; then
		echo "not ok guest::$name (the run did not fail)"
	elif ! grep -qF "$words" "$out/$name.log"; then
		echo "not ok guest::$name (the output lacks '$words')"
		sed 's/^/  | /' "$out/$name.log"
	else
		echo "ok guest::$name"
	fi
}

red warning 1500 "provoked by the test of the guest runner" insmod "$modules/warn.ko"
red panic 1500 "the guest died" sh -c 'echo c >/proc/sysrq-trigger; sleep 60'
red time_limit 20 "no end after 20 seconds" sleep 600
