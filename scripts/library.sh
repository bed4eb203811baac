#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# library.sh [--32]: builds the shared and the static C library in build/lib, without cargo. Uses
# CC, AR, CPPFLAGS, CFLAGS and LDFLAGS. With WERROR=1 warnings are errors. With --32 it also builds
# the static library for 32-bit programs in build/lib32, if the compiler can; only the tests use it.
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
