#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# library.sh: builds the C library, shared and static, in build/lib; where the compiler can, the
# static one for 32-bit programs too, in build/lib32.
source "$(dirname "$0")/common.sh"
cd "$top"
version=$(scripts/version.sh)
flags=(-std=gnu11 -O2 -g -fPIC -fexceptions -Wall -Wextra -Werror -Iinclude -Iinclude/uapi)

# archive DIR FLAGS...
archive() {
	local out=$1
	shift
	mkdir -p "$out"
	cc "${flags[@]}" "$@" -c -o "$out/kqueue.o" lib/c/kqueue.c
	rm -f "$out/libkqueue_c.a"
	ar rcs "$out/libkqueue_c.a" "$out/kqueue.o"
}

archive build/lib
cc -shared -o "build/lib/libkqueue_c.so.$version" -Wl,-soname,libkqueue_c.so.0 \
	-Wl,--version-script=packaging/kqueue.map -Wl,-z,defs -Wl,-z,relro,-z,now \
	build/lib/kqueue.o -pthread
ln -sf "libkqueue_c.so.$version" build/lib/libkqueue_c.so.0
ln -sf libkqueue_c.so.0 build/lib/libkqueue_c.so
if echo '#include <stdio.h>' | cc -m32 -E - >/dev/null 2>&1; then
	archive build/lib32 -m32
fi
