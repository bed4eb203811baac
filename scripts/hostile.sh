#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# hostile.sh [--quick] [NAMES]: what an unprivileged user costs others, through kqueue and through what there
# is otherwise, in instructions, on the plain kernel (selftests/hostile). Prints the table that
# Documentation/security.md has, and fails if a cost is beyond its bound. With NAMES, which commas
# separate, only attacks that have one of them in their names. Leaves the log in build/hostile.
source "$(dirname "$0")/common.sh"
cd "$top"
options=()
if [ "${1:-}" = --quick ]; then
	options=(--quick)
	shift
fi
[ -z "${1:-}" ] || options+=(--only "$1")

scripts/host-packages.sh
tree=$(scripts/kernel.sh plain)
module=$(scripts/module.sh plain)
cargo build --quiet --release -p kqueue-hostile
out=$top/build/hostile
mkdir -p "$out"

say "booting the plain kernel, to count instructions"
# One processor, whose clock counts what it does, as for the benchmarks. Where inotify's limit is the judge, it is
# the usual one.
KQUEUE_GUEST_MEMORY=3G KQUEUE_GUEST_CPUS=1 KQUEUE_GUEST_QEMU="-icount shift=0,sleep=off" \
	scripts/guest.sh "$tree" 3600 "$out" scripts/bench-guest.sh "$module" \
	target/release/kqueue-hostile "${options[@]}"
