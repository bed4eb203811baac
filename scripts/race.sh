#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# race.sh [SECONDS]: looks for data races: boots the race kernel with four processors, runs the tests of
# threads, the stress tests for that long, and the fuzzer. A report that is about the module's own
# functions fails it, those of the kernel's own races do not (scripts/kcsan-filter.awk).
source "$(dirname "$0")/common.sh"
cd "$top"
seconds=${1:-60}
out=$top/build/guest/race

scripts/host-packages.sh
tree=$(scripts/kernel.sh race)
module=$(scripts/module.sh race)
helpers=$(scripts/guest-modules.sh race)
assignments=$(scripts/selftests.sh)
eval "$assignments"
cargo build --quiet --release -p kqueue-samples
programs=()
if [ -d selftests/fuzz ]; then
	cargo build --quiet --release -p kqueue-fuzz
	# One that ends at a report of the kernel's would end at those that do not count.
	programs=(target/release/kqueue-fuzz --seconds "$seconds" --keep-going)
fi
mkdir -p "$out"

status=0
# run NAME SECONDS COMMAND...: one boot.
run() {
	local name=$1 limit=$2
	shift 2
	mkdir -p "$out/$name"
	KQUEUE_GUEST_CPUS=4 scripts/guest.sh "$tree" "$limit" "$out/$name" "$@" || status=1
	say "$name: $(grep -c 'BUG: KCSAN' "$out/$name/dmesg" || true) reports of data races, $(awk \
		-f scripts/kcsan-filter.awk "$out/$name/dmesg" | grep -c 'BUG: KCSAN' || true) of them the module's"
}

say "the tests of threads, on the race kernel"
run tests $((1800 + 4 * seconds)) env KQUEUE_STRESS_SECONDS="$seconds" selftests/run.sh "$module" "$out/tests" \
	"$tests" "$c_tests" target/release/echo-server "$helpers/slowpoll.ko" 'stress|thread|race|fork|nested'
if [ ${#programs[@]} != 0 ]; then
	say "the fuzzer, on the race kernel"
	run fuzz $((900 + 4 * seconds)) scripts/bench-guest.sh "$module" "${programs[@]}"
fi
exit $status
