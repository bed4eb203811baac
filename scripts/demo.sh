#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# demo.sh: builds everything from scratch, boots Debian's stock kernel, and runs a TCP server that
# uses kqueue. The compilers are those of Debian 13, in a root directory in the cache. With ARCH=arm64,
# it is the kernel for arm64, in an emulated machine, and the crates are fetched by the cargo of this machine.
source "$(dirname "$0")/common.sh"
cd "$top"
if [ "${ARCH:-}" = arm64 ]; then
	unset ARCH
	scripts/host-packages.sh qemu-system-aarch64
	assignments=$(scripts/arm64.sh)
	eval "$assignments"
	say "booting the stock kernel for arm64"
	# shellcheck disable=SC2154 # All come from the assignments.
	KQUEUE_GUEST_ROOT=$root KQUEUE_GUEST_ARCH=arm64 scripts/guest.sh "$kernel" 1200 \
		"$top/build/guest/demo-arm64" \
		"$place"/samples/demo/run.sh "$place"/kqueue.ko "$place"/echo-server
	say "demo: all right"
	exit
fi
[ -z "${ARCH:-}" ] || die "ARCH can be arm64, or not set"
scripts/host-packages.sh
assignments=$(scripts/stock.sh)
eval "$assignments"
server=$(scripts/stock-program.sh echo-server)
say "booting the stock kernel"
scripts/guest.sh "$kernel" 1200 "$top/build/guest/demo" \
	samples/demo/run.sh "$module" "$server"
say "demo: all right"
