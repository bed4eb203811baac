#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# run.sh MODULE FUZZER [ARGUMENT...]: in a guest, runs the fuzzer on the module.
# From memory: the guest's file system is slow.
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
