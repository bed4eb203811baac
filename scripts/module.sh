#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# module.sh debug|race [clippy]: builds the module for that development kernel in
# build/FLAVOUR and prints its path.
source "$(dirname "$0")/common.sh"
flavour=$1
tree=$("$top/scripts/kernel.sh" "$flavour")
assignments=$("$top/scripts/toolchain.sh")
eval "$assignments"
"$top/scripts/check-tree.sh" "$tree"

out=$top/build/$flavour
flags=()
if [ "${2:-}" = clippy ]; then
	# The output files of clippy are discarded. Warnings are errors, also those of rustdoc.
	out=$top/build/clippy
	flags=(CLIPPY=1 CLIPPY_DRIVER="$top/scripts/clippy-driver.sh" KRUSTFLAGS=-Dwarnings)
	rm -rf "$out"
fi
mkdir -p "$out"
logged "$out/log" make -C "$tree" M="$top" MO="$out" LLVM="$LLVM" "${flags[@]}" modules
# The kernel's makefiles print the warnings of clippy, and do not fail for all of them.
if grep -qE '^(warning|error)' "$out/log"; then
	grep -vE '^make' "$out/log" >&2
	die "clippy printed warnings"
fi
echo "$out/kqueue.ko"
