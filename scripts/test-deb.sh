#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# test-deb.sh [DEBS]: tests the Debian packages in the directory DEBS (default build/deb). It
# installs, uses, reinstalls and purges them in a clean root directory of Debian 13 that has the
# headers of the stock kernel (debian-root.sh). DKMS completes the headers and builds the module.
# The script requires the rights of root. Prints "ok ..." and "not ok ..." lines.
source "$(dirname "$0")/common.sh"
debs=$(cd "${1:-$top/build/deb}" && pwd)
root=$("$top/scripts/debian-root.sh")

place=$root/root/debs
rm -rf "$place"
mkdir "$place"
for package in kqueue-dkms libkqueue-c0 libkqueue-c-dev kqtrace; do
	cp "$debs/$package"_*.deb "$place/"
done
mounted=0
mountpoint -q "$root/proc" || { mount -t proc proc "$root/proc" && mounted=1; }
log=$(mktemp)
trap '[ $mounted = 0 ] || umount "$root/proc"; rm -rf "$log" "$place"' EXIT

within() { chroot "$root" env LC_ALL=C DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
check() {
	local name=$1
	shift
	if "$@" >"$log" 2>&1; then
		echo "ok deb::$name"
	else
		echo "not ok deb::$name"
		tail -n 40 "$log" | sed 's/^/  | /'
	fi
}
modules() { find "$root/lib/modules/" -name 'kqueue.ko*'; }
packages() { within sh -c 'apt-get -qy --no-install-recommends "$@" /root/debs/*.deb' apt "$@"; }
module_is_there() {
	local module
	module=$(modules) && [ -n "$module" ] && modinfo "$module" &&
		[ "$(modinfo -F version "$module")" = "$("$top/scripts/version.sh")" ] && [ -n "$(modinfo -F signer "$module")" ]
}
compiles() {
	cp "$top/selftests/header.c" "$place/"
	# shellcheck disable=SC2016
	within sh -c 'cd /root/debs && cc -D_GNU_SOURCE -o header header.c $(pkg-config --cflags --libs kqueue) && ldd header' |
		grep 'libkqueue_c.so.0 => /'
}
kqtrace_runs() { within kqtrace --help && [ -f "$root/usr/share/man/man1/kqtrace.1.gz" ]; }
in_place() { [ -f "$root/usr/lib/udev/rules.d/60-kqueue.rules" ] && [ -f "$root/usr/lib/modules-load.d/kqueue.conf" ]; }
purged() {
	within apt-get -qy purge kqueue-dkms libkqueue-c0 libkqueue-c-dev kqtrace && [ -z "$(modules)" ] &&
		[ ! -e "$root/var/cache/kqueue" ] && [ -z "$(find "$root/usr" "$root/etc" "$root/var/lib/dkms" -name '*kqueue*' ! -name 'workqueue*')" ]
}

check installed packages install
check module_is_built_and_signed module_is_there
check program_is_built compiles
check kqtrace_runs kqtrace_runs
check rule_and_load_below_usr in_place
check installed_again packages --reinstall install
check module_is_still_there module_is_there
check purged purged
