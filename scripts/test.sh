#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# test.sh: runs all tests. These are the tests of the guest runner, those that run on the host,
# those of programs that use the module, and those of the module in a guest with Debian's stock
# kernel and in one with the debug kernel. The last line of the output is the result. With
# ONLY=NAME, only the module's tests on the debug kernel whose names match are run.
source "$(dirname "$0")/common.sh"
cd "$top"
only=${ONLY:-}
out=$top/build/guest/selftests
passed=0
failed=0
skipped=0

# count FILE: adds the "ok ...", "not ok ..." and "skip ..." lines of the file to the counts.
count() {
	skipped=$((skipped + $(grep -c '^skip ' "$1" || true)))
	passed=$((passed + $(grep -c '^ok ' "$1" || true)))
	failed=$((failed + $(grep -c '^not ok ' "$1" || true)))
}

scripts/host-packages.sh
tree=$(scripts/kernel.sh debug)
module=$(scripts/module.sh debug)
helpers=$(scripts/guest-modules.sh)
assignments=$(scripts/selftests.sh)
cargo build --quiet --release -p kqueue-samples
eval "$assignments"
mkdir -p "$out"

if [ -z "$only" ]; then
	say "the checkers and the guest runner"
	{
		scripts/test-layers.sh
		scripts/test-kcsan-filter.sh
		scripts/test-guest.sh
	} | tee "$out/runner"
	count "$out/runner"

	say "the installation"
	cargo build --quiet --release -p kqueue-samples
	{
		scripts/test-install.sh "$tree"
		scripts/test-distro-tree.sh
		if scripts/deb.sh >"$out/deb.log" 2>&1; then
			scripts/test-deb.sh
		else
			echo "not ok deb::build (see $out/deb.log)"
		fi
	} | tee "$out/install"
	count "$out/install"

	say "the lock-free protocols, on the host"
	cargo test --quiet --release -p kqueue-state 2>&1 | tee "$out/state.log" || true
	sed -nE 's/^test result: .* ([0-9]+) passed; ([0-9]+) failed;.*/\1 \2/p' "$out/state.log" >"$out/state"
	[ -s "$out/state" ] || { echo "not ok state (no result)"; failed=$((failed + 1)); }
	while read -r good bad; do
		passed=$((passed + good))
		failed=$((failed + bad))
	done <"$out/state"
fi

if [ -z "$only" ]; then
	say "programs written for the BSDs, in a guest with the stock kernel"
	programs=(libev nginx tmux)
	good=1
	scripts/check-programs.sh "${programs[@]}" >"$out/program.log" 2>&1 || good=0
	for program in "${programs[@]}"; do
		# The counts are: passed, failed, skipped. The log has the details.
		if read -r _ bad _ <"build/guest/programs/$program.kqueue.counts" && [ "$bad" = 0 ]; then
			echo "ok program::$program"
		else
			echo "not ok program::$program"
		fi
	done 2>/dev/null | tee "$out/programs"
	# The guest can fail although all programs pass.
	[ $good = 1 ] || echo "not ok program::guest" | tee -a "$out/programs"
	[ $good = 1 ] || sed 's/^/  | /' "$out/program.log"
	count "$out/programs"

	say "the benchmarks, to check that they run"
	if scripts/bench.sh --quick --kernel stock >"$out/bench.log" 2>&1; then
		echo "ok bench::quick"
		passed=$((passed + 1))
	else
		echo "not ok bench::quick"
		tail -n 40 "$out/bench.log" | sed 's/^/  | /'
		failed=$((failed + 1))
	fi
fi

if [ -z "$only" ]; then
	say "the module, in a guest with Debian's stock kernel"
	if ! scripts/test-stock.sh | tee "$out/stock"; then
		# The script can fail before a test does.
		grep -q '^not ok ' "$out/stock" || echo "not ok stock::run" | tee -a "$out/stock"
	fi
	count "$out/stock"
fi

say "the module, in a guest with the debug kernel"
rm -f "$out/counts"
if scripts/guest.sh "$tree" 3000 "$out" \
	env KQUEUE_STRESS_SECONDS="${KQUEUE_STRESS_SECONDS:-60}" \
	selftests/run.sh "$module" "$out" "$tests" "$c_tests" target/release/echo-server \
	"$helpers/slowpoll.ko" "$only"; then
	echo "ok guest::kernel_log_is_clean"
	passed=$((passed + 1))
else
	echo "not ok guest::run"
	failed=$((failed + 1))
fi
if [ -f "$out/counts" ]; then
	read -r good bad _ <"$out/counts"
	passed=$((passed + good))
	failed=$((failed + bad))
else
	failed=$((failed + 1))
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
