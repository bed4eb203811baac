#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# bench-guest.sh MODULE COMMAND...: in a guest, runs the command with the module loaded.
insmod "$1" || exit
shift
"$@"
status=$?
rmmod kqueue || exit
exit $status
