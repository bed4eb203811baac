#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# test-arm64.sh [NAME]: runs the tests of the module on arm64, in an emulated machine with Debian's
# stock kernel; with NAME, only those whose names match. The last line is the result.
source "$(dirname "$0")/common.sh"
cd "$top"
out=$top/build/guest/arm64
scripts/host-packages.sh qemu-system-arm
assignments=$(scripts/arm64.sh)
eval "$assignments"
mkdir -p "$out"
rm -f "$out/counts"
passed=0 failed=0 skipped=0
status=0
# shellcheck disable=SC2154 # Both come from the assignments.
KQUEUE_GUEST_ROOT=$root KQUEUE_GUEST_ARCH=arm64 scripts/guest.sh "$kernel" 5400 "$out" \
	env KQUEUE_SKIPS=/root/kqueue/stock.skips KQUEUE_STRESS_SECONDS="${KQUEUE_STRESS_SECONDS:-10}" \
	/root/kqueue/run.sh /root/kqueue/kqueue.ko /run/out /root/kqueue/tests /root/kqueue/c-tests \
	/root/kqueue/echo-server /root/kqueue/slowpoll.ko "${1:-}" || status=$?
[ ! -f "$out/counts" ] || read -r passed failed skipped <"$out/counts"
if [ $status = 0 ]; then
	echo "ok arm64::kernel_log_is_clean"
	passed=$((passed + 1))
else
	echo "not ok arm64::run"
	failed=$((failed + 1))
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
