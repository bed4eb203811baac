#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# debian-root.sh [sid]: makes a root directory of Debian 13 in the cache, once, and prints its path. It
# contains the stock kernel of trixie-backports, the headers of that kernel, everything that is
# required to build a module for it, and lintian. With sid, it is one of Debian unstable with the
# kernel of experimental. KQUEUE_ROOT sets another path. Must run as root, and needs debootstrap.
source "$(dirname "$0")/common.sh"
source "$top/scripts/debian-archive.sh"
suite=${1:-trixie}
case $suite in
trixie) name=debian-13 all=(trixie trixie-updates trixie-backports) ;;
sid) name=debian-sid all=(sid experimental) ;;
*) die "usage: debian-root.sh [sid]" ;;
esac
# The kernel is that of the last suite.
kernels=${all[-1]}
root=${KQUEUE_ROOT:-$cache/$name}
architecture=$(dpkg --print-architecture)
log=$root.log
within() { chroot "$root" env DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
install() { logged "$log" within apt-get -qy --no-install-recommends install "$@"; }
# The packages depend on this script, so they are completed after a change of it.
complete=$(cksum <"$0")
made() { [ "$(cat "$root/.made" 2>/dev/null)" = "$complete" ]; }

if ! made; then
	[ "$(id -u)" = 0 ] || die "run this as root: it makes and enters a root directory of Debian"
	mkdir -p "${root%/*}"
	exec 9>"$root.lock"
	flock 9
fi
if ! made; then
	if [ ! -f "$root/.made" ]; then
		say "making a root directory of Debian $suite in $root"
		archive_update
		uri=$(sed -n 's/^URIs: //p' "$archive/suites.sources")
		# debootstrap can fail in the middle.
		trap '[ -f "$root/.made" ] || rm -rf --one-file-system "$root"' EXIT
		rm -rf --one-file-system "$root"
		logged "$log" debootstrap --variant=minbase "$suite" "$root" "$uri"
		for source in "${all[@]}"; do
			echo "deb $uri $source main"
		done >"$root/etc/apt/sources.list"
		# This machine decides whether apt accepts a mirror that is not up to date.
		apt-config dump Acquire::Check-Valid-Until >"$root/etc/apt/apt.conf.d/90valid-until"
		touch "$root/.made"
	fi
	say "installing the packages of $root"
	logged "$log" within apt-get -q update
	install -t "$kernels" "linux-headers-$architecture"
	release=$(within dpkg-query -W -f '${Depends}' "linux-headers-$architecture" |
		sed -n 's/.*linux-headers-\([^ ,]*\).*/\1/p')
	[ -n "$release" ] || die "linux-headers-$architecture does not depend on the headers of a kernel"
	# The kernel without a boot loader and an initial RAM disk, which linux-image would install.
	install -t "$kernels" "linux-binary-$release" "linux-modules-$release"
	install dkms openssl bindgen rustc rust-src gcc libc6-dev make pkgconf xz-utils iproute2 lintian
	within depmod "$release"
	echo "$complete" >"$root/.made"
fi
echo "$root"
