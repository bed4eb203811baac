#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# check.sh: checks formatting and runs lints on the module, with the kernel's settings, and on the
# userspace code. Warnings are errors.
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

say "lib/src/abi.rs agrees with the header"
scripts/abi.sh --check

say "the table of differences agrees with the tests"
scripts/compatibility.sh --check

say "documentation and examples of the crate"
RUSTDOCFLAGS=-Dwarnings cargo doc --quiet --no-deps -p kqueue
cargo test --quiet --doc -p kqueue >/dev/null

say "manual and its examples"
mandoc -Tlint -W warning Documentation/man/*
scripts/manual.sh build/manual

say "structure of the module: imports, unsafe code, size of files"
scripts/layers.sh
