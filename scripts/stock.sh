#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# stock.sh [RELEASE]: builds the module and the auxiliary modules of the tests for a kernel of Debian,
# in a root directory that contains this kernel (debian-root.sh). By default it is the stock kernel of
# trixie-backports. Prints shell assignments: kernel=DIRECTORY (for guest.sh) module=PATH
# helpers=DIRECTORY. Must run as root.
source "$(dirname "$0")/common.sh"
source "$top/scripts/debian-archive.sh"
cd "$top"
root=$(scripts/debian-root.sh)
# objtool needs /proc. It is mounted in a mount namespace that ends with the command.
within() {
	# shellcheck disable=SC2016
	unshare --mount sh -c 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"' "$root" \
		env LC_ALL=C HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
}
release=${1:-$(debian_release "$root" "$(dpkg --print-architecture)")}
kernel=$root/usr/lib/modules/$release
[ -f "$kernel/vmlinuz" ] || die "$root does not contain the kernel $release: remove it, and it is made again"
version=$(within dpkg-query -W -f '${Version}' "linux-headers-$release")

# Several clones can build at the same time, so each uses a directory of its own in the root directory.
# The tree of the kernel remains there. It is not in /var/cache/kqueue, because that directory is
# removed with the package.
trees=/root/trees
out=$top/build/stock${1:+-$1}
mkdir -p "$out"

# Build only if a source has changed. Generated files are no sources.
sources=(Kbuild Makefile Cargo.toml rust include scripts selftests/guest)
generated=(-name '*.o' -o -name '*.ko' -o -name '*_generated.rs' -o -name '.*.cmd')
key=$({
	echo "$release $version"
	find "${sources[@]}" -type f ! \( "${generated[@]}" \) -print0 | sort -z | xargs -0 sha256sum
} | sha256sum)
# Two scripts of one clone can run at the same time.
exec 9>"$out/lock"
flock 9
if [ "$(cat "$out/key" 2>/dev/null)" != "$key" ]; then
	rm -f "$out/key"
	source=$(mktemp -d "$root/root/kqueue.XXXXXX")
	trap 'rm -rf "$source"' EXIT
	cp -r "${sources[@]}" "$source/"
	find "$source" \( "${generated[@]}" \) -delete
	inside=${source#"$root"}
	logged "$out/log" within env KQUEUE_TREES=$trees make -C "$inside" \
		KDIR="/lib/modules/$release/build" modules
	logged "$out/log.guest" within make -C "$trees/$release/build" M="$inside/guest" modules
	cp "$source/kqueue.ko" "$source/guest/slowpoll.ko" "$out/"
	echo "$key" >"$out/key"
fi
say "stock kernel: $release $version"
echo "kernel=$kernel module=$out/kqueue.ko helpers=$out"
