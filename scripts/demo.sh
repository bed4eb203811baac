#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# The main job, from nothing: a TCP server on kqueue, serving on Debian's stock kernel.
source "$(dirname "$0")/common.sh"
cd "$top"
scripts/host-packages.sh
assignments=$(scripts/stock.sh)
eval "$assignments"
cargo build --quiet --release -p kqueue-samples
say "booting the stock kernel"
scripts/guest.sh "$kernel" 600 "$top/build/guest/demo" \
	samples/demo/run.sh "$module" target/release/echo-server
say "demo: all right"
