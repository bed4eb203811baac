#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# programs.sh NAME...: fetches the sources of these programs from Debian and builds them, each with
# its kqueue backend on our library and with what it uses on Linux otherwise; prints the folder
# that they are in: NAME/kqueue and NAME/native. Nothing in their event code is changed.
source "$(dirname "$0")/common.sh"
source "$top/scripts/debian-archive.sh"
cd "$top"
# Lists of its own, of sources.
archive=$cache/apt-source
suites=trixie
types=deb-src
unset KQUEUE_ARCHIVE_FRESH

out=$top/build/programs
log=$out/log
mkdir -p "$out" "$log" "$cache/programs"
scripts/library.sh
include="-I$top/include -I$top/include/uapi"
library="$top/build/lib/libkqueue_c.a"

# fetch NAME: the path of the program's own source, as its authors released it.
fetch() {
	local name=$1 dir=$cache/programs/$1
	if [ ! -f "$dir/.fetched" ]; then
		say "fetching the source of $name"
		archive_update
		rm -rf "$dir"
		mkdir -p "$dir"
		(cd "$dir" && logged "$log/$name.fetch" archive_apt apt-get source --download-only --tar-only "$name")
		touch "$dir/.fetched"
	fi
	find "$dir" -name "${name}_*.orig.tar.*" ! -name '*.asc'
}

# unpack NAME WHICH: the source in a folder of its own; fails if it was built there already.
unpack() {
	local dir=$out/$1/$2
	[ ! -f "$dir/.built" ] || return 1
	say "building $1 ($2)"
	rm -rf "$dir"
	mkdir -p "$dir"
	tar -x -f "$(fetch "$1")" -C "$dir" --strip-components 1
}

built() { touch "$out/$1/$2/.built"; }

build_entr() {
	if unpack entr native; then
		(cd "$out/entr/native" && logged "$log/entr.native" sh -c './configure && make')
		built entr native
	fi
	if unpack entr kqueue; then
		# As on FreeBSD, but for awk, which is Linux's; and the C library may lack strlcpy.
		logged "$log/entr.status" make -C "$out/entr/kqueue" -f Makefile.freebsd EXTRA_SRC=missing/strlcpy.c \
			CPPFLAGS="-D_GNU_SOURCE -D_LINUX_PORT $include" status.o
		logged "$log/entr.kqueue" make -C "$out/entr/kqueue" -f Makefile.freebsd EXTRA_SRC=missing/strlcpy.c \
			CPPFLAGS="-D_GNU_SOURCE $include" LDFLAGS="$library"
		built entr kqueue
	fi
}

# One build has all backends; the environment chooses. Its configure runs a program to see if kqueue
# works, which it cannot here; that program is run in the guest.
build_libevent() {
	unpack libevent kqueue || return 0
	(
		cd "$out/libevent/kqueue"
		logged "$log/libevent.configure" ./configure --disable-shared --disable-openssl --disable-mbedtls \
			CPPFLAGS="$include -DEVENT__HAVE_WORKING_KQUEUE=1" LIBS="$library" \
			CFLAGS="-g -O2 -Wno-error=int-conversion"
		grep -q 'define HAVE_KQUEUE 1' config.h || die "libevent's configure did not find kqueue()"
		logged "$log/libevent.make" make -j "$(nproc)" LIBS="$library" all
		logged "$log/libevent.tests" make -j "$(nproc)" LIBS="$library" check TESTS=
	)
	ln -sfn kqueue "$out/libevent/native"
	built libevent kqueue
}

# The same; and a program that tries all kinds of its watchers.
build_libev() {
	if unpack libev kqueue; then
		(
			cd "$out/libev/kqueue"
			logged "$log/libev.configure" ./configure --disable-shared CPPFLAGS="$include" LIBS="$library"
			grep -q 'define HAVE_KQUEUE 1' config.h || die "libev's configure did not find kqueue()"
			logged "$log/libev.make" make -j "$(nproc)" libev.la
		)
		ln -sfn kqueue "$out/libev/native"
		built libev kqueue
	fi
	cc -O2 -g -Wall -Wno-strict-aliasing -I"$out/libev/kqueue" -o "$out/libev/kqueue/watchers" \
		selftests/programs/libev.c "$out/libev/kqueue/.libs/libev.a" "$library" -lm -pthread
}

# Linked with the object itself, since its libraries come after ours.
build_redis() {
	local which
	for which in native kqueue; do
		unpack redis $which || continue
		if [ $which = kqueue ]; then
			# Which backend is for which system is said there.
			sed -i 's/^#define HAVE_EPOLL 1/#define HAVE_KQUEUE 1/' "$out/redis/kqueue/src/config.h"
		fi
		logged "$log/redis.$which" make -C "$out/redis/$which" -j "$(nproc)" MALLOC=libc OPTIMIZATION=-O1 \
			REDIS_CFLAGS="$include" REDIS_LDFLAGS="$top/build/lib/kqueue.o" DEBUG= redis-server redis-benchmark redis-cli
		built redis $which
	done
}

for name in "$@"; do
	"build_$name"
done
echo "$out"
