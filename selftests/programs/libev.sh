# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
version='libev 4.33'
switch='configure finds it'
what='`selftests/programs/libev-watchers.c`, since it has no tests of its own'
builds=1
own=(selftests/programs/libev-watchers.c)

build() {
	step configure ./configure --disable-shared CPPFLAGS="$include" LIBS="$library"
	grep -q 'define HAVE_KQUEUE 1' config.h || die "libev's configure did not find kqueue()"
	step make make -j "$(nproc)" libev.la
	step watchers cc -O2 -g -Wall -Wno-strict-aliasing -I. -o watchers \
		"$top/selftests/programs/libev-watchers.c" .libs/libev.a "$library" -lm -pthread
}

run() {
	local flags=4
	[ "$1" = native ] || flags=8
	LIBEV_FLAGS=$flags timeout 300 "$built/watchers" || echo "not ok its end: $?"
}
