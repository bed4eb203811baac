#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# run.sh MODULE ECHO-SERVER: runs in a guest. Loads the module, runs the echo server with real
# clients, and unloads the module. Fails if any step fails.
set -euo pipefail
connections=200
bytes=$((10 * 1024 * 1024))
log=$(mktemp)

insmod "$1"
"$2" --port 7007 >"$log" &
server=$!
until grep -q '^listening' "$log"; do
	kill -0 $server
	sleep 0.2
done
python3 "$(dirname "$0")/clients.py" 7007 $connections $bytes
kill -TERM $server
wait $server
sed -n 's/^served/server: served/p' "$log"
grep -q "^served $connections connections, $bytes bytes,.* 0 open at the end$" "$log"
rmmod kqueue
! grep -q '^kqueue ' /proc/modules
echo "module: unloaded"
