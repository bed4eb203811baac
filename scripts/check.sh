#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Formatting and lints, of the module with the kernel's settings and of
# userspace; warnings are errors.
source "$(dirname "$0")/common.sh"
cd "$top"
source=$(scripts/kernel-source.sh)

say "rustfmt"
find rust -name '*.rs' ! -name '*_generated.rs' -print0 |
	xargs -0 rustfmt --check --edition 2021 --config-path "$source/.rustfmt.toml"
cargo fmt --check

say "clippy, module"
scripts/module.sh debug clippy >/dev/null

say "clippy, userspace"
cargo clippy --quiet --workspace --all-targets -- -D warnings

say "the Rust ABI is the header's"
scripts/abi.sh --check

say "the table of differences is the tests'"
scripts/compatibility.sh --check

say "the crate's documentation, and its examples"
RUSTDOCFLAGS=-Dwarnings cargo doc --quiet --no-deps -p kqueue
cargo test --quiet --doc -p kqueue >/dev/null

say "the manual, and its examples"
mandoc -Tlint -W warning Documentation/man/*
scripts/manual.sh build/manual

# Unsafe code is where STYLE of the folder says: hooks, and the ABI's transmutes.
say "unsafe stays at the edge"
strays=$(grep -rlE 'unsafe (\{|fn|extern)' rust --include='*.rs' |
	grep -vE '^rust/(sys/|engine/|bindings_generated)' || true)
[ -z "$strays" ] || die "unsafe code outside rust/sys and rust/engine: $strays"
