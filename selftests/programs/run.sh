#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# run.sh MODULE PROGRAMS OUT NAME...: in a guest, runs the tests of each program twice, on kqueue and
# on what it uses on Linux otherwise. Leaves OUT/NAME.WHICH.log, and OUT/table with lines
# "NAME|kqueue: PASSED FAILED SKIPPED|native: the same".
insmod "$1" || exit
work=$(mktemp -d /dev/shm/programs.XXXXXX)
# Under names that stay when /tmp, which programs count on, is mounted.
programs=$work/programs out=$work/out
mkdir "$programs" "$out"
mount --bind "$2" "$programs" && mount --bind "$3" "$out" || exit
shift 3
bad=0
export TMPDIR=$work HOME=$work TERM=linux
mount -t tmpfs none /tmp

# Tests that fail leave some running, which would keep the module in use.
end_programs_in() {
	local exe
	for exe in /proc/[0-9]*/exe; do
		[[ $(readlink "$exe") != "$1"/* ]] || kill "$(basename "$(dirname "$exe")")"
	done
}

# Each leaves in OUT/NAME.WHICH.counts: PASSED FAILED SKIPPED.
run_entr() {
	local log=$2 attempt status passed
	# Its tests give everything a quarter of a second, which may be too little here: three tries,
	# of which one must be right from beginning to end.
	for attempt in 1 2 3; do
		cp -r "$programs/entr/$1" "$work/entr"
		(cd "$work/entr" && timeout 900 ./system_test.sh) >"$log" 2>&1
		status=$?
		end_programs_in "$work/entr"
		rm -rf "$work/entr"
		[ $status != 0 ] || break
		cp "$log" "$log.$attempt"
	done
	# It ends at the first that fails.
	passed=$(sed -n 's/^\([0-9]*\) tests PASSED$/\1/p' "$log")
	echo "${passed:-0} $((status != 0)) $(grep -oE '^\.[.s]*|^[.s]+$' "$log" | tr -dc s | wc -c)"
}

libevent_backend() {
	local other
	for other in EVPORT KQUEUE EPOLL DEVPOLL POLL SELECT; do
		export "EVENT_NO$other=yes"
	done
	if [ "$1" = kqueue ]; then unset EVENT_NOKQUEUE; else unset EVENT_NOEPOLL; fi
}

run_libevent() {
	local log=$2 good=0 bad=0 program
	libevent_backend "$1"
	cd "$programs/libevent/kqueue/test" || return
	for program in test-eof test-closed test-weof test-time test-changelist test-fdleak; do
		if timeout 300 ./$program >>"$log" 2>&1; then
			good=$((good + 1))
		else
			bad=$((bad + 1))
			echo "$program: FAILED" >>"$log"
		fi
	done
	# Each test may take longer than on hardware. One that is killed or hangs is a failure too.
	timeout 2400 ./regress --timeout 600 >>"$log" 2>&1
	local status=$? ok failures
	ok=$(sed -nE 's/^([0-9]+) tests ok.*/\1/p' "$log" | tail -n 1)
	failures=$(sed -nE 's/^([0-9]+)\/[0-9]+ TESTS FAILED.*/\1/p' "$log" | tail -n 1)
	[ $status = 0 ] || [ -n "$failures" ] || failures=1
	timeout 300 ./bench -n 100 -a 100 -w 100 >"$log.bench" 2>&1 || bad=$((bad + 1))
	cd /
	echo "$((good + ${ok:-0})) $((bad + ${failures:-0})) $(grep -c 'SKIPPED$' "$log")"
}

run_libev() {
	local log=$2 flags=4
	[ "$1" = native ] || flags=8
	LIBEV_FLAGS=$flags timeout 300 "$programs/libev/kqueue/watchers" >"$log" 2>&1
	local status=$?
	echo "$(grep -c '^ok' "$log") $((status != 0)) 0"
}

# The units that turn on the event loop, and not on how much time and memory there is.
redis_units="unit/auth unit/quit unit/protocol unit/querybuf unit/pubsub unit/multi unit/wait
unit/obuf-limits unit/type/list unit/type/stream unit/slowlog unit/info integration/replication-4"
run_redis() {
	local log=$2 unit arguments=()
	cp -r "$programs/redis/$1" "$work/redis"
	cd "$work/redis" || return
	for unit in $redis_units; do arguments+=(--single "$unit"); done
	timeout 2400 ./runtest --clients 1 --timeout 1200 --skipunit none "${arguments[@]}" >"$log" 2>&1
	local status=$?
	src/redis-server --port 7777 --save '' --daemonize yes >"$log.server" 2>&1
	sleep 2
	src/redis-cli -p 7777 info server | grep multiplexing_api >>"$log.server"
	timeout 300 src/redis-benchmark -p 7777 -q -t ping,set,get,lpush -n 5000 -c 50 2>&1 | tr '\r' '\n' >"$log.bench"
	src/redis-cli -p 7777 shutdown nosave
	cd /
	rm -rf "$work/redis"
	local bad
	bad=$(grep -c '\[err\]\|\[exception\]' "$log")
	[ $status = 0 ] || [ "$bad" != 0 ] || bad=1
	echo "$(grep -c '\[ok\]' "$log") $bad $(grep -c '\[ignore\]\|\[skip' "$log")"
}

: >"$out/table"
for name in "$@"; do
	for which in kqueue native; do
		start=$SECONDS
		echo "$name, $which"
		: >"$out/$name.$which.log"
		(run_"$name" $which "$out/$name.$which.log") >"$out/$name.$which.counts"
		echo "  $(cat "$out/$name.$which.counts") ($((SECONDS - start)) s)"
	done
	echo "$name|$(cat "$out/$name.kqueue.counts")|$(cat "$out/$name.native.counts")" >>"$out/table"
	read -r _ failed _ <"$out/$name.kqueue.counts"
	[ "${failed:-1}" = 0 ] || bad=1
done
umount /tmp "$programs" "$out"
rm -rf --one-file-system "$work"
rmmod kqueue || exit
exit $bad
