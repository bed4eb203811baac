#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# version.sh: prints the version of the project, which Cargo.toml defines.
sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml"
