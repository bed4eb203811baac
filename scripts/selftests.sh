#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# selftests.sh: builds the selftests, statically linked, and prints shell
# assignments: tests=PATH c_test=PATH.
source "$(dirname "$0")/common.sh"
cd "$top"
target=$(rustc -vV | sed -n 's/^host: //p')
variable=CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$target")_RUSTFLAGS
export "$variable=-C target-feature=+crt-static"

mkdir -p build
cargo test --quiet --no-run --target "$target" -p kqueue-selftests --message-format json >build/selftests.json
tests=$(sed -n 's/.*"name":"kqueue_selftests".*"executable":"\([^"]*\)".*/\1/p' build/selftests.json)
[ -x "$tests" ] || die "cargo named no test binary"

# The linker warns of what Rust's standard library has and nobody calls.
cargo build --quiet --release -p kqueue-capi
for standard in c89 c99 c11; do
	cc "-std=$standard" -D_GNU_SOURCE -pedantic -Wall -Wextra -Werror -static -Wl,--no-warnings \
		-Iinclude -Iinclude/uapi -o build/c-test \
		selftests/header.c target/release/libkqueue_c.a
done
echo "tests=$tests c_test=$top/build/c-test"
