#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# bench-guest.sh MODULE COMMAND...: runs in a guest. Loads the module and runs the command.
insmod "$1" || exit
shift
"$@"
status=$?
rmmod kqueue || exit
exit $status
