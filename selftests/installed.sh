#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# installed.sh PROGRAM VERSION LOCKDOWN: runs in a guest whose root directory has the Debian packages,
# and uses them: the module of DKMS, kqtrace, and the program, which is selftests/header.c linked with
# the library. LOCKDOWN is the state of the kernel: none or integrity.
set -e
program=$1 version=$2 lockdown=$3
fail() { echo "installed.sh: $*"; exit 1; }
grep -F "[$lockdown]" /sys/kernel/security/lockdown || fail "the lockdown of the kernel is not $lockdown"

# modprobe uses the module that DKMS installed for this kernel.
modprobe kqueue
module=$(modinfo -n kqueue)
[[ $module = /lib/modules/$(uname -r)/updates/dkms/kqueue.ko* ]] || fail "the module is $module"
[ "$(cat /sys/module/kqueue/version)" = "$version" ] || fail "the version of the module"
[ "$(stat -c %a /dev/kqueue)" = 666 ] || fail "the mode of /dev/kqueue"

# As root, and as another user.
"$program" || fail "$program"
install -m 755 "$program" /run/program
setpriv --reuid 65534 --regid 65534 --clear-groups /run/program || fail "$program of another user"

kqtrace timer:1000 --count 3 || fail "kqtrace with a timer"
kqtrace timer:1000000 &
watcher=$!
until grep -qs '^kqueue knotes: 1 ' /proc/$watcher/fdinfo/*; do sleep 0.1; done
kqtrace list >/run/list || fail "kqtrace list"
cat /run/list
grep -E "^ *$watcher +[0-9]+ +1 +0 kqtrace$" /run/list || fail "process $watcher is not listed"
kill $watcher
wait $watcher || true

modprobe -r kqueue || fail "the module cannot be unloaded"
[ ! -e /dev/kqueue ] || fail "/dev/kqueue remains"
