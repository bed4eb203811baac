#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# version.sh: prints the version of everything, which Cargo.toml says.
sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml"
