#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# debian-root.sh: makes a root directory of Debian 13 in the cache, once, and prints its path. It
# contains the stock kernel of trixie-backports, the headers of that kernel, everything that is
# required to build a module for it, and lintian. KQUEUE_ROOT sets another path. Must run as root,
# and needs debootstrap.
source "$(dirname "$0")/common.sh"
source "$top/scripts/debian-archive.sh"
root=${KQUEUE_ROOT:-$cache/debian-13}
architecture=$(dpkg --print-architecture)
log=$root.log
within() { chroot "$root" env DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
install() { logged "$log" within apt-get -qy --no-install-recommends install "$@"; }
# The packages depend on this script, so they are completed after a change of it.
complete=$(cksum <"$0")
made() { [ "$(cat "$root/.made" 2>/dev/null)" = "$complete" ]; }

if ! made; then
	[ "$(id -u)" = 0 ] || die "run this as root: it makes and enters a root directory of Debian 13"
	mkdir -p "${root%/*}"
	exec 9>"$root.lock"
	flock 9
fi
if ! made; then
	if [ ! -f "$root/.made" ]; then
		say "making a root directory of Debian 13 in $root"
		archive_update
		uri=$(sed -n 's/^URIs: //p' "$archive/suites.sources")
		rm -rf "$root"
		logged "$log" debootstrap --variant=minbase trixie "$root" "$uri"
		printf 'deb %s %s main\n' "$uri" trixie "$uri" trixie-updates "$uri" trixie-backports \
			>"$root/etc/apt/sources.list"
		touch "$root/.made"
	fi
	say "installing the packages of $root"
	logged "$log" within apt-get -q update
	install -t trixie-backports "linux-headers-$architecture"
	release=$(within dpkg-query -W -f '${Depends}' "linux-headers-$architecture" |
		sed -n 's/.*linux-headers-\([^ ,]*\).*/\1/p')
	[ -n "$release" ] || die "linux-headers-$architecture does not depend on the headers of a kernel"
	# The kernel without a boot loader and an initial RAM disk, which linux-image would install.
	install -t trixie-backports "linux-binary-$release" "linux-modules-$release"
	install dkms openssl bindgen rustc rust-src gcc libc6-dev make pkgconf xz-utils iproute2 lintian
	within depmod "$release"
	echo "$complete" >"$root/.made"
fi
echo "$root"
