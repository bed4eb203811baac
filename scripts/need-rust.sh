#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# need-rust.sh: fails and prints the reason in one line if rustc and cargo are missing, or older than
# the version that Cargo.toml requires.
set -euo pipefail
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }
required=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")
for tool in rustc cargo; do
	version=$($tool --version 2>/dev/null | cut -d' ' -f2) || version=
	[ -n "$version" ] || die "$tool is missing: install rustc and cargo $required or later, with rustup or from Debian 13"
	printf '%s\n' "$required" "$version" | sort -CV ||
		die "$tool $version is too old: install rustc and cargo $required or later, with rustup or from Debian 13"
done
