#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# rustc-of.sh TREE: prints the path of a rustc that is the one which built that kernel, if there is one here.
# The whole version string counts: it is part of the names of all symbols in Rust, and a compiler of the same
# number from elsewhere cannot read the kernel's crates (E0514).
wanted=$(sed -n 's/^CONFIG_RUSTC_VERSION_TEXT="\(.*\)"/\1/p' "$1/.config")
for candidate in "$(command -v rustc)" /usr/bin/rustc /usr/bin/rustc-*; do
	if [ -x "$candidate" ] && [ "$("$candidate" --version 2>/dev/null)" = "$wanted" ]; then
		echo "$candidate"
		exit 0
	fi
done
exit 1
