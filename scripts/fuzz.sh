#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# fuzz.sh KERNEL SECONDS [SEED] [ARGUMENT...]: runs the fuzzer (selftests/fuzz) for that time in a
# guest with the kernel `debug` or `race`. A SEED that is not empty, and the ARGUMENTs, are passed
# to the fuzzer.
source "$(dirname "$0")/common.sh"
cd "$top"
kernel=$1 time=$2 seed=${3:-}
shift $(($# < 3 ? $# : 3))
out=$top/build/guest/fuzz-$kernel

scripts/host-packages.sh
tree=$(scripts/kernel.sh "$kernel")
module=$(scripts/module.sh "$kernel")
fuzzer=$(scripts/fuzzer.sh)
scripts/guest.sh "$tree" $((time + 900)) "$out" \
	selftests/fuzz/run.sh "$module" "$fuzzer" --seconds "$time" ${seed:+--seed "$seed"} "$@"
