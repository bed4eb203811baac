#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# test-stock.sh [NAME]: runs the tests of the module in a guest with Debian's stock kernel; with
# NAME, only those whose names match. selftests/stock.skips lists the tests that need a kernel that
# is built for tests, and ARCHITECTURE.skips those that the kernel of this architecture cannot run.
# Prints "ok ...", "not ok ..." and "skip ..." lines; the last line is the result.
source "$(dirname "$0")/common.sh"
cd "$top"
out=$top/build/guest/stock

scripts/host-packages.sh
assignments=$(scripts/stock.sh)
eval "$assignments"
assignments=$(scripts/selftests.sh)
eval "$assignments"
cargo build --quiet --release -p kqueue-samples
skips=$top/selftests/stock.skips
architecture=$top/selftests/$(dpkg --print-architecture).skips
[ ! -f "$architecture" ] || skips+=:$architecture
mkdir -p "$out"
rm -f "$out/counts"
status=0

# The memory for events is not initialised before events are stored there. The distribution's
# compiler must neither fill nor copy it, in any call.
if objdump -dr -C -j .text "$module" |
	awk '/^[0-9a-f]+ <.*>:$/ { name = $0 } /^[0-9a-f]+ <.*change_and_collect/ { known = 1 }
		/R_.*mem(set|cpy)/ && name ~ /kevent|kqueue::Kqueue|ReadyState/ && name !~ /sort/ { print name; bad = 1 }
		END { exit bad || !known }'; then
	say "no function on the path of a call fills or copies the memory for events"
else
	die "these functions fill or copy the memory for events"
fi
scripts/guest.sh "$kernel" 3600 "$out" \
	env KQUEUE_SKIPS="$skips" KQUEUE_FUZZ_SECONDS=20 \
	KQUEUE_STRESS_SECONDS="${KQUEUE_STRESS_SECONDS:-10}" \
	selftests/run.sh "$module" "$out" "$tests" "$c_tests" target/release/echo-server \
	"$helpers/slowpoll.ko" "${1:-}" || status=$?
guest_result stock "$out" $status
