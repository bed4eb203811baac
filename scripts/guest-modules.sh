#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# guest-modules.sh [FLAVOUR]: builds the auxiliary modules of the tests (selftests/guest) for that
# kernel, by default debug, and prints the directory that contains them.
source "$(dirname "$0")/common.sh"
flavour=${1:-debug}
tree=$("$top/scripts/kernel.sh" "$flavour")
assignments=$("$top/scripts/toolchain.sh")
eval "$assignments"
out=$top/build/guest-modules-$flavour
mkdir -p "$out"
logged "$out/log" make -C "$tree" M="$top/selftests/guest" MO="$out" LLVM="$LLVM" modules
echo "$out"
