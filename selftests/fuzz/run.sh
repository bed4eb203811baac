#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# run.sh MODULE FUZZER [ARGUMENT...]: runs in a guest. Loads the module and runs the fuzzer.
# The file system of the guest is slow, so both are copied to memory.
stage=$(mktemp -d /dev/shm/kqueue.XXXXXX)
chmod 755 "$stage"
cp "$1" "$stage/kqueue.ko"
cp "$2" "$stage/kqueue-fuzz"
shift 2
cd "$stage" || exit
busybox insmod kqueue.ko || exit
./kqueue-fuzz "$@"
status=$?
busybox rmmod kqueue || exit
exit "$status"
