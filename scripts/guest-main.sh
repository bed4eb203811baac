#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# guest-main.sh OUT: what guest.sh runs in the guest. OUT is shared with the host.
out=$1

mountpoint -q /sys/kernel/debug || mount -t debugfs none /sys/kernel/debug
mountpoint -q /sys/kernel/tracing || mount -t tracefs none /sys/kernel/tracing
mountpoint -q /dev/shm || { mkdir -p /dev/shm && mount -t tmpfs none /dev/shm; }
ip link set lo up
# What leaked before we came is not ours.
leaks=/sys/kernel/debug/kmemleak
if [ -w $leaks ]; then
	echo scan >$leaks
	echo clear >$leaks
fi

bash -c "$(cat "$out/command")" >>"$out/output" 2>&1 </dev/null
status=$?

# An object is suspected once it is older than five seconds; one scan may be
# misled by a stale pointer.
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
