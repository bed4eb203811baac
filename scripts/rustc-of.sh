#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# rustc-of.sh TREE: prints the path of the rustc that built that kernel, if it is installed. The
# whole version string must be equal. It is part of the names of all Rust symbols, and another build
# of the same version cannot read the crates of the kernel (E0514).
wanted=$(sed -n 's/^CONFIG_RUSTC_VERSION_TEXT="\(.*\)"/\1/p' "$1/.config")
for candidate in "$(command -v rustc)" /usr/bin/rustc /usr/bin/rustc-*; do
	if [ -x "$candidate" ] && [ "$("$candidate" --version 2>/dev/null)" = "$wanted" ]; then
		echo "$candidate"
		exit 0
	fi
done
exit 1
