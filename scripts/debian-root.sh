#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# debian-root.sh: creates a root directory of Debian 13 in the cache, unless it exists, and prints
# its path. It contains the headers of the stock kernel and the packages that build a module for it.
# KQUEUE_ROOT selects another path. The script requires the rights of root, and debootstrap.
source "$(dirname "$0")/common.sh"
source "$top/scripts/debian-archive.sh"
root=${KQUEUE_ROOT:-$cache/debian-13}
if [ ! -f "$root/.made" ]; then
	[ "$(id -u)" = 0 ] || die "a root of Debian 13 is made and entered as root"
	say "making a root of Debian 13 in $root"
	archive_update
	uri=$(sed -n 's/^URIs: //p' "$archive/suites.sources")
	log=$cache/debian-13.log
	rm -rf "$root"
	logged "$log" debootstrap --variant=minbase trixie "$root" "$uri"
	printf 'deb %s %s main\n' "$uri" trixie "$uri" trixie-updates "$uri" trixie-backports >"$root/etc/apt/sources.list"
	within() { chroot "$root" env DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
	logged "$log" within apt-get -q update
	logged "$log" within apt-get -qy --no-install-recommends install -t trixie-backports \
		"linux-headers-$(dpkg --print-architecture)"
	logged "$log" within apt-get -qy --no-install-recommends install dkms openssl bindgen rustc rust-src gcc libc6-dev make \
		pkgconf xz-utils
	touch "$root/.made"
fi
echo "$root"
