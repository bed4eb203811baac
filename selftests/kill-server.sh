#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# kill-server.sh ECHO-SERVER: kills the echo server in the middle of its work, and then its clients.
# The kernel log shows whether they leave anything behind.
server=$1
clients=$(dirname "$0")/../samples/demo/clients.py
log=$(mktemp)

fail() { echo "$*"; cat "$log"; exit 1; }
# On a machine with other loads a client can wait for long, so the server closes no connection itself.
start_server() {
	"$server" --idle 3600000 >"$log" &
	server_pid=$!
	until grep -q '^listening' "$log"; do
		kill -0 $server_pid || return
		sleep 0.1
	done
	port=$(sed -n 's/^listening //p' "$log")
}

bytes=20000000
start_clients() {
	python3 "$clients" "$port" 50 $bytes 2>/dev/null &
	clients_pid=$!
	# Wait until the clients are connected and the server has started to reply.
	until ss -Htn state established "sport = :$port" | grep -q .; do
		if ! kill -0 $clients_pid 2>/dev/null; then
			# Done before anybody looked, if they did not fail.
			wait $clients_pid || return
			bytes=$((bytes * 2))
			start_clients
			return
		fi
		sleep 0.1
	done
}

# A server that is left behind would keep the module in use.
trap 'kill -KILL $server_pid $clients_pid 2>/dev/null' EXIT

for delay in 0 1; do
	start_server || fail "the server has not started"
	start_clients || fail "the clients have failed"
	sleep $delay
	kill -KILL $server_pid
	wait $server_pid
	kill -KILL $clients_pid
	wait $clients_pid
done
start_server || fail "the server has not started"
start_clients || fail "the clients have failed"
kill -KILL $clients_pid
wait $clients_pid
# The connections of the clients end, and the server continues.
while ss -Htn state established "sport = :$port" | grep -q .; do sleep 0.2; done
kill -TERM $server_pid
wait $server_pid || fail "the server has failed"
grep -q ' 0 open at the end$' "$log" || fail "the server has kept a connection"
