#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# library.sh [--32]: builds the C library, shared and static, in build/lib, with CC, AR, CPPFLAGS, CFLAGS and
# LDFLAGS if they are given. WERROR=1: warnings are errors. --32: where the compiler can, the static one for
# 32-bit programs too, in build/lib32, which only the tests use. Needs no cargo.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(scripts/version.sh)
read -ra cc <<<"${CC:-cc}"
read -ra flags <<<"${CPPFLAGS:-} ${CFLAGS:--O2 -g}"
read -ra link <<<"${LDFLAGS:-}"
flags+=(-std=gnu11 -fPIC -fexceptions -Wall -Wextra -Iinclude -Iinclude/uapi)
[ -z "${WERROR:-}" ] || flags+=(-Werror)

# archive DIR FLAGS...
archive() {
	local out=$1
	shift
	mkdir -p "$out"
	"${cc[@]}" "${flags[@]}" "$@" -c -o "$out/kqueue.o" lib/c/kqueue.c
	rm -f "$out/libkqueue_c.a"
	"${AR:-ar}" rcs "$out/libkqueue_c.a" "$out/kqueue.o"
}

archive build/lib
"${cc[@]}" "${flags[@]}" "${link[@]}" -shared -o "build/lib/libkqueue_c.so.$version" -Wl,-soname,libkqueue_c.so.0 \
	-Wl,--version-script=packaging/kqueue.map -Wl,-z,defs -Wl,-z,relro,-z,now \
	build/lib/kqueue.o -pthread
ln -sf "libkqueue_c.so.$version" build/lib/libkqueue_c.so.0
ln -sf libkqueue_c.so.0 build/lib/libkqueue_c.so
if [ "${1:-}" = --32 ] && echo '#include <stdio.h>' | "${cc[@]}" -m32 -E - >/dev/null 2>&1; then
	archive build/lib32 -m32
fi
