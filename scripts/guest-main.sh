#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# guest-main.sh OUT: runs in the guest, started by guest.sh. The host can read OUT.
out=$1

mountpoint -q /sys/kernel/debug || mount -t debugfs none /sys/kernel/debug
mountpoint -q /sys/kernel/tracing || mount -t tracefs none /sys/kernel/tracing
mountpoint -q /dev/shm || { mkdir -p /dev/shm && mount -t tmpfs none /dev/shm; }
ip link set lo up
# Ignore what leaked before the command was started.
leaks=/sys/kernel/debug/kmemleak
if [ -w $leaks ]; then
	echo scan >$leaks
	echo clear >$leaks
fi

bash -c "$(cat "$out/command")" >>"$out/output" 2>&1 </dev/null
status=$?

# kmemleak suspects only objects that are older than five seconds. There are two scans, because a
# stale pointer can mislead one of them.
if [ -w $leaks ]; then
	sleep 6
	echo scan >$leaks
	echo scan >$leaks
	cat $leaks >/dev/kmsg
fi
dmesg >"$out/dmesg"
cat /proc/sys/kernel/tainted >"$out/tainted"
echo $status >"$out/status"
sync
