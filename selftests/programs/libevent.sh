# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
version='libevent 2.1.13'
switch='configure finds it; `EVENT__HAVE_WORKING_KQUEUE=1`, since its test must run'
what='`regress`, `test-*`, `bench`; eight tests are of `EV_CLOSED`, which its kqueue backend has on no system'
builds=1
minutes=60

# The configure script runs a program to check that kqueue works. That is impossible on the build
# machine, so the program is run in the guest.
build() {
	step configure ./configure --disable-shared --disable-openssl --disable-mbedtls \
		CPPFLAGS="$include -DEVENT__HAVE_WORKING_KQUEUE=1" LIBS="$library" \
		CFLAGS="-g -O2 -Wno-error=int-conversion"
	grep -q 'define HAVE_KQUEUE 1' config.h || die "libevent's configure did not find kqueue()"
	step make make -j "$(nproc)" LIBS="$library" all
	step tests make -j "$(nproc)" LIBS="$library" check TESTS=
}

run() {
	local good=0 bad=0 program
	libevent_backend "$1"
	cp -r "$built/test" .
	cd test || return
	for program in test-eof test-closed test-weof test-time test-changelist test-fdleak; do
		if timeout 300 ./$program; then
			good=$((good + 1))
		else
			bad=$((bad + 1))
			echo "$program: FAILED"
		fi
	done
	# Each test may take longer than on hardware. One that is killed or hangs is a failure too.
	timeout 2400 ./regress --timeout 600 >log 2>&1
	local status=$? ok failures
	cat log
	ok=$(sed -nE 's/^([0-9]+) tests ok.*/\1/p' log | tail -n 1)
	failures=$(sed -nE 's/^([0-9]+)\/[0-9]+ TESTS FAILED.*/\1/p' log | tail -n 1)
	[ $status = 0 ] || [ -n "$failures" ] || failures=1
	timeout 300 ./bench -n 100 -a 100 -w 100 || bad=$((bad + 1))
	counted $((good + ${ok:-0})) $((bad + ${failures:-0})) "$(grep -c 'SKIPPED$' log)"
}
