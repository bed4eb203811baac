# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
version='PostgreSQL 18'
package=postgresql-18 suite=sid
builds=1
switch='`-DWAIT_USE_KQUEUE`'
what='a load: pgbench, NOTIFY, a query that is cancelled, restarts, the end of the postmaster; nine isolation tests, whose
sessions wait for each other; of its regression tests those of transactions, locks, NOTIFY and parallel workers. The others compute'
minutes=20
host=(bison flex perl util-linux)

# The wait method is selected in one file. The second server differs only in that file.
build() {
	step configure ./configure --prefix="$PWD/kqueue" --without-readline --without-icu --without-zlib \
		CFLAGS=-O1 CPPFLAGS="$include" LDFLAGS_EX="$object"
	step make make -j "$(nproc)" COPT=-DWAIT_USE_KQUEUE
	step tests make -C src/test/regress all
	step isolation make -C src/test/isolation all
	step contrib make -C contrib/spi
	step install make install
	step install-spi make -C contrib/spi install
	cp -r kqueue native
	rm src/backend/storage/ipc/{waiteventset.o,objfiles.txt} src/backend/postgres
	step waits make -C src/backend/storage/ipc objfiles.txt
	step native make -C src/backend postgres
	cp src/backend/postgres native/bin/
}

# The server refuses to run as root.
as_user() { setpriv --reuid nobody --regid nogroup --clear-groups env HOME="$PWD" TMPDIR="$PWD" "$@"; }
sql() { as_user timeout 600 psql -X -q -A -t -h "$PWD" -d postgres "$@"; }
server() { as_user timeout 600 pg_ctl -D "$PWD/data" -w -t 300 -l "$PWD/data/log" -o "-k $PWD -c listen_addresses=" "$@"; }
# shellcheck disable=SC2046 # It is a list.
no_postgres() { gone $(pgrep -x postgres); }

notified() {
	mkfifo commands
	sql -f - <commands >told 2>&1 &
	local client=$! round
	exec 7>commands
	echo "listen channel; select 'listens';" >&7
	# Notifications that are sent before that are lost.
	eventually grep -q listens told || return
	for round in 1 2 3 4 5; do
		sql -c "notify channel, 'round $round'"
		# psql prints notifications after it has executed a command.
		eventually notification "$round" || return
	done
	exec 7>&-
	wait $client
}
notification() {
	echo 'select 1;' >&7
	grep -q "round $1" told
}

# A waiting process is woken when another process exits.
cancelled() {
	sql -c 'select pg_sleep(1000)' >slept 2>&1 &
	local client=$!
	eventually sleeper || return
	sql -c "select pg_cancel_backend(pid) from pg_stat_activity where query ~ '^select pg_sleep'" | grep -q t || return
	wait $client
	grep -q 'canceling statement' slept
}
sleeper() { sql -c "select 1 from pg_stat_activity where query ~ '^select pg_sleep' and wait_event = 'PgSleep'" | grep -q 1; }

# All processes exit when the postmaster is killed, also those that wait for a client.
orphans() {
	mkfifo idle
	sql -f - <idle &
	exec 7>idle
	echo 'select 1;' >&7
	sleep 1
	kill -9 "$(head -n 1 data/postmaster.pid)"
	eventually no_postgres
	local status=$?
	exec 7>&-
	wait
	# Reap the process. Otherwise the next postmaster would regard it as a running server.
	rm -f data/postmaster.pid .s.PGSQL.5432.lock
	return $status
}

# tests PROGRAM SCHEDULE-OR-TESTS...: runs pg_regress with a server of its own, and prints its "ok"
# and "not ok" lines.
tests() {
	local program=$1
	shift
	mkdir output
	chown nobody output
	as_user timeout 4800 "$built/src/test/$program" --bindir="$built/$which/bin" --inputdir="$built/src/test/${program%/*}" \
		--outputdir="$PWD/output" --temp-instance="$PWD/output/instance" --dlpath="$built/src/test/regress" \
		--expecteddir="$built/src/test/${program%/*}" --max-connections=6 --port=61999 "$@" ||
		cat output/regression.diffs output/*/log/postmaster.log
	rm -rf output
}

run() {
	local other=epoll
	which=$1
	[ "$1" = native ] || other=kqueue
	chown nobody .
	export PATH=$built/$1/bin:$PATH LD_LIBRARY_PATH=$built/$1/lib PG_TEST_TIMEOUT_DEFAULT=1800 PGCTLTIMEOUT=600
	expect initdb as_user initdb -D data -U nobody --no-sync -c max_connections=40
	expect starts server start
	expect "$other is used" server_uses $other
	expect pgbench-initialize as_user timeout 900 pgbench -h "$PWD" -i -s 1 -q postgres
	expect pgbench as_user timeout 900 pgbench -h "$PWD" -n -c 8 -j 2 -t 30 postgres
	expect pgbench-connect as_user timeout 900 pgbench -h "$PWD" -n -C -S -c 4 -j 2 -t 10 postgres
	expect notify notified
	expect cancel cancelled
	expect restart server restart -m fast
	expect "again" sql -c 'select 1'
	expect "the postmaster's end" orphans
	expect "starts after that" server start
	expect stops server stop -m fast
	rm -rf data
	tests isolation/pg_isolation_regress deadlock-simple deadlock-hard timeouts async-notify lock-nowait \
		skip-locked fk-deadlock two-ids nowait
	tests regress/pg_regress test_setup copy create_misc create_index async advisory_lock transactions portals prepared_xacts \
		select_parallel write_parallel vacuum_parallel
}

server_uses() { watches_with "$1" "$(head -n 1 data/postmaster.pid)"; }
