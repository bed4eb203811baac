#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# layers.sh [DIR]: checks the structure of the module's source, rust/ or DIR.
# - A file imports from its own layer and the layers below it.
# - Unsafe code is in rust/sys and in the files that rust/engine/mod.rs lists.
# - rust/sys does not speak of kqueues and knotes.
# - No file has more than 600 lines.
# Prints each violation, and fails if there is one.
source "$(dirname "$0")/common.sh"
cd "${1:-$top/rust}"
mapfile -t files < <(find . -name '*.rs' ! -name '*_generated.rs' ! -path ./engine/mod.rs | sort)
awk -f "$top/scripts/layers.awk" engine/mod.rs "${files[@]}"
