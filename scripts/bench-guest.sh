#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# bench-guest.sh MODULE COMMAND...: runs in a guest. Loads the module and runs the command.
insmod "$1" || exit
# The matrix has more inotify instances than a user may have by default.
echo 1024 >/proc/sys/fs/inotify/max_user_instances
shift
"$@"
status=$?
rmmod kqueue || exit
exit $status
