#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# clippy-driver.sh ARGUMENTS: what the kernel's makefiles run instead of rustc to lint the module. It
# runs rustdoc with the same arguments, to check the links of the documentation of all items, and
# then clippy-driver.
set -euo pipefail
arguments=()
for argument; do
	case $argument in
	# rustdoc does not know these options, and has others of the same name.
	--emit=* | --remap-path-scope=* | --out-dir) ;;
	rust/) ;;
	*) arguments+=("$argument") ;;
	esac
done
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
rustdoc "${arguments[@]}" --document-private-items -Arustdoc::private_intra_doc_links -o "$out"
clippy-driver "$@"
