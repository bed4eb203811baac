#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# bench.sh [--quick] [--instructions] [LETTERS]: measures workloads with kqueue and with other interfaces
# on Debian's stock kernel, first in nanoseconds (without --instructions) and then in instructions.
# LETTERS selects workloads. The results are stored in build/bench: as JSON, as a chart, and the matrix
# as heat maps and as an HTML page. Must run as root.
source "$(dirname "$0")/common.sh"
cd "$top"
quick=()
if [ "${1:-}" = --quick ]; then
	quick=(--quick)
	shift
fi
units=(ns instructions)
if [ "${1:-}" = --instructions ]; then
	units=(instructions)
	shift
fi
only=()
[ -z "${1:-}" ] || only=(--only "$1")

scripts/host-packages.sh
assignments=$(scripts/stock.sh)
eval "$assignments"
emulation=$(scripts/emulation.sh)
cargo build --quiet --release -p kqueue-bench -p kqueue-profile
out=$top/build/bench
mkdir -p "$out"

# measure UNIT: boots the kernel once and measures in that unit.
measure() {
	say "booting the stock kernel to measure in $1"
	rm -f "$out/$1.json"
	scripts/guest.sh "$kernel" 3600 "$out/$1" scripts/bench-guest.sh "$module" target/release/kqueue-bench \
		run "${quick[@]}" "${only[@]}" --unit "$1" --module "$module" --emulation "$emulation" \
		--json "$out/$1/results.json" >"$out/$1.log" || { cat "$out/$1.log"; die "failed"; }
}

[ "${units[0]}" = instructions ] || KQUEUE_GUEST_MEMORY=3G measure ns
# The clock of this machine, which has one processor, counts instructions. (On hardware, use
# perf stat.) On x86-64 a plugin of QEMU counts those of the module separately.
counting="-icount shift=0,sleep=off"
profile=()
if [ "$(dpkg --print-architecture)" = amd64 ]; then
	profile=(--profile "$out/instructions/profile")
	mkdir -p "$out/instructions"
	counting="$counting -plugin $top/target/release/libkqueue_profile.so,out=${profile[1]}"
fi
KQUEUE_GUEST_MEMORY=3G KQUEUE_GUEST_CPUS=1 KQUEUE_GUEST_QEMU=$counting measure instructions
# The matrix is drawn if workload (n) was measured.
maps=()
case ${1:-n} in
*n*) maps=(--heat-map "$out/matrix.svg" --small-map "$out/matrix-small.svg" --page "$out/matrix.html") ;;
esac
results=()
for unit in "${units[@]}"; do results+=("$out/$unit/results.json"); done
target/release/kqueue-bench report "${profile[@]}" --chart "$out/ratios.svg" "${maps[@]}" "${results[@]}"
say "the results: ${results[*]}; the pictures: $out/*.svg; the table: $out/matrix.html"
