# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
version='redis 8.0.2'
switch='`HAVE_KQUEUE` in `src/config.h`'
what='twelve units that turn on the event loop, and replication; the others are about time and memory. What needs 4 GB is skipped'
minutes=60
host=(tcl)

build() {
	if [ "$1" = kqueue ]; then
		# Which backend is for which system is said there.
		sed -i 's/^#define HAVE_EPOLL 1/#define HAVE_KQUEUE 1/' src/config.h
	fi
	step make make -j "$(nproc)" MALLOC=libc OPTIMIZATION=-O1 REDIS_CFLAGS="$include" \
		REDIS_LDFLAGS="$object" DEBUG= redis-server redis-benchmark redis-cli
}

units="unit/auth unit/quit unit/protocol unit/querybuf unit/pubsub unit/multi unit/wait
unit/obuf-limits unit/type/list unit/type/stream unit/slowlog unit/info integration/replication-4"
run() {
	local unit arguments=() status bad
	cp -r "$built" redis
	cd redis || return
	for unit in $units; do arguments+=(--single "$unit"); done
	timeout 2400 ./runtest --clients 1 --timeout 1200 --skipunit none "${arguments[@]}" >log 2>&1
	status=$?
	cat log
	bad=$(grep -c '\[err\]\|\[exception\]' log)
	[ $status = 0 ] || [ "$bad" != 0 ] || bad=1
	src/redis-server --port 7777 --save '' --daemonize yes
	eventually listens 7777
	src/redis-cli -p 7777 info server | grep "multiplexing_api:$1" || [ "$1" = native ] || bad=$((bad + 1))
	timeout 300 src/redis-benchmark -p 7777 -q -t ping,set,get,lpush -n 5000 -c 50 2>&1 | tr '\r' '\n' ||
		bad=$((bad + 1))
	src/redis-cli -p 7777 shutdown nosave
	counted "$(grep -c '\[ok\]' log)" "$bad" "$(grep -c '\[ignore\]\|\[skip' log)"
}
