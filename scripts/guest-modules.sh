#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# guest-modules.sh: builds the modules that the tests need besides our own
# (selftests/guest) for the debug kernel, and prints the folder they are in.
source "$(dirname "$0")/common.sh"
tree=$("$top/scripts/kernel.sh" debug)
assignments=$("$top/scripts/toolchain.sh")
eval "$assignments"
out=$top/build/guest-modules
mkdir -p "$out"
logged "$out/log" make -C "$tree" M="$top/selftests/guest" MO="$out" LLVM="$LLVM" modules
echo "$out"
