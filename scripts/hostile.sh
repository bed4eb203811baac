#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# hostile.sh [--quick] [NAMES]: measures what an unprivileged user can make others pay through
# kqueue and through other interfaces, in instructions on Debian's stock kernel (selftests/hostile).
# Prints the table of Documentation/security.md, and fails if a cost exceeds its limit. NAMES are
# separated by commas and select the attacks whose names contain one of them. The log is stored in
# build/hostile.
source "$(dirname "$0")/common.sh"
cd "$top"
options=()
if [ "${1:-}" = --quick ]; then
	options=(--quick)
	shift
fi
[ -z "${1:-}" ] || options+=(--only "$1")

scripts/host-packages.sh
assignments=$(scripts/stock.sh)
eval "$assignments"
cargo build --quiet --release -p kqueue-hostile
out=$top/build/hostile
mkdir -p "$out"

say "booting the stock kernel to count instructions"
# As for the benchmarks, the machine has one processor, and its clock counts instructions. Where the
# limit of inotify is the standard of comparison, it has its default value.
KQUEUE_GUEST_MEMORY=3G KQUEUE_GUEST_CPUS=1 KQUEUE_GUEST_QEMU="-icount shift=0,sleep=off" \
	scripts/guest.sh "$kernel" 3600 "$out" scripts/bench-guest.sh "$module" \
	target/release/kqueue-hostile "${options[@]}"
