#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# library.sh: builds the C library, shared and static, in build/lib.
source "$(dirname "$0")/common.sh"
cd "$top"
version=$(scripts/version.sh)
out=build/lib
mkdir -p "$out"
cargo build --quiet --release -p kqueue-capi
cp target/release/libkqueue_c.a "$out/"
# Not by cargo: its shared libraries have neither a name nor versions of their symbols.
cc -shared -o "$out/libkqueue_c.so.$version" -Wl,-soname,libkqueue_c.so.0 \
	-Wl,--version-script=packaging/kqueue.map -Wl,--gc-sections -Wl,-z,defs -Wl,-z,relro,-z,now \
	-Wl,--undefined=kqueue,--undefined=kqueue1,--undefined=kqueuex,--undefined=kevent \
	"$out/libkqueue_c.a" -lgcc_s -lc
ln -sf "libkqueue_c.so.$version" "$out/libkqueue_c.so.0"
ln -sf libkqueue_c.so.0 "$out/libkqueue_c.so"
