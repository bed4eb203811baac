#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# fuzzer.sh: builds the fuzzer as a statically linked program and prints its path.
source "$(dirname "$0")/common.sh"
cd "$top"
target=${KQUEUE_TARGET:-$(rustc -vV | sed -n 's/^host: //p')}
variable=CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$target")_RUSTFLAGS
export "$variable=-C target-feature=+crt-static"
cargo build --quiet --release --target "$target" -p kqueue-fuzz
echo "${CARGO_TARGET_DIR:-$top/target}/$target/release/kqueue-fuzz"
