# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
version='Tcl 9.0'
package=tcl9.0 suite=sid
switch='`ac_cv_header_sys_epoll_h=no`, `-DNOTIFIER_KQUEUE=1`'
what='its tests of events, notifiers, channels, sockets and programs. `io-6.56` and `io-13.6` wait for half a second, in which
an emulated guest does not start a second shell. What is skipped needs its Thread package, which is another source, Windows
or IPv6, or is marked as not portable'
known=(io-6.56 io-13.6)
minutes=30

build() {
	local variables=(CPPFLAGS= LIBS=)
	[ "$1" = native ] || variables=(ac_cv_header_sys_epoll_h=no ac_cv_header_sys_eventfd_h=no
		CPPFLAGS="-DNOTIFIER_KQUEUE=1 $include" LIBS="$object")
	cd unix
	step configure ./configure --disable-shared CFLAGS='-g -O1' "${variables[@]}"
	step make make -j "$(nproc)" tclsh tcltest
}

tests="event notify unixNotfy unixForkEvent socket chan io ioCmd exec async unixInit http"

# uses WHICH: checks that a shell waits for events with that interface.
uses() {
	local shell status
	echo 'vwait forever' >waits.tcl
	./tclsh waits.tcl &
	shell=$!
	eventually watches_with "$1" $shell
	status=$?
	kill $shell
	return $status
}

run() {
	local test other=epoll
	cp -r "$built" tcl
	cd tcl/unix || return
	export TCL_LIBRARY=$PWD/../library LC_ALL=C.UTF-8
	[ "$1" = native ] || other=kqueue
	if uses $other; then
		echo "ok $other is used"
		echo 1 0 0 >sums
	else
		echo "not ok $other is used"
		echo 0 1 0 >sums
	fi
	for test in $tests; do
		timeout 1200 ./tcltest ../tests/all.tcl -singleproc 0 -file "$test.test" -verbose bpse >log 2>&1
		sed 's/^ok/  ok/; s/^not ok/  not ok/' log
		sed -nE 's/^==== ([^ ]+) FAILED$/not ok \1/p' log
		# A test file that does not finish counts as a failure.
		awk '/^all.tcl:\tTotal/ { print $5, $9, $7; ended = 1 } END { if (!ended) print 0, 1, 0 }' log >>sums
	done
	counted "$(awk '{ p += $1; f += $2; s += $3 } END { print p, f, s }' sums)"
}
