# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
version='haproxy 3.0'
switch='`USE_KQUEUE=1`; `noepoll` in its configuration'
what='its tests of connections that need no Lua and no OpenSSL, with varnishtest; a load: HTTP and TCP, health checks, a server that goes and comes back, reloads'
builds=1
host=(netcat-openbsd varnish)
minutes=60

build() {
	step make make -j "$(nproc)" TARGET=linux-glibc USE_KQUEUE=1 USE_LIBATOMIC= CPU_CFLAGS=-O1 \
		ADDINC="$include" ADDLIB="$object" haproxy
}

# configuration OPTION
configuration() {
	printf 'global\n %s\n' "$1"
	cat <<-CONF
		 nbthread 2
		 maxconn 1000
		 pidfile $PWD/pid
		 stats socket $PWD/admin level admin expose-fd listeners
		defaults
		 mode http
		 timeout connect 60s
		 timeout client 300s
		 timeout server 300s
		 timeout queue 300s
		 timeout check 60s
		 errorfile 503 /dev/null
		frontend front
		 bind 127.0.0.1:8080
		 default_backend servers
		backend servers
		 balance roundrobin
		 option httpchk GET /
		 default-server inter 300ms maxconn 4
		 server one 127.0.0.1:8081 check
		 server two 127.0.0.1:8082 check
		 server three unix@$PWD/three check
		frontend large
		 bind 127.0.0.1:8083
		 default_backend splice
		backend splice
		 server one 127.0.0.1:8084
		frontend answers-one
		 bind 127.0.0.1:8081
		 http-request return status 200 content-type text/plain file $PWD/small
		frontend answers-two
		 bind 127.0.0.1:8082
		 http-request return status 200 content-type text/plain file $PWD/small
		frontend answers-three
		 bind unix@$PWD/three
		 http-request return status 200 content-type text/plain file $PWD/small
		listen answers-large
		 bind 127.0.0.1:8084
		 http-request return status 200 content-type text/plain file $PWD/middle
		listen tcp
		 mode tcp
		 bind 127.0.0.1:8085
		 server one 127.0.0.1:8081
	CONF
}

admin() { echo "$*" | timeout 60 nc -N -U admin; }
state() { admin show servers state servers | awk -v name="$1" '$4 == name { print $6 }'; }
is() { [ "$(state "$1")" = "$2" ]; }

requests_while_reloading() {
	local load round
	requests 400 8 http://127.0.0.1:8080/ &
	load=$!
	for round in 1 2 3; do
		old=$(cat pid)
		"$built/haproxy" -D -f conf -x "$PWD/admin" -sf $old || echo "round $round"
		eventually gone $old
	done
	wait "$load"
}

end() {
	local pids
	pids=$(cat pid)
	kill -USR1 $pids
	eventually gone $pids
}

# Those of connections; the others are about what is done with a request.
folders=$(printf 'reg-tests/%s ' connection http-messaging server mcli balance stream tcp-rules http-set-timeout spoe checks)

run() {
	local url=http://127.0.0.1 test
	head -c 1000 /dev/urandom | base64 >small
	head -c 9000 /dev/urandom >middle
	local other=kqueue use=epoll option=-dk
	[ "$1" = native ] || other=epoll use=kqueue option=-de
	configuration "no$other" >conf
	expect starts "$built/haproxy" -D -f conf
	expect listens eventually listens 8085
	# shellcheck disable=SC2046 # They are numbers.
	expect "$use is used" watches_with $use $(cat pid)
	expect "checks are made" eventually is three 2
	expect content same $url:8080/ small
	expect "larger content" same $url:8083/ middle
	expect "content of TCP" same $url:8085/ small
	expect "requests" requests 500 20 $url:8080/
	expect "requests, kept alive" requests 1000 20 $url:8080/ -k
	expect "larger ones" requests 300 10 $url:8083/ -k
	expect "TCP" requests 300 10 $url:8085/
	expect "one is disabled" admin disable server servers/one
	expect "one is taken down" admin disable frontend answers-two
	expect "its check fails" eventually is two 0
	expect "requests to those that are left" requests 300 10 $url:8080/
	expect "it is there again" admin enable frontend answers-two
	expect "its check is good" eventually is two 2
	expect "reload under load" requests_while_reloading
	expect "end" end

	# Its own tests, of a program that has that option. Some are about time: those that fail are
	# run once more, alone.
	printf '#!/bin/sh\nexec %s %s "$@"\n' "$built/haproxy" $option >haproxy
	chmod +x haproxy
	export HAPROXY_PROGRAM=$PWD/haproxy TMPDIR=$PWD
	cd "$built" || return
	# shellcheck disable=SC2046,SC2086 # They are names.
	tests 2 $(grep -rLE 'OPENSSL|LUA|REGTEST_TYPE=(slow|broken|devel)|prometheus' $folders --include='*.vtc') >"$TMPDIR/first"
	grep -v '^not ok ' "$TMPDIR/first"
	for test in $(sed -n 's/^not ok //p' "$TMPDIR/first"); do
		tests 1 "$test"
	done
}

# tests AT-A-TIME FILE...
tests() {
	local jobs=$1
	shift
	varnishtest -k -j "$jobs" -t 600 -b 40M "$@" 2>&1 | tr -d '\0' |
		sed -E 's/^#.* TEST (.*) passed.*/ok \1/; s/^#.* TEST (.*) skipped.*/skip \1/; s/^#.* TEST (.*) (FAILED|TIMED OUT).*/not ok \1/'
}
