#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# test.sh: runs all tests. The tests of the module in a guest with the debug kernel take longest, and
# most of them keep only one processor busy. Therefore this guest runs in the background, and the other
# stages run one after the other beside it. When the guest has ended, the background takes the next
# stages that have not begun, so that two run at a time. A line "== STAGE (N s)" is printed at the end of
# each stage, and the last line of the output is the result. With ONLY=NAME, only the module's tests on
# the debug kernel whose names match are run.
source "$(dirname "$0")/common.sh"
cd "$top"
only=${ONLY:-}
out=$top/build/guest/selftests
# The output of the stages. Only the guest writes to $out, where tests watch files.
logs=$top/build/test
passed=0
failed=0
skipped=0
rm -rf "$logs/begun"
mkdir -p "$out" "$logs/begun"

begin() {
	title=$1
	start=$SECONDS
	say "$title"
}
end() { say "$title ($((SECONDS - start)) s)"; }

# The stages besides the debug guest, in the order in which they begin. Each of them is a function, and
# prints "ok ...", "not ok ..." and "skip ..." lines.
stages=(runner installation readme state programs demo stock readme_arm64 benchmarks)

declare -A titles=(
	[runner]="the checkers and the guest runner"
	[installation]="the installation"
	[readme]="the command lines of README.md, on a new machine"
	[state]="the lock-free protocols, on the host"
	[programs]="programs written for the BSDs, in a guest with the stock kernel"
	[demo]="the demo"
	[stock]="the module, in a guest with Debian's stock kernel"
	[readme_arm64]="the command lines of README.md, for arm64"
	[benchmarks]="the benchmarks, to check that they run"
)

# run_stages: runs the stages that no other process has begun. The standard output of each is stored in
# $logs, and printed at its end.
run_stages() {
	local name
	for name in "${stages[@]}"; do
		mkdir "$logs/begun/$name" 2>/dev/null || continue
		begin "${titles[$name]}"
		"$name" >"$logs/$name" &
		# A stage also fails if one of its tests does.
		wait $! || grep -q '^not ok ' "$logs/$name" ||
			echo "not ok $name::stage (the scripts failed)" >>"$logs/$name"
		cat "$logs/$name"
		end
	done
}

# count WORD: prints how many lines of the stages begin with the word.
count() { cat "${stages[@]/#/$logs/}" | grep -c "^$1 " || true; }

runner() {
	scripts/test-layers.sh
	scripts/test-kcsan-filter.sh
	scripts/test-guest.sh
}

installation() {
	scripts/test-install.sh "$tree"
	scripts/test-distro-tree.sh
	if scripts/deb.sh >"$logs/deb.log" 2>&1; then
		scripts/test-deb.sh
	else
		echo "not ok deb::build (see $logs/deb.log)"
	fi
}

readme() {
	scripts/test-readme.sh
}

readme_arm64() {
	if [ "$(dpkg --print-architecture)" = amd64 ]; then
		ARCH=arm64 scripts/test-readme.sh | sed 's/ readme::/ readme_arm64::/'
	else
		echo "skip readme_arm64::all (the cross compiler is only prepared on amd64)"
	fi
}

state() {
	cargo test --release -p kqueue-state 2>"$logs/state.log" |
		sed -E 's/^test (.*) \.\.\. ok$/ok state::\1/; s/^test (.*) \.\.\. FAILED$/not ok state::\1/' ||
		echo "not ok state::run (see $logs/state.log)"
}

programs() {
	local programs=(libev nginx tmux) good=1 program bad
	scripts/check-programs.sh --kqueue-alone "${programs[@]}" >"$logs/programs.log" 2>&1 || good=0
	for program in "${programs[@]}"; do
		# The counts are: passed, failed, skipped. The log has the details.
		if read -r _ bad _ <"build/guest/programs/$program.kqueue.counts" && [ "$bad" = 0 ]; then
			echo "ok program::$program"
		else
			echo "not ok program::$program"
		fi
	done 2>/dev/null
	# The guest can fail although all programs pass.
	if [ $good = 0 ]; then
		echo "not ok program::guest"
		sed 's/^/  | /' "$logs/programs.log"
	fi
}

demo() {
	if scripts/demo.sh >"$logs/demo.log" 2>&1; then
		echo "ok demo::stock"
	else
		echo "not ok demo::stock"
		tail -n 40 "$logs/demo.log" | sed 's/^/  | /'
	fi
}

benchmarks() {
	if scripts/bench.sh --quick --instructions >"$logs/bench.log" 2>&1; then
		echo "ok bench::quick"
	else
		echo "not ok bench::quick"
		tail -n 40 "$logs/bench.log" | sed 's/^/  | /'
	fi
}

stock() {
	scripts/test-stock.sh
}

begin "the builds"
scripts/host-packages.sh
tree=$(scripts/kernel.sh debug)
module=$(scripts/module.sh debug)
helpers=$(scripts/guest-modules.sh)
assignments=$(scripts/selftests.sh)
eval "$assignments"
cargo build --quiet --release -p kqueue-samples
end

begin "the module, in a guest with the debug kernel, in the background"
rm -f "$out/counts"
# The guest has a session of its own, so that all of its processes can be found at the end.
# shellcheck disable=SC2016
setsid bash -c 'TIMEFORMAT="== $0 (%0R s)"; time "$@"' "$title" \
	scripts/guest.sh "$tree" 5400 "$out" \
	env KQUEUE_STRESS_SECONDS="${KQUEUE_STRESS_SECONDS:-20}" \
	selftests/run.sh "$module" "$out" "$tests" "$c_tests" target/release/echo-server \
	"$helpers/slowpoll.ko" "$only" >"$logs/debug" 2>&1 &
guest=$!
trap 'pkill -s "$guest" || true' EXIT

# When the guest has ended, the background takes stages too.
if [ -z "$only" ]; then
	(
		tail -f --pid="$guest" /dev/null
		run_stages
	) &
	background=$!
	run_stages
fi

# This prints what the guest has printed, and waits for its end.
tail -n +1 -f --pid="$guest" "$logs/debug"
if [ -z "$only" ]; then
	wait "$background"
	passed=$(count ok)
	failed=$(count 'not ok')
	skipped=$(count skip)
fi
status=0
wait "$guest" || status=$?
trap - EXIT
if [ "$status" = 0 ]; then
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
