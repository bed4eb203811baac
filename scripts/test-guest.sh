#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Shows that the guest runner can fail: a run in which the kernel warns, one in
# which it dies, and one that takes too long must all be red, and say why.
# Prints "ok NAME" or "not ok NAME" for each.
source "$(dirname "$0")/common.sh"
cd "$top"
tree=$(scripts/kernel.sh debug)
out=$top/build/guest-test
mkdir -p "$out"
modules=$(scripts/guest-modules.sh)

# red NAME SECONDS WORDS COMMAND...: the run fails, and its output has the words.
red() {
	local name=$1 limit=$2 words=$3
	shift 3
	if scripts/guest.sh "$tree" "$limit" "$out/$name" "$@" >"$out/$name.log" 2>&1; then
		echo "not ok guest::$name (the run is green)"
	elif ! grep -qF "$words" "$out/$name.log"; then
		echo "not ok guest::$name (no '$words')"
		sed 's/^/  | /' "$out/$name.log"
	else
		echo "ok guest::$name"
	fi
}

red warning 400 "provoked by the test of the guest runner" insmod "$modules/warn.ko"
red panic 400 "the guest died" sh -c 'echo c >/proc/sysrq-trigger; sleep 60'
red time_limit 20 "no end after 20 seconds" sleep 600
