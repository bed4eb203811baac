#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# test-arm64.sh [NAME]: runs the tests of the module on arm64, in an emulated machine with Debian's
# stock kernel; with NAME, only those whose names match. The last line is the result.
source "$(dirname "$0")/common.sh"
cd "$top"
out=$top/build/guest/arm64
scripts/host-packages.sh qemu-system-aarch64
assignments=$(scripts/arm64.sh)
eval "$assignments"
mkdir -p "$out"
rm -f "$out/counts"
status=0
# shellcheck disable=SC2154 # All come from the assignments.
KQUEUE_GUEST_ROOT=$root KQUEUE_GUEST_ARCH=arm64 scripts/guest.sh "$kernel" 5400 "$out" \
	env "KQUEUE_SKIPS=$place/selftests/stock.skips:$place/selftests/arm64.skips" \
	KQUEUE_STRESS_SECONDS="${KQUEUE_STRESS_SECONDS:-10}" \
	"$place"/selftests/run.sh "$place"/kqueue.ko /run/out "$place"/tests "$place"/c-tests \
	"$place"/echo-server "$place"/slowpoll.ko "${1:-}" || status=$?
guest_result arm64 "$out" $status
