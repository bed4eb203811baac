# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
version='lighttpd 1.4'
switch='`ac_cv_header_sys_epoll_h=no`, `ac_cv_header_sys_inotify_h=no`'
native='epoll, inotify'
what='its tests of the whole server; files that change under its cache, and a load'
host=(autoconf automake libtool pkg-config libpcre2-dev perl)

build() {
	local variables=()
	[ "$1" = native ] || variables=(ac_cv_header_sys_epoll_h=no ac_cv_header_sys_inotify_h=no
		CPPFLAGS="$include" LIBS="$library")
	step autogen ./autogen.sh
	step configure ./configure --without-zlib --with-pcre2 \
		CFLAGS='-g -O1' "${variables[@]}"
	if [ "$1" = kqueue ]; then
		grep -q 'define HAVE_KQUEUE 1' config.h || die "lighttpd's configure did not find kqueue()"
	fi
	step make make -j "$(nproc)"
	step tests make -C tests check TESTS=
}

configuration() {
	cat <<-CONF
		server.document-root = "$PWD/files"
		server.port = 8080
		server.bind = "127.0.0.1"
		server.event-handler = "$1"
		server.stat-cache-engine = "fam"
		server.errorlog = "$PWD/error.log"
		server.pid-file = "$PWD/pid"
		server.max-keep-alive-requests = 60000
		mimetype.assign = ("" => "text/plain")
	CONF
}

# The stat cache is notified when a file changes.
changes() {
	local round
	for round in 1 2 3 4 5; do
		head -c $((1000 * round)) /dev/urandom >new
		mv new files/small
		eventually same http://127.0.0.1:8080/small files/small || return
		echo "$round" >>files/small
		eventually same http://127.0.0.1:8080/small files/small || return
	done
}

run() {
	local handler=linux-sysepoll pid
	[ "$1" = native ] || handler=freebsd-kqueue
	mkdir files
	head -c 1000 /dev/urandom >files/small
	head -c 300000 /dev/urandom >files/middle
	configuration $handler >conf
	expect "starts with $handler" "$built/src/lighttpd" -f conf
	expect "listens" eventually listens 8080
	expect "content" same http://127.0.0.1:8080/middle files/middle
	expect "changes are seen" changes
	expect "requests" requests 500 20 http://127.0.0.1:8080/small
	expect "requests, kept alive" requests 1000 20 http://127.0.0.1:8080/small -k
	expect "large files" requests 100 10 http://127.0.0.1:8080/middle
	pid=$(cat pid)
	kill -INT "$pid"
	expect "ends" eventually gone "$pid"
	cat error.log
	cp -r "$built" lighttpd
	cd lighttpd/tests || return
	export srcdir=. top_builddir=.. VERBOSE=1 SHELL=/bin/sh
	./prepare.sh && perl run-tests.pl
	./cleanup.sh
}
