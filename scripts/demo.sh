#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# The main job, from nothing: a TCP server on kqueue, serving in a dev kernel.
source "$(dirname "$0")/common.sh"
cd "$top"
scripts/host-packages.sh
tree=$(scripts/kernel.sh plain)
module=$(scripts/module.sh plain)
cargo build --quiet --release -p kqueue-samples
say "booting the plain kernel"
scripts/guest.sh "$tree" 600 "$top/build/guest/demo" \
	samples/demo/run.sh "$module" target/release/echo-server
say "demo: all right"
