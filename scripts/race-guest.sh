#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# race-guest.sh [NAME=VALUE...] -- COMMAND...: in a guest with the race kernel, sets KCSAN's parameters, runs
# the command, and tells how much was watched.
kcsan=/sys/kernel/debug/kcsan
while [ "$1" != -- ]; do
	echo "${1#*=}" >"/sys/module/kcsan/parameters/${1%%=*}" || exit
	shift
done
shift
"$@"
status=$?
grep -E '^(setup_watchpoints|data_races):' $kcsan
# Something is always seen, if it looks at all.
grep -qx 'enabled: 1' $kcsan || exit
exit $status
