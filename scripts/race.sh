#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# race.sh [SECONDS]: searches for data races. Boots the race kernel with four processors and runs
# the tests with concurrency, the stress test for SECONDS, and the fuzzer for SECONDS with each of
# its kinds of rounds. A report about the module makes the run fail; scripts/kcsan-filter.awk
# removes the reports of races of the kernel itself. The last line of the output is the result.
source "$(dirname "$0")/common.sh"
cd "$top"
seconds=${1:-60}
only=${ONLY:-^(stress|close|dups|fork|nested|signal|timer)::|thread|sleeper|races}
out=$top/build/guest/race
passed=0
failed=0

# count STATUS NAME: prints and counts one result.
count() {
	if [ "$1" = 0 ]; then
		echo "ok $2"
		passed=$((passed + 1))
	else
		echo "not ok $2"
		failed=$((failed + 1))
	fi
}

scripts/host-packages.sh
tree=$(scripts/kernel.sh race)
module=$(scripts/module.sh race)
helpers=$(scripts/guest-modules.sh race)
assignments=$(scripts/selftests.sh)
eval "$assignments"
cargo build --quiet --release -p kqueue-samples
fuzzer=$(scripts/fuzzer.sh)
mkdir -p "$out"

# Check one object of Rust and one of C. If a compiler ignored the options, no race would be found.
for object in main helpers; do
	status=0
	nm "$top/build/race/rust/$object.o" | grep ' U __tsan_read_write' >/dev/null || status=1
	count $status "race::${object}_is_instrumented"
done

# The processors of an emulated guest take turns on those of the host. A watchpoint therefore has to
# last longer than one turn to observe an access by another processor.
parameters=()
has_kvm || parameters=(udelay_task=1000 udelay_interrupt=200)

# run NAME SECONDS COMMAND...: boots the race kernel once and runs the command.
run() {
	local name=$1 limit=$2 status=0
	shift 2
	mkdir -p "$out/$name"
	KQUEUE_GUEST_CPUS=4 scripts/guest.sh "$tree" "$limit" "$out/$name" \
		scripts/race-guest.sh "${parameters[@]}" -- "$@" || status=1
	say "$name: $(grep -c 'BUG: KCSAN' "$out/$name/console" || true) reports of data races, $(awk \
		-f scripts/kcsan-filter.awk "$out/$name/console" | grep -c 'BUG: KCSAN' || true) of them the module's"
	count $status "race::$name"
}

say "the tests with concurrency, on the race kernel"
rm -f "$out/tests/counts"
run tests $((3600 + 4 * seconds)) env KQUEUE_STRESS_SECONDS="$seconds" selftests/run.sh "$module" "$out/tests" \
	"$tests" "$c_tests" target/release/echo-server "$helpers/slowpoll.ko" "$only"
if [ -f "$out/tests/counts" ]; then
	read -r good bad _ <"$out/tests/counts"
	passed=$((passed + good))
	failed=$((failed + bad))
fi

say "the fuzzer, on the race kernel"
for rounds in checked compared wild; do
	run "fuzz_$rounds" $((1200 + 2 * seconds)) selftests/fuzz/run.sh "$module" "$fuzzer" \
		--seconds "$seconds" --rounds "$rounds"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
