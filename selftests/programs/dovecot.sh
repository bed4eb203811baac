# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
version='dovecot 2.4'
switch='`--with-ioloop=kqueue --with-notify=kqueue`'
native='epoll, inotify'
what='its tests of what waits for events: 8 parts of its library, and 17 programs, of clients and servers. The others compute'
host=(libssl-dev bison flex pkg-config)
minutes=20

# Those that all of it stands on, in the order of its makefile.
libraries="lib-test lib lib-var-expand lib-dns lib-settings lib-otp lib-auth lib-auth-client lib-dns-client
lib-ssl-iostream lib-master lib-login lib-charset lib-json lib-dcrypt lib-dict lib-sasl lib-http lib-fs lib-mail
lib-program-client lib-smtp"

build() {
	local options=(--with-ioloop=epoll --with-notify=inotify CPPFLAGS= LIBS=)
	[ "$1" = native ] || options=(--with-ioloop=kqueue --with-notify=kqueue CPPFLAGS="$include" LIBS="$object")
	step configure ./configure --disable-shared --enable-static --without-docs --without-pam \
		--without-bzlib --without-zstd --without-lz4 --without-lua CFLAGS='-g0 -O1' "${options[@]}"
	step make make -j "$(nproc)" -C src SUBDIRS="${libraries//$'\n'/ }"
	# They are built, and not run.
	step tests make -j "$(nproc)" -C src SUBDIRS="${libraries//$'\n'/ }" check RUN_TEST=true
}

# Those that wait for events.
waiting="auth-client auth-master dict dns-lookup http-client http-client-errors http-client-request
http-server-errors iostream-ssl login-server-auth master-service program-client-local program-client-net
program-client-unix smtp-client-errors smtp-server-errors smtp-submit"
parts="connection ioloop iostream istream_multiplex istream_unix lib_signals net ostream"

# tested NAME PROGRAM [ARGUMENT...]: the program ends well. It runs among its sources, since it may
# read files of that folder.
tested() {
	local name=$1 program=$2 status
	shift 2
	mkdir here
	find "${program%/*}" -maxdepth 1 -type f ! -name '*.[oa]' ! -perm -u=x -exec cp -t here {} +
	cp "$program" here
	(cd here && timeout 600 "./${program##*/}" "$@") >log 2>&1
	status=$?
	cat log
	rm -rf here
	expect "$name" [ $status = 0 ]
}

run() {
	local test
	for test in $parts; do
		tested "lib $test" "$built/src/lib/test-lib" --match "test_$test"
	done
	for test in $waiting; do
		tested "$test" "$built"/src/*/"test-$test"
	done
}
