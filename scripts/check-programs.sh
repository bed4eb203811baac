#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# check-programs.sh [--kernel debug] [--kqueue-alone] [NAME...]: builds programs that support kqueue,
# runs their own tests in a guest with Debian's stock kernel (or with the debug kernel), with kqueue
# and (without --kqueue-alone) with the interface that they use on Linux otherwise, and prints a
# table. Fails if a test fails with kqueue.
# selftests/programs/NAME.sh describes each program.
source "$(dirname "$0")/common.sh"
source "$top/selftests/programs/tools.sh"
cd "$top"
flavour=stock
if [ "${1:-}" = --kernel ]; then
	flavour=$2
	shift 2
fi
interfaces='kqueue native'
if [ "${1:-}" = --kqueue-alone ]; then
	interfaces=kqueue
	shift
fi
if [ $# = 0 ]; then
	for file in selftests/programs/*.sh; do
		name=$(basename "$file" .sh)
		[ "$name" = run ] || [ "$name" = tools ] || set -- "$@" "$name"
	done
fi

packages=() seconds=900
for name in "$@"; do
	describe "$name"
	packages+=("${host[@]}")
	seconds=$((seconds + minutes * 120))
done
scripts/host-packages.sh iproute2 busybox-static apache2-utils "${packages[@]}"
if [ "$flavour" = stock ]; then
	assignments=$(scripts/stock.sh)
	eval "$assignments"
else
	kernel=$(scripts/kernel.sh "$flavour")
	module=$(scripts/module.sh "$flavour")
fi
programs=$(scripts/programs.sh "$@")
out=$top/build/guest/programs
mkdir -p "$out"
for name in "$@"; do rm -f "$out/$name".{kqueue,native}.counts; done
say "booting the $flavour kernel, to run the tests of: $*"
status=0
scripts/guest.sh "$kernel" "$seconds" "$out" env KQUEUE_INTERFACES="$interfaces" \
	selftests/programs/run.sh "$module" "$programs" "$out" "$@" || status=1

# row WHICH: prints the counts of one backend for the table.
row() { sed 's/ /, /g' "$out/$name.$1.counts" 2>/dev/null || echo none; }
{
	echo "| Program | Built for kqueue by | On kqueue | Instead | | What is run |"
	echo "|---|---|---|---|---|---|"
	for name in "$@"; do
		describe "$name"
		echo "| $version | $switch | $(row kqueue) | $native | $(row native) | ${what//$'\n'/ } |"
	done
} | tee "$out/table.md"
exit $status
