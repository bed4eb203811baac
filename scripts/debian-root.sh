#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# debian-root.sh [SUITE [FLAVOUR...]]: makes a root directory of Debian 13 (SUITE trixie) in the cache,
# once, and prints its path. It contains the stock kernel of trixie-backports, the headers of that
# kernel, everything that is required to build a module for it, cargo, and lintian. With SUITE sid, it is
# one of Debian unstable with the kernel of experimental. With FLAVOUR..., such as cloud-amd64, it is
# upgraded, and the newest kernels of these flavours are installed too. KQUEUE_ROOT sets another path.
# Must run as root, and needs debootstrap.
source "$(dirname "$0")/common.sh"
source "$top/scripts/debian-archive.sh"
suite=${1:-trixie}
case $suite in
trixie) name=debian-13 all=(trixie trixie-updates trixie-backports) ;;
sid) name=debian-sid all=(sid experimental) ;;
*) die "usage: debian-root.sh [trixie|sid [FLAVOUR...]]" ;;
esac
shift $(($# > 0))
root=${KQUEUE_ROOT:-$cache/$name}
log=$root.log
within() { chroot "$root" env DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
install() { logged "$log" within apt-get -qy --no-install-recommends install "$@"; }
# Installs the newest kernel of the flavour from the last suite, without the boot loader and the
# initial RAM disk that linux-image would install.
install_kernel() {
	local release
	install -t "${all[-1]}" "linux-headers-$1"
	release=$(debian_release "$root" "$1")
	install -t "${all[-1]}" "linux-binary-$release" "linux-modules-$release"
	logged "$log" within depmod "$release"
}
# The packages depend on this script, so they are completed after a change of it.
complete=$(cksum <"$0")
made() { [ "$(cat "$root/.made" 2>/dev/null)" = "$complete" ]; }

if ! made || [ $# -gt 0 ]; then
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
	install_kernel "$(dpkg --print-architecture)"
	install dkms openssl bindgen rustc rust-src cargo gcc libc6-dev make pkgconf xz-utils iproute2 lintian
	echo "$complete" >"$root/.made"
fi
if [ $# -gt 0 ]; then
	say "upgrading $root"
	logged "$log" within apt-get -q update
	logged "$log" within apt-get -qy full-upgrade
	for flavour in "$@"; do
		install_kernel "$flavour"
	done
fi
echo "$root"
