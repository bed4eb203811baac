#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# abi.sh [--check]: generates lib/src/abi.rs from include/uapi/linux/kqueue.h. With --check,
# compares the existing file with the header.
source "$(dirname "$0")/common.sh"
assignments=$("$top/scripts/toolchain.sh")
eval "$assignments"

made=$(mktemp)
trap 'rm -f "$made"' EXIT
{
	echo "// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause"
	echo
	bindgen "$top/include/uapi/linux/kqueue.h" --rust-target 1.85 --use-core --no-layout-tests \
		--ctypes-prefix libc --with-derive-default --with-derive-partialeq \
		--allowlist-type 'kqueue_.*' --allowlist-var '(EVFILT|EV|NOTE|VQ|KQUEUE)_.*'
} | sed -E '/^ *#\[doc = "/ { s|#\[doc = "(.*)"\]$|///\1|; s|\\n|\n///|g }' >"$made"
rustfmt --edition 2021 "$made"
if [ "${1:-}" = --check ]; then
	diff -u "$top/lib/src/abi.rs" "$made" || die "lib/src/abi.rs does not match the header: run scripts/abi.sh"
else
	cp "$made" "$top/lib/src/abi.rs"
fi
