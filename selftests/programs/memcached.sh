# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
version='memcached 1.6.38'
switch='libevent with kqueue'
what='eighteen of its tests, those of connections'
builds=1
needs=(libevent)
host=(perl)

build() {
	local libevent=$out/libevent/kqueue
	step configure ./configure --disable-extstore --disable-proxy \
		CPPFLAGS="-I$libevent/include" LDFLAGS="-L$libevent/.libs" LIBS="$library" CFLAGS='-g -O1 -pthread'
	step make make -j "$(nproc)" memcached memcached-debug sizes testapp timedrun
}

# uses METHOD: checks the method that libevent reports.
uses() { EVENT_SHOW_METHOD=1 timeout 10 ./memcached -u root -p 11999 2>&1 | grep -q "using: $1"; }

# Run the tests of connections. The others test storage and expiry, and restart the server each
# time.
tests="ascii-auth binary-get cas conn-limits daemonize idle-timeout incrdecr line-lengths malicious-commands maxconns
multiversioning noreply quit stats stats-conns touch udp unixsocket"

run() {
	local test status
	libevent_backend "$1"
	cp -r "$built" memcached
	cd memcached || return
	if [ "$1" = kqueue ]; then expect "kqueue is used" uses kqueue; else expect "epoll is used" uses epoll; fi
	for test in $tests; do
		timeout 600 perl "t/$test.t" >log 2>&1
		status=$?
		if grep -q '^1\.\.0 # [Ss]' log; then
			echo "skip $test"
		elif [ $status = 0 ]; then
			echo "ok $test"
		else
			cut -c1-200 log | sed 's/^ok/  ok/; s/^not ok/  not ok/'
			echo "not ok $test: $status"
		fi
	done
}
