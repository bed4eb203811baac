#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# check-programs.sh [--kernel plain|debug] [NAME...]: builds programs written for kqueue, runs their
# own tests in a guest on it and on what they use on Linux otherwise, and prints a table. Fails if
# one fails on kqueue.
source "$(dirname "$0")/common.sh"
cd "$top"
kernel=plain
if [ "${1:-}" = --kernel ]; then
	kernel=$2
	shift 2
fi
[ $# -gt 0 ] || set -- entr libev libevent redis

scripts/host-packages.sh programs
tree=$(scripts/kernel.sh "$kernel")
module=$(scripts/module.sh "$kernel")
programs=$(scripts/programs.sh "$@")
out=$top/build/guest/programs
mkdir -p "$out"
rm -f "$out/table"
say "booting the $kernel kernel, to run the tests of: $*"
status=0
scripts/guest.sh "$tree" 7200 "$out" selftests/programs/run.sh "$module" "$programs" "$out" "$@" || status=1

# What each does without kqueue.
declare -A native=([entr]=inotify [libev]=epoll [libevent]=epoll [redis]=epoll)
declare -A remark=(
	[entr]="its system tests"
	[libev]="selftests/programs/libev.c; it has no tests of its own"
	[libevent]="regress, test-* and bench; those for EV_CLOSED are skipped: its kqueue backend has none"
	[redis]="the units that turn on the event loop; the rest is about time and memory, too slow here"
)
{
	echo "| Program | on kqueue: passed, failed, skipped | instead | passed, failed, skipped | what is run |"
	echo "|---|---|---|---|---|"
	while IFS='|' read -r name kqueue other; do
		echo "| $name | ${kqueue// /, } | ${native[$name]} | ${other// /, } | ${remark[$name]} |"
	done <"$out/table"
} | tee "$out/table.md"
exit $status
