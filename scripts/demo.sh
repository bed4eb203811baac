#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# demo.sh: builds everything from scratch, boots Debian's stock kernel, and runs a TCP server that
# uses kqueue.
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
