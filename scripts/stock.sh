#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# stock.sh: fetches Debian's newest stock kernel of trixie-backports, and builds the module and the
# auxiliary modules of the tests for it in a root directory of Debian 13. It prints the shell
# assignments kernel=DIRECTORY (for guest.sh), module=PATH and helpers=DIRECTORY. It requires the
# rights of root.
source "$(dirname "$0")/common.sh"
source "$top/scripts/debian-archive.sh"
cd "$top"
root=$(scripts/debian-root.sh)
# objtool requires /proc. It is mounted in a mount namespace of its own, so that it is unmounted
# when the command ends.
within() {
	# shellcheck disable=SC2016
	unshare --mount sh -c 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"' "$root" \
		env LC_ALL=C HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
}
release=$(find "$root/usr/src" -maxdepth 1 -name "linux-headers-*-$(dpkg --print-architecture)" -printf '%f\n' |
	sed 's/linux-headers-//' | sort -V | tail -n 1)
[ -n "$release" ] || die "$root has no kernel headers: remove it to have it made again"
version=$(within dpkg-query -W -f '${Version}' "linux-headers-$release")

image=$cache/stock-${version//[^0-9A-Za-z.]/-}
kernel=$image/usr/lib/modules/$release
if [ ! -f "$image/.made" ]; then
	say "fetching the stock kernel $release"
	rm -rf "$image"
	archive_update
	# In the newest layout, the kernel and its modules are in separate packages.
	for package in image binary modules; do
		if [ -n "$(archive_apt apt-cache madison "linux-$package-$release")" ]; then
			archive_unpack "linux-$package-$release=$version" "$image"
		fi
	done
	[ -f "$kernel/vmlinuz" ] || die "linux-image-$release $version is laid out unexpectedly"
	logged "$cache/depmod.log" depmod -b "$image/usr" "$release"
	touch "$image/.made"
fi

# Several clones can build at the same time, so each has a folder of its own in the root. The tree
# of the kernel stays there, and test-deb.sh, which purges the package, does not remove it.
trees=/root/trees
out=$top/build/stock
mkdir -p "$out"
source=$(mktemp -d "$root/root/kqueue.XXXXXX")
trap 'rm -rf "$source"' EXIT
cp -r Kbuild Makefile Cargo.toml rust include scripts selftests/guest "$source/"
find "$source" \( -name '*.o' -o -name '*.ko' -o -name '*_generated.rs' -o -name '.*.cmd' \) -delete
inside=${source#"$root"}
logged "$out/log" within env KQUEUE_TREES=$trees make -C "$inside" \
	KDIR="/lib/modules/$release/build" modules
logged "$out/log.guest" within make -C "$trees/$release/build" M="$inside/guest" modules
cp "$source/kqueue.ko" "$source/guest/slowpoll.ko" "$out/"
say "stock kernel: $release $version"
echo "kernel=$kernel module=$out/kqueue.ko helpers=$out"
