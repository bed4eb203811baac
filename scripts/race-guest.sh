#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# race-guest.sh [NAME=VALUE...] -- COMMAND...: runs in a guest with the race kernel. Sets the
# parameters of KCSAN, runs the command, and prints how many watchpoints KCSAN set.
kcsan=/sys/kernel/debug/kcsan
while [ "$1" != -- ]; do
	echo "${1#*=}" >"/sys/module/kcsan/parameters/${1%%=*}" || exit
	shift
done
shift
"$@"
status=$?
grep -E '^(setup_watchpoints|data_races):' $kcsan
# Fail if KCSAN is not enabled, because it would find nothing.
grep -qx 'enabled: 1' $kcsan || exit
exit $status
