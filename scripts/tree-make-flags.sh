#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# tree-make-flags.sh TREE: prints the make variables for building a module for that kernel tree: the
# rustc that built the kernel, the bindgen that is new enough, and LLVM= with the version of clang if
# clang built it.
config=$1/.config
if grep -qx CONFIG_CC_IS_CLANG=y "$config"; then
	version=$(sed -n 's/^CONFIG_CLANG_VERSION=\([0-9]*\)[0-9]\{4\}$/\1/p' "$config")
	if command -v "clang-$version" >/dev/null; then
		echo "LLVM=-$version"
	else
		echo LLVM=1
	fi
fi
here=$(dirname "$0")
bindgen=$("$here/bindgen-of.sh") && echo "BINDGEN=$bindgen"
rustc=$("$here/rustc-of.sh" "$1") && echo "RUSTC=$rustc"
